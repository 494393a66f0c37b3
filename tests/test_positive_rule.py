"""`data.positive`: which ratings are clicks, the same in tables, in the online store and over HTTP."""

from __future__ import annotations

import json
import random
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from offline_values import offline_values

from features.definitions.aggregates import CLICK, ITEM, USER_ITEM, Count, First, Last
from features.definitions.builtin import catalogue, required_aggregates
from features.definitions.event_measures import CountOf, Feature
from features.errors import InputError, StoreError
from features.log import Requests
from features.matrix.columns import feature_matrix
from features.offline.reader import LogIndex
from features.online.events import IncomingEvent
from features.online.reader import OnlineReader
from features.online.settings import StoreSettings
from features.online.state import OnlineState
from features.stores.lmdb_store import LmdbStore
from features.tables.data_settings import DataSettings, settings_from_json, settings_to_json
from features.tables.load import ReadOptions, load_log
from features.tables.positive_rule import PositiveRule, parse_rule
from pipelines import cli
from pipelines.load import events_into
from pipelines.replay_feed import arriving
from recsys.config import load_config
from recsys.errors import ConfigError

FIVE_STARS = "value >= 4"
START, MINUTE = 1_700_000_000, 60_000_000
FEATURES = (
    *catalogue(categories={}, numbers=(), vectors=()),
    Feature("item_likes", "Likes.", CountOf(Count("like", ITEM))),
    Feature("user_item_likes", "Likes.", CountOf(Count("like", USER_ITEM))),
    Feature("item_views", "Views.", CountOf(Count("view", ITEM))),
)


def write_tables(folder: Path, events: list[dict[str, Any]], shown: list[dict[str, Any]] | None = None) -> Path:
    """Items a, b, c; events with minutes and values; impressions where some are shown."""
    pd.DataFrame({"item_id": list("abc"), "title": "t"}).to_parquet(folder / "items.parquet")
    for name, rows in (("events", events), ("impressions", shown)):
        if rows:
            frame = pd.DataFrame(rows)
            frame["timestamp"] = pd.to_datetime(START + frame.pop("minute") * 60, unit="s", utc=True)
            frame.to_parquet(folder / f"{name}.parquet")
    return folder


def rated(value: float | None, item: str = "a", minute: int = 0, user: str | None = "u", **more: Any) -> dict[str, Any]:
    return {"user_id": user, "item_id": item, "minute": minute, "value": value, **more}


def options(rule: str | None) -> ReadOptions:
    return ReadOptions(DataSettings(positive=rule))


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("value >= 4", PositiveRule("value", ">=", 4.0)),
        ("  value>=4 ", PositiveRule("value", ">=", 4.0)),
        ("my stars != -1.5e1", PositiveRule("my stars", "!=", -15.0)),
        ("watched == 1", PositiveRule("watched", "==", 1.0)),
    ],
)
def test_a_rule_is_a_column_a_comparison_and_a_number(text: str, rule: PositiveRule) -> None:
    assert parse_rule(text) == rule
    assert parse_rule(str(rule)) == rule


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("value", "expected COLUMN OP NUMBER"),
        (">= 4", "expected COLUMN OP NUMBER"),
        ("value ~ 4", "expected COLUMN OP NUMBER"),
        ("value >= ", "expected a finite number"),
        ("value >= nan", "expected a finite number"),
        ("value >= 1e999", "expected a finite number"),
        ("value >= inf", "expected a finite number"),
        ("value >= 4_0", "expected a finite number"),
        ("value >= ٤", "expected a finite number"),
        ("value >= __import__('os')", "expected a finite number"),
        ("value >= 4 or True", "expected COLUMN OP NUMBER"),
        ("timestamp >= 4", "another column of events that holds numbers"),
    ],
)
def test_anything_else_is_refused_in_one_line(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=r"config key 'data\.positive'") as caught:
        load_config(None, (f"data.positive={json.dumps(text)}",))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@given(st.floats(-1e9, 1e9), st.floats(-1e9, 1e9) | st.none(), st.sampled_from((">=", "<=", ">", "<", "==", "!=")))
def test_a_rule_says_the_same_of_one_value_and_of_many(number: float, value: float | None, comparison: str) -> None:
    rule = parse_rule(str(PositiveRule("value", comparison, number)))
    assert rule.number == number
    values = np.array([np.nan if value is None else value, number])
    assert rule.met_by(values).tolist() == [rule.is_met(value), rule.is_met(number)]
    assert value is not None or not rule.is_met(value)


def test_the_rule_is_stored_with_the_settings_and_settings_without_one_are_still_read() -> None:
    data = DataSettings(positive="value>=4.0")
    assert data.positive == FIVE_STARS
    assert settings_from_json(DataSettings, settings_to_json(data)) == data
    stored = json.loads(settings_to_json(DataSettings()))
    del stored["positive"]
    assert settings_from_json(DataSettings, json.dumps(stored)) == DataSettings()


def test_events_that_do_not_meet_the_rule_are_events_and_no_clicks(tmp_path: Path) -> None:
    events = [rated(5), rated(3, "b"), rated(None, "c"), rated(4, "c", minute=1)]
    log, report = load_log(write_tables(tmp_path, events), options(FIVE_STARS))
    assert (report.events, report.clicks) == (4, 2)
    assert dict(zip("abc", np.bincount(log.events.item[log.events.positive]), strict=True)) == {"a": 1, "b": 0, "c": 1}
    assert load_log(tmp_path)[1].clicks == 4


def test_a_view_and_a_type_that_is_not_positive_stay_no_clicks(tmp_path: Path) -> None:
    events = [rated(5, event_type="view"), rated(5, "b", event_type="rate"), rated(5, "c", event_type="buy")]
    data = DataSettings(positive_event_types=("view", "rate"), positive=FIVE_STARS)
    log, _ = load_log(write_tables(tmp_path, events), ReadOptions(data))
    assert log.catalog.ids[log.events.item[log.events.positive]].tolist() == ["a", "b"]


def test_a_history_without_values_counts_as_it_always_does(tmp_path: Path) -> None:
    _, report = load_log(write_tables(tmp_path, [rated(None, event_type="history"), rated(1)]), options(FIVE_STARS))
    assert report.clicks == 1


def test_another_column_may_hold_the_numbers(tmp_path: Path) -> None:
    write_tables(tmp_path, [rated(1, stars=5), rated(5, "b", stars=1)])
    log, _ = load_log(tmp_path, options("stars > 4"))
    assert log.catalog.ids[log.events.item[log.events.positive]].tolist() == ["a"]


def test_a_column_that_is_not_there_or_holds_text_is_an_error_that_names_what_is_there(tmp_path: Path) -> None:
    write_tables(tmp_path, [rated(1, mood="good"), rated(2, mood="bad")])
    with pytest.raises(InputError) as caught:
        load_log(tmp_path, options("stars > 4"))
    expected = "a column 'stars' in events (named in data.positive), found ['item_id', 'mood', 'timestamp', 'user_id', "
    assert expected in str(caught.value) and "'value'" in str(caught.value)
    with pytest.raises(InputError, match="field 'mood', value 'good'"):
        load_log(tmp_path, options("mood > 4"))


def test_where_no_event_meets_the_rule_the_error_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"at least one click, found none.* and meets 'value >= 9'"):
        load_log(write_tables(tmp_path, [rated(5)]), options("value >= 9"))


def test_of_repeats_with_different_values_one_that_is_a_click_counts(tmp_path: Path) -> None:
    events = [rated(2), rated(5), rated(1), rated(5, "b"), rated(5, "b")]
    _, report = load_log(write_tables(tmp_path, events), options(FIVE_STARS))
    assert (report.events, report.clicks, report.tables["events"].repeats) == (2, 2, 3)


def test_a_clicked_row_counts_where_its_event_does_not_meet_the_rule(tmp_path: Path) -> None:
    shown = [{"impression_id": "i", "user_id": "u", "minute": 0, "item_id": item, "clicked": 0} for item in "ab"]
    shown[0]["clicked"] = 1
    log, report = load_log(write_tables(tmp_path, [rated(2)], shown), options(FIVE_STARS))
    assert (report.clicks, report.added, len(log.events)) == (1, 1, 2)


def ratings_warned_of(folder: Path, values: list[float | None], rule: str | None = None) -> list[str]:
    write_tables(folder, [rated(value, minute=minute) for minute, value in enumerate(values)])
    return [warning for warning in load_log(folder, options(rule))[1].warnings if "ratings" in warning]


def test_ratings_that_all_count_as_clicks_are_asked_about(tmp_path: Path) -> None:
    (warning,) = ratings_warned_of(tmp_path, [1, 2, 3.5, 5, None])
    assert warning == (
        "events.value holds 1, 2, 3.5, 5, which look like ratings, but every event counts as a click whatever its "
        "value; if they are ratings, say which are clicks: --set 'data.positive=value >= 5'"
    )
    assert not ratings_warned_of(tmp_path, [1, 2, 3.5, 5, None], FIVE_STARS)


@pytest.mark.parametrize(
    "values", [[1, 1, None], [4, 4.5, 5], [None, None], [1, 2.25, 3], [1, 48], list(range(25)), [1, 2, 1e300]]
)
def test_numbers_that_are_no_ratings_are_not(values: list[float | None], tmp_path: Path) -> None:
    assert not ratings_warned_of(tmp_path, values)


def test_a_store_made_with_another_rule_is_refused(tmp_path: Path) -> None:
    reads = (Count(CLICK, ITEM),)
    with closing(LmdbStore(tmp_path / "store")) as store:
        OnlineState.open(store, StoreSettings(reads=reads, data=DataSettings(positive=FIVE_STARS)))
        OnlineState.open(store, StoreSettings(reads=reads, data=DataSettings(positive=" value  >=4")))
        with pytest.raises(StoreError, match="made with positive 'value >= 4', but None is wanted"):
            OnlineState.open(store, StoreSettings(reads=reads))


ratings = st.lists(
    st.builds(
        rated,
        st.sampled_from((1.0, 3.5, 4.0, 5.0, None)),
        st.sampled_from("abc"),
        st.integers(0, 90),
        st.sampled_from(("u", "v", None)),
        event_type=st.sampled_from(("click", "like", "like", "view", "history")),
        named=st.booleans(),
    ),
    min_size=1,
    max_size=30,
)
shown_lists = st.lists(
    st.tuples(st.sampled_from(("u", "v")), st.integers(0, 90), st.sampled_from("abc"), st.booleans()), max_size=6
)


def rows_of(shown: list[tuple[str, int, str, bool]]) -> list[dict[str, Any]]:
    return [
        {
            "impression_id": f"i{number}",
            "user_id": user,
            "minute": minute,
            "item_id": item,
            "clicked": int(item == clicked),
            "sampled": sampled,
        }
        for number, (user, minute, clicked, sampled) in enumerate(shown)
        for item in "abc"
    ]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ratings, shown_lists, st.randoms(use_true_random=False))
def test_a_store_that_was_told_of_everything_answers_as_the_tables_do(
    tmp_path_factory: pytest.TempPathFactory,
    events: list[dict[str, Any]],
    shown: list[tuple[str, int, str, bool]],
    order: random.Random,
) -> None:
    events = [{**event, "event_id": str(place) if event["named"] else None} for place, event in enumerate(events)]
    events.append(rated(5, "a", 0, "w", event_type="click", event_id=None))
    folder = write_tables(tmp_path_factory.mktemp("tables"), events, rows_of([*shown, ("w", 0, "a", True)]))
    arrivals = list(arriving(folder, options(FIVE_STARS)).arrivals)
    if not shown:
        order.shuffle(arrivals)
    now = (START + 91 * 60) * 1_000_000
    data = DataSettings(positive=FIVE_STARS)
    log, _ = load_log(folder, ReadOptions(data))
    wanted = StoreSettings(reads=required_aggregates(FEATURES), data=data)
    users = np.array([*range(len(log.users)), -1], np.int32)
    offsets = np.arange(len(users) + 1, dtype=np.int64) * 3
    requests = Requests(users, np.full(len(users), now), offsets, np.tile(np.arange(3, dtype=np.int32), len(users)))
    offline = offline_values(FEATURES, LogIndex(log), requests)
    with closing(LmdbStore(folder / "store")) as store:
        state = OnlineState.open(store, wanted)
        for one in arrivals:
            state.add([one])
        with state.snapshot() as view:
            readers = [
                OnlineReader(view, None if user < 0 else str(log.users[user]), now, list("abc"), now=now)
                for user in users
            ]
            online = np.concatenate([feature_matrix(FEATURES, reader)[1] for reader in readers])
    np.testing.assert_array_equal(online, offline)


def test_two_values_of_one_moment_are_one_click_in_whatever_order_they_come(tmp_path: Path) -> None:
    reads = (Count(CLICK, ITEM), Count("like", ITEM), Last("like", ITEM), First(CLICK, ITEM))
    for name, values in (("up", (2.0, 5.0)), ("down", (5.0, 2.0)), ("at once", (2.0, 5.0, 1.0))):
        with closing(LmdbStore(tmp_path / name)) as store:
            state = OnlineState.open(store, StoreSettings(reads=reads, data=DataSettings(positive=FIVE_STARS)))
            events = [IncomingEvent("u", "a", MINUTE, "like", value=value) for value in values]
            for batch in [events] if name == "at once" else [[event] for event in events]:
                assert state.add_events(batch) == []
            with state.snapshot() as view:
                reader = OnlineReader(view, "u", None, ["a"], now=2 * MINUTE)
                assert [reader.count(read).tolist() for read in reads[:2]] == [[1], [1]]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("value", "=>", "4"), 2, "expected COLUMN OP NUMBER"),
        (("value", ">=", "nan"), 2, "expected a finite number"),
        (("value", ">=", "__import__('os').system('true')"), 2, "expected a finite number"),
        (("user_id", ">=", "4"), 2, "another column of events that holds numbers"),
        (("stars", ">=", "4"), 1, "expected a column 'stars' in events"),
    ],
)
def test_a_rule_that_cannot_be_used_ends_the_command_with_one_line(
    words: tuple[str, str, str], code: int, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_tables(tmp_path, [rated(5), rated(1, "b")])
    arguments = ["data", "slates", str(tmp_path), "--positive", *words]
    assert cli.run(lambda: cli.cli(arguments, standalone_mode=False)) == code
    assert said in capsys.readouterr().err
    assert not (tmp_path / "impressions.parquet").exists()


def test_a_table_loaded_into_a_store_is_read_by_the_rule_of_the_store(tmp_path: Path) -> None:
    write_tables(tmp_path, [rated(5, stars=2), rated(1, "b", stars=5), rated(1, "b", stars=4, minute=1)])
    wanted = StoreSettings(reads=(Count(CLICK, ITEM),), data=DataSettings(positive="stars >= 4"))
    with closing(LmdbStore(tmp_path / "store")) as store:
        state = OnlineState.open(store, wanted)
        assert events_into(state, tmp_path / "events.parquet").accepted == 3
        with state.snapshot() as view:
            reader = OnlineReader(view, "u", None, ["a", "b"], now=(START + 120) * 1_000_000)
            assert reader.count(wanted.reads[0]).tolist() == [0, 2]
        write_tables(tmp_path, [rated(5)])
        with pytest.raises(InputError, match="expected a column 'stars' in events"):
            events_into(state, tmp_path / "events.parquet")
