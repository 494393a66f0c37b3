"""Training of the text encoder: the encoder slice, then the log in time order, each part scored before it teaches.

On the encoder slice the head is trained on frozen vectors, then the upper layers with it; the slice's newest part
validates both and stops them, and says whether training the layers pays. Then every part is learnt in turn, and before
that the encoder is set aside as it stands: that state scores the part's lists. So every row that trains the ranker has
a score of a state that saw only the past, and the last state, which serves, has seen everything.
"""

from __future__ import annotations

import logging
import sys
import time
from dataclasses import dataclass

import numpy as np
import torch
from tqdm import tqdm

from features.log import Float32, Impressions, Log
from recsys.config import Config
from recsys.config import Encoder as EncoderConfig
from recsys.encoder.batches import validation_ndcg
from recsys.encoder.fitting import EpochRecord, Progress, tell
from recsys.encoder.head import Head
from recsys.encoder.learner import Learner
from recsys.encoder.material import Material, TrainingCounts, read_material
from recsys.encoder.model import Encoder, EncoderSettings, make_tower
from recsys.encoder.pretraining import pretrain
from recsys.encoder.states import BEGINNING, Snapshot, State, TextModel, set_aside
from recsys.encoder.text import Tokens, item_texts
from recsys.encoder.tower import Tower
from recsys.encoder.upper import UpperTower
from recsys.encoder.vectors import VectorTable, text_keys
from recsys.seen_items import texts_before

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Course:
    """What an encoder goes through. shown: the lists that teach, oldest first. chunks: where each part begins that is
    scored and then learnt from. reported: how many of the parts are learnt before the state that is evaluated; those
    after it are learnt for the version that goes live alone.
    """

    shown: Impressions
    chunks: tuple[int, ...] = ()
    reported: int | None = None


@dataclass(frozen=True)
class TrainedEncoder:
    """The states of a training; where `trained` is False all of them are the frozen base model, and `reason` says why.

    frozen: the base model with mean-history cosine. head: as `full`, had the layers stayed frozen throughout. full: the
    state that scores valid and test. live: the one to serve, which is `full` unless it learnt valid and test too.
    states: which model scores what, `full` last. Tables of frozen, head, full and live hold the whole catalog. seconds:
    of each stage.
    """

    frozen: Encoder
    head: Encoder
    full: Encoder
    live: Encoder
    states: tuple[State, ...]
    live_learnt_until: int | None
    trained: bool
    reason: str
    records: tuple[EpochRecord, ...]
    counts: TrainingCounts
    seconds: dict[str, float]


def train_encoder(log: Log, course: Course, config: Config, *, on_record: Progress | None = None) -> TrainedEncoder:
    """Train on a course's lists, with histories from the events before each of them.

    on_record: called after every validation. The same seed gives the same weights on one machine.
    Raises ModelError where the base model cannot be used, ConfigError for a template that names an unknown column.
    """
    settings = config.encoder
    torch.manual_seed(config.seed)
    if config.threads:
        torch.set_num_threads(config.threads)
    tower = make_tower(settings.base_model, encoder_settings(settings))
    _pretrain(tower, log, course, config)
    material = read_material(log, course.shown, course.chunks, config, tower)
    reason = material.counts.too_few()
    fine_tunes = settings.fine_tune_epochs > 0 and not reason
    upper = UpperTower(tower.copy(), material.tokens, settings.fine_tune_layers) if fine_tunes else None
    started = time.monotonic()
    base = _encode_all(tower, material.tokens, upper)
    seconds = {"encode": time.monotonic() - started}
    frozen = Encoder(encoder_settings(settings), tower, None).with_table(material.texts.distinct, base)
    if reason:
        logger.warning("the encoder is not trained: %s; the frozen base model is used", reason)
        only = (State(BEGINNING, None, frozen),)
        return TrainedEncoder(frozen, frozen, frozen, frozen, only, None, False, reason, (), material.counts, seconds)
    training = _Training(config, course, material, tower, base, on_record)
    training.begin(upper, seconds)
    training.go_on(seconds)
    return training.result(frozen, seconds)


def _pretrain(tower: Tower, log: Log, course: Course, config: Config) -> None:
    """Pre-train the tower, where that is asked, on texts of items seen up to the last list before valid."""
    times, chunks = course.shown.requests.time, course.chunks
    n = len(times) if course.reported in (None, len(chunks)) else chunks[course.reported]
    delay = round(config.data.event_delay_seconds * 1e6)
    texts = texts_before(log, int(times[n - 1]) + 1 - delay, item_texts(log.catalog, config.encoder.template))
    pretrain(tower, texts, config.encoder.pretraining, seed=config.seed)


def encoder_settings(config: EncoderConfig) -> EncoderSettings:
    """The part of the configuration that a saved encoder keeps."""
    return EncoderSettings(
        base_model=config.base_model,
        template=config.template,
        max_tokens=config.max_tokens,
        history_length=config.history_length,
        pooling=config.pooling,
        dtype=config.dtype,
    )


def _encode_all(tower: Tower, tokens: Tokens, upper: UpperTower | None) -> Float32:
    """Base vectors of all texts, (n_texts, d); where the upper layers will be trained, what is below them is kept."""
    with tqdm(total=len(tokens), desc="encode", unit="text", leave=False, disable=not sys.stderr.isatty()) as bar:
        if upper is None:
            return tower.encode_tokens(tokens, progress=bar.update)
        return upper.prepare(progress=bar.update)


class _Training:
    """The learners of one training on their way through its course: the head alone and, if it pays, layers too."""

    def __init__(
        self,
        config: Config,
        course: Course,
        material: Material,
        tower: Tower,
        base: Float32,
        on_record: Progress | None,
    ) -> None:
        self._settings = config.encoder
        self._course = course
        self._material = material
        self._tower = tower
        self._on_record = on_record
        self._records: list[EpochRecord] = []
        self._states: list[State] = []
        self._reported: tuple[Encoder, Encoder] | None = None
        head = Head(base.shape[1], self._settings.head_dropout)
        if torch.cuda.is_available():
            head.to("cuda")
        vectors = torch.from_numpy(base.copy()).to(head.recency.device)
        self._head = Learner(self._settings, material, head, vectors, np.random.default_rng(config.seed))
        self._full = self._head
        texts = material.texts.distinct
        keys = text_keys([texts[i] for i in material.read])
        self._order = np.argsort(keys)
        self._keys = keys[self._order]

    def begin(self, upper: UpperTower | None, seconds: dict[str, float]) -> None:
        """Learn the encoder slice: its older part with validation on its newest, then that part."""
        first = self._material.stretches[0]
        started = time.monotonic()
        self._records += self._head.fit_head(first, self._on_record)
        seconds["head"] = time.monotonic() - started
        if upper is None:
            return
        started = time.monotonic()
        full = self._head.with_layers(upper)
        records = full.fit_layers(first, self._on_record)
        self._records += records
        if any(record.kept for record in records[1:]):
            self._full = full
        else:
            logger.info("training the upper layers does not validate better than the head alone: they stay frozen")
        seconds["fine_tune"] = time.monotonic() - started

    def go_on(self, seconds: dict[str, float]) -> None:
        """Learn the held-out part, then score and learn every later part in turn."""
        started = time.monotonic()
        n_parts = len(self._course.chunks)
        reported = n_parts if self._course.reported is None else self._course.reported
        loss = self._learn(1, both=True)
        for number in range(n_parts):
            if number < reported:
                self._set_aside(number)
            elif number == reported:
                self._report(number)
            self._record(number, loss, time.monotonic() - started)
            loss = self._learn(number + 2, both=number < reported)
        if reported == n_parts:
            self._report(n_parts)
        seconds["progressive"] = time.monotonic() - started

    def result(self, frozen: Encoder, seconds: dict[str, float]) -> TrainedEncoder:
        """Everything that the training made."""
        if self._reported is None:
            raise RuntimeError("expected a training that has gone through its course")
        head, full = self._reported
        n_parts = len(self._course.chunks)
        learns_on = self._course.reported is not None and self._course.reported < n_parts
        live = self._encoder(self._full) if learns_on else full
        return TrainedEncoder(
            frozen=frozen,
            head=head,
            full=full,
            live=live,
            states=tuple(self._states),
            live_learnt_until=self._learnt_until(n_parts),
            trained=True,
            reason="",
            records=tuple(self._records),
            counts=self._material.counts,
            seconds=seconds,
        )

    def _learn(self, stretch: int, *, both: bool) -> float:
        """Let the served learner learn a stretch, and the head alone too where `both`; the served one's loss."""
        chosen = self._material.stretches[stretch]
        if both and self._full is not self._head:
            self._head.learn(chosen)
        return self._full.learn(chosen)

    def _set_aside(self, number: int) -> None:
        """Keep the served learner as the state that scores a part."""
        vectors = self._full.mapped()[self._material.read[self._order]]
        self._add_state(number, self._snapshot(vectors))

    def _snapshot(self, vectors: Float32) -> Snapshot:
        table = VectorTable(self._keys, set_aside(vectors))
        return Snapshot(self._settings.history_length, self._full.head.export(), table)

    def _report(self, number: int) -> None:
        """Keep both learners as they are after so many parts: what valid and test are scored with."""
        full = self._encoder(self._full)
        head = full if self._full is self._head else self._encoder(self._head)
        self._reported = (head, full)
        self._add_state(number, full)

    def _add_state(self, number: int, model: TextModel) -> None:
        until = self._learnt_until(number)
        self._states.append(State(until + 1 if self._states else BEGINNING, until, model))

    def _encoder(self, learner: Learner) -> Encoder:
        """An encoder with a learner's present weights, whose table holds every text."""
        tower = self._tower if learner.upper is None else learner.upper.tower.copy()
        n = len(self._material.tokens)
        vectors = learner.vectors.cpu().numpy() if learner.upper is None else learner.upper.frozen_vectors(np.arange(n))
        head = Head(vectors.shape[1], self._settings.head_dropout)
        head.load_state_dict(learner.head.state_dict())
        encoder = Encoder(encoder_settings(self._settings), tower, head.to(learner.head.recency.device))
        return encoder.with_table(self._material.texts.distinct, encoder.map_vectors(vectors))

    def _record(self, number: int, loss: float, seconds: float) -> None:
        """Tell how well the served learner ranks a part before it learns it."""
        learner = self._full
        learner.head.eval()
        with torch.inference_mode():
            ndcg = validation_ndcg(learner.head, learner.head.mapped(learner.vectors), self._material.part(number + 2))
        record = EpochRecord("progressive", number, loss, ndcg, seconds, self._settings.head_learning_rate, kept=True)
        self._records.append(record)
        tell(record, self._on_record)

    def _learnt_until(self, parts: int) -> int:
        """Time of the newest list of the encoder slice and so many parts after it, microseconds."""
        return int(self._course.shown.requests.time[int(self._material.starts[parts + 2]) - 1])
