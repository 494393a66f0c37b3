"""Training of the text encoder: the encoder slice, then the log in time order, each chunk scored before it is learnt.

On the encoder slice the head is trained on frozen vectors; the slice's newest part validates and stops it. Then every
chunk is learnt in turn, and a snapshot of the encoder before that scores the chunk's impressions. So every row that
trains the ranker has a score of an encoder that saw only the past, and the last encoder, which serves, has seen
everything. The upper layers are trained after every so many chunks, or, without chunks, on the encoder slice.
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
from recsys.encoder.dtype import resolve_dtype
from recsys.encoder.model import Encoder, EncoderSettings, encoding_device, load_tower
from recsys.encoder.pretraining.pretrain import pretrain
from recsys.encoder.snapshots import BEGINNING, ScheduledEncoder
from recsys.encoder.text import Template, item_texts
from recsys.encoder.text_fields import concat_fields, split_fields
from recsys.encoder.tower import TextTower
from recsys.encoder.training.checkpoint import Checkpoints
from recsys.encoder.training.data import TrainingCounts, TrainingData, read_training_data
from recsys.encoder.training.early_stopping import EpochRecord
from recsys.encoder.training.progressive import ProgressiveTrainer
from recsys.encoder.training.schedule import TrainingSchedule
from recsys.encoder.training.torch_runtime import deterministic, trim_malloc
from recsys.encoder.training.upper_layers import TrainableLayers
from recsys.encoder.vector_cache import shared_cache

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainedEncoder:
    """The encoders of a training. `reason` says why there was none, "" where there was: all are the frozen base model
    then.

    frozen: the base model with mean-history cosine. head: as `full`, had the layers stayed frozen throughout. full: the
    one that scores valid and test. served: the one to register, which is `full` unless it learnt valid and test too;
    served_trained_until: time of its newest label, None for none. states: which encoder scores what, `full` last.
    Tables of frozen, head, full and served hold the whole catalog. seconds: of each stage.
    """

    frozen: Encoder
    head: Encoder
    full: Encoder
    served: Encoder
    states: tuple[ScheduledEncoder, ...]
    served_trained_until: int | None
    reason: str
    records: tuple[EpochRecord, ...]
    counts: TrainingCounts
    seconds: dict[str, float]

    @property
    def trained(self) -> bool:
        """Whether there was enough to train on."""
        return not self.reason


@deterministic()
def train_encoder(
    log: Log,
    schedule: TrainingSchedule,
    config: Config,
    *,
    checkpoints: Checkpoints | None = None,
) -> TrainedEncoder:
    """Train on a schedule's impressions, with histories from the events before each of them.

    checkpoints: where they are written; a training that finds one of its own there resumes from it. The same seed gives
    the same weights on one machine, interrupted or not. Raises ModelError where base model or checkpoint cannot be
    used, ConfigError for a template that names an unknown column.
    """
    trained = _train(log, schedule, config, checkpoints)
    gc.collect()  # break the reference cycle of the trainers, so that their memory is freed now
    trim_malloc()
    return trained


def _train(log: Log, schedule: TrainingSchedule, config: Config, checkpoints: Checkpoints | None) -> TrainedEncoder:
    torch.manual_seed(config.seed)
    if config.threads:
        torch.set_num_threads(config.threads)
    base = base_encoder(config.encoder)
    base.tower.cache = shared_cache()
    tower = _pretrained(base.tower, log, schedule, config)
    data = read_training_data(log, schedule, config, tower)
    texts, reason = data.texts.distinct, data.counts.insufficient_data_reason(config.encoder.min_impressions)
    layers: TrainableLayers | None = None
    if config.encoder.fine_tune_epochs and not reason:
        layers = TrainableLayers(tower.copy(), data.tokens, data.lines, config.encoder.fine_tune_layers)
    started = time.monotonic()
    vectors = _encode_all(tower, data, layers)
    start = Encoder(base.settings, tower, None)
    start = start.with_table(texts, start.project(vectors))
    frozen = start if tower is base.tower else base.with_table(texts)
    tower.release()
    base.tower.release()
    seconds = {"encode": time.monotonic() - started}
    if reason:
        logger.warning("the encoder is not trained: %s; the frozen base model is used", reason)
        only = (ScheduledEncoder(BEGINNING, None, frozen),)
        return TrainedEncoder(frozen, frozen, frozen, frozen, only, None, reason, (), data.counts, seconds)
    trainer = ProgressiveTrainer(config, schedule, data, start, vectors, layers, checkpoints=checkpoints)
    head, full = trainer.run()
    return TrainedEncoder(
        frozen=frozen,
        head=head,
        full=full,
        served=trainer.served_encoder(),
        states=tuple(trainer.states),
        served_trained_until=trainer.trained_until(len(schedule.chunks)),
        reason="",
        records=tuple(trainer.progress.records),
        counts=data.counts,
        seconds=seconds | trainer.progress.seconds,
    )


def _pretrained(base: TextTower, log: Log, schedule: TrainingSchedule, config: Config) -> TextTower:
    """The tower to train: the base model's, or, where configured, one that was pre-trained on the texts of items seen
    before anything is scored."""
    settings = config.encoder.pretraining
    if not settings.masked_epochs and not settings.contrastive_epochs:
        return base
    times = schedule.impressions.requests.time
    newest = int(times[(schedule.chunks[0] if schedule.chunks else len(times)) - 1])
    known, of_item = newest + 1 - config.data.event_delay, item_texts(log.catalog, config.encoder.template)
    texts = texts_before(log, known, of_item, horizon=config.data.horizon)
    tower = base.copy()
    lines = split_fields(texts, len(Template.parse(config.encoder.template).lines))
    pretrain(tower, lines.distinct, settings, seed=config.seed)
    return tower


def base_encoder(config: EncoderConfig) -> Encoder:
    """The base model as an encoder without a head. Its settings hold the dtype that it is computed in here.

    Raises ModelError where it cannot be loaded, or this machine does not support the configured dtype.
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


def _encode_all(tower: TextTower, data: TrainingData, layers: TrainableLayers | None) -> Float32:
    """Base vectors of all texts, (n_texts, k * d); stores the outputs below the layers that will be trained."""
    tokens = data.tokens
    with tqdm(total=len(tokens), desc="encode", unit="line", leave=False, disable=not sys.stderr.isatty()) as bar:
        if layers is None:
            return concat_fields(tower.encode_tokens(tokens, progress=bar.update), data.lines)
        return layers.prepare(progress=bar.update)
