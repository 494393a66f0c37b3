"""Runs the encoder training schedule step by step and writes resumable checkpoints.

A step learns a chunk of the log, or takes a snapshot of the encoder before the next one. After every step that learns,
and within it as often as configured, a checkpoint holds all that the later steps depend on.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import InitVar, asdict, dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch

from features.arrays import Float32
from recsys.config import Config
from recsys.encoder.head import Head
from recsys.encoder.model import Encoder, encoding_device
from recsys.encoder.snapshots import BEGINNING, EncoderSnapshot, ScheduledEncoder, copy_or_spill
from recsys.encoder.text_model import TextModel
from recsys.encoder.training.checkpoint import (
    CHECKPOINT_FILE,
    Checkpoints,
    State,
    random_state,
    set_random_state,
    unreadable,
)
from recsys.encoder.training.data import TrainingData
from recsys.encoder.training.early_stopping import NDCG, EpochRecord, log_record
from recsys.encoder.training.schedule import TrainingSchedule
from recsys.encoder.training.torch_runtime import trim_malloc
from recsys.encoder.training.trainer import EncoderTrainer
from recsys.encoder.training.upper_layers import TrainableLayers
from recsys.encoder.vector_table import VectorTable, text_keys
from recsys.errors import ModelError

logger = logging.getLogger(__name__)

JUDGED_CHUNKS = 2
"""Chunks that trained layers have to score before they are judged."""


@dataclass(frozen=True)
class _Step:
    """stage: what its seconds count for."""

    stage: str
    work: Callable[[], None]
    learns: bool = True


@dataclass
class Progress:
    """The position of a training. done: steps. seconds: of each stage, those before an interruption included. loss: of
    the last chunk learnt. layers_from: chunks that were scored before the layers were first trained. layers_gain: sum
    over impressions of nDCG@10 with trained layers less that of the head alone. layers_enabled: whether they still
    improve it.
    """

    done: int = 0
    loss: float = float("nan")
    layers_from: int = 0
    layers_gain: float = 0.0
    layers_enabled: bool = True
    seconds: dict[str, float] = field(default_factory=dict)
    records: list[EpochRecord] = field(default_factory=list)

    @classmethod
    def of_dict(cls, values: dict[str, Any]) -> Progress:
        """The reverse of `dataclasses.asdict`."""
        return cls(**values | {"records": [EpochRecord(**record) for record in values["records"]]})


@dataclass(eq=False)
class ProgressiveTrainer:
    """The trainers of one training: the head alone and, beside it, one whose layers are trained too.

    frozen: the encoder to start from. base: its tower's vectors, (n_texts, k * d). layers: None for layers that stay
    frozen. states: the encoders so far that score a chunk or are evaluated. progress: records, seconds and position.
    """

    config: Config
    schedule: TrainingSchedule
    data: TrainingData
    frozen: Encoder
    base: InitVar[Float32]
    layers: TrainableLayers | None
    checkpoints: Checkpoints | None = None
    states: list[ScheduledEncoder] = field(default_factory=list)

    def __post_init__(self, base: Float32) -> None:
        self._settings = self.config.encoder
        self._n_chunks = len(self.schedule.chunks)
        self._n_before_evaluation = self.schedule.n_chunks_before_evaluation
        self.progress = Progress()
        self._stage = ""
        self._counted = time.monotonic()
        self._evaluated: tuple[Encoder, Encoder] | None = None
        self._layers_seconds = 0.0
        head = self._new_head().to(encoding_device())
        vectors = torch.from_numpy(base.copy()).to(head.recency.device)
        self._generator = np.random.default_rng(self.config.seed)
        self._head_trainer = EncoderTrainer(
            self._settings, self.data, head, vectors, self._generator, after_update=self._save_if_due
        )
        self._layers_trainer: EncoderTrainer | None = None
        texts = self.data.texts.distinct
        keys = text_keys([texts[i] for i in self.data.used_texts])
        self._order = np.argsort(keys)
        self._keys = keys[self._order]

    def run(self) -> tuple[Encoder, Encoder]:
        """Take all steps, or those after the last checkpoint; the encoders to evaluate: had the layers stayed frozen
        throughout, and the trained one. Raises ModelError where it cannot be resumed."""
        if self.checkpoints is not None and (state := self.checkpoints.load()) is not None:
            self._load_state_dict(state, self.checkpoints)
        self._counted = time.monotonic()
        for step in self._steps()[self.progress.done :]:
            self._stage = step.stage
            step.work()
            self._count_seconds()
            self.progress.done += 1
            trim_malloc()
            if step.learns:
                self._save()
        assert self._evaluated is not None
        return self._evaluated

    def served_encoder(self) -> Encoder:
        """The encoder to serve, once all chunks are learnt."""
        if self._evaluated is not None and self._n_before_evaluation == self._n_chunks:
            return self._evaluated[1]
        return self._encoder(self._served_trainer)

    def trained_until(self, n_chunks: int) -> int:
        """Time of the newest impression of the encoder slice and so many chunks after it, microseconds."""
        return int(self.schedule.impressions.requests.time[int(self.data.starts[n_chunks + 2]) - 1])

    @property
    def _served_trainer(self) -> EncoderTrainer:
        return self._head_trainer if self._layers_trainer is None else self._layers_trainer

    def _steps(self) -> list[_Step]:
        """The encoder slice: its older part with validation on its newest, then that part. Then every later chunk."""
        steps = [_Step("head", self._fit_head)]
        if self.layers is not None and not self._trains_layers_later:
            steps.append(_Step("fine_tune", partial(self._fit_layers, self.layers)))
        steps.append(_Step("progressive", partial(self._learn, 1, both=True)))
        for number in range(self._n_chunks):
            both = number < self._n_before_evaluation
            steps.append(_Step("progressive", partial(self._snapshot_and_score, number), learns=False))
            if self.layers is not None and self._may_train_layers(number + 1):
                steps.append(_Step("progressive", partial(self._train_layers, self.layers, number + 1)))
            steps.append(_Step("progressive", partial(self._learn, number + 2, both=both)))
        return [*steps, _Step("progressive", partial(self._snapshot_and_score, self._n_chunks), learns=False)]

    def _fit_head(self) -> None:
        self.progress.records.extend(self._head_trainer.fit_head(self.data.chunks[0]))

    def _fit_layers(self, layers: TrainableLayers) -> None:
        if self._layers_trainer is None:
            self._layers_trainer = self._head_trainer.fork_with_layers(layers)
        records = self._layers_trainer.fit_layers(self.data.chunks[0])
        self.progress.records.extend(records)
        if not any(record.is_best for record in records[1:]):
            self._layers_trainer = None
            logger.info("encoder: fine-tuning did not validate better than the head alone; layers stay frozen")

    @property
    def _trains_layers_later(self) -> bool:
        """Whether the layers are trained after chunks, rather than on the encoder slice."""
        return self._settings.fine_tune_every > 0 and self._n_before_evaluation > 0

    def _learn(self, chunk: int, *, both: bool) -> None:
        """Let the served trainer learn a chunk, and the head alone too where `both`."""
        if both and self._layers_trainer is not None:
            self._head_trainer.learn(self.data.chunks[chunk])
        self.progress.loss = self._served_trainer.learn(self.data.chunks[chunk])

    def _may_train_layers(self, n_chunks: int) -> bool:
        """Whether it is time to train the layers now that so many chunks have been scored: after every so many, and
        where there are fewer, after the last one before the evaluation."""
        every = self._settings.fine_tune_every
        return self._trains_layers_later and n_chunks % min(every, self._n_before_evaluation) == 0

    def _train_layers(self, layers: TrainableLayers, n_chunks: int) -> None:
        """Train the layers on all impressions so far, unless they did not pay."""
        progress = self.progress
        if not progress.layers_enabled:
            return
        if self._layers_trainer is None:
            self._layers_trainer, progress.layers_from = self._head_trainer.fork_with_layers(layers), n_chunks
        started = time.monotonic()
        self._layers_trainer.train_layers(self.data.chunks[n_chunks + 1])
        self._layers_seconds = time.monotonic() - started
        logger.info(
            "encoder upper layers: trained on all impressions up to chunk %d/%d, %.0f s",
            n_chunks,
            self._n_chunks,
            self._layers_seconds,
        )

    def _snapshot_and_score(self, number: int) -> None:
        """Take the snapshot that scores a chunk, or is evaluated, and score the chunk before it is learnt."""
        trainer = self._served_trainer
        if number < self._n_before_evaluation:
            vectors = trainer.project()[self.data.used_texts[self._order]]
            table = VectorTable(self._keys, copy_or_spill(vectors))
            self._add_state(number, EncoderSnapshot(self._settings.history_length, trainer.head.export(), table))
        elif number == self._n_before_evaluation:
            full = self._encoder(trainer)
            self._evaluated = (full if self._layers_trainer is None else self._encoder(self._head_trainer), full)
            self._add_state(number, full)
        if number < self._n_chunks:
            self._score(number)

    def _add_state(self, number: int, model: TextModel) -> None:
        until = self.trained_until(number)
        self.states.append(ScheduledEncoder(until + 1 if self.states else BEGINNING, until, model))

    def _encoder(self, trainer: EncoderTrainer) -> Encoder:
        """An encoder with a trainer's present weights, whose table holds every text."""
        texts = self.data.texts.distinct
        if trainer.layers is None:
            tower, vectors = self.frozen.tower, trainer.vectors.cpu().numpy()
        else:
            tower, vectors = trainer.layers.tower.copy(), trainer.layers.encoded(np.arange(len(texts)))
        head = self._new_head()
        head.load_state_dict(trainer.head.state_dict())
        encoder = Encoder(self.frozen.settings, tower, head.to(trainer.head.recency.device))
        return encoder.with_table(texts, encoder.project(vectors))

    def _new_head(self) -> Head:
        return Head(self.frozen.tower.dim, self.data.lines.shape[1], self._settings.head_dropout)

    def _score(self, number: int) -> None:
        """Record how well the served trainer ranks a chunk before it learns it."""
        impressions = self.data.impressions_of(number + 2)
        ndcg = self._served_trainer.ndcg(impressions)
        if self._layers_trainer is not None and number < self._n_before_evaluation:
            self.progress.layers_gain += len(impressions) * (ndcg - self._head_trainer.ndcg(impressions))
            self._drop_layers_that_do_not_pay(number + 1)
        seconds, rate = self._count_seconds(), self._settings.head_learning_rate
        record = EpochRecord("progressive", number, self.progress.loss, {NDCG: ndcg}, seconds, rate, is_best=True)
        earlier = [scored.seconds for scored in self.progress.records if scored.phase == record.phase]
        self.progress.records.append(record)
        left = (self._n_chunks - number) * seconds / (number + 1)
        of_chunk = seconds - max(earlier, default=0.0) - self._layers_seconds
        self._layers_seconds = 0.0
        log_record(record, f"chunk {number + 1}/{self._n_chunks}", of_chunk, left=left)

    def _drop_layers_that_do_not_pay(self, n_chunks: int) -> None:
        """Go on with the head alone where it ranked the chunks since the layers were first trained, two or more before
        the last one, as well as the trained layers."""
        progress = self.progress
        is_judged = n_chunks - progress.layers_from >= JUDGED_CHUNKS or n_chunks == self._n_before_evaluation
        if self._trains_layers_later and is_judged and progress.layers_gain <= 0:
            self._layers_trainer, progress.layers_enabled = None, False
            logger.info(
                "encoder: trained layers did not rank later impressions better than the head alone; they stay frozen"
            )

    def _count_seconds(self) -> float:
        """Count the time since the last call for the present stage; its seconds so far."""
        now = time.monotonic()
        self.progress.seconds[self._stage] = self.progress.seconds.get(self._stage, 0.0) + now - self._counted
        self._counted = now
        return self.progress.seconds[self._stage]

    def _save_if_due(self) -> None:
        if self.checkpoints is not None and self.checkpoints.is_due():
            self._save()

    def _save(self) -> None:
        if self.checkpoints is not None:
            self._count_seconds()
            self.checkpoints.save(self._state_dict(), self._snapshots, self._evaluated)

    @property
    def _snapshots(self) -> list[EncoderSnapshot]:
        return [state.model for state in self.states if isinstance(state.model, EncoderSnapshot)]

    def _state_dict(self) -> State:
        """All that the later steps depend on, without the encoders so far, which have files of their own."""
        state: State = {
            "base": self.frozen.fingerprint,
            "progress": asdict(self.progress),
            "n_snapshots": len(self._snapshots),
            "is_evaluated": self._evaluated is not None,
            "generator": self._generator.bit_generator.state,
            "torch_random": random_state(),
            "head": self._head_trainer.state_dict(),
        }
        if self._layers_trainer is not None:
            state["layers"] = self._layers_trainer.state_dict()
        return state

    def _load_state_dict(self, state: State, checkpoints: Checkpoints) -> None:
        """Restore the trainer from a checkpoint."""
        path = checkpoints.folder / CHECKPOINT_FILE
        if state.get("base") != self.frozen.fingerprint:
            raise ModelError(
                f"checkpoint {str(path)!r}: expected a training of base model {self.frozen.fingerprint!r}, got one of "
                f"{state.get('base')!r}; run `recsys train` again without --resume"
            )
        try:
            self._head_trainer.load_state_dict(state["head"])
            if "layers" in state and self.layers is not None:
                self._layers_trainer = self._head_trainer.fork_with_layers(self.layers)
                self._layers_trainer.load_state_dict(state["layers"])
            for number in range(state["n_snapshots"]):
                length = self._settings.history_length
                self._add_state(number, checkpoints.load_snapshot(number, length, self._keys))
            if state["is_evaluated"]:
                self._evaluated = checkpoints.load_evaluated()
                self._add_state(self._n_before_evaluation, self._evaluated[1])
            self.progress = Progress.of_dict(state["progress"])
            self._generator.bit_generator.state = state["generator"]
            set_random_state(state["torch_random"])
        except (KeyError, TypeError, ValueError, IndexError, RuntimeError) as error:
            raise unreadable(path, error) from error
        logger.info("resuming the encoder's training from its checkpoint, after %d of its steps", self.progress.done)
