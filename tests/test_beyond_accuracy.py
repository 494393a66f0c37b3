"""Coverage, novelty and diversity of a few lists, worked out by hand."""

from __future__ import annotations

from math import log2

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.arrays import CsrLists
from features.definitions.aggregates import GLOBAL, Count
from features.log import Catalog, Categorical, Requests
from recsys.metrics.beyond_accuracy import BeyondAccuracy, beyond_accuracy, first_ranks
from recsys.metrics.jsonable import jsonable

NAN = float("nan")


class TwoLists:
    """ann is shown items 0 to 3, bob items 2 and 3; twelve clicks were made before, on items 0 and 2."""

    # items 0 and 1 are sport, 2 is film, 3 is film and art
    catalog = Catalog(
        np.array(list("abcd"), object),
        *(np.full(5, "", object) for _ in range(2)),
        np.zeros(5, np.int64),
        categories={
            "category": Categorical(
                ("art", "film", "sport"), CsrLists(np.array([0, 1, 2, 3, 5, 5]), np.array([2, 2, 1, 0, 1], np.int32))
            )
        },
    )
    requests = Requests(
        np.array([0, 1], np.int32), np.zeros(2, np.int64), np.array([0, 4, 6]), np.array([0, 1, 2, 3, 2, 3], np.int32)
    )

    def count(self, read: Count) -> np.ndarray:
        return np.full(6, 12) if read.key == GLOBAL else np.array([7, 0, 5, 0, 5, 0])


SCORES = np.array([4.0, 3.0, 2.0, 1.0, 1.0, 2.0])
VECTORS = np.array([[1, 0], [3, 4], [0, 2], [NAN, NAN], [NAN, NAN]], np.float32)


def figures(vectors: np.ndarray | None = VECTORS, scores: np.ndarray = SCORES) -> BeyondAccuracy:
    return beyond_accuracy({"m": scores}, TwoLists(), vectors, resamples=100, seed=0)["m"]  # type: ignore[arg-type]


def test_novelty_is_the_mean_information_of_the_first_ranks() -> None:
    # shares of 12 clicks with one more for each of the 4 items: 8/16, 1/16, 6/16, 1/16
    ann = (1 + 4 + log2(16 / 6) + 4) / 4
    bob = (log2(16 / 6) + 4) / 2
    assert figures().novelty.mean == pytest.approx((ann + bob) / 2)


def test_category_diversity_is_one_less_the_mean_cosine_of_the_pairs() -> None:
    # ann's pairs: 0-1 alike, 2-3 share one of two values, the other four have nothing in common
    half = 1 / np.sqrt(2)
    assert figures().category_diversity.mean == pytest.approx(((1 - (1 + half) / 6) + (1 - half)) / 2)


def test_text_diversity_leaves_items_without_text_out() -> None:
    # ann's items with text are 0, 1, 2: cosines 3/5, 0, 4/5; bob has one alone, so no pair
    assert figures().text_diversity.mean == pytest.approx(1 - (0.6 + 0.0 + 0.8) / 3)
    assert np.isnan(figures(None).text_diversity.mean)


def test_coverage_is_the_share_of_candidates_in_some_first_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    assert figures().coverage == 1.0
    monkeypatch.setattr(first_ranks, "__kwdefaults__", {"depth": 1})
    assert figures().coverage == 2 / 4  # item 0 for ann, item 3 for bob
    assert figures(scores=np.array([0.0, 0.0, 1.0, 0.0, 1.0, 0.0])).coverage == 1 / 4


def test_the_report_is_json_without_nan() -> None:
    report = jsonable(figures(None))
    assert set(report) == {"coverage", "novelty", "category_diversity", "text_diversity"}
    assert report["text_diversity"] == {"mean": None, "low": None, "high": None}


@given(st.lists(st.lists(st.sampled_from([0.0, 1.0, 2.0, NAN]), max_size=14), min_size=1, max_size=4))
def test_the_first_ranks_are_the_best_of_each_list_and_end_with_those_without_a_score(
    drawn: list[list[float]],
) -> None:
    offsets = np.cumsum([0, *map(len, drawn)])
    scores = np.array([value for one in drawn for value in one])
    item = np.concatenate([np.arange(len(one))[::-1] for one in drawn]).astype(np.int32)
    rows, kept = first_ranks(scores, item, offsets, depth=3)
    for i, one in enumerate(drawn):
        expected = sorted(range(len(one)), key=lambda row: (np.isnan(one[row]), -np.nan_to_num(one[row]), -row))[:3]
        assert list(rows[kept[i] : kept[i + 1]] - offsets[i]) == expected
