"""The names of the columns behind the features': those that read something that was fitted."""

from __future__ import annotations

from features.matrix.columns import place_names
from recsys.encoder.scoring import TEXT_COLUMNS

LEXICAL_COLUMN = "lexical_similarity"
LEXICAL_COLUMNS = (LEXICAL_COLUMN, *place_names(LEXICAL_COLUMN))
TEXT_SCORE = TEXT_COLUMNS[0]

CO_CLICK_COLUMNS = ("co_click_mean", "co_click_best", "co_click_last")
FACTOR_COLUMN = "factor_similarity"
AUDIENCE_COLUMN = "audience_similarity"
COLLABORATIVE_COLUMNS = (*CO_CLICK_COLUMNS, FACTOR_COLUMN, AUDIENCE_COLUMN)
"""Names of the columns of `collaborative_matrix`, in order; the last one alone reads text."""

ENCODER_COLUMNS = (*TEXT_COLUMNS, *place_names(TEXT_SCORE), AUDIENCE_COLUMN)
"""Columns that no ranker without the encoder reads."""


def fitted_columns(*, collaborative: bool) -> tuple[str, ...]:
    """All of them, in the order of the matrix. collaborative: with the collaborative ones."""
    text = (*LEXICAL_COLUMNS, *TEXT_COLUMNS, *place_names(TEXT_SCORE))
    return (*text, *COLLABORATIVE_COLUMNS) if collaborative else text
