"""The examples of the encoder's training: clicked items of impressions, their unclicked candidates, and the histories
before them.

Works on distinct texts, not items: two items with one text are one row. Items without text are left out of histories
and candidates, and counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from features.arrays import Bool, CsrLists, Float32, Int64, Strings, offsets_of
from features.history import clicks_by_user, histories
from features.log import Impressions, Log
from recsys.encoder.text import clean_text


@dataclass(frozen=True)
class Texts:
    """The distinct texts of a data set: of items, then of queries. distinct: n of them.

    of_item: (n_items + 1,) the text of each item, -1 for none.
    """

    distinct: list[str]
    of_item: Int64

    def rows(self, queries: Strings | None) -> Int64 | None:
        """The text of each query, (n,), -1 for none; None where there are no queries."""
        if queries is None:
            return None
        row_of = {text: row for row, text in enumerate(self.distinct)}
        return np.array([row_of.get(clean_text(query or ""), -1) for query in queries], np.int64)


def collect_texts(item_texts: Sequence[str], queries: Strings | None) -> Texts:
    """The distinct texts of items ("" for none) and of queries (None or "" for none)."""
    rows: dict[str, int] = {}
    of_item = np.array([rows.setdefault(text, len(rows)) if text else -1 for text in item_texts], np.int64)
    for query in [] if queries is None else queries:
        if cleaned := clean_text(query or ""):
            rows.setdefault(cleaned, len(rows))
    return Texts(list(rows), of_item)


@dataclass(frozen=True)
class TextImpressions:
    """n impressions in rows of texts. history: (n, h), latest first, -1 after its end. query: (n,) or None.

    offsets, candidates, label: impression i has candidates[offsets[i]:offsets[i + 1]], -1 for an item without text, and
    their labels.
    """

    history: Int64
    query: Int64 | None
    offsets: Int64
    candidates: Int64
    label: Int64

    def __len__(self) -> int:
        return len(self.history)

    def part(self, start: int, end: int) -> TextImpressions:
        """The impressions from one position to another."""
        rows = slice(self.offsets[start], self.offsets[end])
        return TextImpressions(
            self.history[start:end],
            None if self.query is None else self.query[start:end],
            self.offsets[start : end + 1] - self.offsets[start],
            self.candidates[rows],
            self.label[rows],
        )


def make_text_impressions(
    log: Log, impressions: Impressions, texts: Texts, *, history_length: int, delay: int, horizon: int | None = None
) -> TextImpressions:
    """Impressions with the histories before them. delay, horizon: as of `features.history.histories`."""
    requests = impressions.requests
    clicks = clicks_by_user(log.events, len(log.users))
    items = histories(clicks, requests, length=history_length, delay=delay, horizon=horizon).items
    return TextImpressions(
        _latest_first(items, texts.of_item, history_length),
        texts.rows(requests.query),
        requests.offsets,
        texts.of_item[requests.item],
        impressions.label.astype(np.int64),
    )


def _latest_first(items: CsrLists, text_of_item: Int64, width: int) -> Int64:
    """Histories as a matrix of texts, (n, width), latest first, those without text left out, -1 after the end."""
    owner = np.repeat(np.arange(len(items)), items.lengths())
    text = text_of_item[items.codes]
    owner, text = owner[text >= 0], text[text >= 0]
    counts = np.bincount(owner, minlength=len(items))
    column = np.repeat(np.cumsum(counts), counts) - 1 - np.arange(len(owner))
    matrix = np.full((len(items), width), -1, np.int64)
    matrix[owner, column] = text
    return matrix


@dataclass(frozen=True)
class TrainingExamples:
    """Clicked items to learn from, each against the unclicked items of its impression.

    impressions: where histories and queries are. impression: (n,) the impression of each example. clicked: (n,) its
    text. weight: (n,) what it counts. unclicked: n_impressions rows of texts. without_text: clicked items left out
    because they have no text.
    """

    impressions: TextImpressions
    impression: Int64
    clicked: Int64
    weight: Float32
    unclicked: CsrLists
    without_text: int

    def __len__(self) -> int:
        return len(self.impression)

    def candidates(self, index: Int64, negatives: int, generator: np.random.Generator) -> Int64:
        """The clicked item and up to `negatives` random unclicked ones of each example, (len(index), 1 + k).

        -1 where an impression has fewer; the clicked one is first.
        """
        pool = self.unclicked.take(self.impression[index])
        width = int(pool.lengths().max(initial=1))
        is_item = np.arange(width) < pool.lengths()[:, None]
        matrix = np.full(is_item.shape, -1, np.int64)
        matrix[is_item] = pool.codes
        if width > negatives:
            keys = generator.random(is_item.shape) + ~is_item
            chosen = np.argpartition(keys, negatives - 1, axis=1)[:, :negatives]
            matrix = np.take_along_axis(matrix, chosen, axis=1)
        return np.column_stack([self.clicked[index], matrix])


def make_examples(impressions: TextImpressions, click_weights: Mapping[int, float] | None = None) -> TrainingExamples:
    """One example for each clicked item with text whose impression has an unclicked item with text.

    click_weights: what an item counts by its label; 1 where the label is not named.
    """
    of_row = np.repeat(np.arange(len(impressions)), np.diff(impressions.offsets))
    clicked, has_text = impressions.label > 0, impressions.candidates >= 0
    negative = ~clicked & has_text
    offsets = offsets_of(np.bincount(of_row[negative], minlength=len(impressions)))
    unclicked = CsrLists(offsets, impressions.candidates[negative].astype(np.int32))
    usable: Bool = clicked & has_text & (unclicked.lengths() > 0)[of_row]
    without_text = int((clicked & ~has_text).sum())
    weight = np.ones(int(usable.sum()), np.float32)
    for label, value in (click_weights or {}).items():
        weight[impressions.label[usable] == label] = value
    return TrainingExamples(
        impressions, of_row[usable], impressions.candidates[usable], weight, unclicked, without_text
    )


def split_by_time(impressions: Impressions, share: float) -> tuple[Int64, Int64]:
    """Positions of the older impressions and of the newest `share` of them, never splitting a timestamp.

    The newer part is the one that may come out smaller; it is empty where all impressions have one timestamp.
    """
    time = impressions.requests.time
    if not len(time):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    target = min(round(len(time) * (1 - share)), len(time) - 1)
    cut = int(np.searchsorted(time, time[target], side="left"))
    if cut == 0:
        cut = int(np.searchsorted(time, time[target], side="right"))
    everything = np.arange(len(time), dtype=np.int64)
    return everything[:cut], everything[cut:]
