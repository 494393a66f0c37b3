"""The names of the collaborative columns."""

from __future__ import annotations

CO_CLICK_COLUMNS = ("co_click_mean", "co_click_best", "co_click_last")
FACTOR_COLUMN = "factor_similarity"
SEQUENCE_COLUMN = "sequence_similarity"
AUDIENCE_COLUMN = "audience_similarity"
ALIGNED_COLUMN = "aligned_similarity"
COLLABORATIVE_COLUMNS = (*CO_CLICK_COLUMNS, FACTOR_COLUMN, SEQUENCE_COLUMN, AUDIENCE_COLUMN, ALIGNED_COLUMN)
"""All of them, in the order of the matrix; a ranker has those that its `TableSettings.columns` names."""
TEXT_READING_COLUMNS = (AUDIENCE_COLUMN, ALIGNED_COLUMN)
"""Those that read text vectors."""
