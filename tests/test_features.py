"""Each kind of feature on a log small enough to work the value out by hand."""

import math
from pathlib import Path

import numpy as np
import pytest
from small_logs import MINUTE, Happening, Shown, make_log, make_requests

from features.arrays import NO_TIME
from features.definitions.aggregates import (
    CLICK,
    DATED_CLICK,
    IMPRESSION,
    ITEM,
    USER,
    USER_ITEM,
    Count,
    First,
    Last,
    days,
    hours,
)
from features.definitions.attribute_measures import (
    Age,
    HistoryLength,
    Hour,
    ItemCategory,
    ItemNumber,
    VectorSimilarity,
    Weekday,
)
from features.definitions.builtin import catalogue, required_aggregates
from features.definitions.column_names import column_names
from features.definitions.custom_file import read_custom_features
from features.definitions.event_measures import (
    CountOf,
    ElapsedIntervals,
    Feature,
    FeatureFunction,
    Lift,
    Rate,
    Recency,
    Share,
    UsualInterval,
)
from features.log import UNKNOWN, Log
from features.matrix.columns import feature_matrix
from features.offline.reader import LogIndex, OfflineReader, OfflineSettings
from features.tables.data_settings import DataSettings

NOON = 12 * 60
A, B, C, D = range(4)  # brands: acme, acme and bolt, none, bolt


@pytest.fixture
def tiny_log() -> Log:
    """Item a: shown twice before noon, clicked once; a third list and a click come at noon exactly."""
    shown = [Shown(0, NOON - 60, (A, B)), Shown(1, NOON - 30, (A, C)), Shown(2, NOON, (A, D)), Shown(2, 1, (D,), True)]
    clicks = [Happening(0, A, NOON - 59), Happening(0, A, NOON), Happening(0, B, NOON - 5, "view")]
    return make_log(clicks, shown)


def reader_of(log: Log, user: int, items: tuple[int, ...], minute: int, timezone: str = "UTC") -> OfflineReader:
    index = LogIndex(log, OfflineSettings(DataSettings(timezone=timezone)))
    return index.reader(make_requests([Shown(user, minute, items)]))


def value(
    measure: FeatureFunction, log: Log, *, item: int = A, user: int = 0, at: int = NOON, timezone: str = "UTC"
) -> float:
    return float(measure.compute(reader_of(log, user, (item,), at, timezone))[0])


def rate(weight: float, window: int | None = days(7)) -> Rate:
    return Rate(Count(CLICK, ITEM, window), Count(IMPRESSION, ITEM, window), weight)


def test_click_rate_counts_only_the_past(tiny_log: Log) -> None:
    prior = 1 / 4  # one click in two lists of two before noon; the sampled list is no impression
    assert value(rate(2.0), tiny_log, item=A) == (1 + 2 * prior) / (2 + 2)
    assert value(rate(2.0), tiny_log, item=B) == (0 + 2 * prior) / (1 + 2)
    assert value(rate(2.0), tiny_log, item=UNKNOWN) == prior


def test_click_rate_is_missing_without_impressions(tiny_log: Log) -> None:
    assert math.isnan(value(rate(2.0), tiny_log, at=NOON - 60))
    only_sampled = make_log([Happening(0, A, 1)], [Shown(0, 1, (A, B), True)])
    assert math.isnan(value(rate(2.0), only_sampled))


def test_a_rate_of_all_time_leaves_out_clicks_without_a_date() -> None:
    log = make_log([Happening(0, A, -5, "history"), Happening(0, A, 2)], [Shown(0, 1, (A, B))])
    measure = Rate(Count(DATED_CLICK, ITEM), Count(IMPRESSION, ITEM), 2.0)
    assert value(measure, log) == (1 + 2 * 0.5) / (1 + 2)
    assert value(CountOf(Count(CLICK, ITEM)), log) == 2.0
    assert value(CountOf(Count(CLICK, ITEM, days(30))), log) == 1.0


def test_affinity_is_the_mean_over_the_values_of_the_candidate() -> None:
    clicks = [Happening(0, A, 1), Happening(0, A, 2), Happening(0, D, 3), Happening(1, D, 4)]
    log = make_log(clicks, [])
    by_brand = CountOf(Count(CLICK, ("user", "brand")))
    assert [value(by_brand, log, item=item) for item in (A, B, D)] == [2.0, 1.5, 1.0]  # b is both acme and bolt
    assert math.isnan(value(by_brand, log, item=C))
    assert value(Share(CLICK, "brand"), log, item=A) == 2 / 3
    assert math.isnan(value(Share(CLICK, "brand"), log, item=A, user=2))
    assert value(Lift(CLICK, "brand", 2.0), log, item=A) == ((2 + 2 * 0.5) / (3 + 2)) / 0.5
    assert value(Lift(CLICK, "brand", 2.0), log, item=A, user=UNKNOWN) == 1.0


def test_recency_counts_seconds_since_the_latest_and_the_first_click(tiny_log: Log) -> None:
    assert value(Recency(Last(CLICK, ITEM)), tiny_log, at=NOON) == 59 * 60
    assert value(Recency(Last(CLICK, ITEM)), tiny_log, at=NOON + 1) == 60
    assert value(Recency(First(CLICK, ITEM)), tiny_log, at=NOON + 1) == 60 * 60
    assert math.isnan(value(Recency(Last(CLICK, USER_ITEM)), tiny_log, user=1))


def test_the_usual_interval_is_the_mean_time_between_the_clicks_before_the_request() -> None:
    minutes = (1, 4, 11, NOON)
    log = make_log([*(Happening(0, A, minute) for minute in minutes), Happening(0, B, 3), Happening(1, A, 9)], [])
    interval, elapsed = UsualInterval(CLICK, USER_ITEM), ElapsedIntervals(CLICK, USER_ITEM)
    assert value(interval, log, at=11) == 3 * 60  # the click at the time of the request is not known
    assert value(elapsed, log, at=11) == (11 - 4) / 3
    assert value(interval, log) == 5 * 60
    assert value(elapsed, log) == (NOON - 11) / 5
    assert math.isnan(value(interval, log, at=4))
    assert math.isnan(value(elapsed, log, item=B))
    assert math.isnan(value(interval, log, user=1))
    assert math.isnan(value(elapsed, log, user=UNKNOWN))
    assert value(UsualInterval(CLICK, USER), log, at=11) == 90.0


def test_two_clicks_at_one_time_have_no_interval_to_measure_by_and_undated_ones_count_in_none() -> None:
    at_once = make_log([Happening(0, A, 2), Happening(0, A, 2, "like")], [])
    assert value(UsualInterval(CLICK, USER_ITEM), at_once) == 0.0
    assert math.isnan(value(ElapsedIntervals(CLICK, USER_ITEM), at_once))
    undated = make_log([Happening(0, A, 1, "history"), Happening(0, A, 2, "history"), Happening(0, A, 3)], [])
    for event_type in (CLICK, "history"):
        assert math.isnan(value(UsualInterval(event_type, USER_ITEM), undated))
        assert math.isnan(value(ElapsedIntervals(event_type, USER_ITEM), undated))


def test_age_is_in_days_and_never_negative() -> None:
    log = make_log([], [])
    assert log.catalog.published_at[B] == MINUTE
    assert value(Age(), log, item=B, at=1 + 1440) == 1.0
    assert value(Age(), log, item=B, at=0) == 0.0
    assert log.catalog.published_at[A] == NO_TIME
    assert math.isnan(value(Age(), log, item=A))


def test_hour_and_weekday_follow_the_time_zone() -> None:
    log, monday_2330 = make_log([], []), 4 * 1440 + 23 * 60 + 30  # 5 January 1970 was a Monday
    assert value(Hour(), log, at=monday_2330) == 23.5
    assert value(Weekday(), log, at=monday_2330) == 0.0
    assert value(Hour(), log, at=monday_2330, timezone="Europe/Berlin") == 0.5
    assert value(Weekday(), log, at=monday_2330, timezone="Europe/Berlin") == 1.0


def test_the_clock_changes_within_a_day_of_the_batch() -> None:
    # Berlin goes from 02:00 to 03:00 on 29 March 2026 at 01:00 UTC; day 20541 since 1970
    sunday = 20_541 * 1440
    requests = [Shown(0, sunday + minute, (A,)) for minute in (-60, 30, 59, 60, 90, 1440)]
    index = LogIndex(make_log([], []), OfflineSettings(DataSettings(timezone="Europe/Berlin")))
    reader = index.reader(make_requests(requests))
    minutes = [0.0, 1.5, 1 + 59 / 60, 3.0, 3.5, 2.0]
    np.testing.assert_array_equal(Hour().compute(reader), minutes)
    assert Weekday().compute(reader).tolist() == [6.0] * 5 + [0.0]


def test_history_length_counts_distinct_clicked_items(tiny_log: Log) -> None:
    assert value(HistoryLength(), tiny_log) == 1.0
    assert value(HistoryLength(), tiny_log, user=UNKNOWN) == 0.0


def test_item_columns_become_features_and_what_is_unseen_is_missing() -> None:
    log = make_log([], [])
    assert value(ItemNumber("price"), log, item=A) == log.catalog.numbers["price"][A]
    assert math.isnan(value(ItemNumber("price"), log, item=UNKNOWN))
    vocabulary = ItemCategory("brand", ("bolt", "acme"))
    codes = [value(vocabulary, log, item=item) for item in (A, B, C, D, UNKNOWN)]
    np.testing.assert_array_equal(codes, [1.0, 0.0, np.nan, 0.0, np.nan])
    assert math.isnan(value(ItemCategory("brand", ("other",)), log, item=A))


def test_vector_similarity_is_the_cosine_with_the_mean_of_the_history() -> None:
    log = make_log([Happening(0, A, 1), Happening(0, B, 2), Happening(0, C, 3)], [])  # b has no vector
    image = log.catalog.vectors["image"].astype(np.float64)
    mean = (image[A] + image[C]) / 2
    cosine = image[D] @ mean / np.linalg.norm(image[D]) / np.linalg.norm(mean)
    assert value(VectorSimilarity("image"), log, item=D) == pytest.approx(cosine, rel=1e-12)
    assert math.isnan(value(VectorSimilarity("image"), log, item=B))
    assert math.isnan(value(VectorSimilarity("image"), log, item=D, user=1))


def test_a_planted_feature_that_counts_the_click_itself_differs_from_the_strict_past(tiny_log: Log) -> None:
    class ClicksUpToNow:
        """Counts at a microsecond later: the click at the request's time is in."""

        def compute(self, reader: OfflineReader) -> np.ndarray:
            late = make_requests([Shown(0, 0, (A,))])
            late.time[:] = reader.requests.time + 1
            return reader.index.reader(late).count(Count(CLICK, ITEM)).astype(np.float64)

    def moves_when_the_present_is_taken_away(measure: object) -> bool:
        events = tiny_log.events
        strictly_before = [
            Happening(
                int(events.user[i]), int(events.item[i]), int(events.time[i]) // MINUTE, events.types[events.type[i]]
            )
            for i in np.flatnonzero(events.time < NOON * MINUTE)
        ]
        return value(measure, tiny_log) != value(measure, make_log(strictly_before, []))  # type: ignore[arg-type]

    assert moves_when_the_present_is_taken_away(ClicksUpToNow())
    assert not moves_when_the_present_is_taken_away(CountOf(Count(CLICK, ITEM)))


def test_places_stand_after_all_features_and_only_for_those_that_ask(tiny_log: Log) -> None:
    features = (
        Feature("item_clicks_all", "Clicks.", CountOf(Count(CLICK, ITEM)), within_list=True),
        Feature("request_hour", "Hour.", Hour()),
    )
    names, matrix = feature_matrix(features, reader_of(tiny_log, 0, (A, B), NOON))
    assert names == ("item_clicks_all", "request_hour", "item_clicks_all_percentile", "item_clicks_all_zscore")
    np.testing.assert_array_equal(matrix, np.float32([[1, 12, 0.75, 1], [0, 12, 0.25, -1]]))


def test_the_catalogue_has_the_promised_columns_and_every_feature_says_what_it_is() -> None:
    features = catalogue(categories={"brand": ("acme",)}, numbers=("price",), vectors=("image",))
    names = column_names(features)
    for window in ("1h", "1d", "7d", "30d", "all"):
        assert {f"item_clicks_{window}", f"item_impressions_{window}", f"item_click_rate_{window}"} <= set(names)
    assert {"item_age", "user_click_recency", "user_history_length", "user_brand_affinity"} <= set(names)
    assert not any("position" in name for name in names)
    assert all(feature.doc and feature.measure.unit and feature.measure.missing for feature in features)
    assert Count(CLICK, ITEM, hours(1)) in required_aggregates(features)


def test_every_value_of_the_catalogue_is_in_its_range_or_missing(tiny_log: Log) -> None:
    reader = reader_of(tiny_log, 0, (A, B, C, D), NOON)
    own = read_custom_features(Path(__file__).with_name("custom_features_file.py")).features
    for feature in (*catalogue(categories={"brand": ("acme",)}, numbers=("price",), vectors=("image",)), *own):
        values = feature.measure.compute(reader)
        known = values[~np.isnan(values)]
        assert ((known >= feature.measure.low) & (known <= feature.measure.high)).all(), feature.name
        assert feature.measure.missing != "never" or len(known) == len(values), feature.name


def test_two_features_of_one_name_are_refused() -> None:
    hour = Feature("request_hour", "Hour.", Hour())
    with pytest.raises(ValueError, match=r"distinct names, got more than one of \['request_hour'\]"):
        column_names((hour, hour))


def test_a_name_that_is_no_column_name_is_refused() -> None:
    with pytest.raises(ValueError, match="lower case"):
        Feature("Item clicks", "Clicks.", Hour())
