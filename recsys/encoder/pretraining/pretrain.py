"""Self-supervised pre-training on item texts: masked language modelling, then contrastive. No label is read.

For domains and languages that the base model does not know. The masked phase learns words but may warp the space of
the pooled vectors; the contrastive one spreads the vectors, so it comes last.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from recsys.config import EncoderConfig, PretrainingConfig
from recsys.encoder.pretraining.masked_lm import MaskedPhase
from recsys.encoder.pretraining.reduced_vocabulary import reduced_embeddings, used_tokens
from recsys.encoder.pretraining.simcse import ContrastivePhase
from recsys.encoder.pretraining.texts import PretrainingTexts, distinct_texts, split_texts
from recsys.encoder.tower import TextTower
from recsys.encoder.training.early_stopping import EpochRecord
from recsys.encoder.training.loop import TrainingChunk, TrainingLoop
from recsys.encoder.training.split_layers import split_transformer
from recsys.encoder.training.torch_runtime import math_attention, seeded

logger = logging.getLogger(__name__)

MIN_TEXTS = 50
"""With fewer distinct texts there is no pre-training."""
OPTIMIZATION = EncoderConfig(gradient_clip=1.0, ema_decay=0.95, weight_decay=0.01, accumulate=1)


def pretrain(
    tower: TextTower, texts: Sequence[str], settings: PretrainingConfig, *, seed: int
) -> tuple[EpochRecord, ...]:
    """Train the tower's transformer, in place, on `texts`; it ends frozen, in evaluation mode, with the best weights.

    texts: distinct ones count once, "" not at all; a random share validates. Records have `loss`, in nats, and
    `accuracy`, the share of hidden tokens or of second views that were predicted. With fewer than 50 texts it warns and
    does nothing. Same seed, same weights on one machine; torch's own random state stays as it was. Raises ModelError
    for a tokenizer without a mask token or a transformer without dropout.
    """
    if not settings.masked_epochs and not settings.contrastive_epochs:
        return ()
    tokens = distinct_texts(tower.tokenise([text for text in dict.fromkeys(texts) if text]))
    if len(tokens) < MIN_TEXTS:
        logger.warning("no pre-training: expected at least %d distinct texts, got %d", MIN_TEXTS, len(tokens))
        return ()
    generator = np.random.default_rng(seed)
    chosen = split_texts(tokens, settings.held_out_share, generator)
    try:
        with seeded(seed, tower.device):
            _unfreeze(tower, settings.layers)
            return tuple(_run_phases(tower, chosen, settings, generator, seed))
    finally:
        tower.transformer.zero_grad(set_to_none=True)
        tower.transformer.eval().requires_grad_(requires_grad=False)


def _run_phases(
    tower: TextTower,
    texts: PretrainingTexts,
    settings: PretrainingConfig,
    generator: np.random.Generator,
    seed: int,
) -> list[EpochRecord]:
    """Train the configured phases; all are checked before any of them runs."""
    used = used_tokens(tower.tokenizer, texts.tokens)
    phases: list[tuple[MaskedPhase | ContrastivePhase, int]] = []
    records: list[EpochRecord] = []
    with math_attention(), reduced_embeddings(tower.transformer, used) as embeddings:
        if settings.masked_epochs:
            phases.append((MaskedPhase(tower, texts, used, embeddings, settings, seed), settings.masked_epochs))
        if settings.contrastive_epochs:
            phases.append((ContrastivePhase(tower, texts, settings, seed), settings.contrastive_epochs))
        for phase, epochs in phases:
            optimization = OPTIMIZATION.model_copy(
                update={"warmup_updates": settings.warmup_updates, "patience": epochs + 1}
            )
            loop = TrainingLoop(phase, phase.rates, optimization, generator, fused=True)
            records += loop.fit(TrainingChunk.of_all(phase.texts.train), epochs)
    return records


def _unfreeze(tower: TextTower, layers: int | None) -> None:
    """Let the upper layers, or everything, require gradients."""
    trained = tower.transformer if layers is None else split_transformer(tower.transformer, layers).trained
    trained.requires_grad_(requires_grad=True)
