"""Clicks permuted within their lists, in the tables as they are read, and the events that move with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from features.tables.load import ReadOptions, load_log
from features.tables.permuted_clicks import permuted_log, shuffle_within_impressions

ITEMS = ("a", "b", "c", "d")


def write_tables(folder: Path, lists: list[tuple[str, str, int, str]], events: list[tuple[str, str, int]]) -> None:
    """lists: (id, user, second, clicked items as letters), all of the four items. events: (user, item, second)."""
    pd.DataFrame({"item_id": [*ITEMS, "e"], "title": "t"}).to_csv(folder / "items.csv", index=False)
    rows = [
        {
            "impression_id": name,
            "user_id": user,
            "timestamp": 10_000 + second,
            "item_id": item,
            "clicked": item in clicked,
        }
        for name, user, second, clicked in lists
        for item in ITEMS
    ]
    pd.DataFrame(rows).astype({"clicked": int}).to_csv(folder / "impressions.csv", index=False)
    if not events:
        return
    frame = pd.DataFrame(events, columns=["user_id", "item_id", "timestamp"])
    frame.assign(timestamp=frame["timestamp"] + 10_000).to_csv(folder / "events.csv", index=False)


def happened(folder: Path, seed: int | None) -> tuple[list[tuple[str, str, int]], list[set[str]]]:
    """Events of a log as (user, item, second), and the clicked items of each list; seed None is the log as it is."""
    log = load_log(folder)[0] if seed is None else permuted_log(folder, ReadOptions(), seed=seed)
    events = log.events
    names = [(str(log.users[u]), str(log.catalog.ids[i])) for u, i in zip(events.user, events.item, strict=True)]
    found = [(*pair, int(t) // 1_000_000 - 10_000) for pair, t in zip(names, events.time, strict=True)]
    requests, label = log.impressions.requests, log.impressions.label
    clicked = [
        {str(log.catalog.ids[item]) for item in requests.item[a:b][label[a:b] > 0]}
        for a, b in zip(requests.offsets[:-1], requests.offsets[1:], strict=True)
    ]
    return found, clicked


def other_seed(folder: Path) -> int:
    """A seed that moves the first list's click."""
    before = happened(folder, None)[1][0]
    return next(seed for seed in range(20) if happened(folder, seed)[1][0] != before)


def test_the_event_of_a_click_moves_to_the_item_that_the_click_moved_to(tmp_path: Path) -> None:
    write_tables(tmp_path, [("i", "u", 0, "a")], [("u", "a", 60), ("v", "a", 10), ("u", "e", 5)])
    events, clicked = happened(tmp_path, other_seed(tmp_path))
    (item,) = clicked[0]
    assert item != "a"
    assert sorted(events) == sorted([("u", item, 60), ("v", "a", 10), ("u", "e", 5)])


def test_a_clicked_row_without_an_event_is_a_click_at_the_lists_time_on_its_new_item(tmp_path: Path) -> None:
    write_tables(tmp_path, [("i", "u", 0, "a")], [("u", "a", 3_000)])
    events, clicked = happened(tmp_path, other_seed(tmp_path))
    (item,) = clicked[0]
    assert sorted(events) == sorted([("u", item, 0), ("u", "a", 3_000)])


def test_an_event_that_two_lists_claim_moves_with_the_first(tmp_path: Path) -> None:
    write_tables(tmp_path, [("i", "u", 0, "a"), ("j", "u", 10, "a")], [("u", "a", 60)])
    assert happened(tmp_path, None)[0] == [("u", "a", 60)]
    seed = next(seed for seed in range(40) if len({*map(frozenset, happened(tmp_path, seed)[1])}) == 2)
    events, clicked = happened(tmp_path, seed)
    (first,), (second,) = clicked
    assert sorted(events) == sorted([("u", first, 60), ("u", second, 10)])


def test_every_list_keeps_its_number_of_clicks_and_its_candidates(tmp_path: Path) -> None:
    lists = [(f"i{n:02d}", "u", 5_000 * n, "ab" if n % 2 else "c") for n in range(20)]
    write_tables(tmp_path, lists, [])
    clicked = happened(tmp_path, 1)[1]
    assert [len(one) for one in clicked] == [2 if n % 2 else 1 for n in range(20)]
    assert clicked != happened(tmp_path, None)[1]
    assert happened(tmp_path, 1) == happened(tmp_path, 1)


def test_all_orders_of_a_list_come_equally_often() -> None:
    offsets = np.arange(0, 3 * 6_000 + 1, 3)
    source = shuffle_within_impressions(offsets, seed=0).reshape(-1, 3) - offsets[:-1, None]
    orders, counts = np.unique(source, axis=0, return_counts=True)
    assert len(orders) == 6
    assert counts.min() > 900
