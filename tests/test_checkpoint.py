"""Checkpoints: wherever a training is cut off, another process that goes on ends with the same encoder, to the bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_encoder import save_tiny_bert, tiny_config, topic_log

from features.log import Log
from recsys.config import Config
from recsys.encoder.checkpoint import PLACE, Checkpoints
from recsys.encoder.course import Course
from recsys.encoder.fine_tune_phase import FineTunePhase
from recsys.encoder.head_phase import HeadPhase
from recsys.encoder.text import item_texts
from recsys.encoder.training import TrainedEncoder, train_encoder

CHUNKS = (240, 320)


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_bert(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def log() -> Log:
    return topic_log()


@pytest.fixture(scope="module")
def config(base: Path) -> Config:
    return tiny_config(base, "encoder.head_epochs=2", "encoder.chunk_epochs=2", "encoder.checkpoint_minutes=0")


@pytest.fixture(scope="module")
def course(log: Log) -> Course:
    return Course(log.impressions, CHUNKS)


@pytest.fixture(scope="module")
def whole(log: Log, course: Course, config: Config) -> TrainedEncoder:
    """The same training, never interrupted and without checkpoints."""
    return train_encoder(log, course, config)


def checkpoints(folder: Path, minutes: float = 0) -> Checkpoints:
    return Checkpoints(folder / "checkpoint", minutes=minutes)


def killed_at(monkeypatch: pytest.MonkeyPatch, phase: type, calls: int) -> None:
    """Let a phase's steps end the training at the so-many-th of them from now on."""
    backward = phase.backward  # type: ignore[attr-defined]
    left = [calls]

    def step(self: object, *arguments: object) -> float:
        left[0] -= 1
        if left[0] == 0:
            raise Killed
        found: float = backward(self, *arguments)
        return found

    monkeypatch.setattr(phase, "backward", step)


def cut_off(run: Callable[[], TrainedEncoder], monkeypatch: pytest.MonkeyPatch, phase: type, calls: int) -> None:
    with monkeypatch.context() as patch:
        killed_at(patch, phase, calls)
        with pytest.raises(Killed):
            run()


def assert_same(found: TrainedEncoder, expected: TrainedEncoder, texts: list[str]) -> None:
    for name in ("frozen", "head", "full", "live"):
        one, other = getattr(found, name), getattr(expected, name)
        assert one.fingerprint == other.fingerprint, name
        assert np.array_equal(one.table.vectors, other.table.vectors), name
    assert len(found.states) == len(expected.states)
    for state, other_state in zip(found.states, expected.states, strict=True):
        assert (state.start, state.learnt_until) == (other_state.start, other_state.learnt_until)
        assert np.array_equal(state.model.encode_texts(texts), other_state.model.encode_texts(texts), equal_nan=True)
        for array, other_array in zip(
            state.model.weights.arrays().values(), other_state.model.weights.arrays().values(), strict=True
        ):
            assert np.array_equal(array, other_array)
    told = [[(r.phase, r.epoch, repr(r.loss), r.validation_ndcg, r.kept) for r in x.records] for x in (found, expected)]
    assert told[0] == told[1]
    assert found.seconds.keys() == expected.seconds.keys()


# 6 updates of the head on the first 216 lists; its layers' blocks make 7 updates an epoch
@pytest.mark.parametrize(
    ("phase", "calls"),
    [(HeadPhase, 1), (HeadPhase, 3), (FineTunePhase, 3), (HeadPhase, 13), (FineTunePhase, 16), (FineTunePhase, 24)],
    ids=["before any", "head, first part", "layers, first part", "head, held out", "layers, held out", "layers, later"],
)
def test_a_training_that_goes_on_ends_as_if_it_had_not_been_cut_off(
    log: Log, course: Course, config: Config, whole: TrainedEncoder, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, phase: type, calls: int,
) -> None:  # fmt: skip
    def run() -> TrainedEncoder:
        return train_encoder(log, course, config, checkpoints=checkpoints(tmp_path))

    cut_off(run, monkeypatch, phase, calls)
    assert (tmp_path / "checkpoint" / PLACE).exists() == (calls > 1)
    torch.manual_seed(99)
    assert_same(run(), whole, item_texts(log.catalog, "{title}"))
