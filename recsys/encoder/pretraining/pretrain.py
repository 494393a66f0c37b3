"""Self-supervised pre-training on item texts: masked language modelling, then contrastive. No label is read.

For domains and languages that the base model does not know. The masked phase teaches words but may warp the space of
the pooled vectors; the contrastive one spreads the vectors, so it comes last.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from features.arrays import Int64
from recsys.config import PretrainingConfig
from recsys.encoder.pretraining.masked_lm import MaskedPhase
from recsys.encoder.pretraining.reduced_vocabulary import (
    ReducedEmbeddings,
    UsedTokens,
    occurring_tokens,
    small_embeddings,
)
from recsys.encoder.pretraining.simcse import ContrastivePhase
from recsys.encoder.text import Tokens
from recsys.encoder.tower import TextTower
from recsys.encoder.training.early_stopping import EpochRecord
from recsys.encoder.training.loop import Schedule, TrainingChunk, TrainingLoop, parameter_groups
from recsys.encoder.training.split_layers import split_transformer
from recsys.encoder.training.torch_runtime import math_attention

logger = logging.getLogger(__name__)

MIN_TEXTS = 50
"""Fewer distinct texts teach nothing and validate nothing."""
GRADIENT_CLIP = 1.0
AVERAGE = 0.95
WEIGHT_DECAY = 0.01


@dataclass(frozen=True)
class PretrainingRecord:
    """One validation on the held-out texts. phase: masked or contrastive. epoch: passes so far.

    loss: mean of the pass, in nats, NaN before the first. validation_loss: in nats. validation_accuracy: share of
    hidden tokens, or of second views, that were found, 0 to 1. seconds: since the phase began. learning_rate: of the
    transformer. kept: True where these are the best weights so far.
    """

    phase: str
    epoch: float
    loss: float
    validation_loss: float
    validation_accuracy: float
    seconds: float
    learning_rate: float
    kept: bool


Progress = Callable[[PretrainingRecord], None]


def pretrain(
    tower: TextTower, texts: Sequence[str], settings: PretrainingConfig, *, seed: int, on_record: Progress | None = None
) -> tuple[PretrainingRecord, ...]:
    """Train the tower's transformer, in place, on `texts`; it ends frozen, in evaluation mode, with the best weights.

    texts: distinct ones count once, "" not at all; a random share validates. on_record: called after every validation.
    With fewer than 50 texts it warns and does nothing. Same seed, same weights on one machine; torch's own random
    state stays as it was. Raises ModelError for a tokenizer without a mask token or a transformer without dropout.
    """
    if not settings.masked_epochs and not settings.contrastive_epochs:
        return ()
    tokens = _distinct(tower.tokenise([text for text in dict.fromkeys(texts) if text]))
    if len(tokens) < MIN_TEXTS:
        logger.warning("no pre-training: expected at least %d distinct texts, got %d", MIN_TEXTS, len(tokens))
        return ()
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(tokens))
    n_held_out = max(2, round(settings.held_out_share * len(tokens)))
    held_out, train = np.sort(order[:n_held_out]), np.sort(order[n_held_out:])
    records: list[PretrainingRecord] = []
    gpus = [tower.device] if tower.device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=gpus):
            torch.manual_seed(seed)
            _unfreeze(tower, settings.layers)
            occurring = occurring_tokens(tower.tokenizer, tokens)
            with math_attention(), small_embeddings(tower.transformer, occurring) as embeddings:
                material = _Material(tokens, occurring, embeddings, train, held_out)
                for phase, groups, epochs in _phases(tower, material, settings, seed):
                    schedule = Schedule(settings.warmup_updates, GRADIENT_CLIP, AVERAGE, 1, patience=epochs + 1)
                    told = partial(_tell, phase, records, on_record)
                    every_text = TrainingChunk(phase.train, phase.train[:0], 0.0)
                    TrainingLoop(phase, groups, schedule, generator).fit(every_text, epochs, told)
    finally:
        tower.transformer.zero_grad(set_to_none=True)
        tower.transformer.eval().requires_grad_(requires_grad=False)
    return tuple(records)


_Phase = MaskedPhase | ContrastivePhase


@dataclass(frozen=True)
class _Material:
    """What the phases read. train, held_out: texts, as positions in `tokens`."""

    tokens: Tokens
    occurring: UsedTokens
    embeddings: ReducedEmbeddings
    train: Int64
    held_out: Int64


def _phases(
    tower: TextTower, material: _Material, settings: PretrainingConfig, seed: int
) -> list[tuple[_Phase, list[dict[str, Any]], int]]:
    """The phases that are on, in order, with their weights and epochs; all are checked before any of them runs."""
    found: list[tuple[_Phase, list[dict[str, Any]], int]] = []
    if settings.masked_epochs:
        masked = MaskedPhase(
            tower,
            material.tokens,
            material.occurring,
            material.embeddings,
            train=material.train,
            held_out=material.held_out,
            share=settings.masked_share,
            batch_tokens=settings.masked_batch_tokens,
            seed=seed,
        )
        rates = [
            (tower.transformer, settings.masked_learning_rate),
            (masked.head, settings.masked_head_learning_rate),
        ]
        found.append((masked, _groups(rates), settings.masked_epochs))
    if settings.contrastive_epochs:
        contrastive = ContrastivePhase(
            tower,
            material.tokens,
            train=material.train,
            held_out=material.held_out,
            temperature=settings.temperature,
            batch_tokens=settings.contrastive_batch_tokens,
            seed=seed,
        )
        groups = _groups([(tower.transformer, settings.contrastive_learning_rate)])
        found.append((contrastive, groups, settings.contrastive_epochs))
    return found


def _groups(rates: list[tuple[nn.Module, float]]) -> list[dict[str, Any]]:
    """AdamW's groups, updated in one pass over memory: with all layers and embeddings, its steps are felt otherwise."""
    return [group | {"fused": True} for group in parameter_groups(rates, WEIGHT_DECAY)]


def _unfreeze(tower: TextTower, layers: int | None) -> None:
    """Let the upper layers, or everything, require gradients."""
    trained: nn.Module = tower.transformer
    if layers is not None:
        split = split_transformer(tower.transformer, layers)
        if split is None:
            logger.warning(
                "layers of %s cannot be told apart: all of them are pre-trained", type(tower.transformer).__name__
            )
        else:
            trained = split.trained
    trained.requires_grad_(requires_grad=True)


def _tell(phase: _Phase, records: list[PretrainingRecord], on_record: Progress | None, record: EpochRecord) -> None:
    """Keep a validation of the training loop, whose measure is the negative loss here, and hand it on."""
    found = PretrainingRecord(
        phase=record.phase,
        epoch=record.epoch,
        loss=record.loss,
        validation_loss=-record.validation_ndcg,
        validation_accuracy=phase.accuracy,
        seconds=record.seconds,
        learning_rate=record.learning_rate,
        kept=record.kept,
    )
    records.append(found)
    if on_record is not None:
        on_record(found)


def _distinct(tokens: Tokens) -> Tokens:
    """The texts whose tokens, as cut, differ from those of all texts before."""
    rows = {tokens.ids[a:b].tobytes(): tokens.ids[a:b] for a, b in itertools.pairwise(tokens.offsets)}
    offsets = np.zeros(len(rows) + 1, np.int64)
    np.cumsum([len(row) for row in rows.values()], out=offsets[1:])
    ids = np.concatenate([*rows.values(), np.zeros(0, np.int32)])
    return Tokens(offsets, ids, tokens.truncated, tokens.unknown, tokens.limit)
