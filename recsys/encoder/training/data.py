"""What the encoder's training reads: the lists that teach it, in rows of distinct texts, by stretches, counted."""

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
from recsys.encoder.text_fields import lines_of
from recsys.encoder.tower import TextTower
from recsys.encoder.training.examples import (
    ListSet,
    Texts,
    TrainingExamples,
    collect_texts,
    make_examples,
    make_lists,
    split_by_time,
)
from recsys.encoder.training.loop import TrainingChunk

logger = logging.getLogger(__name__)

MIN_IMPRESSIONS = 200
"""Fewer impressions with a clicked item to learn from give no head that is worth having."""
MIN_TO_BEGIN = 100
"""Nor do fewer of them in the encoder slice, before anything is scored."""
MIN_SHARE = 0.02
"""Nor does a log of which a smaller share can be learned from: what it teaches is not what is ranked."""

MANY_UNKNOWN = 0.05
"""A larger share of unknown tokens says that the base model does not read the language of the texts."""


@dataclass(frozen=True)
class TrainingCounts:
    """What there was to learn from. impressions: all lists. used: that trained on the encoder slice; validated: its
    newest part; later: of the parts of the ranker slice. skipped: with no clicked item with text beside an unclicked
    one. clicked_without_text: clicked items left out. texts: distinct. texts_truncated: of their distinct lines, those
    cut to the token limit. tokens, tokens_unknown: of these lines, and how many stand for what the base model's
    vocabulary does not have. items_without_text: in the catalog.
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

    def insufficient_data_reason(self) -> str:
        """Why there is too little to train on; "" where there is enough."""
        usable = self.used + self.validated + self.later
        enough = max(MIN_IMPRESSIONS, MIN_SHARE * self.impressions)
        if self.used >= MIN_TO_BEGIN and usable >= enough and self.validated:
            return ""
        return (
            f"{usable} of {self.impressions} impressions have a clicked and an unclicked item with text, {self.used} "
            f"to begin with and {self.validated} to validate; expected at least {MIN_IMPRESSIONS} and {MIN_SHARE:.0%} "
            f"of them, {MIN_TO_BEGIN} to begin with and one to validate"
        )


@dataclass(frozen=True)
class TrainingData:
    """lists, examples: all that teaches, oldest first. stretches: of the examples: the encoder slice without its newest
    part, that part, then the parts of the ranker slice. starts: (n_stretches + 1,) positions of their first lists.
    tokens: of every distinct line of the texts. lines: (n_texts, k) the lines of each text. validation: the lists of
    the second stretch. read: texts that any list or event names, sorted.
    """

    texts: Texts
    tokens: Tokens
    lines: Int64
    lists: ListSet
    examples: TrainingExamples
    stretches: tuple[TrainingChunk, ...]
    starts: Int64
    validation: ListSet
    read: Int64
    counts: TrainingCounts

    def part(self, stretch: int) -> ListSet:
        """The lists of one stretch."""
        return self.lists.part(int(self.starts[stretch]), int(self.starts[stretch + 1]))


def read_material(
    log: Log, shown: Impressions, chunks: Sequence[int], config: Config, tower: TextTower
) -> TrainingData:
    """The lists that teach and every text of the catalog.

    shown: the encoder slice, then what is scored and learnt after it, oldest first. chunks: where each part of the
    latter begins in `shown`, ascending.
    """
    settings = config.encoder
    texts = collect_texts(item_texts(log.catalog, settings.template), shown.requests.query)
    lines = lines_of(texts.distinct, len(Template.parse(settings.template).lines))
    tokens = tower.tokenise(lines.distinct)
    delay = config.data.event_delay
    lists = make_lists(log, shown, texts, history_length=settings.history_length, delay=delay)
    examples = make_examples(lists, settings.click_weights)
    first = chunks[0] if len(chunks) else len(shown)
    held = len(split_by_time(shown.take(np.arange(first)), settings.validation_share)[0])
    starts = np.array([0, held, *chunks, len(shown)], np.int64) if len(chunks) else np.array([0, held, len(shown)])
    edges = np.searchsorted(examples.of_list, starts)
    stretches = tuple(
        TrainingChunk(np.arange(low, high), np.arange(low), settings.replay) for low, high in itertools.pairwise(edges)
    )
    used, validated, *later = [len(np.unique(examples.of_list[stretch.new])) for stretch in stretches]
    counts = TrainingCounts(
        impressions=len(shown),
        used=used,
        validated=validated,
        later=sum(later),
        skipped=len(shown) - used - validated - sum(later),
        clicked_without_text=examples.without_text,
        texts=len(texts.distinct),
        texts_truncated=tokens.truncated,
        tokens=len(tokens.ids),
        tokens_unknown=tokens.unknown,
        items_without_text=int((texts.of_item[:-1] < 0).sum()),
    )
    logger.info(
        "encoder: %s training, %s validation, %s progressive impressions; %s unusable (no clicked and unclicked item "
        "with text); %s distinct texts, %s of their lines truncated",
        *(f"{n:,}" for n in (used, validated, counts.later, counts.skipped, len(texts.distinct), tokens.truncated)),
    )
    if tokens.unknown > MANY_UNKNOWN * len(tokens.ids):
        logger.warning(
            "encoder: %.0f%% of the tokens are unknown to base model %r; name one that reads this language "
            "(encoder.base_model)", 100 * tokens.unknown / len(tokens.ids), settings.base_model,
        )  # fmt: skip
    validation = lists.part(held, int(starts[2]))
    read = _read(log, lists, texts)
    return TrainingData(texts, tokens, lines.of_text, lists, examples, stretches, starts, validation, read, counts)


def _read(log: Log, lists: ListSet, texts: Texts) -> Int64:
    """The texts that any list or event names, sorted."""
    queries = np.zeros(0, np.int64) if lists.query is None else lists.query
    named = np.unique(np.concatenate([lists.candidates, texts.of_item[log.events.item], queries]))
    return named[named >= 0]
