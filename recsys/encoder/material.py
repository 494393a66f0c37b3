"""What the encoder's training reads: the encoder slice in rows of distinct texts, its newest part held out, counted."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np

from features.log import Impressions, Log
from recsys.config import Config
from recsys.encoder.dataset import Examples, ListSet, Texts, collect_texts, make_examples, make_lists, split_by_time
from recsys.encoder.text import Tokens, item_texts
from recsys.encoder.tower import Tower

logger = logging.getLogger(__name__)

MIN_IMPRESSIONS = 200
"""Fewer impressions with a clicked item to learn from give no head that is worth having."""
MIN_SHARE = 0.02
"""Nor does a log of which a smaller share can be learned from: what it teaches is not what is ranked."""

MANY_UNKNOWN = 0.05
"""A larger share of unknown tokens says that the base model does not read the language of the texts."""


@dataclass(frozen=True)
class TrainingCounts:
    """What the encoder slice held. impressions: in the slice. used: that trained; validated: that validated.

    skipped: with no clicked item with text beside an unclicked one. clicked_without_text: clicked items left out.
    texts: distinct. texts_truncated: cut to the token limit. tokens, tokens_unknown: of these texts, and how many stand
    for what the base model's vocabulary does not have. items_without_text: in the catalog.
    """

    impressions: int
    used: int
    validated: int
    skipped: int
    clicked_without_text: int
    texts: int
    texts_truncated: int
    tokens: int
    tokens_unknown: int
    items_without_text: int

    def too_few(self) -> str:
        """Why there is too little to train on; "" where there is enough."""
        usable = self.used + self.validated
        if self.used >= MIN_IMPRESSIONS and usable >= MIN_SHARE * self.impressions and self.validated:
            return ""
        return (
            f"{self.used} of {self.impressions} impressions have a clicked and an unclicked item with text, and "
            f"{self.validated} newer ones to validate; expected at least {MIN_IMPRESSIONS} and {MIN_SHARE:.0%} of "
            "them, and one to validate"
        )


@dataclass(frozen=True)
class Material:
    """examples: of the older impressions. validation: the newest ones, which train nothing."""

    texts: Texts
    tokens: Tokens
    examples: Examples
    validation: ListSet
    counts: TrainingCounts


def read_material(log: Log, impressions: Impressions, config: Config, tower: Tower) -> Material:
    """The impressions of the encoder slice as examples and validation lists, and every text of the catalog."""
    settings = config.encoder
    texts = collect_texts(item_texts(log.catalog, settings.template), impressions.requests.query)
    tokens = tower.tokenise(texts.distinct)
    delay = round(config.data.event_delay_seconds * 1e6)
    lists = [
        make_lists(log, impressions.take(part), texts, history_length=settings.history_length, delay=delay)
        for part in split_by_time(impressions, settings.validation_share)
    ]
    examples, held = make_examples(lists[0]), make_examples(lists[1])
    used, validated = len(np.unique(examples.of_list)), len(np.unique(held.of_list))
    counts = TrainingCounts(
        impressions=len(impressions),
        used=used,
        validated=validated,
        skipped=len(impressions) - used - validated,
        clicked_without_text=examples.without_text + held.without_text,
        texts=len(tokens),
        texts_truncated=tokens.truncated,
        tokens=len(tokens.ids),
        tokens_unknown=tokens.unknown,
        items_without_text=int((texts.of_item[:-1] < 0).sum()),
    )
    logger.info(
        "encoder: %d impressions train, %d validate, %d skipped; %d distinct texts, %d of them truncated",
        used, validated, counts.skipped, len(tokens), tokens.truncated,
    )  # fmt: skip
    if tokens.unknown > MANY_UNKNOWN * len(tokens.ids):
        logger.warning(
            "encoder: %.0f%% of the tokens are unknown to base model %r; name one that reads this language "
            "(encoder.base_model)", 100 * tokens.unknown / len(tokens.ids), settings.base_model,
        )  # fmt: skip
    return Material(texts, tokens, examples, lists[1], counts)
