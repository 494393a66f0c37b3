"""The training loop: steps, rates, average of weights, validation, early stop. What a step computes is the phase's.

AdamW, linear warm-up and a constant rate, no weight decay on biases and norms, gradients clipped by their norm. What is
validated, kept and served is a running average of the weights (Polyak and Juditsky, 1992), whose memory is short at
first: it takes the place of a rate that falls, which would need to know beforehand when training ends.
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
    """One validation. phase: head, fine_tune, or progressive. epoch: passes of the phase so far. loss: mean since the
    last record, NaN before the first step. validation_ndcg: nDCG@10, 0 to 1, of lists that have taught nothing so far.
    seconds: since the phase began. learning_rate: of the phase's own weights. kept: True where these weights are used.
    """

    phase: str
    epoch: float
    loss: float
    validation_ndcg: float
    seconds: float
    learning_rate: float
    kept: bool


Progress = Callable[[EpochRecord], None]


@dataclass(frozen=True)
class Stretch:
    """A stretch of the log to learn from: every new example once an epoch, and `replay` times as many older ones, drawn
    anew each epoch. new, old: positions of examples.
    """

    new: Int64
    old: Int64
    replay: float

    def draw(self, generator: np.random.Generator) -> Int64:
        """The examples of one epoch in random order."""
        n_old = min(len(self.old), round(self.replay * len(self.new)))
        drawn = generator.choice(self.old, n_old, replace=False) if n_old else self.old[:0]
        return generator.permutation(np.concatenate([self.new, drawn]))


class Phase(Protocol):
    """What a phase of training brings to the loop."""

    name: str
    module: nn.Module
    """Its trained weights: all parameters of it that require a gradient."""

    def steps(self, examples: Int64, generator: np.random.Generator) -> list[Int64]:
        """What each step of a pass over some examples computes, drawn anew."""

    def backward(self, index: Int64, generator: np.random.Generator) -> float:
        """Add the gradients of one step to the module's weights; the loss."""

    def validate(self) -> float:
        """nDCG@10 on the validation lists."""


@dataclass(frozen=True)
class Schedule:
    """warmup_updates: updates over which the rate rises from 0. average: share of the running average that an update
    keeps. accumulate: steps whose mean gradient makes one update. patience: validations without a better one.
    """

    warmup_updates: int
    gradient_clip: float
    average: float
    accumulate: int
    patience: int


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


class Fitting:
    """The training of one phase over all its stretches.

    Optimizer, running average and the weights that it follows go on from stretch to stretch. Between calls the module
    has its averaged weights.
    """

    def __init__(
        self, phase: Phase, groups: list[dict[str, Any]], schedule: Schedule, generator: np.random.Generator
    ) -> None:
        self.rate = groups[0]["lr"]
        self._phase = phase
        self._schedule = schedule
        self._generator = generator
        self._optimizer = torch.optim.AdamW(groups)
        self._full_rates = [group["lr"] for group in groups]
        self._average = _copied(phase.module)
        self._followed = _copied(phase.module)
        self._updates = 0

    def fit(self, stretch: Stretch, epochs: int, on_record: Progress | None = None) -> list[EpochRecord]:
        """Learn a stretch with validation after every epoch; the module ends with the averaged weights that validated
        best, the untouched ones included, and training goes on from there."""
        watch = _Watch(self._phase, on_record)
        watch.validate(epoch=0, loss=math.nan, rate=0.0)
        for epoch in range(epochs):
            loss = self._run_epoch(stretch, epoch)
            watch.validate(epoch + 1, loss, self.rate)
            if watch.stale >= self._schedule.patience:
                break
        watch.restore()
        if not watch.records[-1].kept:
            self._average, self._followed = _copied(self._phase.module), _copied(self._phase.module)
        return watch.records

    def learn(self, stretch: Stretch, epochs: int) -> float:
        """Learn a stretch for all its epochs; the last one's mean loss, NaN where there was nothing to learn."""
        loss = math.nan
        for epoch in range(epochs):
            loss = self._run_epoch(stretch, epoch)
        return loss

    def _run_epoch(self, stretch: Stretch, epoch: int) -> float:
        """One pass; the mean loss of its steps."""
        phase, n = self._phase, self._schedule.accumulate
        _copy_into(phase.module, self._followed)
        steps = phase.steps(stretch.draw(self._generator), self._generator)
        updates = [steps[start : start + n] for start in range(0, len(steps), n)]
        losses: list[float] = []
        for some in _shown(phase.name, epoch, updates, losses):
            losses += self._update(some)
        self._followed = _copied(phase.module)
        _copy_into(phase.module, self._average)
        return float(np.mean(losses)) if losses else math.nan

    def _update(self, steps: list[Int64]) -> list[float]:
        """One update of the weights and of their average; the losses of its steps."""
        module = self._phase.module
        module.train()
        factor = min(1.0, (self._updates + 1) / max(1, self._schedule.warmup_updates))
        for group, rate in zip(self._optimizer.param_groups, self._full_rates, strict=True):
            group["lr"] = rate * factor
        self._optimizer.zero_grad(set_to_none=True)
        losses = [self._phase.backward(index, self._generator) for index in steps]
        trained = _trained(module)
        if len(steps) > 1:
            for tensor in trained.values():
                if tensor.grad is not None:
                    tensor.grad /= len(steps)
        nn.utils.clip_grad_norm_(list(trained.values()), self._schedule.gradient_clip)
        self._optimizer.step()
        self._updates += 1
        kept = min(self._schedule.average, (1 + self._updates) / (10 + self._updates))
        with torch.no_grad():
            for name, tensor in trained.items():
                self._average[name].lerp_(tensor, 1 - kept)
        return losses


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

    def validate(self, epoch: float, loss: float, rate: float) -> None:
        ndcg = self._phase.validate()
        better = ndcg > self._best
        if better:
            self._best, self.stale = ndcg, 0
            self._kept = _copied(self._phase.module)
        else:
            self.stale += 1
        record = EpochRecord(self._phase.name, epoch, loss, ndcg, time.monotonic() - self._started, rate, better)
        self.records.append(record)
        tell(record, self._on_record)

    def restore(self) -> None:
        _copy_into(self._phase.module, self._kept)


def tell(record: EpochRecord, on_record: Progress | None) -> None:
    """Log a record and hand it on."""
    logger.info(
        "%s epoch %g: loss %.4f, validation ndcg_at_10 %.4f, %.0f s",
        record.phase, record.epoch, record.loss, record.validation_ndcg, record.seconds,
    )  # fmt: skip
    if on_record is not None:
        on_record(record)


def _trained(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in module.named_parameters() if tensor.requires_grad}


def _copied(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in _trained(module).items()}


def _copy_into(module: nn.Module, weights: dict[str, Tensor]) -> None:
    with torch.no_grad():
        for name, tensor in _trained(module).items():
            tensor.copy_(weights[name])


def _shown(name: str, epoch: int, updates: list[list[Int64]], losses: list[float]) -> Iterator[list[Int64]]:
    """The updates, with a progress bar where a terminal shows it."""
    if not sys.stderr.isatty():
        yield from updates
        return
    with tqdm(updates, desc=f"{name} epoch {epoch + 1}", unit="step", leave=False) as bar:
        for some in bar:
            yield some
            bar.set_postfix(loss=f"{np.mean(losses[-20:]):.4f}" if losses else "", refresh=False)
