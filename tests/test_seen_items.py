"""Which items a log knows of before a moment."""

from dataclasses import replace

import numpy as np
from tiny_encoder import SECOND, catalog_of, topic_log

from features.log import Log, Requests
from features.seen_items import items_before, texts_before


def log_of(shown: list[list[int]], acted: list[tuple[int, int]]) -> Log:
    """Lists at seconds 0, 10, 20, ... and clicks of (second, item) on six items, of which the last two share a text."""
    log = topic_log(len(shown))
    time = np.arange(len(shown), dtype=np.int64) * 10 * SECOND
    offsets = np.cumsum([0, *map(len, shown)]).astype(np.int64)
    requests = Requests(
        np.zeros(len(shown), np.int32), time, offsets, np.array([item for row in shown for item in row], np.int32)
    )
    n = len(acted)
    events = replace(
        log.events,
        user=np.zeros(n, np.int32),
        item=np.array([item for _, item in acted], np.int32),
        time=np.array([second for second, _ in acted], np.int64) * SECOND,
        type=np.zeros(n, np.int8),
        positive=np.ones(n, bool),
        dated=np.ones(n, bool),
    )
    impressions = replace(log.impressions, requests=requests)
    return replace(log, catalog=catalog_of(["a", "b", "c", "", "e", "e"]), events=events, impressions=impressions)


def test_only_texts_of_items_seen_strictly_before_are_read() -> None:
    log = log_of([[0, 3], [5, -1], [2]], [(5, 4), (15, 1), (20, 2)])
    texts = ["a", "b", "c", "", "e", "e", ""]
    assert list(np.flatnonzero(items_before(log, 20 * SECOND))) == [0, 1, 3, 4, 5]
    assert texts_before(log, 20 * SECOND, texts) == ["a", "b", "e"]
    assert texts_before(log, 20 * SECOND + 1, texts) == ["a", "b", "c", "e"]
    assert texts_before(log, 0, texts) == []


def test_nothing_beyond_the_horizon_is_read() -> None:
    log = log_of([[0], [1], [2]], [(5, 4), (15, 3), (25, 5)])
    assert list(np.flatnonzero(items_before(log, 24 * SECOND, horizon=24 * SECOND))) == [0, 1, 2, 3, 4]
    assert list(np.flatnonzero(items_before(log, 29 * SECOND, horizon=24 * SECOND))) == [1, 2, 3, 4, 5]
    assert texts_before(log, 29 * SECOND, ["a", "b", "c", "", "e", "e", ""], horizon=24 * SECOND) == ["b", "c", "e"]
