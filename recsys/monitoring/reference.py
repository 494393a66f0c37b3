"""The distributions that a version was evaluated on: what later data is compared with.

A training keeps them with its run as `reference.json`: a histogram of each column that the ranker read, of its scores
and of the texts of the items, over the test lists, by the models as they were evaluated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel, ConfigDict

from features.arrays import Float32, Float64, Int32, Int64
from recsys.metrics.bootstrap import Interval
from recsys.monitoring.histogram import Histogram, deal_groups, number_histogram
from recsys.monitoring.texts import text_histograms

REFERENCE = "reference.json"
FORMAT = 1
SCORE = "score"


@dataclass(frozen=True)
class ScoredRows:
    """Candidate rows of n lists. matrix: (n_rows, n_columns), its columns by name. score: (n_rows,). user: (n_rows,)
    codes; lists of unknown users have one each. texts: of the distinct items among the rows, "" for none."""

    columns: tuple[str, ...]
    matrix: Float32
    score: Float64
    user: Int64
    texts: Sequence[str]
    n_lists: int
    n_users: int


class Reference(BaseModel):
    """features: by column. score: of the ranker. texts: of the items in the lists. catalogue: of all items. n_lists,
    n_users: that the columns are of. clicked: share of all test lists with a click; ndcg_at_10: of the version on those
    lists. start, end: of the lists, ISO 8601."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")

    format: int = FORMAT
    features: dict[str, Histogram]
    score: Histogram
    texts: dict[str, Histogram]
    catalogue: dict[str, Histogram]
    n_lists: int
    n_users: int
    start: str
    end: str
    clicked: Interval
    ndcg_at_10: Interval


def make_reference(
    rows: ScoredRows,
    catalogue: Sequence[str],
    terms: Sequence[str],
    *,
    start: str,
    end: str,
    clicked: Interval,
    ndcg_at_10: Interval,
) -> Reference:
    """The reference of rows that a version ranked. catalogue: the texts of all items. terms: that TF-IDF knows."""
    group = deal_groups(rows.user)
    return Reference(
        features={name: number_histogram(rows.matrix[:, i], group) for i, name in enumerate(rows.columns)},
        score=number_histogram(rows.score, group),
        texts=text_histograms(rows.texts, terms),
        catalogue=text_histograms(catalogue, terms),
        n_lists=rows.n_lists,
        n_users=rows.n_users,
        start=start,
        end=end,
        clicked=clicked,
        ndcg_at_10=ndcg_at_10,
    )


def feature_histograms(before: Mapping[str, Histogram], rows: ScoredRows) -> dict[str, Histogram]:
    """Other rows in the bins of `before`, by column."""
    group = deal_groups(rows.user)
    place = {name: i for i, name in enumerate(rows.columns)}
    return {
        name: histogram.count_numbers(rows.matrix[:, place[name]], group)
        for name, histogram in before.items()
        if name in place
    }


def score_histogram(before: Histogram, rows: ScoredRows) -> Histogram:
    """The scores of other rows in the bins of `before`."""
    return before.count_numbers(rows.score, deal_groups(rows.user))


def row_users(user: Int32, lengths: Int64) -> Int64:
    """The code of each row's user, (n_rows,), and one of its own for each list whose user is unknown, -1. user,
    lengths: (n,) of the lists."""
    code = user.astype(np.int64)
    unknown = np.flatnonzero(code < 0)
    code[unknown] = -1 - np.arange(len(unknown))
    return np.repeat(code, lengths)


def spread_evenly(positions: Int64, most: int) -> Int64:
    """All positions, or `most` of them at even distances."""
    if len(positions) <= most:
        return positions
    return positions[np.linspace(0, len(positions) - 1, most).astype(np.int64)]
