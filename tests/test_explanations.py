"""What an answer says of why: groups of columns, and the nearest items of the history."""

from __future__ import annotations

import numpy as np
import pytest

from features.definitions.attribute_measures import Hour
from features.definitions.builtin import catalogue
from features.definitions.column_names import column_names
from features.definitions.event_measures import Feature
from recsys.collaborative.neighbours import Neighbours
from recsys.online.explanations import group_effects
from recsys.online.nearest_history import nearest_history
from recsys.ranker.column_docs import column_groups
from recsys.ranker.column_names import RESERVED_COLUMNS

NOWHERE = (np.nan, np.nan)
VECTORS = np.array([(1, 0), (2, 0), (0.6, 0.8), (0, 1), (-1, 0), NOWHERE, NOWHERE], np.float32)
"""Texts of items 0 to 5, and of the unknown one: 0 and 1 say the same, 5 has none."""
CO_CLICKS = Neighbours(
    np.array([0, 1, 1, 3, 3, 3, 3, 3]), np.array([5, 0, 5], np.int32), np.array([0.25, 0.9, 0.5], np.float32)
)
"""Item 0 was clicked with 5, item 2 with 0 and 5."""


def near(item: int, history: list[int], vectors: np.ndarray = VECTORS) -> list[tuple[int, float, str]]:
    (found,) = nearest_history(vectors, CO_CLICKS, history, np.array([item], np.int32))
    return [(one.code, pytest.approx(one.similarity, abs=1e-6), one.by) for one in found]


def test_every_column_has_a_group_and_a_pair_has_that_of_its_feature() -> None:
    features = (*catalogue(categories={"brand": ("a",)}, numbers=("price",)), Feature("mine", "Mine.", Hour()))
    columns = [*column_names(features), *RESERVED_COLUMNS]
    found = dict(zip(columns, column_groups(features, columns), strict=True))
    assert set(found.values()) == {
        "popularity", "freshness", "affinity", "user", "context",
        "attributes", "text", "words", "collaborative", "custom",
    }  # fmt: skip
    assert found["item_clicks_7d_zscore"] == found["brand_clicks_7d"] == "popularity"
    assert found["item_age_percentile"] == "freshness" and found["user_brand_share_zscore"] == "affinity"
    assert found["text_score_percentile"] == "text" and found["lexical_similarity_zscore"] == "words"
    assert (found["item_price"], found["mine"]) == ("attributes", "custom")


def test_groups_are_sums_of_their_columns_the_largest_first() -> None:
    effects = np.array([[1.0, -3.0, 0.5], [0.0, 0.25, -0.25]])
    assert group_effects(("b", "a", "b"), effects) == [
        [{"group": "a", "contribution": -3.0}, {"group": "b", "contribution": 1.5}],
        [{"group": "a", "contribution": 0.25}, {"group": "b", "contribution": -0.25}],
    ]


def test_the_nearest_texts_come_first_and_of_equal_ones_the_latest_click() -> None:
    assert near(0, [1, 3, 2, 4]) == [(1, 1.0, "text"), (2, 0.6, "text")]
    assert near(2, [0, 1, 3]) == [(3, 0.8, "text"), (1, 0.6, "text"), (0, 0.6, "text")]
    assert near(2, [1, 0, 3]) == [(3, 0.8, "text"), (0, 0.6, "text"), (1, 0.6, "text")]


def test_no_item_is_its_own_reason_and_no_history_gives_none() -> None:
    assert near(0, [0]) == near(0, []) == []


def test_an_item_without_text_has_those_it_was_clicked_with() -> None:
    assert near(5, [0, 1, 2]) == [(2, 0.5, "co_click"), (0, 0.25, "co_click")]


def test_a_model_without_texts_names_items_by_co_clicks_and_one_without_either_names_none() -> None:
    no_texts = np.zeros((7, 0), np.float32)
    assert near(0, [2, 3], no_texts) == [(2, pytest.approx(0.9), "co_click")]
    assert nearest_history(no_texts, None, [2, 3], np.array([0, 1], np.int32)) == [[], []]
