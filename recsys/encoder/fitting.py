"""The training loop: steps, learning rate, validation, early stop, best weights. What a step computes is the phase's.

AdamW with a separate rate for each group of weights, linear warm-up and decay, no weight decay on biases and norms,
gradients clipped by their norm.
"""

from __future__ import annotations

import logging
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from features.log import Int64

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EpochRecord:
    """One validation. phase: head or fine_tune. epoch: passes so far, a fraction within one. loss: mean since the last
    record, NaN before the first step. validation_ndcg: nDCG@10, 0 to 1. seconds: since the phase began.
    learning_rate: of the phase's own weights. kept: True where these are the best weights so far.
    """

    phase: str
    epoch: float
    loss: float
    validation_ndcg: float
    seconds: float
    learning_rate: float
    kept: bool


Progress = Callable[[EpochRecord], None]


class Phase(Protocol):
    """What a phase of training brings to the loop."""

    name: str
    module: nn.Module
    """Its trained weights: all parameters of it that require a gradient."""

    def steps(self, generator: np.random.Generator) -> list[Int64]:
        """The examples of each step of one pass, drawn anew."""

    def backward(self, index: Int64, generator: np.random.Generator) -> float:
        """Add the gradients of one step's examples to the module's weights; the loss."""

    def validate(self) -> float:
        """nDCG@10 on the validation lists."""


@dataclass(frozen=True)
class Schedule:
    """How long and how fast. validations: how many times a pass is validated. patience: in validations."""

    epochs: int
    warmup_share: float
    gradient_clip: float
    patience: int
    validations: int = 1


def parameter_groups(rates: Iterable[tuple[nn.Module, float]], weight_decay: float) -> list[dict[str, Any]]:
    """AdamW's groups for modules with their learning rates: matrices decay, vectors and scalars do not."""
    groups: list[dict[str, Any]] = []
    for module, rate in rates:
        trained = [p for p in module.parameters() if p.requires_grad]
        for decay, chosen in (
            (weight_decay, [p for p in trained if p.ndim > 1]),
            (0.0, [p for p in trained if p.ndim <= 1]),
        ):
            if chosen:
                groups.append({"params": chosen, "lr": rate, "weight_decay": decay})
    return groups


def rate_factor(step: int, n_steps: int, warmup_share: float) -> float:
    """Share of the full learning rate at a step counted from 0: linear rise from 0, then linear fall to 0."""
    warmup = max(1, math.ceil(n_steps * warmup_share))
    if step < warmup:
        return (step + 1) / warmup
    return max(0.0, (n_steps - step) / max(1, n_steps - warmup))


def fit(
    phase: Phase,
    groups: list[dict[str, Any]],
    schedule: Schedule,
    *,
    generator: np.random.Generator,
    on_record: Progress | None = None,
) -> list[EpochRecord]:
    """Train a phase; its module ends with the weights that validated best, the untouched ones included."""
    watch = _Watch(phase, on_record)
    watch.validate(epoch=0.0, losses=[], rate=0.0)
    if schedule.epochs == 0:
        return watch.records
    optimizer = torch.optim.AdamW(groups)
    full_rates = [group["lr"] for group in groups]
    done = 0
    for epoch in range(schedule.epochs):
        steps = phase.steps(generator)
        checks = {round(len(steps) * (k + 1) / schedule.validations) for k in range(schedule.validations)}
        losses: list[float] = []
        for number, index in enumerate(_shown(phase.name, epoch, steps, losses), 1):
            factor = rate_factor(done, schedule.epochs * len(steps), schedule.warmup_share)
            for group, rate in zip(optimizer.param_groups, full_rates, strict=True):
                group["lr"] = rate * factor
            losses.append(_step(phase, optimizer, index, schedule.gradient_clip, generator))
            done += 1
            if number in checks:
                watch.validate(epoch + number / len(steps), losses, full_rates[0] * factor)
                losses.clear()
            if watch.stale >= schedule.patience:
                watch.restore()
                return watch.records
    watch.restore()
    return watch.records


def _step(
    phase: Phase, optimizer: torch.optim.Optimizer, index: Int64, clip: float, generator: np.random.Generator
) -> float:
    """One step of the optimizer; its loss."""
    phase.module.train()
    optimizer.zero_grad(set_to_none=True)
    loss = phase.backward(index, generator)
    nn.utils.clip_grad_norm_([p for p in phase.module.parameters() if p.requires_grad], clip)
    optimizer.step()
    return loss


class _Watch:
    """Validates a phase, keeps its best weights, and counts the validations since."""

    def __init__(self, phase: Phase, on_record: Progress | None) -> None:
        self.records: list[EpochRecord] = []
        self.stale = 0
        self._phase = phase
        self._on_record = on_record
        self._started = time.monotonic()
        self._best = -math.inf
        self._kept: dict[str, Tensor] = {}

    def validate(self, epoch: float, losses: list[float], rate: float) -> None:
        ndcg = self._phase.validate()
        better = ndcg > self._best
        if better:
            self._best, self.stale = ndcg, 0
            self._kept = {name: tensor.detach().clone() for name, tensor in _trained(self._phase.module).items()}
        else:
            self.stale += 1
        seconds = time.monotonic() - self._started
        loss = float(np.mean(losses)) if losses else math.nan
        record = EpochRecord(self._phase.name, epoch, loss, ndcg, seconds, rate, better)
        self.records.append(record)
        logger.info(
            "%s epoch %.2f: loss %.4f, validation ndcg_at_10 %.4f, %.0f s", record.phase, epoch, loss, ndcg, seconds
        )
        if self._on_record is not None:
            self._on_record(record)

    def restore(self) -> None:
        with torch.no_grad():
            for name, tensor in _trained(self._phase.module).items():
                tensor.copy_(self._kept[name])


def _trained(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in module.named_parameters() if tensor.requires_grad}


def _shown(name: str, epoch: int, steps: list[Int64], losses: list[float]) -> Iterator[Int64]:
    """The steps, with a progress bar where a terminal shows it."""
    if not sys.stderr.isatty():
        yield from steps
        return
    with tqdm(steps, desc=f"{name} epoch {epoch + 1}", unit="step", leave=False) as bar:
        for step in bar:
            yield step
            bar.set_postfix(loss=f"{np.mean(losses[-20:]):.4f}" if losses else "", refresh=False)
