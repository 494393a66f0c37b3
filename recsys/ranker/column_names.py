"""The names of the columns of fitted models, which follow those of the features."""

from __future__ import annotations

from features.definitions.column_names import within_list_names
from recsys.collaborative.column_names import AUDIENCE_COLUMN, COLLABORATIVE_COLUMNS
from recsys.encoder.scoring import TEXT_COLUMNS

LEXICAL_COLUMN = "lexical_similarity"
LEXICAL_COLUMNS = (LEXICAL_COLUMN, *within_list_names(LEXICAL_COLUMN))
TEXT_SCORE = TEXT_COLUMNS[0]


ENCODER_COLUMNS = (*TEXT_COLUMNS, *within_list_names(TEXT_SCORE), AUDIENCE_COLUMN)
"""Columns that no ranker without the encoder reads."""


def model_columns(*, collaborative: bool) -> tuple[str, ...]:
    """All of them, in the order of the matrix. collaborative: with the collaborative ones."""
    text = (*LEXICAL_COLUMNS, *TEXT_COLUMNS, *within_list_names(TEXT_SCORE))
    return (*text, *COLLABORATIVE_COLUMNS) if collaborative else text
