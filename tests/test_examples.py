"""Examples of lists: the largest changes, one a user, with history, first ranks and where the clicks went."""

from __future__ import annotations

import numpy as np
import pytest
from test_calibration import lists_of
from tiny_encoder import catalog_of

from features.arrays import CsrLists
from recsys.evaluation.examples import ExampleItem, ListExamples, list_examples

TITLES = ["one", "two", "", "four", "five", "six"]
LABEL = np.array([[0, 0, 0, 0, 0, 1], [0, 0, 0, 0, 0, 1], [1, 0, 0, 0, 0, 0], [0, 0, 0, 1, 0, 0]])
UP, DOWN = np.arange(6.0), -np.arange(6.0)
BEFORE, AFTER = np.concatenate([DOWN, DOWN, DOWN, UP]), np.concatenate([UP, UP, UP, UP])


def examples(user: list[int], *, most: int = 5) -> ListExamples:
    """Lists 0 and 1 become right, list 2 becomes wrong, list 3 stays."""
    histories = CsrLists(np.array([0, 7, 7, 8, 8]), np.array([0, 1, 2, 3, 4, 5, 0, 1], np.int32))
    shown = lists_of(LABEL, user=np.array(user))
    return list_examples(BEFORE, AFTER, shown, histories, catalog_of(TITLES), most=most)


def test_changes_are_those_of_ndcg_and_counted() -> None:
    found = examples([0, 1, 2, 3])
    assert (found.better, found.worse, found.same, found.n_lists) == (2, 1, 1, 4)
    assert [one.impression_id for one in found.improved] == ["0", "1"]
    assert [one.impression_id for one in found.worsened] == ["2"]
    assert found.improved[0].before == pytest.approx(1 / np.log2(7)) and found.improved[0].after == 1.0
    assert found.worsened[0].change == pytest.approx(1 / np.log2(7) - 1)


def test_a_user_stands_once_and_unknown_users_each() -> None:
    assert [one.impression_id for one in examples([7, 7, 2, 3]).improved] == ["0"]
    assert [one.impression_id for one in examples([-1, -1, 2, 3]).improved] == ["0", "1"]
    assert len(examples([-1, -1, 2, 3], most=1).improved) == 1


def test_an_example_tells_history_first_ranks_and_where_the_click_went() -> None:
    one = examples([0, 1, 2, 3]).improved[0]
    assert [item.title for item in one.recent] == ["one", "six", "five", "four", ""]  # the newest first
    assert one.history_length == 7
    assert [item.title for item in one.top_before] == ["one", "two", "", "four", "five"]
    assert one.top_after[0] == ExampleItem("i00005", "six", clicked=True) and not one.top_before[0].clicked
    assert [(moved.item.title, moved.before, moved.after) for moved in one.moved] == [("six", 6, 1)]
    assert one.n_candidates == 6


def test_ties_are_ranked_as_an_answer_ranks_them() -> None:
    shown = lists_of(LABEL[:1])
    empty = CsrLists(np.array([0, 0]), np.zeros(0, np.int32))
    found = list_examples(np.zeros(6), UP, shown, empty, catalog_of(TITLES))
    assert [item.item_id for item in found.improved[0].top_before] == [f"i0000{k}" for k in range(5)]
    assert found.improved[0].recent == ()
