"""Event types: one type however it is spelled, in tables, configuration, features and the online store."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from small_logs import read_online

from features.definitions.aggregates import CLICK, ITEM, Count, Last
from features.online.events import IncomingEvent
from features.online.settings import StoreSettings
from features.online.state import OnlineState
from features.stores.lmdb_store import LmdbStore
from features.tables.data_settings import DataSettings
from features.tables.event_types import canonical_type, doubt_of, is_click
from features.tables.load import ReadOptions, load_log

EVENTS = "user_id,item_id,timestamp,event_type\n"
SECOND = 1_000_000


def folder_of(folder: Path, types: list[str]) -> Path:
    (folder / "items.csv").write_text("item_id,title\na,Apple\nb,Bread\n")
    rows = [f"u,a,{1_700_000_000 + place},{kind}" for place, kind in enumerate(types)]
    (folder / "events.csv").write_text(EVENTS + "\n".join([*rows, f"u,b,{1_700_000_999},click"]) + "\n")
    return folder


@pytest.mark.parametrize("spelled", ["view", "View", "VIEW", " view ", "Impression", "IMPRESSION\t", "vIEW"])
def test_a_view_is_no_click_however_it_is_spelled(spelled: str, tmp_path: Path) -> None:
    log, report = load_log(folder_of(tmp_path, [spelled]))
    assert report.clicks == 1
    assert set(log.events.types) == {"click", canonical_type(spelled)}
    assert not is_click(spelled, None)


def test_named_positive_types_are_compared_without_case_and_blanks(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, ["Purchase", "purchase ", "ADD  to cart", "like"])
    _, report = load_log(folder, ReadOptions(DataSettings(positive_event_types=(" PURCHASE", "Add To Cart"))))
    assert report.event_types == {
        "add to cart": (1, True),
        "click": (1, False),
        "like": (1, False),
        "purchase": (2, True),
    }
    assert not any("positive_event_types names" in warning for warning in report.warnings)


def test_spellings_of_one_type_are_one_type_in_repeats_and_in_the_most_types(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, ["like"])
    with (folder / "events.csv").open("a") as file:
        file.write("u,a,1700000000,LIKE\nu,a,1700000000, Like\n")
    _, report = load_log(folder)
    assert (report.tables["events"].repeats, report.event_types["like"]) == (2, (1, True))


def test_the_report_lists_the_types_and_which_are_clicks_in_words_and_in_json(tmp_path: Path) -> None:
    _, report = load_log(folder_of(tmp_path, ["View", "view", "like"]))
    assert "event types: click 1 (click), like 1 (click), view 2 (no click)" in report.lines()
    assert json.loads(json.dumps(report.as_dict()))["event_types"] == {
        "click": {"events": 1, "click": True},
        "like": {"events": 1, "click": True},
        "view": {"events": 2, "click": False},
    }


@pytest.mark.parametrize(
    ("name", "doubt"),
    [
        ("dislike", "negative"),
        ("Thumbs-Down", "negative"),
        ("remove_from_cart", "negative"),
        ("not interested", "negative"),
        ("unlike", "negative"),
        ("不喜欢", "negative"),
        ("page_view", "seen"),
        ("PageView", "seen"),
        ("impressions", "seen"),
        ("曝光", "seen"),
        ("3", "number"),
        ("like", None),
        ("add_to_cart", None),
        ("reviewed", None),
        ("purchase", None),
    ],
)
def test_a_type_that_says_the_opposite_of_a_click_is_asked_about(name: str, doubt: str | None, tmp_path: Path) -> None:
    assert doubt_of(name) == doubt
    _, report = load_log(folder_of(tmp_path, [name]))
    asked = [warning for warning in report.warnings if f"of type {canonical_type(name)!r} count as clicks" in warning]
    assert len(asked) == (doubt is not None)
    _, report = load_log(folder_of(tmp_path, [name]), ReadOptions(DataSettings(positive_event_types=("click",))))
    assert not any("count as clicks" in warning for warning in report.warnings)


def test_an_empty_or_blank_type_is_a_click_as_a_missing_one(tmp_path: Path) -> None:
    _, report = load_log(folder_of(tmp_path, ["", "  "]))
    assert report.event_types == {"click": (3, True)}


def test_the_online_store_counts_a_spelling_as_its_type(tmp_path: Path) -> None:
    reads = (Count(CLICK, ITEM), Count(" Like", ITEM))
    assert reads[1] == Count("like", ITEM)
    assert Last("VIEW", ITEM).event_type == "view"
    store = LmdbStore(tmp_path / "store")
    state = OnlineState.open(store, StoreSettings(reads=reads, data=DataSettings(positive_event_types=("Like",))))
    kinds = ("View", "LIKE", " like ", "click", "x" * 70)
    rejected = state.add_events([IncomingEvent("u", "a", place * SECOND, kind) for place, kind in enumerate(kinds)])
    assert [(one.index, one.code) for one in rejected] == [(4, "bad_event_type")]
    reader = read_online(state, "u", None, ["a"], now=60 * SECOND)
    assert [reader.count(read).tolist() for read in reads] == [[2], [2]]
    OnlineState.open(store, StoreSettings(reads=reads, data=DataSettings(positive_event_types=(" like",))))
    store.close()
