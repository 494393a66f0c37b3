"""Settings of `recsys monitor`."""

from __future__ import annotations

from pydantic import Field

from recsys.settings.section import ConfigSection


class MonitorConfig(ConfigSection):
    """When `recsys monitor` raises an alarm."""

    psi: float = Field(0.25, gt=0)
    """Population stability index of a column that its interval's lower end must exceed for an alarm."""
    ks: float = Field(0.2, gt=0, lt=1)
    """The same of the Kolmogorov-Smirnov statistic, the largest difference of two distribution functions."""
    click_drop: float = Field(0.2, gt=0, lt=1)
    """Share of the click rate seen in the evaluation by which a served version must certainly fall short of it."""
    ndcg_drop: float = Field(0.05, gt=0, lt=1)
    """How far nDCG@10 of a served version must certainly be below that of the evaluation."""
    min_lists: int = Field(200, ge=1)
    """Fewest lists to judge by; with fewer the figures are shown and raise no alarm."""
    min_users: int = Field(100, ge=2)
    """Fewest users of those lists, and fewest items whose texts are judged."""
    max_lists: int = Field(10_000, ge=1)
    """Most lists whose columns are computed; of more, so many at even distances."""
