"""Which columns of the items and users tables become features beside the built-in ones, and how."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class FeatureSettings(BaseModel):
    """The feature settings of a training; the configuration and a registered version both hold this one value.

    Where a model embeds it, a subclass with more settings is narrowed to these.
    """

    model_config = ConfigDict(frozen=True, revalidate_instances="subclass-instances")

    numbers: tuple[str, ...] = ()
    """Numeric item columns, known when the item is published."""
    vectors: tuple[str, ...] = ()
    """Item columns of fixed-size vectors, compared with the history's mean."""
    smoothing: float = Field(20.0, gt=0)
    """Impressions that the catalogue's rate counts for in a smoothed rate."""
    known_at: dict[str, Literal["publication", "request", "afterwards"]] = {}
    """Numeric item and user columns to when their values are known; `recsys audit` tests those without an entry."""
    allow_known_after: tuple[str, ...] = ()
    """Columns or features that may be known only afterwards; the audit reports their gain apart."""
