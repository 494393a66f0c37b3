"""Fine-tunings from one start, step by step in turns, so that other work on the machine slows all of them alike.

A step is gradients, clipping and the optimizer, timed to its end on the device; a pass takes its number of steps times
the median of those after the warm-up. Impressions per second are the impressions of a pass over the seconds of a pass.
A plain pass goes through the lists. Ours goes through the texts that the lists show, so that each candidate of a list
gets its gradient from that list once: a pass is worth its lists once, however many of its blocks touch one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from torch import nn

from benchmarks.fine_tuning_start import Start, our_phase
from benchmarks.matrix_rate import MatrixGauge, timed
from benchmarks.plain_fine_tuning import PlainFineTuning
from features.arrays import Float32, Float64, Int64
from recsys.encoder.head import Head
from recsys.encoder.tower import Dtype, TextTower
from recsys.encoder.training.batches import list_scores
from recsys.encoder.training.loop import parameter_groups
from recsys.encoder.training.upper_layers import TrainableLayers, trained_batches
from recsys.metrics.ranking import list_metrics


class Steps(Protocol):
    """What is raced: our phase, and the plain one."""

    module: nn.Module

    def steps(self, examples: Int64, generator: np.random.Generator) -> list[Int64]:
        """The steps of one pass over some examples."""

    def backward(self, index: Int64, generator: np.random.Generator) -> float:
        """Add the gradients of one step; its loss."""


@dataclass
class Runner:
    """A phase that goes over the lists of `began` in `n_steps` steps. queue: the steps of the present pass.
    seconds: of each step that is done."""

    began: Start
    phase: Steps
    head: Head
    trained: nn.Module
    n_steps: int
    queue: list[Int64] = field(init=False)
    seconds: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        settings = self.began.settings
        self.queue = self._drawn(0)
        groups = parameter_groups([(self.trained, settings.fine_tune_learning_rate)], settings.weight_decay)
        self._rates = [group["lr"] for group in groups]
        self._optimizer = torch.optim.AdamW(groups)

    def step(self) -> None:
        """The next step, timed; a new pass is drawn off the clock."""
        done, place = divmod(len(self.seconds), len(self.queue))
        if done and not place:
            self.queue = self._drawn(done)
        self.seconds.append(timed(lambda: self._step(self.queue[place]), self.began.tower.device))

    def pass_seconds(self, warm_up: int) -> float:
        """Seconds of the steps of one pass, by the median of those after the first `warm_up`."""
        return float(len(self.queue) * np.median(self.seconds[warm_up:]))

    def _drawn(self, done: int) -> list[Int64]:
        """The steps of a pass over all lists."""
        examples = np.arange(len(self.began.lists.examples))
        return self.phase.steps(examples, np.random.default_rng([self.began.seed, done]))

    def _step(self, index: Int64) -> None:
        done, settings = len(self.seconds), self.began.settings
        torch.manual_seed(self.began.seed + done)
        factor = min(1.0, (done + 1) / max(1, settings.warmup_updates))
        for group, rate in zip(self._optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * factor
        self.phase.module.train()
        self._optimizer.zero_grad(set_to_none=True)
        self.phase.backward(index, np.random.default_rng([self.began.seed, done]))
        trained = [parameter for parameter in self.phase.module.parameters() if parameter.requires_grad]
        nn.utils.clip_grad_norm_(trained, settings.gradient_clip)
        self._optimizer.step()


@dataclass
class Ours(Runner):
    """Our fine-tuning. make_bank: what it does once a pass. prepared, refreshed: seconds of the lower layers' outputs
    of all texts, and of the bank. moved, run: seconds of two parts of each step, done again beside it: reading the kept
    outputs of its texts, and that with the trained layers forward and backward. gauge: measured beside each step.
    blocks: the texts of each."""

    upper: TrainableLayers = field(kw_only=True)
    make_bank: Callable[[], None] = field(kw_only=True)
    prepared: float = field(kw_only=True)
    gauge: MatrixGauge = field(kw_only=True)
    refreshed: list[float] = field(default_factory=list)
    moved: list[float] = field(default_factory=list)
    run: list[float] = field(default_factory=list)
    blocks: list[Int64] = field(default_factory=list)

    def step(self) -> None:
        """The next step, its parts, and the matrix rate."""
        super().step()
        device, block = self.began.tower.device, self.queue[(len(self.seconds) - 1) % len(self.queue)]
        self.blocks.append(block)
        self.moved.append(timed(lambda: self._read_lower(block, device), device))
        self.run.append(timed(lambda: torch.autograd.backward(self.upper.vectors(block).sum()), device))
        self.gauge.measure()

    def _read_lower(self, block: Int64, device: torch.device) -> None:
        if self.upper.lower is not None:
            for batch in trained_batches(self.began.lists.tokens.lengths()[block], device):
                self.upper.lower.padded(block[batch])

    def refresh(self) -> None:
        """Make the bank anew, timed."""
        self.refreshed.append(timed(self.make_bank, self.began.tower.device))

    def seconds_beside_steps(self) -> float:
        """The bank once, and the lower layers' outputs as if there were this one pass only."""
        return self.prepared + float(np.median(self.refreshed))

    def pass_seconds(self, warm_up: int) -> float:
        """As of any runner, and what is made beside the steps."""
        return super().pass_seconds(warm_up) + self.seconds_beside_steps()

    def valid_ndcg(self) -> Float64:
        """nDCG@10 of each valid list with the weights as they are, (n_valid,)."""
        return valid_ndcg(self.began, self.head, self.upper.frozen_vectors(np.arange(len(self.began.lists.tokens))))


@dataclass
class Plain(Runner):
    """A plain fine-tuning and the tower that it trains."""

    tower: TextTower = field(kw_only=True)

    def valid_ndcg(self) -> Float64:
        """nDCG@10 of each valid list with the weights as they are, in the arithmetic of ours, (n_valid,)."""
        tower = self.tower.with_dtype("bfloat16" if self.began.tower.computes_in.endswith("bfloat16") else "float32")
        return valid_ndcg(self.began, self.head, tower.encode_tokens(self.began.lists.tokens))


def ours(
    began: Start, upper: TrainableLayers, prepared: float, *, block_size: int, n_steps: int, gauge: MatrixGauge
) -> Ours:
    """Our fine-tuning with blocks of so many texts. prepared: seconds that `upper.prepare` took."""
    head = began.new_head()
    phase = our_phase(began, head, upper, block_size)
    return Ours(
        began,
        phase,
        head,
        upper.trained,
        n_steps,
        upper=upper,
        make_bank=phase.refresh,
        prepared=prepared,
        gauge=gauge,
    )


def plain(own: Ours, *, dtype: Dtype, distinct: bool, parts: int = 1) -> Plain:
    """A plain fine-tuning of as many upper layers as ours, whose passes have `parts` times as many steps."""
    began = own.began
    head, tower = began.new_head(), began.tower.copy().with_dtype(dtype)
    phase = PlainFineTuning(
        head,
        tower,
        began.lists.tokens,
        began.lists.examples,
        n_layers=began.settings.fine_tune_layers,
        n_batches=len(own.queue) * parts,
        negatives=began.settings.negatives,
        distinct=distinct,
    )
    return Plain(began, phase, head, phase.trained, own.n_steps, tower=tower)


def race(own: Ours, others: Sequence[Runner]) -> None:
    """All steps of each, in turns; the bank is made anew at the beginning and at the end."""
    own.refresh()
    for _ in range(own.n_steps):
        for runner in (own, *others):
            runner.step()
    own.refresh()


def block_size_for(began: Start, n_steps: int) -> int:
    """Texts a block with which a pass of ours has `n_steps` steps."""
    examples = began.lists.examples
    everything, random = np.arange(len(examples)), np.random.default_rng(began.seed)
    shown = np.unique(examples.candidates(everything, began.settings.negatives, random))
    return max(1, int((shown >= 0).sum() / n_steps))


def valid_ndcg(began: Start, head: Head, base: Float32) -> Float64:
    """nDCG@10 of each valid list, (n_valid,), NaN where it tells nothing. base: (n_texts, d), the tower's vectors."""
    head.eval()
    with torch.inference_mode():
        mapped = head.mapped(torch.from_numpy(base).to(began.tower.device))
    valid = began.lists.valid
    return list_metrics(list_scores(head, mapped, valid), valid.label, valid.offsets).ndcg_at_10
