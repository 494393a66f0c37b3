"""A data directory as a log: how clicks meet events, what is counted once, and what stops the reading."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.arrays import NO_TIME
from features.errors import InputError
from features.log import Log
from features.tables.data_settings import DataSettings
from features.tables.encodings import FileOptions
from features.tables.items import CatalogColumns, last_of_each
from features.tables.load import ReadOptions, load_log, read_table_rows
from features.tables.report import TableReport

MINUTE = 60_000_000
NOON = 1_704_110_400
ITEMS = "item_id,title\na,Apple\nb,Bread\nc,Cheese\n"
LISTS = "impression_id,user_id,timestamp,item_id,clicked\n"
EVENTS = "user_id,item_id,timestamp\n"


def directory(folder: Path, **tables: str) -> Path:
    for name, content in {"items": ITEMS, **tables}.items():
        (folder / f"{name}.csv").write_text(content)
    return folder


def load(folder: Path, **tables: str) -> tuple[Log, TableReport]:
    return load_log(directory(folder, **tables))


def events(log: Log) -> list[tuple[str | None, str, int, str]]:
    users = [*log.users, None]
    found = log.events
    return [
        (users[found.user[i]], log.catalog.ids[found.item[i]], int(found.time[i]), found.types[found.type[i]])
        for i in range(len(found))
    ]


def lists(log: Log) -> list[tuple[str, list[tuple[str, int]]]]:
    shown = log.impressions
    found = []
    for i in range(len(shown)):
        rows = range(int(shown.requests.offsets[i]), int(shown.requests.offsets[i + 1]))
        found.append((shown.ids[i], [(log.catalog.ids[shown.requests.item[r]], int(shown.label[r])) for r in rows]))
    return found


def test_rows_of_one_list_meet_from_anywhere_and_lists_stand_in_time_order(tmp_path: Path) -> None:
    folder = tmp_path / "impressions"
    folder.mkdir()
    (folder / "1.csv").write_text(LISTS + "late,u,600,b,1\nearly,v,60,a,0\nlate,u,600,a,0\n")
    (folder / "2.jsonl").write_text(
        '{"impression_id": "early", "user_id": "v", "timestamp": 60, "item_id": "c", "clicked": 1}\n'
    )
    log, report = load(tmp_path)
    assert lists(log) == [("early", [("a", 0), ("c", 1)]), ("late", [("b", 1), ("a", 0)])]
    assert list(log.impressions.requests.time) == [MINUTE, 10 * MINUTE]
    assert list(log.users[log.impressions.requests.user]) == ["v", "u"]
    assert report.tables["impressions"].kept == 4
    assert report.time_units == {"impressions.timestamp": "epoch s"}


def test_a_clicked_row_without_event_is_a_click_at_its_own_time(tmp_path: Path) -> None:
    log, report = load(tmp_path, impressions=LISTS + "i,u,60,a,1\ni,u,60,b,0\n")
    assert events(log) == [("u", "a", MINUTE, "click")]
    assert (report.matched, report.added) == (0, 1)


def test_a_clicked_row_and_an_event_that_names_its_list_are_one_click_however_late(tmp_path: Path) -> None:
    log, report = load(
        tmp_path,
        impressions=LISTS + "i,u,60,a,1\ni,u,60,b,0\n",
        events="user_id,item_id,timestamp,impression_id,event_type\nu,a,90000,i,purchase\nu,b,70,i,view\n",
    )
    assert events(log) == [("u", "b", 70_000_000, "view"), ("u", "a", 90_000_000_000, "purchase")]
    assert list(log.events.positive) == [False, True]
    assert (report.matched, report.added) == (1, 0)


@pytest.mark.parametrize(("second", "joined"), [(59, False), (60, True), (61, True), (60 + 1800, True), (1861, False)])
def test_the_first_event_within_the_click_window_is_the_click(tmp_path: Path, second: int, joined: bool) -> None:
    log, report = load(
        tmp_path, impressions=LISTS + "i,u,60,a,1\ni,u,60,b,0\n", events=EVENTS + f"u,a,{second}\nv,a,61\n"
    )
    own = [time // 1_000_000 for user, _, time, _ in events(log) if user == "u"]
    assert own == ([second] if joined else sorted([60, second]))
    assert report.matched == int(joined)


def test_a_longer_click_window_joins_later_events(tmp_path: Path) -> None:
    folder = directory(tmp_path, impressions=LISTS + "i,u,60,a,1\ni,u,60,b,0\n", events=EVENTS + "u,a,5000\n")
    assert load_log(folder)[1].added == 1
    assert load_log(folder, ReadOptions(DataSettings(click_window_minutes=90)))[1].added == 0


def test_only_the_first_event_on_the_item_is_the_click_and_the_next_one_is_another(tmp_path: Path) -> None:
    log, report = load(tmp_path, impressions=LISTS + "i,u,60,a,1\ni,u,60,b,0\n", events=EVENTS + "u,a,90\nu,a,80\n")
    assert [time // 1_000_000 for _, _, time, _ in events(log)] == [80, 90]
    assert report.matched == 1
    assert "1 click events match no impression; they are still counted" in report.warnings


def test_an_event_that_names_another_list_is_not_the_click_of_this_one(tmp_path: Path) -> None:
    log, _ = load(
        tmp_path,
        impressions=LISTS + "i,u,60,a,1\ni,u,60,b,0\nj,u,120,a,1\nj,u,120,b,0\n",
        events="user_id,item_id,timestamp,impression_id\nu,a,130,i\n",
    )
    assert [time // 1_000_000 for _, _, time, _ in events(log)] == [120, 130]


def test_an_event_finds_the_list_that_it_names_wherever_that_stands(tmp_path: Path) -> None:
    log, report = load(
        tmp_path,
        impressions=LISTS + "late,u,9000,a,1\nlate,u,9000,b,0\nearly,v,60,b,1\nearly,v,60,a,0\n",
        events="user_id,item_id,timestamp,impression_id\nv,b,9500,early\nu,a,99000,late\n",
    )
    assert report.matched == 2
    assert [time // 1_000_000 for _, _, time, _ in events(log)] == [9500, 99_000]


def test_a_column_with_as_many_values_as_half_its_rows_is_no_category(tmp_path: Path) -> None:
    rows = "a,t,x,p\nb,t,x,p\nc,t,y,p\nd,t,y,q\ne,t,,q\n"
    _, report = load(tmp_path, items="item_id,title,half,fewer\n" + rows, events=EVENTS + "u,a,60\n")
    assert report.categories == ("fewer",)


def test_a_click_stamped_before_its_list_counts_from_the_list(tmp_path: Path) -> None:
    log, report = load(
        tmp_path,
        impressions=LISTS + "i,u,60,a,1\ni,u,60,b,0\n",
        events="user_id,item_id,timestamp,impression_id\nu,a,55,i\n",
    )
    assert events(log) == [("u", "a", MINUTE, "click")]
    assert any("stamped before the list" in warning for warning in report.warnings)


def test_people_without_an_id_stay_apart(tmp_path: Path) -> None:
    log, report = load(
        tmp_path,
        impressions=LISTS + "i,,60,a,1\ni,,60,b,0\nj,,60,a,1\nj,,60,b,0\n",
        events=EVENTS + ",a,60\n,a,60\n",
    )
    assert events(log) == [(None, "a", MINUTE, "click")] * 4
    assert list(log.impressions.requests.user) == [-1, -1]
    assert len(log.users) == 0
    assert "2 of 2 lists have no user" in report.warnings


def test_repeats_count_once_by_event_id_or_else_by_user_item_type_and_time(tmp_path: Path) -> None:
    log, report = load(
        tmp_path,
        events="user_id,item_id,timestamp,event_type,event_id\n"
        "u,a,60,click,e1\nu,a,61,click,e1\nu,a,60,click,e2\n"
        "u,b,60,,\nu,b,60,click,\nu,b,60,like,\nu,b,61,click,\n",
    )
    assert [(item, time // 1_000_000, kind) for _, item, time, kind in events(log)] == [
        ("a", 60, "click"),
        ("a", 60, "click"),
        ("b", 60, "click"),
        ("b", 60, "like"),
        ("b", 61, "click"),
    ]
    counts = report.tables["events"]
    assert (counts.rows, counts.kept, counts.repeats) == (7, 5, 2)


def test_an_item_twice_in_a_list_stands_first_with_its_largest_label(tmp_path: Path) -> None:
    log, report = load(tmp_path, impressions=LISTS + "i,u,60,b,0\ni,u,60,a,1\ni,u,60,b,2\ni,u,60,c,0\n")
    assert lists(log) == [("i", [("b", 2), ("a", 1), ("c", 0)])]
    assert report.tables["impressions"].repeats == 1
    assert "1 rows repeat an item of their list; it keeps its largest label" in report.warnings


def test_a_list_whose_rows_disagree_on_user_or_time_is_rejected_whole(tmp_path: Path) -> None:
    content = LISTS + "i,u,60,a,1\ni,v,60,b,0\nj,u,60,a,1\nj,u,61,b,0\nk,u,60,b,1\nk,u,60,c,0\nl,u,60,a,1\nl,,60,b,0\n"
    folder = directory(tmp_path, impressions=content)
    with pytest.raises(InputError, match=r"impressions table .* 6 of its 8 rows cannot be used \(6 x conflicting"):
        load_log(folder)
    log, report = load_log(folder, ReadOptions(files=FileOptions(max_rejects=1)), rejects=tmp_path / "rejects")
    assert lists(log) == [("k", [("b", 1), ("c", 0)])]
    assert report.tables["impressions"].rejected == {"conflicting_impression": 6}
    written = [json.loads(line) for line in (tmp_path / "rejects" / "impressions.jsonl").read_text().splitlines()]
    assert [line["row"] for line in written] == [1, 2, 3, 4, 7, 8]
    assert written[0] == {
        "file": str(folder / "impressions.csv"),
        "row": 1,
        "reason": "conflicting_impression",
        "field": "impression_id",
        "value": "i",
    }


def test_a_sampled_list_gives_its_click_and_is_marked(tmp_path: Path) -> None:
    head = LISTS.strip() + ",sampled\n"
    log, report = load(tmp_path, impressions=head + "i,u,60,a,1,true\ni,u,60,b,0,true\nj,u,90,b,1,\nj,u,90,a,0,0\n")
    assert list(log.impressions.sampled) == [True, False]
    assert len(log.events) == 2
    assert "1 of 2 lists are sampled: they count as impressions of no item" in report.warnings


def test_history_events_count_as_clicks_and_are_not_dated(tmp_path: Path) -> None:
    folder = directory(
        tmp_path, events="user_id,item_id,timestamp,event_type\nu,a,60,history\nu,b,70,view\nu,c,80,buy\n"
    )
    log, report = load_log(folder)
    assert (list(log.events.positive), list(log.events.dated)) == ([True, False, True], [False, True, True])
    assert report.first == 70_000_000
    log, report = load_log(folder, ReadOptions(DataSettings(positive_event_types=("view", "gift"))))
    assert list(log.events.positive) == [True, True, False]
    assert any("['gift']" in warning for warning in report.warnings)


def test_equal_times_are_ordered_by_item_id(tmp_path: Path) -> None:
    log, _ = load(tmp_path, events=EVENTS + "u,c,60\nv,a,60\nu,zz,60\nu,b,30\n")
    assert [item for _, item, _, _ in events(log)] == ["b", "a", "c", "zz"]
    assert list(log.catalog.ids) == ["a", "b", "c", "zz"]
    assert list(log.catalog.title) == ["Apple", "Bread", "Cheese", "", ""]


def test_shown_items_without_a_row_stay_as_candidates_and_are_counted(tmp_path: Path) -> None:
    log, report = load(tmp_path, impressions=LISTS + "i,u,60,x,1\ni,u,60,b,0\n", events=EVENTS + "u,y,10\n")
    assert report.undescribed == 2
    assert lists(log) == [("i", [("x", 1), ("b", 0)])]
    assert "1 shown items are not in items: 1 of 2 candidates have no text" in report.warnings
    assert "2 of 2 events are on items that are not in items" in report.warnings


def test_the_last_of_two_rows_of_an_item_counts_and_empty_titles_are_counted(tmp_path: Path) -> None:
    folder = directory(tmp_path, items="item_id,title\na,First\nb,\na,Second\n", events=EVENTS + "u,a,60\n")
    log, report = load_log(folder, rejects=tmp_path / "r")
    assert list(log.catalog.title) == ["Second", "", ""]
    counts = report.tables["items"]
    assert (counts.rows, counts.kept, counts.rejected, counts.repeats) == (3, 2, {}, 1)
    assert not (tmp_path / "r" / "items.jsonl").exists()
    assert "1 rows of items have an id that comes again; the last row of each counts" in report.warnings
    assert "1 items have an empty title, 1 of them no description either" in report.warnings


def test_the_last_row_of_an_item_is_that_of_the_last_file_and_a_rejected_row_is_none(tmp_path: Path) -> None:
    folder = directory(tmp_path, events=EVENTS + "u,a,60\n")
    (folder / "items.csv").unlink()
    (folder / "items").mkdir()
    (folder / "items" / "1.csv").write_text("item_id,title,category\na,Old,x\nb,Bread,x\n")
    (folder / "items" / "2.csv").write_text("item_id,title,category\na,New,y\n,Lost,z\n")
    log, report = load_log(folder)
    assert list(log.catalog.title)[:2] == ["New", "Bread"]
    assert log.catalog.categories["category"].values == ("x", "y")
    assert (report.tables["items"].repeats, report.tables["items"].rejected) == (1, {"missing_value": 1})


def test_the_last_row_of_each_id_is_found_and_rows_keep_their_order() -> None:
    ids = pa.chunked_array([["a", "b", "a"], ["c", "b", "b", "d"]], pa.large_string())
    assert last_of_each(ids).tolist() == [2, 3, 5, 6]


def test_a_list_longer_than_the_ranker_can_learn_is_named(tmp_path: Path) -> None:
    rows = "".join(f"huge,u,{NOON},x{place},{int(place == 7)}\n" for place in range(10_001))
    _, report = load(tmp_path, impressions=LISTS + rows + f"short,u,{NOON},a,1\nshort,u,{NOON},b,0\n")
    (said,) = [warning for warning in report.warnings if "10,000" in warning]
    assert said.startswith("1 lists have more than 10,000 candidates, the longest is 'huge' with 10,001: ")
    assert report.rejected == 0


def test_item_columns_are_read_as_what_they_are_named(tmp_path: Path) -> None:
    items = pd.DataFrame(
        {
            "item_id": ["b", "a", "c", "d", "e"],
            "title": list("BACDE"),
            "published_at": pd.to_datetime(["2024-01-01", None, None, None, None]),
            "category": [" x | y ", "y", None, "y|y", ""],
            "brand": ["p", "p", "p", "q", "q"],
            "code": ["1x", "2x", "3x", "4x", "5x"],
            "price": [1.5, None, 3, 4, 5],
            "image": [[1.0, 2.0], None, [3.0, 4.0], [5.0, 6.0], [7.0, 8.0]],
        }
    )
    folder = directory(tmp_path, events=EVENTS + "u,a,60\n")
    (folder / "items.csv").unlink()
    items.to_parquet(folder / "items.parquet")
    log, report = load_log(
        folder,
        ReadOptions(item_columns=CatalogColumns(numbers=("price",), vectors=("image",), texts=("brand", "title"))),
    )
    catalog = log.catalog
    assert report.categories == ("brand", "category")
    category = catalog.categories["category"]
    assert category.values == ("x", "y")
    assert [list(category.codes.row(i)) for i in range(6)] == [[1], [0, 1], [], [1], [], []]
    assert catalog.published_at.tolist() == [NO_TIME, 1_704_067_200_000_000, *[NO_TIME] * 4]
    np.testing.assert_array_equal(catalog.numbers["price"], [np.nan, 1.5, 3, 4, 5, np.nan])
    np.testing.assert_array_equal(catalog.vectors["image"][:3], [[np.nan] * 2, [1, 2], [3, 4]])
    assert list(catalog.texts["brand"]) == ["p", "p", "p", "q", "q", ""]
    assert list(catalog.texts) == ["brand"]
    only = load_log(folder, ReadOptions(item_columns=CatalogColumns(categories=("code",))))[0].catalog.categories
    assert sorted(only) == ["category", "code"]


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        (CatalogColumns(numbers=("price",)), "expected a column 'price' in items (named in numbers), found"),
        (CatalogColumns(categories=("brand",)), "expected a column 'brand' in items (named in categories), found"),
        (CatalogColumns(texts=("body",)), "expected a column 'body' in items (named in the text template), found"),
        (CatalogColumns(vectors=("image",)), "expected a column 'image' in items (named in vectors), found"),
    ],
)
def test_a_named_column_that_is_not_there_is_an_error(tmp_path: Path, columns: CatalogColumns, said: str) -> None:
    with pytest.raises(InputError) as caught:
        load_log(directory(tmp_path, events=EVENTS + "u,a,60\n"), ReadOptions(item_columns=columns))
    assert said in str(caught.value)


def test_an_unknown_timezone_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="timezone: expected an IANA name"):
        load_log(directory(tmp_path, events=EVENTS + "u,a,60\n"), ReadOptions(DataSettings(timezone="Nowhere")))


def test_numeric_columns_of_a_csv_are_no_categories(tmp_path: Path) -> None:
    rows = "".join(f"{i},t,{i % 2},{'red' if i % 2 else 'blue'}\n" for i in range(10))
    _, report = load(tmp_path, items="item_id,title,size,colour\n" + rows, events=EVENTS + "u,1,60\n")
    assert report.categories == ("colour",)


def test_users_attributes_stand_at_the_users_code(tmp_path: Path) -> None:
    log, report = load(tmp_path, events=EVENTS + "v,a,60\n", users="user_id,country\nw,DE\nu,CN\nw,US\n")
    assert list(log.users) == ["u", "v", "w"]
    assert log.attributes is not None
    assert log.attributes["country"].tolist()[::2] == ["CN", "US"]
    assert log.attributes["country"].isna().tolist() == [False, True, False]
    assert (report.tables["users"].rows, report.tables["users"].kept, report.tables["users"].repeats) == (3, 2, 1)
    assert "1 rows of users have an id that comes again; the last row of each counts" in report.warnings


def test_queries_belong_to_the_list(tmp_path: Path) -> None:
    head = LISTS.strip() + ",query\n"
    log, _ = load(
        tmp_path, impressions=head + "i,u,60,a,1,fresh bread\ni,u,60,b,0,fresh bread\nj,u,90,b,1,\nj,u,90,a,0,\n"
    )
    assert log.impressions.requests.query is not None
    assert list(log.impressions.requests.query) == ["fresh bread", None]
    assert load(tmp_path, impressions=LISTS + "i,u,60,a,1\n")[0].impressions.requests.query is None


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        ({}, "expected an impressions table, found none"),
        ({"impressions": LISTS + "i,u,60,a,0\n"}, "expected at least one click, found none"),
        ({"events": "user_id,item_id,timestamp,event_type\nu,a,60,view\n"}, "expected at least one click, found none"),
        ({"impressions": LISTS}, "expected at least one row, found none"),
        ({"impressions": ""}, "is empty"),
        ({"impressions": "user_id,item_id,timestamp\n"}, "expected a column 'impression_id' in impressions, found"),
        ({"events": "user_id,item_id,timestamp\nu,a,noonish\n"}, "none of its 1 rows can be used"),
        ({"items": "item_id,name\n1,x\n", "events": EVENTS + "u,a,60\n"}, "expected a column 'title' in items"),
    ],
)
def test_unusable_tables_stop_the_reading_with_one_line(tmp_path: Path, tables: dict[str, str], said: str) -> None:
    folder = directory(tmp_path, **tables)
    with pytest.raises(InputError) as caught:
        load_log(folder)
    assert said in str(caught.value)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_training_asks_for_impressions_and_names_the_command_that_makes_them(tmp_path: Path) -> None:
    folder = directory(tmp_path, events=EVENTS + "u,a,60\n")
    assert len(load_log(folder)[0].impressions) == 0
    with pytest.raises(InputError, match="recsys data slates"):
        load_log(folder, impressions_required=True)
    (folder / "items.csv").unlink()
    with pytest.raises(InputError, match="expected an items table"):
        load_log(folder)


def frames(n: int, seed: int) -> dict[str, pd.DataFrame]:
    dice = np.random.default_rng(seed)
    time = pd.to_datetime(1_700_000_000 + np.sort(dice.integers(0, 10**6, n)), unit="s", utc=True)
    shown = pd.DataFrame(
        {
            "impression_id": [f"i{k}" for k in range(n) for _ in range(3)],
            "user_id": np.repeat([f"{k:03d}" for k in dice.integers(0, 9, n)], 3),
            "timestamp": np.repeat(time, 3),
            "item_id": np.concatenate([dice.permutation(6)[:3] for _ in range(n)]),
            "clicked": np.tile([1, 0, 0], n),
        }
    )
    items = pd.DataFrame(
        {"item_id": range(5), "title": ['x "1"', "y, z", "新聞", "", "d\ne"], "category": list("aabbb")}
    )
    events = shown[shown["clicked"] == 1][["user_id", "item_id", "timestamp"]].head(n // 2)
    return {"items": items, "impressions": shown, "events": events}


def write(folder: Path, tables: dict[str, pd.DataFrame], suffix: str) -> Path:
    folder.mkdir()
    for name, table in tables.items():
        file = folder / f"{name}.{suffix}"
        if suffix == "parquet":
            table.to_parquet(file)
        elif suffix == "jsonl.gz":
            table.assign(**{c: table[c].astype(str) for c in table if c == "timestamp"}).to_json(
                file, orient="records", lines=True
            )
        else:
            table.to_csv(file, index=False, sep="\t" if suffix == "tsv" else ",")
    return folder


def test_the_fingerprint_is_that_of_the_content_whatever_the_format(tmp_path: Path) -> None:
    tables = frames(40, 1)
    marks = {
        suffix: load_log(write(tmp_path / suffix, tables, suffix))[1].fingerprint
        for suffix in ("parquet", "csv", "tsv", "csv.gz", "jsonl.gz")
    }
    assert len(set(marks.values())) == 1
    tables["items"].loc[0, "title"] = "another"
    assert load_log(write(tmp_path / "changed", tables, "parquet"))[1].fingerprint != marks["parquet"]


def test_the_report_of_a_reading_is_text_and_json(tmp_path: Path) -> None:
    folder = write(tmp_path / "data", frames(10, 2), "csv")
    report = load_log(folder)[1]
    assert report == load_log(folder)[1]
    assert json.loads(json.dumps(report.as_dict()))["tables"]["impressions"]["rows"] == 30
    assert f"fingerprint {report.fingerprint}" in report.lines()
    assert "impressions            30           30          0          0" in report.lines()


rows_of_lists = st.lists(
    st.tuples(
        st.integers(0, 3), st.sampled_from(["", "u", "v"]), st.integers(0, 3), st.sampled_from("abc"), st.integers(0, 2)
    ),
    min_size=1,
    max_size=25,
)
rows_of_events = st.lists(
    st.tuples(st.sampled_from(["", "u", "v"]), st.sampled_from("abc"), st.integers(0, 9)), max_size=12
)


@given(rows_of_lists, rows_of_events)
@settings(max_examples=60, deadline=None)
def test_lists_and_clicks_equal_a_plain_loop(
    tmp_path_factory: pytest.TempPathFactory,
    shown: list[tuple[int, str, int, str, int]],
    happened: list[tuple[str, str, int]],
) -> None:
    agreed: dict[int, tuple[str, int] | None] = {}
    for list_, user, second, _, _ in shown:
        agreed[list_] = (user, second) if agreed.get(list_, (user, second)) == (user, second) else None
    good: dict[int, dict[str, int]] = {}
    for list_, _, _, item, label in shown:
        if agreed[list_] is not None:
            row = good.setdefault(list_, {})
            row[item] = max(label, row.get(item, 0))
    clicks = []
    for user, item, second in happened:
        if not user or (user, item, second) not in clicks:
            clicks.append((user, item, second))
    once = list(clicks)
    for list_, row in good.items():
        user, second = agreed[list_] or ("", 0)
        for item, label in row.items():
            near = [c for c in once if user and c[:2] == (user, item) and second <= c[2] <= second + 4]
            if label and not near and (not user or (user, item, second) not in clicks):
                clicks.append((user, item, second))
    folder = directory(
        tmp_path_factory.mktemp("loop"),
        impressions=LISTS + "".join(f"i{a},{b},{c},{d},{e}\n" for a, b, c, d, e in shown),
        **({"events": EVENTS + "".join(f"{a},{b},{c}\n" for a, b, c in happened)} if happened else {}),
    )
    if not good or not clicks:
        with pytest.raises(InputError):
            load_log(folder)
        return
    log, _ = load_log(folder, ReadOptions(DataSettings(click_window_minutes=4 / 60), files=FileOptions(max_rejects=1)))
    expected = sorted(good, key=lambda list_: ((agreed[list_] or ("", 0))[1], list(good).index(list_)))
    assert lists(log) == [(f"i{list_}", list(good[list_].items())) for list_ in expected]
    found = [(user or "", item, time // 1_000_000) for user, item, time, _ in events(log)]
    assert sorted(found) == sorted(clicks)


def test_one_table_can_be_read_alone(tmp_path: Path) -> None:
    (tmp_path / "new.csv").write_text("item_id,title,brand\n1,a,x\n2,b,y\n")
    (checked,) = read_table_rows(
        tmp_path / "new.csv", "items", ReadOptions(item_columns=CatalogColumns(categories=("brand",)))
    )
    assert checked.data.to_pylist()[1] == {
        "item_id": "2",
        "title": "b",
        "description": None,
        "published_at": None,
        "category brand": "y",
        "category category": None,
    }
    with pytest.raises(ValueError, match="table: expected one of"):
        read_table_rows(tmp_path / "new.csv", "item")


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("movielens", {"items": 3_537, "events": 34_691, "impressions": 33_013}),
        ("amazon-office", {"items": 3_459, "events": 22_447, "impressions": 17_957}),
        ("amazon-bundles", {"items": 11_753, "events": 13_733, "impressions": 8_269}),
    ],
)
def test_real_sets_have_the_counts_of_their_description(shared_data: Path, name: str, counts: dict[str, int]) -> None:
    log, report = load_log(shared_data / name, impressions_required=True)
    found: dict[str, Any] = report.as_dict()
    assert {key: found[key] for key in counts} == counts
    assert (report.rejected, report.added, report.undescribed) == (0, 0, 0)
    assert report.candidates == 20 * report.impressions
    assert log.impressions.sampled.all()
    assert log.impressions.has_both().all()
    assert np.all(np.diff(log.events.time) >= 0)
    assert "category" in log.catalog.categories


def test_a_template_that_names_the_category_reads_tables_without_one(tmp_path: Path) -> None:
    folder = directory(tmp_path, impressions=LISTS + "1,u,2024-01-01,a,1\n1,u,2024-01-01,b,0\n")
    log, _ = load_log(folder, ReadOptions(item_columns=CatalogColumns(texts=("category",))))
    assert "category" not in log.catalog.texts or not any(log.catalog.texts["category"])
