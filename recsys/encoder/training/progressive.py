"""Runs the encoder training schedule step by step and writes resumable checkpoints.

A step learns a stretch of the log, or keeps the encoder as it stands before the next one. After every step that learns,
and within it as often as configured, a checkpoint holds all that the later steps depend on.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial

import numpy as np
import torch

from features.arrays import Float32
from recsys.config import Config
from recsys.encoder.head import Head
from recsys.encoder.model import Encoder
from recsys.encoder.snapshots import BEGINNING, EncoderSnapshot, ScheduledEncoder, TextModel, copy_or_spill
from recsys.encoder.training.checkpoint import (
    PLACE,
    Checkpoints,
    StateDict,
    merge_states,
    random_state,
    set_random_state,
    unreadable,
)
from recsys.encoder.training.data import TrainingData
from recsys.encoder.training.early_stopping import EpochRecord, Progress, log_record
from recsys.encoder.training.schedule import TrainingSchedule
from recsys.encoder.training.torch_runtime import trim_malloc
from recsys.encoder.training.trainer import EncoderTrainer
from recsys.encoder.training.upper_layers import TrainableLayers
from recsys.encoder.vector_table import VectorTable, text_keys
from recsys.errors import ModelError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Step:
    """stage: what its seconds count for."""

    stage: str
    work: Callable[[], None]
    teaches: bool = True


class ProgressiveTrainer:
    """The learners of one training: the head alone and, beside it, one whose layers are trained too.

    base: vectors of the base model, (n_texts, k * d). upper: None for layers that stay frozen. states: kept so far.
    seconds: of each stage, those before an interruption included.
    """

    def __init__(
        self,
        config: Config,
        course: TrainingSchedule,
        material: TrainingData,
        frozen: Encoder,
        base: Float32,
        upper: TrainableLayers | None,
        *,
        on_record: Progress | None = None,
        checkpoints: Checkpoints | None = None,
    ) -> None:
        self.records: list[EpochRecord] = []
        self.states: list[ScheduledEncoder] = []
        self.seconds: dict[str, float] = {}
        self._settings = config.encoder
        self._course = course
        self._material = material
        self._frozen = frozen
        self._upper = upper
        self._on_record = on_record
        self._checkpoints = checkpoints
        self._done = 0
        self._stage = ""
        self._counted = time.monotonic()
        self._loss = float("nan")
        self._reported: tuple[Encoder, Encoder] | None = None
        head = self._new_head()
        if torch.cuda.is_available():
            head.to("cuda")
        vectors = torch.from_numpy(base.copy()).to(head.recency.device)
        self._generator = np.random.default_rng(config.seed)
        self._head = EncoderTrainer(
            self._settings, material, head, vectors, self._generator, after_update=self._save_where_due
        )
        self._layers: EncoderTrainer | None = None
        self._layers_from = 0
        self._lead = 0.0
        self._layers_paid = True
        texts = material.texts.distinct
        keys = text_keys([texts[i] for i in material.read])
        self._order = np.argsort(keys)
        self._keys = keys[self._order]

    def run(self) -> None:
        """Take all steps, or those after the last checkpoint. Raises ModelError where it cannot be gone on from."""
        if self._checkpoints is not None and (kept := self._checkpoints.load()) is not None:
            self._restore(kept, self._checkpoints)
        self._counted = time.monotonic()
        for step in self._steps()[self._done :]:
            self._stage = step.stage
            step.work()
            self._count()
            self._done += 1
            trim_malloc()
            if step.teaches:
                self._save()

    @property
    def reported(self) -> tuple[Encoder, Encoder]:
        """Both learners as they are evaluated: had the layers stayed frozen throughout, and the served one."""
        if self._reported is None:
            raise RuntimeError("expected a training that has gone through its course")
        return self._reported

    def live(self) -> Encoder:
        """The encoder to serve."""
        learns_on = self._course.n_chunks_before_evaluation < len(self._course.chunks)
        return self._encoder(self._full) if learns_on else self.reported[1]

    def learnt_until(self, parts: int) -> int:
        """Time of the newest list of the encoder slice and so many parts after it, microseconds."""
        return int(self._course.shown.requests.time[int(self._material.starts[parts + 2]) - 1])

    @property
    def _full(self) -> EncoderTrainer:
        """The learner that is served."""
        return self._head if self._layers is None else self._layers

    def _steps(self) -> list[_Step]:
        """The encoder slice: its older part with validation on its newest, then that part. Then every later part."""
        n_parts = len(self._course.chunks)
        steps = [_Step("head", self._begin_head)]
        if self._upper is not None and not self._trains_layers_later:
            steps.append(_Step("fine_tune", partial(self._begin_layers, self._upper)))
        steps.append(_Step("progressive", partial(self._learn, 1, both=True)))
        for number in range(n_parts):
            both = number < self._course.n_chunks_before_evaluation
            steps.append(_Step("progressive", partial(self._arrive, number), teaches=False))
            if self._may_train_layers(number + 1):
                steps.append(_Step("progressive", partial(self._train_layers, number + 1)))
            steps.append(_Step("progressive", partial(self._learn, number + 2, both=both)))
        return [*steps, _Step("progressive", partial(self._arrive, n_parts), teaches=False)]

    def _begin_head(self) -> None:
        self.records += self._head.fit_head(self._material.stretches[0], self._on_record)

    def _begin_layers(self, upper: TrainableLayers) -> None:
        if self._layers is None:
            self._layers = self._head.fork_with_layers(upper)
        records = self._layers.fit_layers(self._material.stretches[0], self._on_record)
        self.records += records
        if not any(record.kept for record in records[1:]):
            self._layers = None
            logger.info("training the upper layers does not validate better than the head alone: they stay frozen")

    @property
    def _trains_layers_later(self) -> bool:
        """Whether the layers are trained as the parts come, rather than on the encoder slice."""
        return self._settings.fine_tune_every > 0 and self._course.n_chunks_before_evaluation > 0

    def _learn(self, stretch: int, *, both: bool) -> None:
        """Let the served learner learn a stretch, and the head alone too where `both`."""
        chosen = self._material.stretches[stretch]
        if both and self._layers is not None:
            self._head.learn(chosen)
        self._loss = self._full.learn(chosen)

    def _may_train_layers(self, parts: int) -> bool:
        """Whether it is time to train the layers now that so many parts have been ranked."""
        last = (self._course.n_chunks_before_evaluation, len(self._course.chunks))
        every = self._settings.fine_tune_every
        return self._upper is not None and self._trains_layers_later and (parts in last or parts % every == 0)

    def _train_layers(self, parts: int) -> None:
        """Train the layers on all lists so far, as long as they pay: the parts since they were first trained were
        ranked better by them than by the head alone."""
        if self._upper is None or not self._layers_paid:
            return
        if self._layers is None:
            self._layers, self._layers_from = self._head.fork_with_layers(self._upper), parts
        elif self._lead <= 0 and self._layers_from < parts <= self._course.n_chunks_before_evaluation:
            self._layers, self._layers_paid = None, False
            logger.info("fine-tuning did not beat the head-only model on later impressions; keeping layers frozen")
            return
        self._layers.train_layers(self._material.stretches[parts + 1])

    def _arrive(self, number: int) -> None:
        """Keep what scores a part, or what is evaluated, and tell how well a part is ranked before it is learnt."""
        if number < self._course.n_chunks_before_evaluation:
            vectors = self._full.mapped()[self._material.read[self._order]]
            table = VectorTable(self._keys, copy_or_spill(vectors))
            self._add_state(number, EncoderSnapshot(self._settings.history_length, self._full.head.export(), table))
        elif number == self._course.n_chunks_before_evaluation:
            full = self._encoder(self._full)
            self._reported = (full if self._layers is None else self._encoder(self._head), full)
            self._add_state(number, full)
        if number < len(self._course.chunks):
            self._record(number)

    def _add_state(self, number: int, model: TextModel) -> None:
        until = self.learnt_until(number)
        self.states.append(ScheduledEncoder(until + 1 if self.states else BEGINNING, until, model))

    def _encoder(self, learner: EncoderTrainer) -> Encoder:
        """An encoder with a learner's present weights, whose table holds every text."""
        tower = self._frozen.tower if learner.upper is None else learner.upper.tower.copy()
        n = len(self._material.texts.distinct)
        vectors = learner.vectors.cpu().numpy() if learner.upper is None else learner.upper.encoded(np.arange(n))
        head = self._new_head()
        head.load_state_dict(learner.head.state_dict())
        encoder = Encoder(self._frozen.settings, tower, head.to(learner.head.recency.device))
        return encoder.with_table(self._material.texts.distinct, encoder.map_vectors(vectors))

    def _new_head(self) -> Head:
        tower = self._frozen.tower
        return Head(tower.dim, self._material.lines.shape[1], self._settings.head_dropout)

    def _record(self, number: int) -> None:
        """Tell how well the served learner ranks a part before it learns it."""
        lists = self._material.part(number + 2)
        ndcg = self._full.ndcg(lists)
        if self._layers is not None and number < self._course.n_chunks_before_evaluation:
            self._lead += len(lists) * (ndcg - self._head.ndcg(lists))
        seconds, rate = self._count(), self._settings.head_learning_rate
        record = EpochRecord("progressive", number, self._loss, ndcg, seconds, rate, kept=True)
        before = self.records[-1] if self.records and self.records[-1].phase == record.phase else None
        self.records.append(record)
        log_record(record, before, self._on_record)

    def _count(self) -> float:
        """Count the time since the last call for the present stage; its seconds so far."""
        now = time.monotonic()
        self.seconds[self._stage] = self.seconds.get(self._stage, 0.0) + now - self._counted
        self._counted = now
        return self.seconds[self._stage]

    def _save_where_due(self) -> None:
        if self._checkpoints is not None and self._checkpoints.is_due():
            self._save()

    def _save(self) -> None:
        if self._checkpoints is not None:
            self._count()
            snapshots = [state.model for state in self.states if isinstance(state.model, EncoderSnapshot)]
            self._checkpoints.save(self._kept(), snapshots, self._reported)

    def _kept(self) -> StateDict:
        """All that the later steps depend on, without the states, which have files of their own."""
        facts = {
            "base": self._frozen.fingerprint,
            "done": self._done,
            "snapshots": sum(isinstance(state.model, EncoderSnapshot) for state in self.states),
            "reported": self._reported is not None,
            "loss": self._loss,
            "layers_from": self._layers_from,
            "lead": self._lead,
            "layers_paid": self._layers_paid,
            "records": [asdict(record) for record in self.records],
            "seconds": self.seconds,
            "generator": self._generator.bit_generator.state,
        }
        parts = {"random": StateDict({}, random_state()), "head": self._head.kept()}
        if self._layers is not None:
            parts["layers"] = self._layers.kept()
        return merge_states(facts, parts)

    def _restore(self, kept: StateDict, checkpoints: Checkpoints) -> None:
        """Restore the trainer from a checkpoint."""
        path = checkpoints.folder / PLACE
        if kept.facts.get("base") != self._frozen.fingerprint:
            raise ModelError(
                f"checkpoint {str(path)!r}: expected a training of base model {self._frozen.fingerprint!r}, got one of "
                f"{kept.facts.get('base')!r}; train anew without --resume"
            )
        try:
            self._head.restore(kept.part("head"))
            if "layers" in kept.facts and self._upper is not None:
                self._layers = self._head.fork_with_layers(self._upper)
                self._layers.restore(kept.part("layers"))
            for number in range(kept.facts["snapshots"]):
                length = self._settings.history_length
                self._add_state(number, checkpoints.load_snapshot(number, length, self._keys))
            if kept.facts["reported"]:
                self._reported = checkpoints.load_reported()
                self._add_state(self._course.n_chunks_before_evaluation, self._reported[1])
            self.records = [EpochRecord(**record) for record in kept.facts["records"]]
            self.seconds, self._loss, self._done = (kept.facts[name] for name in ("seconds", "loss", "done"))
            self._layers_from, self._lead, self._layers_paid = (
                kept.facts[name] for name in ("layers_from", "lead", "layers_paid")
            )
            self._generator.bit_generator.state = kept.facts["generator"]
            set_random_state(kept.part("random").tensors)
        except (KeyError, TypeError, ValueError, IndexError, RuntimeError) as error:
            raise unreadable(path, error) from error
        logger.info("the encoder's training goes on from its checkpoint, after %d of its steps", self._done)
