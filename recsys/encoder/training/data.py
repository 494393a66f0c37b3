"""The data of the encoder's training: impressions in rows of distinct texts, by chunks of the log, and their counts."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from features.arrays import Int64
from features.log import Impressions, Log
from recsys.config import Config
from recsys.encoder.text import Template, Tokens, item_texts
from recsys.encoder.text_fields import split_fields
from recsys.encoder.tower import TextTower
from recsys.encoder.training.examples import (
    TextImpressions,
    Texts,
    TrainingExamples,
    collect_texts,
    make_examples,
    make_text_impressions,
    split_by_time,
)
from recsys.encoder.training.loop import TrainingChunk
from recsys.encoder.training.schedule import TrainingSchedule

logger = logging.getLogger(__name__)

MIN_TO_BEGIN = 100
"""Fewer impressions in the encoder slice, before anything is scored, train no useful head."""
MIN_SHARE = 0.02
"""Nor does a log of which a smaller share is usable: the usable impressions differ from those that are ranked."""

MANY_UNKNOWN = 0.05
"""With a larger share of unknown tokens the base model does not read the language of the texts."""


@dataclass(frozen=True)
class TrainingCounts:
    """Counts of the training data. impressions: all. used: that train on the encoder slice; validated: its newest part;
    later: in the chunks of the ranker slice. skipped: without a clicked and an unclicked item with text.
    clicked_without_text: clicked items left out. texts: distinct. texts_truncated: of their distinct lines, those cut
    to the token limit. tokens, tokens_unknown: of these lines, and how many are not in the base model's vocabulary.
    items_without_text: in the catalog.
    """

    impressions: int
    used: int
    validated: int
    later: int
    skipped: int
    clicked_without_text: int
    texts: int
    texts_truncated: int
    tokens: int
    tokens_unknown: int
    items_without_text: int

    @property
    def reads_text(self) -> bool:
        """Whether the base model knows most of the words; where it does not, it seems not to read the language."""
        return self.tokens_unknown <= MANY_UNKNOWN * self.tokens

    def summary(self) -> str:
        """The counts that matter most, in one line."""
        return (
            f"encoder: {self.used:,} training, {self.validated:,} validation, {self.later:,} progressive impressions; "
            f"{self.skipped:,} unusable (no clicked and unclicked item with text); {self.texts:,} distinct texts, "
            f"{self.texts_truncated:,} of their lines truncated"
        )

    def insufficient_data_reason(self, least: int) -> str:
        """Why there is too little to train on; "" where there is enough. least: impressions that are needed."""
        usable = self.used + self.validated + self.later
        enough = max(least, MIN_SHARE * self.impressions)
        if self.used >= MIN_TO_BEGIN and usable >= enough and self.validated:
            return ""
        return (
            f"{usable} of {self.impressions} impressions have a clicked and an unclicked item with text, {self.used} "
            f"to begin with and {self.validated} to validate; expected at least {least} and {MIN_SHARE:.0%} "
            f"of them, {MIN_TO_BEGIN} to begin with and one to validate"
        )


@dataclass(frozen=True)
class TrainingData:
    """impressions, examples: for training, oldest first. chunks: of the examples: the encoder slice without its
    newest part, that part, then the chunks of the ranker slice. starts: (n_chunks + 1,) positions of their first
    impressions. tokens: of every distinct line of the texts. lines: (n_texts, k) the lines of each text. used_texts:
    those that any impression or event names, sorted.
    """

    texts: Texts
    tokens: Tokens
    lines: Int64
    impressions: TextImpressions
    examples: TrainingExamples
    chunks: tuple[TrainingChunk, ...]
    starts: Int64
    used_texts: Int64
    counts: TrainingCounts

    @property
    def validation(self) -> TextImpressions:
        """The impressions that validate: the newest part of the encoder slice."""
        return self.impressions_of(1)

    def impressions_of(self, chunk: int) -> TextImpressions:
        """The impressions of one chunk."""
        return self.impressions.part(int(self.starts[chunk]), int(self.starts[chunk + 1]))


def read_training_data(log: Log, schedule: TrainingSchedule, config: Config, tower: TextTower) -> TrainingData:
    """The training impressions and every text of the catalog."""
    settings, scheduled = config.encoder, schedule.impressions
    texts = collect_texts(item_texts(log.catalog, settings.template), scheduled.requests.query)
    lines = split_fields(texts.distinct, len(Template.parse(settings.template).lines))
    tokens = tower.tokenise(lines.distinct)
    length, delay, horizon = settings.history_length, config.data.event_delay, config.data.horizon
    impressions = make_text_impressions(log, scheduled, texts, history_length=length, delay=delay, horizon=horizon)
    examples = make_examples(impressions, settings.click_weights)
    starts = _chunk_starts(schedule, settings.validation_share)
    bounds = np.searchsorted(examples.impression, starts)
    chunks = tuple(
        TrainingChunk(np.arange(low, high), np.arange(low), settings.rehearsal_ratio)
        for low, high in itertools.pairwise(bounds)
    )
    counts = _count(scheduled, texts, tokens, examples, chunks)
    logger.info("%s", counts.summary())
    if tokens.unknown > MANY_UNKNOWN * len(tokens.ids):
        share, model = 100 * tokens.unknown / len(tokens.ids), settings.base_model
        advice = "name one that reads this language (encoder.base_model)"
        logger.warning("encoder: %.0f%% of the tokens are unknown to base model %r; %s", share, model, advice)
    used = _used_texts(log, impressions, texts)
    return TrainingData(texts, tokens, lines.of_text, impressions, examples, chunks, starts, used, counts)


def _chunk_starts(schedule: TrainingSchedule, validation_share: float) -> Int64:
    """Positions of the first impression of every chunk, and the end of the last."""
    ends = (*schedule.chunks, len(schedule.impressions))
    encoder_slice = schedule.impressions.take(np.arange(ends[0]))
    return np.array([0, len(split_by_time(encoder_slice, validation_share)[0]), *ends], np.int64)


def _count(
    impressions: Impressions, texts: Texts, tokens: Tokens, examples: TrainingExamples, chunks: Sequence[TrainingChunk]
) -> TrainingCounts:
    used, validated, *later = [len(np.unique(examples.impression[chunk.new])) for chunk in chunks]
    return TrainingCounts(
        impressions=len(impressions),
        used=used,
        validated=validated,
        later=sum(later),
        skipped=len(impressions) - used - validated - sum(later),
        clicked_without_text=examples.without_text,
        texts=len(texts.distinct),
        texts_truncated=tokens.truncated,
        tokens=len(tokens.ids),
        tokens_unknown=tokens.unknown,
        items_without_text=int((texts.of_item[:-1] < 0).sum()),
    )


def _used_texts(log: Log, impressions: TextImpressions, texts: Texts) -> Int64:
    """The texts that any impression or event names, sorted."""
    queries = np.zeros(0, np.int64) if impressions.query is None else impressions.query
    named = np.unique(np.concatenate([impressions.candidates, texts.of_item[log.events.item], queries]))
    return named[named >= 0]
