"""The names of the collaborative columns."""

from __future__ import annotations

CO_CLICK_COLUMNS = ("co_click_mean", "co_click_best", "co_click_last")
FACTOR_COLUMN = "factor_similarity"
AUDIENCE_COLUMN = "audience_similarity"
COLLABORATIVE_COLUMNS = (*CO_CLICK_COLUMNS, FACTOR_COLUMN, AUDIENCE_COLUMN)
"""Names of the columns of `collaborative_matrix`, in order; the last one alone reads text."""
