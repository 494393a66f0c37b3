"""The names of the columns of fitted models, which follow those of the features."""

from __future__ import annotations

from collections.abc import Sequence

from features.definitions.column_names import within_list_names
from recsys.collaborative.column_names import COLLABORATIVE_COLUMNS, TEXT_READING_COLUMNS
from recsys.encoder.scoring import TEXT_COLUMNS

LEXICAL_COLUMN = "lexical_similarity"
LEXICAL_COLUMNS = (LEXICAL_COLUMN, *within_list_names(LEXICAL_COLUMN))
TEXT_SCORE = TEXT_COLUMNS[0]


ENCODER_COLUMNS = (*TEXT_COLUMNS, *within_list_names(TEXT_SCORE), *TEXT_READING_COLUMNS)
"""Columns that no ranker without the encoder reads."""


def model_columns(collaborative: Sequence[str]) -> tuple[str, ...]:
    """All of them, in the order of the matrix. collaborative: the names of the collaborative ones."""
    return (*LEXICAL_COLUMNS, *TEXT_COLUMNS, *within_list_names(TEXT_SCORE), *collaborative)


RESERVED_COLUMNS = model_columns(COLLABORATIVE_COLUMNS)
"""Names that no feature may have."""
