"""Comparisons of two tables of lists whose differences can be worked out."""

from __future__ import annotations

import json
import re

import numpy as np
import pandas as pd
import pytest

from recsys.errors import ComparisonError
from recsys.evaluation.comparison import ComparedRun, ComparedRuns, Comparison, compare
from recsys.metrics.bootstrap import Interval
from recsys.report.comparison_page import comparison_page

HOUR = pd.Timedelta(hours=1)
START = pd.Timestamp("2026-01-01", tz="UTC")


def table(ndcg: list[float], *, first: int = 0, users: list[str | None] | None = None) -> pd.DataFrame:
    """One list an hour, the users in turn."""
    n = len(ndcg)
    names = users or [f"user {(first + i) % 100}" for i in range(n)]
    return pd.DataFrame(
        {
            "impression_id": [f"list {first + i}" for i in range(n)],
            "user_id": names,
            "time": pd.DatetimeIndex([START + (first + i) * HOUR for i in range(n)]),
            "candidates": 20,
            "clicked": 1,
            "hour": [(first + i) % 24 for i in range(n)],
            "cold_item": False,
            "ranker_ndcg_at_10": ndcg,
            "cold_items_ranker_ndcg_at_10": np.nan,
            "text_auc": 0.5,
        }
    )


def side(*tables: pd.DataFrame, name: str = "run") -> ComparedRuns:
    return ComparedRuns(tuple(ComparedRun(f"{name} {i}", table) for i, table in enumerate(tables)))


def compared(a: ComparedRuns, b: ComparedRuns, **options: str) -> Comparison:
    return compare(a, b, resamples=200, seed=0, **options)  # type: ignore[arg-type]


NOISE = np.random.default_rng(0).random(300)


def test_lists_are_paired_and_the_rest_left_out() -> None:
    # A has lists 0 to 299, B lists 100 to 399: 200 in common, on which A is .1 better, whatever the others say
    b = np.r_[NOISE[100:] - 0.1, np.full(100, 9.0)]
    found = compared(side(table(list(NOISE))), side(table(list(b), first=100)))
    whole = found.slices[0]
    assert (whole.n_lists, whole.n_users) == (200, 100)
    assert found.difference.mean == pytest.approx(0.1)
    assert (found.difference.low, found.difference.high) == pytest.approx((0.1, 0.1))
    assert whole.intervals[0].mean == pytest.approx(NOISE[100:].mean())


def test_equal_sides_are_not_told_apart() -> None:
    found = compared(side(table(list(NOISE))), side(table(list(NOISE))))
    assert found.difference == Interval(0.0, 0.0, 0.0)
    assert found.as_dict()["verdict"] == "not told apart"
    assert found.as_dict()["slices_told_apart"] == 0


def test_a_better_b_is_called_so_overall_and_by_slice() -> None:
    # B is better before noon alone
    b = NOISE + np.where(np.arange(300) % 24 < 12, 0.2, 0.0)
    found = compared(side(table(list(NOISE))), side(table(list(b))))
    said = {one["value"]: one["verdict"] for one in found.as_dict()["slices"] if one["by"] == "hour"}
    assert said == {
        "0 to 5": "B better",
        "6 to 11": "B better",
        "12 to 17": "not told apart",
        "18 to 23": "not told apart",
    }
    assert found.as_dict()["verdict"] == "B better"
    assert found.as_dict()["slices_told_apart_by_luck"] == pytest.approx(0.05 * len(found.slices[1:]))
    assert re.search(
        r"slices tested: about 0\.\d significant differences expected by chance; \d+ found", "\n".join(found.lines())
    )


def test_a_slice_of_few_users_is_only_a_hint() -> None:
    users = [f"user {i}" for i in range(20)]
    found = compared(side(table([0.1] * 20, users=users)), side(table([0.2] * 20, users=users)))
    assert found.as_dict()["verdict"] == "B better, few users"


def test_users_and_not_lists_are_drawn() -> None:
    # one user has 299 lists of +1, another one list of -1: drawing users gives every mean between
    users = ["ann"] * 299 + ["bob"]
    gain = [1.0] * 299 + [-1.0]
    found = compared(side(table(gain, users=users)), side(table([0.0] * 300, users=users)))
    assert (found.difference.low, found.difference.high) == (-1.0, 1.0)


def test_unknown_users_are_paired_and_each_is_one_of_their_own() -> None:
    users: list[str | None] = [None] * 300
    found = compared(side(table(list(NOISE), users=users)), side(table(list(NOISE + 0.1), users=users)))
    assert (found.slices[0].n_lists, found.slices[0].n_users) == (300, 300)


def test_several_runs_of_a_side_are_averaged_and_their_spread_reported() -> None:
    runs = [table(list(NOISE + shift)) for shift in (0.00, 0.02, 0.04)]
    found = compared(side(*runs), side(table(list(NOISE)), table(list(NOISE + 0.01))))
    assert found.difference.mean == pytest.approx(0.02 - 0.005)
    assert found.seeds[0].means == pytest.approx([NOISE.mean() + shift for shift in (0.00, 0.02, 0.04)])
    assert found.seeds[0].deviation == pytest.approx(0.02)
    assert found.seed_error == pytest.approx(np.sqrt(0.02**2 / 3 + 2 * 0.005**2 / 2))
    assert "Standard error of A - B from the seeds alone: 0.0126" in found.lines()


def test_one_run_a_side_says_what_the_interval_does_not_cover() -> None:
    found = compared(side(table(list(NOISE))), side(table(list(NOISE))))
    assert found.as_dict()["seed_error"] is None
    assert any("not the luck of a training's seed" in line for line in found.lines())


def test_no_list_in_common_is_refused_with_counts() -> None:
    with pytest.raises(ComparisonError, match=r"run 0: 30 lists from 2026-01-01 to 2026-01-02; .*: 20 lists.*--data"):
        compared(side(table([0.5] * 30)), side(table([0.5] * 20, first=500)))


def test_lists_of_one_id_that_are_not_the_same_list_are_no_pair() -> None:
    other = table([0.5] * 30).assign(candidates=21)
    with pytest.raises(ComparisonError, match="no list is in all of them"):
        compared(side(table([0.5] * 30)), side(other))


def test_a_method_or_metric_that_is_not_there_is_named() -> None:
    a = side(table([0.5] * 30))
    with pytest.raises(ComparisonError, match=r"'run 0' has no 'tfidf_ndcg_at_10'; its methods are \['ranker'\]"):
        compared(a, a, method="tfidf")
    with pytest.raises(ComparisonError, match=r"metric 'ndcg': expected one of \['auc'"):
        compared(a, a, metric="ndcg")
    with pytest.raises(ComparisonError, match="none of the 30 lists in common has"):
        compared(side(table([np.nan] * 30)), a)


def test_the_report_is_json_and_fits_a_terminal() -> None:
    found = compared(side(table(list(NOISE))), side(table(list(NOISE + 0.1))))
    report = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert report["paired"] == {"lists": 300, "users": 100}
    assert set(report["difference"]) == {"mean", "low", "high"}
    assert set(report["slices"][0]) == {"by", "value", "lists", "users", "a", "b", "difference", "verdict"}
    lines = "\n".join(found.lines()).splitlines()
    assert ["slice", "lists", "users", "A", "B", "A", "-", "B"] in [line.split() for line in lines]
    assert max(map(len, lines[:-3])) <= 110


def test_the_page_shows_every_slice_with_its_interval_and_what_differs_between_the_trainings() -> None:
    old, new = table(list(NOISE)), table(list(NOISE + 0.1))
    a = ComparedRuns((ComparedRun("new", new, origin={"ranker.max_trees": "<b>", "env.torch": "2.9"}),))
    b = ComparedRuns((ComparedRun("old", old, origin={"ranker.max_trees": "5", "env.torch": "2.9"}),))
    found = compared(a, b)
    page = comparison_page(found)
    assert "A: new. B: old." in page and "+.100 [+.100, +.100] ndcg_at_10" in page
    for result in found.slices:
        assert result.name in page
    assert len(found.slices) > 2
    assert page.count("A better") >= len(found.slices)
    assert "ranker.max_trees" in page and "&lt;b&gt;" in page and "<b>" not in page
    assert "env.torch" not in page
    assert not re.findall(r"(?:src|href)=\"(?!#)", page)  # nothing is fetched
    same = comparison_page(compared(b, b))
    assert "No setting, data, library or machine that was recorded differs." in same
