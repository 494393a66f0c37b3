"""How collaborative tables are made of clicks: the part of the configuration that versions record too."""

from __future__ import annotations

from pydantic import BaseModel, Field


class CollaborativeSettings(BaseModel, frozen=True):
    """Sizes and weights of the tables."""

    user_items: int = Field(200, ge=2)
    """Most recent distinct clicked items of a user that a table reads."""
    neighbours: int = Field(200, ge=1)
    """Most similar items that are kept of each item."""
    shrinkage: float = Field(1.0, ge=0)
    """Added to the denominator of a co-click similarity: how much a few common users are distrusted."""
    factors: int = Field(48, ge=1)
    """Width of the truncated SVD of the clicks."""
    sequence_window: int = Field(10, ge=0, le=1000)
    """Clicked items of a user between two of them that count as near, plus one; 0 leaves `sequence_similarity` out."""
    alignment_clicks: float = Field(10.0, ge=0)
    """Clicks at which an item's own factors count as much as those predicted from its text; 0 leaves
    `aligned_similarity` out."""
