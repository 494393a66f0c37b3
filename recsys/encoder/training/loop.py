"""The training loop: steps, rates, average of weights, validation, early stop. What a step computes is the phase's.

AdamW, linear warm-up and a constant rate, no weight decay on biases and norms, gradients clipped by their norm. What is
validated, kept and served is a running average of the weights (Polyak and Juditsky, 1992), whose memory is short at
first: it takes the place of a rate that falls, which would need to know beforehand when training ends.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from features.arrays import Int64
from recsys.encoder.training.checkpoint import StateDict, merge_states
from recsys.encoder.training.early_stopping import EarlyStopping, EpochRecord, Progress
from recsys.encoder.training.torch_runtime import trim_malloc
from recsys.encoder.training.weights import clone_weights, copy_into, load_optimizer_state, optimizer_state, trained


@dataclass(frozen=True)
class TrainingChunk:
    """A stretch of the log to learn from: every new example once an epoch, and `replay` times as many older ones, drawn
    anew each epoch. new, old: positions of examples.
    """

    new: Int64
    old: Int64
    replay: float

    def with_history(self) -> TrainingChunk:
        """This one and all that is older, as if all of it were new."""
        return TrainingChunk(np.concatenate([self.old, self.new]), self.old[:0], 0.0)

    @property
    def span(self) -> list[int]:
        """Positions of its oldest and its newest new example, if any: tells the stretches of one log apart."""
        return [int(self.new[0]), int(self.new[-1])] if len(self.new) else []

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


@dataclass
class _LoopPosition:
    """Where a fitting stands in its latest stretch. epoch: whole passes. update: updates of the pass after them;
    losses: of its steps; drawn_from: the generator's state before it. loss: mean of the last whole pass.
    """

    stretch: list[int] = field(default_factory=list)
    epoch: int = 0
    update: int = 0
    losses: list[float] = field(default_factory=list)
    drawn_from: dict[str, Any] = field(default_factory=dict)
    loss: float = math.nan

    def end_epoch(self) -> float:
        """Count a pass that is done; the mean loss of its steps, NaN where it had none."""
        self.loss = float(np.mean(self.losses)) if self.losses else math.nan
        self.epoch, self.update, self.losses = self.epoch + 1, 0, []
        return self.loss


class TrainingLoop:
    """The training of one phase over all its stretches.

    Optimizer, running average and the weights that it follows go on from stretch to stretch. Between calls the module
    has its averaged weights. after_update: called after every update; `kept` then holds what `restore` needs for the
    next call, with the same stretch, to go on from there.
    """

    def __init__(
        self,
        phase: Phase,
        groups: list[dict[str, Any]],
        schedule: Schedule,
        generator: np.random.Generator,
        after_update: Callable[[], None] | None = None,
    ) -> None:
        self.rate = groups[0]["lr"]
        self._phase = phase
        self._schedule = schedule
        self._generator = generator
        self._after_update = after_update
        self._optimizer = torch.optim.AdamW(groups)
        self._full_rates = [group["lr"] for group in groups]
        self._average = clone_weights(phase.module)
        self._followed = clone_weights(phase.module)
        self._updates = 0
        self._place = _LoopPosition()
        self._watch = EarlyStopping(phase)
        self._resumes = False
        self._within = False

    @property
    def untouched(self) -> bool:
        """Whether it has trained nothing yet."""
        return self._updates == 0

    def fit(self, stretch: TrainingChunk, epochs: int, on_record: Progress | None = None) -> list[EpochRecord]:
        """Learn a stretch with validation after every epoch; the module ends with the averaged weights that validated
        best, the untouched ones included, and training goes on from there."""
        if not self._continues(stretch):
            self._watch = EarlyStopping(self._phase)
            self._watch.validate(0, math.nan, 0.0, on_record)
        watch = self._watch
        while self._place.epoch < epochs and watch.stale < self._schedule.patience:
            loss = self._run_epoch(stretch)
            watch.validate(self._place.epoch, loss, self.rate, on_record)
        watch.restore()
        if not watch.records[-1].kept:
            self._average, self._followed = clone_weights(self._phase.module), clone_weights(self._phase.module)
        self._watch = EarlyStopping(self._phase)
        return watch.records

    def learn(self, stretch: TrainingChunk, epochs: int) -> float:
        """Learn a stretch for all its epochs; the last one's mean loss, NaN where there was nothing to learn."""
        self._continues(stretch)
        while self._place.epoch < epochs:
            self._run_epoch(stretch)
        return self._place.loss

    def kept(self) -> StateDict:
        """What `restore` needs."""
        parts = {
            "average": StateDict({}, self._average),
            "followed": StateDict({}, trained(self._phase.module) if self._within else self._followed),
            "optimizer": StateDict({}, optimizer_state(self._optimizer, self._phase.module)),
            "watch": self._watch.kept(),
        }
        return merge_states({"updates": self._updates, "place": asdict(self._place)}, parts)

    def restore(self, kept: StateDict) -> None:
        """Take up what another fitting of the same phase kept, and go on where it was."""
        load_optimizer_state(self._optimizer, self._phase.module, kept.part("optimizer").tensors)
        copy_into(self._phase.module, kept.part("average").tensors)
        self._average = clone_weights(self._phase.module)
        self._followed = {
            name: kept.part("followed").tensors[name].to(tensor.device, copy=True)
            for name, tensor in self._average.items()
        }
        self._updates = kept.facts["updates"]
        self._place = _LoopPosition(**kept.facts["place"])
        self._watch = EarlyStopping(self._phase, kept.part("watch"))
        self._resumes = True

    def _continues(self, stretch: TrainingChunk) -> bool:
        """Whether a stretch is the one in which a restored fitting stood; else the fitting stands at its beginning."""
        goes_on = self._resumes and self._place.stretch == stretch.span
        self._resumes = False
        if not goes_on:
            self._place = _LoopPosition(stretch.span)
        return goes_on

    def _run_epoch(self, stretch: TrainingChunk) -> float:
        """One pass, or what is left of it; the mean loss of its steps."""
        phase, place = self._phase, self._place
        copy_into(phase.module, self._followed)
        self._within = True
        updates = self._draw(stretch)
        for some in _shown(phase.name, place.epoch, updates[place.update :], place.losses):
            place.losses += self._update(some)
            place.update += 1
            if self._after_update is not None:
                self._after_update()
        self._followed = clone_weights(phase.module)
        copy_into(phase.module, self._average)
        self._within = False
        trim_malloc()
        return place.end_epoch()

    def _draw(self, stretch: TrainingChunk) -> list[list[Int64]]:
        """The steps of each update of a pass; of one that was begun, the same as they were."""
        generator, n = self._generator, self._schedule.accumulate
        if self._place.update:
            generator = np.random.default_rng()
            generator.bit_generator.state = self._place.drawn_from
        else:
            self._place.drawn_from = dict(generator.bit_generator.state)
        steps = self._phase.steps(stretch.draw(generator), generator)
        return [steps[start : start + n] for start in range(0, len(steps), n)]

    def _update(self, steps: list[Int64]) -> list[float]:
        """One update of the weights and of their average; the losses of its steps."""
        module = self._phase.module
        module.train()
        factor = min(1.0, (self._updates + 1) / max(1, self._schedule.warmup_updates))
        for group, rate in zip(self._optimizer.param_groups, self._full_rates, strict=True):
            group["lr"] = rate * factor
        self._optimizer.zero_grad(set_to_none=True)
        losses = [self._phase.backward(index, self._generator) for index in steps]
        weights = trained(module)
        if len(steps) > 1:
            for tensor in weights.values():
                if tensor.grad is not None:
                    tensor.grad /= len(steps)
        nn.utils.clip_grad_norm_(list(weights.values()), self._schedule.gradient_clip)
        self._optimizer.step()
        self._updates += 1
        kept = min(self._schedule.average, (1 + self._updates) / (10 + self._updates))
        with torch.no_grad():
            for name, tensor in weights.items():
                self._average[name].lerp_(tensor, 1 - kept)
        return losses


def _shown(name: str, epoch: int, updates: list[list[Int64]], losses: list[float]) -> Iterator[list[Int64]]:
    """The updates, with a progress bar where a terminal shows it."""
    if not sys.stderr.isatty():
        yield from updates
        return
    with tqdm(updates, desc=f"{name} epoch {epoch + 1}", unit="step", leave=False) as bar:
        for some in bar:
            yield some
            bar.set_postfix(loss=f"{np.mean(losses[-20:]):.4f}" if losses else "", refresh=False)
