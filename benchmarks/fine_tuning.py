"""Fine-tunings from one start, step by step in turns, so that other work on the machine slows all of them alike.

They start from one head, trained on impressions of the log's oldest half: drawn evenly, the newest 10% choose its
epoch. Those of the valid slice measure; test is not touched.

A step is gradients, clipping and the optimizer, timed to its end on the device; a pass takes its number of steps times
the median of those after the warm-up. Impressions per second are the impressions of a pass over the seconds of a pass.
A plain pass goes through the impressions. Ours goes through the texts that they show, so that each candidate of an
impression gets its gradient from that impression once: a pass is worth its impressions once, however many of its blocks
touch one of them.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.device_rate import MatrixGauge, timed
from benchmarks.plain_fine_tuning import PlainFineTuning
from features.arrays import Float32, Float64, Int64
from features.tables.load import load_log
from pipelines.data_options import read_options
from recsys.config import Config, EncoderConfig, SlicesConfig
from recsys.encoder.dtype import Dtype
from recsys.encoder.head import Head
from recsys.encoder.tower import TextTower
from recsys.encoder.training.batches import impression_ndcg
from recsys.encoder.training.data import TrainingData, read_training_data
from recsys.encoder.training.examples import TextImpressions, make_text_impressions
from recsys.encoder.training.fine_tune_phase import FineTunePhase
from recsys.encoder.training.loop import TrainingLoop
from recsys.encoder.training.schedule import TrainingSchedule
from recsys.encoder.training.trainer import EncoderTrainer
from recsys.encoder.training.upper_layers import TrainableLayers
from recsys.training.time_split import slice_impressions

SLICES = SlicesConfig(encoder=0.50, ranker=0.25, valid=0.10, test=0.15)
VALIDATION_SHARE = 0.1
ONE_LINE = "{title}. {category}. {description}"


@dataclass(frozen=True)
class Start:
    """settings, seed: of the training. data: the impressions that teach, then those that validate the head. valid,
    (n_valid,): measure; valid_user: whose each of those is. layers: of a copy of the frozen `tower`. base: vectors of
    all texts, (n_texts, d). seconds: that the outputs of the lower layers took. head: trained.
    """

    settings: EncoderConfig
    seed: int
    data: TrainingData
    valid: TextImpressions
    valid_user: Int64
    tower: TextTower
    layers: TrainableLayers
    base: Float32
    seconds: float
    head: Head

    @property
    def examples(self) -> Int64:
        """Positions of the examples that teach."""
        return self.data.chunks[0].new

    def with_other_layers(self) -> Start:
        """The same start with layers of its own."""
        layers, _, seconds = _prepare(self.tower, self.data, self.settings)
        return replace(self, layers=layers, seconds=seconds)

    def ndcg(self, head: Head, vectors: Float32) -> Float64:
        """nDCG@10 of each valid impression, (n_valid,), NaN where it tells nothing. vectors: (n_texts, d)."""
        return impression_ndcg(head, torch.from_numpy(vectors).to(self.tower.device), self.valid)


def read_start(folder: Path, config: Config, tower: TextTower, n: int) -> Start:
    """The head phase of a training on `n` impressions of a folder. Raises InputError where it cannot be read."""
    settings = config.encoder.model_copy(update={"template": ONE_LINE, "validation_share": VALIDATION_SHARE})
    config = config.model_copy(update={"encoder": settings})
    log, _ = load_log(folder, read_options(config), impressions_required=True)
    sliced = slice_impressions(log.impressions, SLICES)
    taught = log.impressions.take(_evenly(sliced.encoder, round(n / (1 - VALIDATION_SHARE))))
    data = read_training_data(log, TrainingSchedule(taught), config, tower)
    valid = log.impressions.take(sliced.valid)
    delay, length = round(config.data.event_delay_seconds * 1e6), settings.history_length
    measured = make_text_impressions(log, valid, data.texts, history_length=length, delay=delay)
    layers, base, seconds = _prepare(tower, data, settings)
    torch.manual_seed(config.seed)
    head = Head(base.shape[1], dropout=settings.head_dropout).to(tower.device)
    vectors, generator = torch.from_numpy(base).to(tower.device), np.random.default_rng(config.seed)
    EncoderTrainer(settings, data, head, vectors, generator).fit_head(data.chunks[0])
    user = valid.requests.user.astype(np.int64)
    return Start(settings, config.seed, data, measured, user, tower, layers, base, seconds, head)


def _prepare(tower: TextTower, data: TrainingData, settings: EncoderConfig) -> tuple[TrainableLayers, Float32, float]:
    """The trained layers on the outputs of the lower ones, the vectors of all texts, (n_texts, d), and the seconds."""
    layers = TrainableLayers(tower.copy(), data.tokens, data.lines, settings.fine_tune_layers)
    vectors: list[Float32] = []
    seconds = timed(lambda: vectors.append(layers.prepare()), tower.device)
    return layers, vectors[0], seconds


@dataclass
class Runner:
    """A phase that goes over the examples in `n_steps` steps. dtype: its arithmetic. vectors: those of all texts with
    the present weights. queue: the steps of the present pass. seconds: of each step that is done. gauge: measured
    beside each step; before_pass: what comes beside the steps of a pass, with its `seconds_beside`."""

    start: Start
    phase: FineTunePhase | PlainFineTuning
    head: Head
    n_steps: int
    dtype: Dtype
    vectors: Callable[[], Float32]
    gauge: MatrixGauge | None = None
    before_pass: Callable[[], None] | None = None
    seconds: list[float] = field(default_factory=list)
    seconds_beside: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        settings, generator = self.start.settings, np.random.default_rng(self.start.seed)
        self._loop = TrainingLoop(
            self.phase, [(self.phase.module, settings.fine_tune_learning_rate)], settings, generator
        )
        self.queue = self._draw(0)

    def step(self) -> None:
        """The next step, timed; a new pass is drawn off the clock."""
        n_passes, position = divmod(len(self.seconds), len(self.queue))
        if n_passes and not position:
            self.queue = self._draw(n_passes)
        self.seconds.append(timed(lambda: self._loop.update([self.queue[position]]), self.start.tower.device))
        if self.gauge is not None:
            self.gauge.measure()

    def prepare_pass(self) -> None:
        """What comes beside the steps of a pass, timed."""
        if self.before_pass is not None:
            self.seconds_beside.append(timed(self.before_pass, self.start.tower.device))

    def impressions_per_second(self, warm_up: int) -> float:
        """By the median of the steps after the first `warm_up`, and, for ours, what comes beside the steps: the bank
        once, and the lower layers' outputs as if there were this one pass only."""
        return self.start.data.counts.used / self.pass_seconds(warm_up)

    def pass_seconds(self, warm_up: int) -> float:
        """Seconds of one pass."""
        steps = float(len(self.queue) * np.median(self.seconds[warm_up:]))
        return steps + (self.start.seconds + float(np.median(self.seconds_beside)) if self.before_pass else 0.0)

    def valid_ndcg(self) -> Float64:
        """nDCG@10 of each valid impression with the present weights, (n_valid,)."""
        return self.start.ndcg(self.head, self.vectors())

    def _draw(self, n_passes: int) -> list[Int64]:
        """The steps of a pass over all examples."""
        return self.phase.steps(self.start.examples, np.random.default_rng([self.start.seed, n_passes]))


def ours(start: Start, block_size: int, n_steps: int, gauge: MatrixGauge) -> Runner:
    """Our fine-tuning with blocks of so many texts."""
    data, head, layers = start.data, copy.deepcopy(start.head), start.layers
    settings = start.settings.model_copy(update={"fine_tune_block_size": block_size})
    every_text = np.arange(len(start.base))
    bank = torch.from_numpy(start.base.copy()).to(start.tower.device)
    phase = FineTunePhase(head, layers, bank, every_text, data.examples, data.validation, settings)
    return Runner(
        start,
        phase,
        head,
        n_steps,
        start.tower.computes_in,
        lambda: layers.torch_vectors(every_text),
        gauge,
        before_pass=phase.refresh,
    )


def plain(own: Runner, *, dtype: Dtype, distinct: bool, parts: int = 1) -> Runner:
    """A plain fine-tuning of as many upper layers as ours, whose passes have `parts` times as many steps. Its quality
    is measured in the arithmetic of ours."""
    start = own.start
    data, head, tower = start.data, copy.deepcopy(start.head), start.tower.copy().with_dtype(dtype)
    n_batches = len(own.queue) * parts
    phase = PlainFineTuning(head, tower, data.tokens, data.examples, start.settings, n_batches, distinct)
    measured: Dtype = "bfloat16" if own.dtype.endswith("bfloat16") else "float32"
    return Runner(start, phase, head, own.n_steps, dtype, lambda: tower.with_dtype(measured).encode_tokens(data.tokens))


def race(own: Runner, others: Sequence[Runner]) -> None:
    """All steps of each, in turns; our bank is computed at the beginning and at the end."""
    own.prepare_pass()
    for _ in range(own.n_steps):
        for runner in (own, *others):
            runner.step()
    own.prepare_pass()


def block_size_for(start: Start, n_steps: int) -> int:
    """Texts a block with which a pass of ours has `n_steps` steps."""
    random = np.random.default_rng(start.seed)
    texts = np.unique(start.data.examples.candidates(start.examples, start.settings.negatives, random))
    return max(1, int((texts >= 0).sum() / n_steps))


def _evenly(positions: Int64, n: int) -> Int64:
    """`n` of the positions at even distances; all of them where there are fewer."""
    return positions[np.unique(np.linspace(0, len(positions) - 1, n).round().astype(np.int64))]
