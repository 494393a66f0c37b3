"""The names of the columns of fitted models, which follow those of the features."""

from __future__ import annotations

from functools import lru_cache

from features.definitions.column_names import within_list_names
from recsys.collaborative.column_names import COLLABORATIVE_COLUMNS, TEXT_READING_COLUMNS
from recsys.encoder.scoring import TEXT_COLUMNS

LEXICAL_COLUMN = "lexical_similarity"
LEXICAL_COLUMNS = (LEXICAL_COLUMN, *within_list_names(LEXICAL_COLUMN))
TEXT_SCORE = TEXT_COLUMNS[0]
TEXT_Z_SCORE = within_list_names(TEXT_SCORE)[1]
_TEXT_FAMILY = (*TEXT_COLUMNS, *within_list_names(TEXT_SCORE))

ENCODER_COLUMNS = (*_TEXT_FAMILY, *TEXT_READING_COLUMNS)
"""Columns that no ranker without the encoder reads."""


@lru_cache(maxsize=64)
def model_columns(collaborative: tuple[str, ...], read: tuple[str, ...] | None = None) -> tuple[str, ...]:
    """All of them, in the order of the matrix. collaborative: the names of the collaborative ones.

    read: names that a ranker reads; of text and words all columns are left out, or none, since one model gives them.
    None for all.
    """
    wanted = None if read is None else set(read)
    families = [LEXICAL_COLUMNS, _TEXT_FAMILY, *((name,) for name in collaborative)]
    return tuple(name for family in families if wanted is None or not wanted.isdisjoint(family) for name in family)


RESERVED_COLUMNS = model_columns(COLLABORATIVE_COLUMNS)
"""Names that no feature may have."""
