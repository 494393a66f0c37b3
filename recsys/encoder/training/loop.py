"""The training loop: steps, rates, average of weights, validation, early stop. The phase computes a step.

AdamW, linear warm-up and a constant rate, no weight decay on biases and norms, gradients clipped by their norm. What is
validated, stored and served is a running average of the weights (Polyak and Juditsky, 1992), whose memory is short at
first. It replaces a falling rate, which would need to know beforehand when training ends.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from features.arrays import Int64
from recsys.config import EncoderConfig
from recsys.encoder.training.checkpoint import State
from recsys.encoder.training.early_stopping import EarlyStopping, EpochRecord, ValidatedPhase
from recsys.encoder.training.torch_runtime import trim_malloc
from recsys.encoder.training.weights import clone_weights, copy_into, trainable_parameters


@dataclass(frozen=True)
class TrainingChunk:
    """A chunk of the log to learn from: every new example once an epoch, and `rehearsal_ratio` times as many older
    ones, drawn again each epoch. new, old: positions of examples.
    """

    new: Int64
    old: Int64
    rehearsal_ratio: float

    @classmethod
    def of_all(cls, examples: Int64) -> TrainingChunk:
        """All of these examples once an epoch."""
        return cls(examples, examples[:0], 0.0)

    def with_history(self) -> TrainingChunk:
        """This chunk and all older examples, each once an epoch."""
        return TrainingChunk.of_all(np.concatenate([self.old, self.new]))

    @property
    def span(self) -> list[int]:
        """Positions of its oldest and its newest new example, if any: identifies a chunk of one log."""
        return [int(self.new[0]), int(self.new[-1])] if len(self.new) else []

    def draw(self, generator: np.random.Generator) -> Int64:
        """The examples of one epoch in random order."""
        n_old = min(len(self.old), round(self.rehearsal_ratio * len(self.new)))
        drawn = generator.choice(self.old, n_old, replace=False) if n_old else self.old[:0]
        return generator.permutation(np.concatenate([self.new, drawn]))


class Phase(ValidatedPhase, Protocol):
    """A phase of training, as the loop runs it."""

    def steps(self, examples: Int64, generator: np.random.Generator) -> list[Int64]:
        """What each step of a pass over some examples computes, drawn again each time."""

    def backward(self, index: Int64, generator: np.random.Generator) -> float:
        """Add the gradients of one step to the module's weights; the loss."""


def parameter_groups(rates: Sequence[tuple[nn.Module, float]], weight_decay: float) -> list[dict[str, Any]]:
    """AdamW's groups for modules with their learning rates: matrices decay, vectors and scalars do not."""
    groups = []
    for module, rate in rates:
        parameters = list(trainable_parameters(module).values())
        matrices = [parameter for parameter in parameters if parameter.ndim > 1]
        others = [parameter for parameter in parameters if parameter.ndim <= 1]
        groups += [
            {"params": matrices, "lr": rate, "weight_decay": weight_decay},
            {"params": others, "lr": rate, "weight_decay": 0.0},
        ]
    return [group for group in groups if group["params"]]


@dataclass
class _LoopPosition:
    """The position in the latest chunk. epoch: whole passes. update: updates of the pass after them; losses: of its
    steps; drawn_from: the generator's state before it. loss: mean of the last whole pass.
    """

    chunk: list[int] = field(default_factory=list)
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


@dataclass(eq=False)
class TrainingLoop:
    """The training of one phase over all its chunks.

    rates: modules with their learning rates. settings: warm-up, clipping, averaging, accumulation, decay and patience.
    after_update: called after every update; `state_dict` then holds what `load_state_dict` needs for the next call,
    with the same chunk, to resume there. fused: whether AdamW updates all weights in one pass over memory.

    Optimizer, running average and the raw weights that it averages go on from chunk to chunk. Between calls the module
    has its averaged weights.
    """

    phase: Phase
    rates: Sequence[tuple[nn.Module, float]]
    settings: EncoderConfig
    generator: np.random.Generator
    after_update: Callable[[], None] | None = None
    fused: bool | None = None

    def __post_init__(self) -> None:
        groups = parameter_groups(self.rates, self.settings.weight_decay)
        self._optimizer = torch.optim.AdamW(groups, fused=self.fused)
        self._full_rates = [group["lr"] for group in groups]
        self._average = clone_weights(self.phase.module)
        self._raw_weights = clone_weights(self.phase.module)
        self._updates = 0
        self._position = _LoopPosition()
        self._early_stopping = EarlyStopping(self.phase)
        self._resumes = False

    @property
    def untouched(self) -> bool:
        """Whether it has trained nothing yet."""
        return self._updates == 0

    def fit(self, chunk: TrainingChunk, epochs: int) -> list[EpochRecord]:
        """Learn a chunk with validation after every epoch; the module ends with the averaged weights that validated
        best, the untouched ones included, and training goes on from there."""
        if not self._continues(chunk):
            self._early_stopping = EarlyStopping(self.phase)
            self._early_stopping.validate(0, math.nan, 0.0, epochs=epochs)
        stopping = self._early_stopping
        while self._position.epoch < epochs and stopping.stale < self.settings.patience:
            loss = self._run_epoch(chunk)
            rate = self._full_rates[0]
            stopping.validate(self._position.epoch, loss, rate, epochs=epochs)
        stopping.restore_best()
        if not stopping.records[-1].is_best:
            self._average, self._raw_weights = clone_weights(self.phase.module), clone_weights(self.phase.module)
        self._early_stopping = EarlyStopping(self.phase)
        return stopping.records

    def learn(self, chunk: TrainingChunk, epochs: int) -> float:
        """Learn a chunk for all its epochs; the last one's mean loss, NaN where there was nothing to learn."""
        self._continues(chunk)
        while self._position.epoch < epochs:
            self._run_epoch(chunk)
        return self._position.loss

    def state_dict(self) -> State:
        """What `load_state_dict` needs."""
        return {
            "average": self._average,
            "raw": self._raw_weights,
            "optimizer": self._optimizer.state_dict()["state"],
            "early_stopping": self._early_stopping.state_dict(),
            "updates": self._updates,
            "position": asdict(self._position),
        }

    def load_state_dict(self, state: State) -> None:
        """Resume from the `state_dict` of another loop of the same phase."""
        copy_into(self.phase.module, state["raw"])
        self._raw_weights = clone_weights(self.phase.module)
        copy_into(self.phase.module, state["average"])
        self._average = clone_weights(self.phase.module)
        memory = {int(number): values for number, values in state["optimizer"].items()}
        self._optimizer.load_state_dict(self._optimizer.state_dict() | {"state": memory})
        self._updates = state["updates"]
        self._position = _LoopPosition(**state["position"])
        self._early_stopping = EarlyStopping(self.phase)
        self._early_stopping.load_state_dict(state["early_stopping"])
        self._resumes = True

    def _continues(self, chunk: TrainingChunk) -> bool:
        """Whether a restored loop resumes within this chunk; otherwise it starts at the chunk's beginning."""
        continues = self._resumes and self._position.chunk == chunk.span
        self._resumes = False
        if not continues:
            self._position = _LoopPosition(chunk.span)
        return continues

    def _run_epoch(self, chunk: TrainingChunk) -> float:
        """One pass, or what is left of it; the mean loss of its steps."""
        phase, position = self.phase, self._position
        copy_into(phase.module, self._raw_weights)
        self._raw_weights = trainable_parameters(phase.module)
        updates = self._draw(chunk)[position.update :]
        for steps in _with_progress_bar(phase.name, position.epoch, updates, position.losses):
            position.losses += self.update(steps)
            position.update += 1
            if self.after_update is not None:
                self.after_update()
        self._raw_weights = clone_weights(phase.module)
        copy_into(phase.module, self._average)
        trim_malloc()
        return position.end_epoch()

    def _draw(self, chunk: TrainingChunk) -> list[list[Int64]]:
        """The steps of each update of a pass; of one that was begun, the same as they were."""
        generator, n = self.generator, self.settings.accumulate
        if self._position.update:
            generator = np.random.default_rng()
            generator.bit_generator.state = self._position.drawn_from
        else:
            self._position.drawn_from = dict(generator.bit_generator.state)
        steps = self.phase.steps(chunk.draw(generator), generator)
        return [steps[start : start + n] for start in range(0, len(steps), n)]

    def update(self, steps: list[Int64]) -> list[float]:
        """One update of the module's weights and of their average; the losses of its steps."""
        module = self.phase.module
        module.train()
        factor = min(1.0, (self._updates + 1) / max(1, self.settings.warmup_updates))
        for group, rate in zip(self._optimizer.param_groups, self._full_rates, strict=True):
            group["lr"] = rate * factor
        self._optimizer.zero_grad(set_to_none=True)
        losses = [self.phase.backward(index, self.generator) for index in steps]
        weights = trainable_parameters(module)
        if len(steps) > 1:
            for tensor in weights.values():
                if tensor.grad is not None:
                    tensor.grad /= len(steps)
        nn.utils.clip_grad_norm_(list(weights.values()), self.settings.gradient_clip)
        self._optimizer.step()
        self._updates += 1
        decay = min(self.settings.ema_decay, (1 + self._updates) / (10 + self._updates))
        with torch.no_grad():
            for name, tensor in weights.items():
                self._average[name].lerp_(tensor, 1 - decay)
        return losses


def _with_progress_bar(name: str, epoch: int, updates: list[list[Int64]], losses: list[float]) -> Iterator[list[Int64]]:
    """The updates, with a progress bar on a terminal."""
    description = f"{name} epoch {epoch + 1}"
    with tqdm(updates, desc=description, unit="step", leave=False, disable=not sys.stderr.isatty()) as bar:
        for steps in bar:
            yield steps
            bar.set_postfix(loss=f"{np.mean(losses[-20:]):.4f}" if losses else "", refresh=False)
