"""Training of the text encoder: the encoder slice, then the log in time order, each part scored before it teaches.

On the encoder slice the head is trained on frozen vectors; the slice's newest part validates and stops it. Then every
part is learnt in turn, and before that the encoder is set aside as it stands: that state scores the part's lists. So
every row that trains the ranker has a score of a state that saw only the past, and the last state, which serves, has
seen everything. The upper layers are trained after every so many parts, or, without parts, on the encoder slice.
"""

from __future__ import annotations

import gc
import logging
import sys
import time
from dataclasses import dataclass, replace

import torch
from tqdm import tqdm

from features.arrays import Float32
from features.log import Log
from features.seen_items import texts_before
from recsys.config import Config, EncoderConfig
from recsys.encoder.model import Encoder, EncoderSettings, encoding_device, load_tower
from recsys.encoder.pretraining.pretrain import pretrain
from recsys.encoder.snapshots import BEGINNING, ScheduledEncoder
from recsys.encoder.text import Template, item_texts
from recsys.encoder.text_fields import concat_fields, lines_of
from recsys.encoder.tower import TextTower, resolve_dtype
from recsys.encoder.training.checkpoint import Checkpoints
from recsys.encoder.training.data import TrainingCounts, TrainingData, read_material
from recsys.encoder.training.early_stopping import EpochRecord, Progress
from recsys.encoder.training.progressive import ProgressiveTrainer
from recsys.encoder.training.schedule import TrainingSchedule
from recsys.encoder.training.torch_runtime import deterministic, trim_malloc
from recsys.encoder.training.upper_layers import TrainableLayers

logger = logging.getLogger(__name__)


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
    states: tuple[ScheduledEncoder, ...]
    live_learnt_until: int | None
    trained: bool
    reason: str
    records: tuple[EpochRecord, ...]
    counts: TrainingCounts
    seconds: dict[str, float]


@deterministic()
def train_encoder(
    log: Log,
    course: TrainingSchedule,
    config: Config,
    *,
    on_record: Progress | None = None,
    checkpoints: Checkpoints | None = None,
) -> TrainedEncoder:
    """Train on a course's lists, with histories from the events before each of them.

    on_record: called after every validation. checkpoints: where they are kept; a training that finds one of its own
    there goes on from it. The same seed gives the same weights on one machine, interrupted or not. Raises ModelError
    where base model or checkpoint cannot be used, ConfigError for a template that names an unknown column.
    """
    trained = _train(log, course, config, on_record, checkpoints)
    gc.collect()  # break the reference cycle of the trainers, so that their memory is freed now
    trim_malloc()
    return trained


def _train(
    log: Log, course: TrainingSchedule, config: Config, on_record: Progress | None, checkpoints: Checkpoints | None
) -> TrainedEncoder:
    settings = config.encoder
    torch.manual_seed(config.seed)
    if config.threads:
        torch.set_num_threads(config.threads)
    base = base_encoder(settings)
    tower = _pretrained(base.tower, log, course, config)
    material = read_material(log, course.shown, course.chunks, config, tower)
    texts = material.texts.distinct
    reason = material.counts.insufficient_data_reason()
    fine_tunes = settings.fine_tune_epochs > 0 and not reason
    upper = (
        TrainableLayers(tower.copy(), material.tokens, material.lines, settings.fine_tune_layers)
        if fine_tunes
        else None
    )
    started = time.monotonic()
    vectors = _encode_all(tower, material, upper)
    start = frozen = Encoder(base.settings, tower, None)
    start = frozen = frozen.with_table(texts, frozen.map_vectors(vectors))
    if tower is not base.tower:
        frozen = base.with_table(texts)
    for one in (tower, base.tower):
        one.release()
    seconds = {"encode": time.monotonic() - started}
    if reason:
        logger.warning("the encoder is not trained: %s; the frozen base model is used", reason)
        only = (ScheduledEncoder(BEGINNING, None, frozen),)
        return TrainedEncoder(frozen, frozen, frozen, frozen, only, None, False, reason, (), material.counts, seconds)
    passage = ProgressiveTrainer(
        config, course, material, start, vectors, upper, on_record=on_record, checkpoints=checkpoints
    )
    passage.run()
    head, full = passage.reported
    return TrainedEncoder(
        frozen=frozen,
        head=head,
        full=full,
        live=passage.live(),
        states=tuple(passage.states),
        live_learnt_until=passage.learnt_until(len(course.chunks)),
        trained=True,
        reason="",
        records=tuple(passage.records),
        counts=material.counts,
        seconds=seconds | passage.seconds,
    )


def _pretrained(base: TextTower, log: Log, course: TrainingSchedule, config: Config) -> TextTower:
    """The tower to train: the base model's, or, where that is asked, one that was pre-trained on the texts of items
    seen before anything is scored."""
    settings = config.encoder.pretraining
    if not settings.masked_epochs and not settings.contrastive_epochs:
        return base
    times = course.shown.requests.time
    newest = int(times[(course.chunks[0] if course.chunks else len(times)) - 1])
    delay = config.data.event_delay
    texts = texts_before(log, newest + 1 - delay, item_texts(log.catalog, config.encoder.template))
    tower = base.copy()
    lines = lines_of(texts, len(Template.parse(config.encoder.template).lines))
    pretrain(tower, lines.distinct, settings, seed=config.seed)
    return tower


def base_encoder(config: EncoderConfig) -> Encoder:
    """The base model as an encoder without a head. Its settings hold the dtype that it is computed in here.

    Raises ModelError where it cannot be loaded, or this machine does not have the dtype that is asked for.
    """
    settings = EncoderSettings(
        base_model=config.base_model,
        template=config.template,
        max_tokens=config.max_tokens,
        history_length=config.history_length,
        pooling=config.pooling,
        dtype=resolve_dtype(config.dtype, encoding_device()),
    )
    tower = load_tower(settings.base_model, settings)
    tower.prepare()
    if tower.computes_in != settings.dtype:
        settings, tower = replace(settings, dtype=tower.computes_in), tower.with_dtype(tower.computes_in)
    return Encoder(settings, tower, None)


def _encode_all(tower: TextTower, material: TrainingData, upper: TrainableLayers | None) -> Float32:
    """Base vectors of all texts, (n_texts, k * d); of layers that will be trained, what is below them is kept."""
    tokens = material.tokens
    with tqdm(total=len(tokens), desc="encode", unit="line", leave=False, disable=not sys.stderr.isatty()) as bar:
        if upper is None:
            return concat_fields(tower.encode_tokens(tokens, progress=bar.update), material.lines)
        return upper.prepare(progress=bar.update)
