"""The names of the columns of fitted models, which follow those of the features."""

from __future__ import annotations

from collections.abc import Collection

from features.definitions.column_names import within_list_names
from recsys.collaborative.column_names import AUDIENCE_COLUMN, COLLABORATIVE_COLUMNS
from recsys.encoder.scoring import TEXT_COLUMNS

LEXICAL_COLUMN = "lexical_similarity"
LEXICAL_COLUMNS = (LEXICAL_COLUMN, *within_list_names(LEXICAL_COLUMN))
TEXT_SCORE = TEXT_COLUMNS[0]
TEXT_Z_SCORE = within_list_names(TEXT_SCORE)[1]
_TEXT_FAMILY = (*TEXT_COLUMNS, *within_list_names(TEXT_SCORE))
_CLICK_FAMILY = tuple(name for name in COLLABORATIVE_COLUMNS if name != AUDIENCE_COLUMN)

ENCODER_COLUMNS = (*_TEXT_FAMILY, AUDIENCE_COLUMN)
"""Columns that no ranker without the encoder reads."""


def model_columns(*, collaborative: bool, read: Collection[str] | None = None) -> tuple[str, ...]:
    """All of them, in the order of the matrix. collaborative: with the collaborative ones.

    read: names that a ranker reads; a fitted model of which it reads nothing is left out. None for all.
    """
    families = [LEXICAL_COLUMNS, _TEXT_FAMILY, *((_CLICK_FAMILY, (AUDIENCE_COLUMN,)) if collaborative else ())]
    return tuple(name for family in families if read is None or not set(read).isdisjoint(family) for name in family)
