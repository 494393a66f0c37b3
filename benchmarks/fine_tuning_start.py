"""Where every fine-tuning of `benchmarks.encoder` starts: lists of the log's oldest half, and one head trained on them.

The lists that teach are drawn evenly from the older 90% of the encoder slice, fewer ones from its newest 10% choose the
epoch of the head. Those of the valid slice measure; test is not touched.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from features.arrays import Float32, Int64
from features.log import Log
from features.tables.load import load_log
from pipelines.data_options import read_options
from recsys.config import Config, EncoderConfig, SlicesConfig
from recsys.encoder.head import Head
from recsys.encoder.text import Tokens, item_texts
from recsys.encoder.tower import TextTower
from recsys.encoder.training.examples import ListSet, Texts, TrainingExamples, collect_texts, make_examples, make_lists
from recsys.encoder.training.fine_tune_phase import FineTunePhase
from recsys.encoder.training.head_phase import HeadPhase
from recsys.encoder.training.loop import Schedule, TrainingChunk, TrainingLoop, parameter_groups
from recsys.encoder.training.train import base_encoder
from recsys.encoder.training.upper_layers import TrainableLayers
from recsys.training.time_split import slice_impressions

SLICES = SlicesConfig(encoder=0.50, ranker=0.25, valid=0.10, test=0.15)
_NEWEST = 0.1
ONE_LINE = "{title}. {category}. {description}"


@dataclass(frozen=True)
class Lists:
    """texts: the distinct ones of the catalogue, one line each. tokens: theirs. examples: teach. choosing:
    choose the head's epoch. valid: measure. valid_user: (n_valid,) whose list each of those is."""

    texts: Texts
    tokens: Tokens
    examples: TrainingExamples
    choosing: ListSet
    valid: ListSet
    valid_user: Int64

    @property
    def lines(self) -> Int64:
        """The line of each text, (n_texts, 1)."""
        return np.arange(len(self.tokens))[:, None]


@dataclass(frozen=True)
class Start:
    """settings: of the encoder. tower: the frozen base model. base: its vectors, (n_texts, d). head: trained."""

    settings: EncoderConfig
    seed: int
    lists: Lists
    tower: TextTower
    base: Float32
    head: Head

    def new_head(self) -> Head:
        """A head of its own, as the head phase left it."""
        return copy.deepcopy(self.head)


def read_lists(data: Path, config: Config, tower: TextTower, n_lists: int) -> Lists:
    """The lists of a data directory, `n_lists` of them to teach. Raises InputError where it cannot be read."""
    log, _ = load_log(data, read_options(config), impressions_required=True)
    sliced = slice_impressions(log.impressions, SLICES)
    texts = collect_texts(item_texts(log.catalog, ONE_LINE), log.impressions.requests.query)
    cut = round(len(sliced.encoder) * (1 - _NEWEST))
    return Lists(
        texts,
        tower.tokenise(texts.distinct),
        make_examples(_lists(log, texts, config, _evenly(sliced.encoder[:cut], n_lists))),
        _lists(log, texts, config, _evenly(sliced.encoder[cut:], max(1, round(n_lists * _NEWEST)))),
        _lists(log, texts, config, sliced.valid),
        log.impressions.requests.user[sliced.valid].astype(np.int64),
    )


def start(lists: Lists, config: Config, tower: TextTower, base: Float32) -> Start:
    """The head phase of a training, on these lists. base: (n_texts, d), vectors of the frozen tower."""
    settings = config.encoder
    torch.manual_seed(config.seed)
    head = Head(base.shape[1], dropout=settings.head_dropout).to(tower.device)
    phase = HeadPhase(
        head,
        torch.from_numpy(base).to(tower.device),
        lists.examples,
        lists.choosing,
        batch_size=settings.head_batch_size,
        negatives=settings.negatives,
        loss=settings.loss,
    )
    groups = parameter_groups([(head, settings.head_learning_rate)], settings.weight_decay)
    schedule = Schedule(
        settings.warmup_updates, settings.gradient_clip, settings.average, settings.accumulate, settings.patience
    )
    everything = np.arange(len(lists.examples))
    fitting = TrainingLoop(phase, groups, schedule, np.random.default_rng(config.seed))
    fitting.fit(TrainingChunk(everything, everything[:0], 0.0), settings.head_epochs)
    return Start(settings, config.seed, lists, tower, base, head)


def our_phase(began: Start, head: Head, upper: TrainableLayers, block_size: int) -> FineTunePhase:
    """Our fine-tuning, ready for its first step."""
    return FineTunePhase(
        head,
        upper,
        torch.from_numpy(began.base.copy()).to(head.recency.device),
        np.arange(len(began.base)),
        began.lists.examples,
        began.lists.choosing,
        block_size=block_size,
        negatives=began.settings.negatives,
        loss=began.settings.loss,
    )


def base_tower(config: Config) -> TextTower:
    """The frozen base model, on the GPU where there is one."""
    return base_encoder(config.encoder).tower


def _lists(log: Log, texts: Texts, config: Config, chosen: Int64) -> ListSet:
    delay = config.data.event_delay
    length = config.encoder.history_length
    return make_lists(log, log.impressions.take(chosen), texts, history_length=length, delay=delay)


def _evenly(positions: Int64, n: int) -> Int64:
    """`n` of the positions at even distances; all of them where there are fewer."""
    return positions[np.unique(np.linspace(0, len(positions) - 1, n).round().astype(np.int64))]
