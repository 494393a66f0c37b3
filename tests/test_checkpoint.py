"""Checkpoints: wherever a training is cut off, another process that goes on ends with the same encoder, to the bit."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tiny_encoder import save_tiny_bert, tiny_config, topic_log

from features.log import Log
from recsys.config import Config, EncoderConfig
from recsys.encoder.head import Head
from recsys.encoder.text import item_texts
from recsys.encoder.training import checkpoint
from recsys.encoder.training.checkpoint import CHECKPOINT_FILE, Checkpoints
from recsys.encoder.training.examples import collect_texts, make_examples, make_text_impressions
from recsys.encoder.training.fine_tune_phase import FineTunePhase
from recsys.encoder.training.head_phase import HeadPhase
from recsys.encoder.training.loop import TrainingChunk, TrainingLoop
from recsys.encoder.training.schedule import TrainingSchedule
from recsys.encoder.training.train import TrainedEncoder, train_encoder
from recsys.encoder.training.trainer import EncoderTrainer
from recsys.encoder.training.weights import trainable_parameters
from recsys.errors import ModelError

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
    return tiny_config(
        base,
        "encoder.head_epochs=2",
        "encoder.chunk_epochs=2",
        "encoder.negatives=3",
        "encoder.fine_tune_epochs=3",
        "encoder.fine_tune_learning_rate=1e-2",
        "encoder.warmup_updates=0",
        "encoder.ema_decay=0.5",
    )


@pytest.fixture(scope="module")
def schedule(log: Log) -> TrainingSchedule:
    return TrainingSchedule(log.impressions, CHUNKS)


@pytest.fixture(scope="module")
def whole(log: Log, schedule: TrainingSchedule, config: Config) -> TrainedEncoder:
    """The same training, never interrupted and without checkpoints."""
    found = train_encoder(log, schedule, config)
    assert found.full is not found.head  # the layers are kept, so that all there is to go on with is gone on with
    return found


def checkpoints(folder: Path, minutes: float = 0) -> Checkpoints:
    return Checkpoints(folder / "checkpoint", minutes=minutes)


def killed_at(monkeypatch: pytest.MonkeyPatch, phase: type, chunk: int, step: int) -> None:
    """Let a step of a phase end the training; steps of a chunk of the log, taken in this process, count from 1."""
    learn, train_layers = EncoderTrainer.learn, EncoderTrainer.train_layers
    backward = phase.backward  # type: ignore[attr-defined]
    at = {"chunk": 0, "step": 0}

    def enter(trainer: EncoderTrainer, entered: TrainingChunk) -> None:
        number = [one.span for one in trainer.data.chunks].index(entered.span)
        if at["chunk"] != number:
            at.update(chunk=number, step=0)

    def learning(self: EncoderTrainer, entered: TrainingChunk) -> float:
        enter(self, entered)
        return learn(self, entered)

    def training_layers(self: EncoderTrainer, entered: TrainingChunk) -> None:
        enter(self, entered)
        train_layers(self, entered)

    def stepping(self: object, *arguments: object) -> float:
        at["step"] += 1
        if at == {"chunk": chunk, "step": step}:
            raise Killed
        loss: float = backward(self, *arguments)
        return loss

    monkeypatch.setattr(EncoderTrainer, "learn", learning)
    monkeypatch.setattr(EncoderTrainer, "train_layers", training_layers)
    monkeypatch.setattr(phase, "backward", stepping)


def cut_off(run: Callable[[], object], monkeypatch: pytest.MonkeyPatch, phase: type, chunk: int, step: int) -> None:
    with monkeypatch.context() as patch:
        killed_at(patch, phase, chunk, step)
        with pytest.raises(Killed):
            run()


def assert_same(found: TrainedEncoder, expected: TrainedEncoder, texts: list[str]) -> None:
    for name in ("frozen", "head", "full", "served"):
        one, other = getattr(found, name), getattr(expected, name)
        assert one.fingerprint == other.fingerprint, name
        assert np.array_equal(one.table.vectors, other.table.vectors), name
    assert len(found.states) == len(expected.states)
    for state, other_state in zip(found.states, expected.states, strict=True):
        assert (state.start, state.trained_until) == (other_state.start, other_state.trained_until)
        assert np.array_equal(state.model.encode_texts(texts), other_state.model.encode_texts(texts), equal_nan=True)
        for array, other_array in zip(
            state.model.weights.arrays().values(), other_state.model.weights.arrays().values(), strict=True
        ):
            assert np.array_equal(array, other_array)
    records = [
        [(r.phase, r.epoch, repr(r.loss), r.metrics, r.is_best) for r in trained.records]
        for trained in (found, expected)
    ]
    assert records[0] == records[1]
    assert found.seconds.keys() == expected.seconds.keys()


@pytest.mark.parametrize(
    ("phase", "chunk", "step"),
    [
        (HeadPhase, 0, 1), (HeadPhase, 0, 3), (HeadPhase, 1, 1),
        # of a part, steps 1 to 10 of the head follow the layers on all lists so far; 11 to 16 are the head alone's
        (FineTunePhase, 2, 1), (FineTunePhase, 2, 5), (HeadPhase, 2, 1), (HeadPhase, 2, 5), (HeadPhase, 2, 11),
        (HeadPhase, 2, 17), (HeadPhase, 2, 20), (FineTunePhase, 3, 4), (HeadPhase, 3, 8), (HeadPhase, 3, 24),
    ],
)  # fmt: skip
def test_a_training_that_goes_on_ends_as_if_it_had_not_been_cut_off(
    log: Log, schedule: TrainingSchedule, config: Config, whole: TrainedEncoder, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, phase: type, chunk: int, step: int,
) -> None:  # fmt: skip
    def run() -> TrainedEncoder:
        return train_encoder(log, schedule, config, checkpoints=checkpoints(tmp_path))

    cut_off(run, monkeypatch, phase, chunk, step)
    assert (tmp_path / "checkpoint" / CHECKPOINT_FILE).exists() == ((phase, chunk, step) != (HeadPhase, 0, 1))
    torch.manual_seed(99)
    assert_same(run(), whole, item_texts(log.catalog, "{title}"))


@pytest.mark.parametrize(
    ("settings", "evaluated_after", "phase", "chunk", "step"),
    [
        (("encoder.loss=binary",), None, HeadPhase, 0, 3),
        (("encoder.fine_tune_learning_rate=1e-30",), None, HeadPhase, 3, 2),
        (("encoder.fine_tune_every=0",), None, FineTunePhase, 0, 3),
        (("encoder.fine_tune_epochs=0",), None, HeadPhase, 3, 2),
        ((), 1, FineTunePhase, 3, 2),
        ((), 0, FineTunePhase, 0, 2),
        (("encoder.fine_tune_epochs=0",), 1, HeadPhase, 3, 2),
        (("encoder.accumulate=2", "encoder.fine_tune_learning_rate=1e-2"), None, FineTunePhase, 3, 6),
    ],
    ids=[
        "binary",
        "layers that do not pay",
        "encoder slice",
        "frozen",
        "live",
        "nothing set aside",
        "live, frozen",
        "accumulated",
    ],
)
def test_other_trainings_go_on_too(
    base: Path, log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    settings: tuple[str, ...], evaluated_after: int | None, phase: type, chunk: int, step: int,
) -> None:  # fmt: skip
    config = tiny_config(base, "encoder.head_epochs=2", "encoder.chunk_epochs=2", *settings)
    schedule = TrainingSchedule(log.impressions, CHUNKS, evaluated_after)

    def run() -> TrainedEncoder:
        return train_encoder(log, schedule, config, checkpoints=checkpoints(tmp_path))

    cut_off(run, monkeypatch, phase, chunk, step)
    expected = train_encoder(log, schedule, config)
    assert_same(run(), expected, item_texts(log.catalog, "{title}"))


def test_a_training_may_be_cut_off_again_and_a_checkpoint_half_written(
    log: Log,
    schedule: TrainingSchedule,
    config: Config,
    whole: TrainedEncoder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def run() -> TrainedEncoder:
        return train_encoder(log, schedule, config, checkpoints=checkpoints(tmp_path))

    def half(tensors: object, path: Path, metadata: object) -> None:
        path.write_bytes(b"half")
        raise Killed

    cut_off(run, monkeypatch, HeadPhase, 0, 3)
    cut_off(run, monkeypatch, FineTunePhase, 2, 2)
    before = (tmp_path / "checkpoint" / CHECKPOINT_FILE).read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_file", half)
        with pytest.raises(Killed):
            run()
    assert (tmp_path / "checkpoint" / CHECKPOINT_FILE).read_bytes() == before
    cut_off(run, monkeypatch, FineTunePhase, 2, 5)
    assert_same(run(), whole, item_texts(log.catalog, "{title}"))


def test_a_training_whose_steps_are_all_done_learns_nothing_more(
    log: Log,
    schedule: TrainingSchedule,
    config: Config,
    whole: TrainedEncoder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def run() -> TrainedEncoder:
        return train_encoder(log, schedule, config, checkpoints=checkpoints(tmp_path, minutes=60))

    run()
    monkeypatch.delattr(HeadPhase, "backward")
    monkeypatch.delattr(FineTunePhase, "backward")
    assert_same(run(), whole, item_texts(log.catalog, "{title}"))


def test_checkpoints_stand_after_every_step_and_else_as_often_as_asked(
    log: Log, schedule: TrainingSchedule, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = []
    monkeypatch.setattr(Checkpoints, "save", lambda self, state, *rest: saved.append(state["progress"]["done"]))
    train_encoder(log, schedule, config, checkpoints=checkpoints(tmp_path, minutes=60))
    assert saved == [1, 2, 4, 5, 7, 8]  # head, held out; after each state that is set aside the layers, then the part
    saved.clear()
    only = config.model_copy(update={"encoder": config.encoder.model_copy(update={"fine_tune_every": 0})})
    train_encoder(log, schedule, only, checkpoints=checkpoints(tmp_path, minutes=60))
    assert saved == [1, 2, 3, 5, 7]  # the layers after the head


@pytest.mark.parametrize("damaged", [CHECKPOINT_FILE, "state-0.safetensors"])
@pytest.mark.parametrize("size", [5, 2000, -1])
def test_a_truncated_checkpoint_is_refused_by_name(
    log: Log,
    schedule: TrainingSchedule,
    config: Config,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    damaged: str,
    size: int,
) -> None:
    def run() -> TrainedEncoder:
        return train_encoder(log, schedule, config, checkpoints=checkpoints(tmp_path))

    cut_off(run, monkeypatch, FineTunePhase, 2, 3)
    path = tmp_path / "checkpoint" / damaged
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(
        ModelError, match=rf"checkpoint '.*{damaged}' cannot be read: .*run `recsys train` again without --resume"
    ):
        run()


def test_a_checkpoint_of_another_format_is_refused_with_the_command_to_run(
    log: Log, schedule: TrainingSchedule, config: Config, tmp_path: Path
) -> None:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    save_file({}, folder / CHECKPOINT_FILE, metadata={"format": "1", "facts": "{}"})
    with pytest.raises(ModelError, match=r"expected format 2, got '1', .*; run `recsys train` again without --resume"):
        train_encoder(log, schedule, config, checkpoints=checkpoints(tmp_path))


def test_a_checkpoint_of_another_base_model_or_shape_is_refused(
    log: Log, schedule: TrainingSchedule, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(other: Config) -> TrainedEncoder:
        return train_encoder(log, schedule, other, checkpoints=checkpoints(tmp_path))

    cut_off(lambda: run(config), monkeypatch, FineTunePhase, 2, 3)
    settings = config.encoder
    wider = config.model_copy(update={"encoder": settings.model_copy(update={"fine_tune_layers": 2})})
    with pytest.raises(ModelError, match=r"checkpoint '.*' cannot be read: KeyError"):
        run(wider)
    longer = config.model_copy(update={"encoder": settings.model_copy(update={"max_tokens": 12})})
    with pytest.raises(ModelError, match=r"expected a training of base model '.*', got one of '"):
        run(longer)


def test_a_full_disk_costs_the_checkpoint_and_not_the_training(
    log: Log, schedule: TrainingSchedule, config: Config, whole: TrainedEncoder, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    def full(tensors: object, path: Path, metadata: object) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with caplog.at_level(logging.WARNING):
        found = train_encoder(log, schedule, config, checkpoints=checkpoints(tmp_path, minutes=60))
    assert "no checkpoint could be written, training goes on without: output '" in caplog.text
    assert "cannot be written: No space left on device" in caplog.text
    assert sorted(path.name for path in (tmp_path / "checkpoint").iterdir()) == [
        "state-0.safetensors", "state-1.safetensors",
    ]  # fmt: skip
    assert found.full.fingerprint == whole.full.fingerprint


def test_steps_of_half_the_size_taken_together_have_the_gradient_of_the_whole(log: Log) -> None:
    texts = collect_texts(item_texts(log.catalog, "{title}"), None)
    impressions = make_text_impressions(log, log.impressions, texts, history_length=5, delay=0)
    examples = make_examples(impressions)
    torch.manual_seed(0)
    vectors = torch.nn.functional.normalize(torch.randn(len(texts.distinct), 16), dim=1)
    heads = [Head(16), Head(16)]
    heads[1].load_state_dict(heads[0].state_dict())
    for head, size, accumulate in zip(heads, (64, 32), (1, 2), strict=True):
        settings = EncoderConfig(
            head_batch_size=size, warmup_updates=1, gradient_clip=1e9, ema_decay=0.0, weight_decay=0.0,
            accumulate=accumulate,
        )  # fmt: skip
        phase = HeadPhase(head, vectors, examples, impressions, settings)
        loop = TrainingLoop(phase, [(head, 1e-3)], settings, np.random.default_rng(0))
        loop.learn(TrainingChunk.of_all(np.arange(100, 164)), 1)
    whole, halves = ({name: one.grad for name, one in trainable_parameters(head).items()} for head in heads)
    assert sum(float(grad.abs().sum()) for grad in whole.values() if grad is not None) > 0.1
    for name, grad in whole.items():
        assert (grad is None) == (halves[name] is None)
        if grad is not None:
            assert halves[name].numpy() == pytest.approx(grad.numpy(), rel=1e-5, abs=1e-6), name
