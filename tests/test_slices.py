"""Slices of a few lists, and the means over them, worked out by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from recsys.evaluation.slices import MAX_CATEGORIES, OTHER, list_slices, measure_slices

NAN = float("nan")
LISTS = pd.DataFrame(
    {
        "user_id": ["ann", "ann", "bob", None],
        "cold_user": [False, False, True, True],
        "cold_item": [True, False, True, False],
        "history_length": [19, 20, 1, 0],
        "category": ["sport", "film|sport", "", "film"],
        "hour": [0, 5, 6, 23],
        "candidates": [10, 11, 100, 101],
        "position": [1.0, 3.0, NAN, 11.0],
    }
)


def members(lists: pd.DataFrame) -> dict[str, list[int]]:
    return {f"{one.attribute}: {one.value}": list(np.flatnonzero(one.mask)) for one in list_slices(lists)}


def test_each_column_cuts_the_lists_at_its_own_edges() -> None:
    assert members(LISTS) == {
        "user: cold": [2, 3],
        "user: warm": [0, 1],
        "clicked item: cold": [0, 2],
        "clicked item: warm": [1, 3],
        "history: 0": [3],
        "history: 1 to 4": [2],
        "history: 5 to 19": [0],
        "history: 20 or more": [1],
        "category: film": [1, 3],
        "category: sport": [0, 1],
        "hour: 0 to 5": [0, 1],
        "hour: 6 to 11": [2],
        "hour: 18 to 23": [3],
        "list size: 0 to 10": [0],
        "list size: 11 to 20": [1],
        "list size: 51 to 100": [2],
        "list size: 101 or more": [3],
        "clicked position: 1": [0],
        "clicked position: 2 to 3": [1],
        "clicked position: 11 or more": [3],
    }


def test_a_column_that_is_not_there_gives_no_slices() -> None:
    assert members(LISTS[["user_id", "hour"]]) == {
        "hour: 0 to 5": [0, 1],
        "hour: 6 to 11": [2],
        "hour: 18 to 23": [3],
    }
    assert members(LISTS[["user_id"]]) == {}


def test_rare_categories_share_a_slice() -> None:
    names = [f"c{i}" for i in range(MAX_CATEGORIES + 2)]
    # every category has two lists but the last two, which have one; the last list holds one of them and c0
    lists = pd.DataFrame({"category": [*names, *names[:MAX_CATEGORIES], f"c0|{names[-1]}"]})
    found = members(lists)
    assert len(found) == MAX_CATEGORIES + 1
    assert found[f"category: {OTHER}"] == [MAX_CATEGORIES, MAX_CATEGORIES + 1]


def test_cold_items_are_measured_with_cold_candidates_alone() -> None:
    values = {"": np.array([[0.1], [0.2], [0.3], [NAN]]), "cold_items_": np.array([[0.9], [NAN], [NAN], [NAN]])}
    found = {one.name: one for one in measure_slices(LISTS, values, resamples=100, seed=0)}
    cold = found["clicked item cold"]
    assert (cold.n_lists, cold.n_users, cold.intervals[0].mean) == (1, 1, 0.9)
    warm = found["clicked item warm"]
    assert (warm.n_lists, warm.intervals[0].mean) == (1, 0.2)


def test_all_lists_come_first_and_lists_without_a_value_count_nowhere() -> None:
    values = {"": np.array([[0.1, 1.0], [0.3, 2.0], [NAN, 3.0], [0.5, 9.0]])}
    found = measure_slices(LISTS, values, resamples=100, seed=0)
    assert (found[0].name, found[0].n_lists, found[0].n_users) == ("all lists", 3, 2)
    assert [one.mean for one in found[0].intervals] == pytest.approx([0.3, 4.0])
    assert "history 1 to 4" not in {one.name for one in found}
    assert "clicked item cold" not in {one.name for one in found}


def test_the_interval_of_a_slice_draws_its_own_users() -> None:
    lists = pd.DataFrame({"user_id": ["ann", "bob", "eve", "kim"], "hour": [1, 1, 9, 9]})
    values = {"": np.array([[0.0], [1.0], [5.0], [5.0]])}
    found = {one.name: one.intervals[0] for one in measure_slices(lists, values, resamples=200, seed=0)}
    assert (found["hour 0 to 5"].low, found["hour 0 to 5"].high) == (0.0, 1.0)
    assert (found["hour 6 to 11"].low, found["hour 6 to 11"].high) == (5.0, 5.0)
