"""Training of the text encoder on the oldest slice, in two phases: the head on frozen vectors, then the upper layers.

Gives three states to compare: frozen (mean-history cosine of the base model), head (phase 1), full (phase 2). The
newest part of the slice validates and stops; it trains nothing.
"""

from __future__ import annotations

import copy
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
from recsys.encoder.fine_tune_phase import FineTunePhase
from recsys.encoder.fitting import EpochRecord, Progress, Schedule, fit, parameter_groups
from recsys.encoder.head import Head
from recsys.encoder.head_phase import HeadPhase
from recsys.encoder.material import Material, TrainingCounts, read_material
from recsys.encoder.model import Encoder, EncoderSettings, make_tower
from recsys.encoder.text import Tokens
from recsys.encoder.tower import Tower
from recsys.encoder.upper import UpperTower

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainedEncoder:
    """The states of a training; where `trained` is False all three are the frozen base model, and `reason` says why.

    Each state's table holds the vectors of the whole catalog. full is head where the second phase is off or never
    validated better than the first. seconds: of each stage.
    """

    frozen: Encoder
    head: Encoder
    full: Encoder
    trained: bool
    reason: str
    records: tuple[EpochRecord, ...]
    counts: TrainingCounts
    seconds: dict[str, float]


def train_encoder(
    log: Log, impressions: Impressions, config: Config, *, on_record: Progress | None = None
) -> TrainedEncoder:
    """Train on `impressions`, the encoder slice, with histories from the events before each of them.

    on_record: called after every validation. The same seed gives the same weights on one machine.
    Raises ModelError where the base model cannot be used, ConfigError for a template that names an unknown column.
    """
    settings = config.encoder
    torch.manual_seed(config.seed)
    if config.threads:
        torch.set_num_threads(config.threads)
    tower = make_tower(settings.base_model, encoder_settings(settings))
    material = read_material(log, impressions, config, tower)
    reason = material.counts.too_few()
    fine_tunes = settings.fine_tune_epochs > 0 and not reason
    upper = UpperTower(tower.copy(), material.tokens, settings.fine_tune_layers) if fine_tunes else None
    started = time.monotonic()
    base = _encode_all(tower, material.tokens, upper)
    seconds = {"encode": time.monotonic() - started}
    frozen = Encoder(encoder_settings(settings), tower, None).with_table(material.texts.distinct, base)
    if reason:
        logger.warning("the encoder is not trained: %s; the frozen base model is used", reason)
        return TrainedEncoder(frozen, frozen, frozen, False, reason, (), material.counts, seconds)
    generator = np.random.default_rng(config.seed)
    head, records = _train_head(material, settings, base, generator, on_record)
    full = with_head = _state(settings, tower, head, material, base)
    seconds["head"] = records[-1].seconds
    if upper is not None:
        started = time.monotonic()
        head, more = _fine_tune(material, settings, head, upper, base, generator, on_record)
        if any(record.kept for record in more[1:]):
            vectors = upper.frozen_vectors(np.arange(len(material.tokens)))
            full = _state(settings, upper.tower, head, material, vectors)
        records = [*records, *more]
        seconds["fine_tune"] = time.monotonic() - started
    return TrainedEncoder(frozen, with_head, full, True, "", tuple(records), material.counts, seconds)


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


def _train_head(
    material: Material,
    settings: EncoderConfig,
    base: Float32,
    generator: np.random.Generator,
    on_record: Progress | None,
) -> tuple[Head, list[EpochRecord]]:
    """Phase 1."""
    head = Head(base.shape[1], settings.head_dropout)
    if torch.cuda.is_available():
        head.to("cuda")
    phase = HeadPhase(
        head,
        base,
        material.examples,
        material.validation,
        batch_size=settings.head_batch_size,
        negatives=settings.negatives,
        loss=settings.loss,
    )
    groups = parameter_groups([(head, settings.head_learning_rate)], settings.weight_decay)
    return head, fit(phase, groups, _schedule(settings, settings.head_epochs), generator=generator, on_record=on_record)


def _fine_tune(
    material: Material,
    settings: EncoderConfig,
    head: Head,
    upper: UpperTower,
    base: Float32,
    generator: np.random.Generator,
    on_record: Progress | None,
) -> tuple[Head, list[EpochRecord]]:
    """Phase 2, from the head of phase 1, which stays as it is."""
    head = copy.deepcopy(head)
    phase = FineTunePhase(
        head,
        upper,
        base,
        material.examples,
        material.validation,
        block_size=settings.fine_tune_block_size,
        negatives=settings.negatives,
        loss=settings.loss,
    )
    rates = [(upper.trained, settings.fine_tune_learning_rate), (head, settings.fine_tune_head_learning_rate)]
    groups = parameter_groups(rates, settings.weight_decay)
    schedule = _schedule(settings, settings.fine_tune_epochs)
    return head, fit(phase, groups, schedule, generator=generator, on_record=on_record)


def _schedule(settings: EncoderConfig, epochs: int) -> Schedule:
    return Schedule(epochs, settings.warmup_share, settings.gradient_clip, settings.patience)


def _state(settings: EncoderConfig, tower: Tower, head: Head, material: Material, base: Float32) -> Encoder:
    """A trained encoder whose table holds every text."""
    encoder = Encoder(encoder_settings(settings), tower, head)
    return encoder.with_table(material.texts.distinct, encoder.map_vectors(base))
