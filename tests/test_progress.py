"""The lines of a training: which stage runs, how its rankers go, and how long either took."""

from __future__ import annotations

import re

import pytest

from pipelines.stopwatch import Stopwatch
from recsys.training import progress
from recsys.training.progress import TreeProgress


@pytest.fixture(autouse=True)
def _info(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")


def test_a_stage_says_what_it_does_and_how_far_the_command_is(caplog: pytest.LogCaptureFixture) -> None:
    timer = Stopwatch({"read": "reads the tables", "audit": "looks for leaks"})
    with timer.stage("audit"):
        pass
    assert caplog.messages[0] == "[2/2] audit: looks for leaks"
    assert re.fullmatch(r"\[2/2\] audit done in 0\.\d s, 0\.\d s in all", caplog.messages[1])
    assert list(timer.seconds) == ["audit"]


def test_a_stage_that_fails_is_not_done(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ValueError, match="no"), Stopwatch({"read": "reads the tables"}).stage("read"):
        raise ValueError("no")
    assert caplog.messages == ["[1/1] read: reads the tables"]


def test_a_long_training_of_a_ranker_tells_trees_metric_and_time_left(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "EVERY", 0.0)
    trees = TreeProgress("behaviour", max_trees=500)
    for tree, ndcg in enumerate((0.25, 0.5, 0.375)):
        trees.add(tree, ndcg)
    trees.finish(2)
    assert trees.valid_ndcg == [0.25, 0.5, 0.375]
    assert re.fullmatch(
        r"ranker 'behaviour': tree 3 of at most 500, validation nDCG@10 0\.3750 \(best 0\.5000\), \d+ s, "
        r"at most \d+ s left",
        caplog.messages[2],
    )
    assert caplog.messages[3].startswith("ranker 'behaviour': 2 trees of 3 trained, validation nDCG@10 0.5000, ")


def test_a_short_training_of_a_ranker_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    trees = TreeProgress("ranker", max_trees=500)
    trees.add(0, 0.5)
    trees.finish(1)
    assert len(caplog.messages) == 1
