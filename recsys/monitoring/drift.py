"""How far a column's distribution has moved: PSI and the Kolmogorov-Smirnov statistic, with intervals over users.

PSI, the population stability index, is the sum over bins of (q - p) log(q / p), with p and q the shares of a bin then
and now. With few users neighbouring bins are merged first, since a handful of users can fill a bin.
KS is the largest difference of the two distribution functions, taken at the edges of the bins; where a bin
holds one value it is that of `scipy.stats.ks_2samp`. Both are above zero for two samples of one distribution, the more
the fewer users there are. The bootstrap shows by how much, and that is taken off (Efron and Tibshirani, An introduction
to the bootstrap, 1993, section 10.3), so that noise alone raises no alarm.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from features.arrays import Float64
from recsys.metrics.bootstrap import LEVEL, Interval
from recsys.metrics.jsonable import jsonable
from recsys.monitoring.histogram import BINS, Histogram
from recsys.settings.monitor import MonitorConfig

USERS_OF_BIN, FEWEST_BINS = 10, 4
"""PSI has as many bins as there are tens of users, from 4 to `BINS`."""

FLOOR = 1e-4
"""Added to the share of every bin, so that an empty one has a logarithm."""


@dataclass(frozen=True)
class ColumnDrift:
    """A column then and now. kind: feature, score, text or catalogue. ks: None for a column of names. before, after:
    its middle or most frequent label. unjudged: why it raises no alarm however far it moves, "" for none."""

    name: str
    kind: str
    psi: Interval
    ks: Interval | None
    before: str
    after: str
    unjudged: str = ""

    def alarm(self, settings: MonitorConfig) -> str:
        """What is wrong, "" for nothing: the lower end of an interval is above its threshold."""
        if self.unjudged:
            return ""
        measured = (("PSI", self.psi, settings.psi), ("KS", self.ks, settings.ks))
        found = [
            f"{name} {value.mean:.2f} [{value.low:.2f}, {value.high:.2f}] above {limit:g}"
            for name, value, limit in measured
            if value is not None and value.low > limit
        ]
        return f"{self.kind} {self.name}: {' and '.join(found)} ({self.before} to {self.after})" if found else ""

    def as_dict(self, settings: MonitorConfig) -> dict[str, Any]:
        """For JSON."""
        return {
            "column": self.name,
            "kind": self.kind,
            "psi": jsonable(self.psi),
            "ks": jsonable(self.ks),
            "before": self.before,
            "after": self.after,
            "unjudged": self.unjudged or None,
            "alarm": bool(self.alarm(settings)),
        }


def column_drifts(
    kind: str,
    before: Mapping[str, Histogram],
    after: Mapping[str, Histogram],
    *,
    n_users: int,
    unjudged: Mapping[str, str],
    resamples: int,
    seed: int,
) -> list[ColumnDrift]:
    """The drift of every column that both have. unjudged: as in `ColumnDrift`, by column; the rest as below."""
    return [
        ColumnDrift(
            name,
            kind,
            *measure_drift(before[name], after[name], n_users=n_users, resamples=resamples, seed=seed),
            before[name].describe(),
            after[name].describe(),
            unjudged.get(name, ""),
        )
        for name in before
        if name in after
    ]


def measure_drift(
    before: Histogram, after: Histogram, *, n_users: int, resamples: int, seed: int
) -> tuple[Interval, Interval | None]:
    """PSI and KS of two histograms with the same bins, each with its interval; KS is None for names.

    n_users: of the side with fewer; of texts, items. Ends are NaN where one side has a single group of users.
    """
    random = np.random.default_rng(seed)
    sides = (before.array, after.array)
    whole = [side.sum(axis=0)[None, :] for side in sides]
    drawn = [_resampled(side, resamples, random) for side in sides]
    one_group = min(len(side) for side in sides) < 2
    merge = np.eye(len(before.shares)) if before.labels else _merging(before, n_users)
    coarse = [[counts @ merge for counts in sides] for sides in (whole, drawn)]
    psi = _interval(_psi(*coarse[0])[0], _psi(*coarse[1]), unknown=one_group)
    if before.labels:
        return psi, None
    return psi, _interval(_ks(*whole)[0], _ks(*drawn), unknown=one_group)


def largest_first(drifts: Iterable[ColumnDrift]) -> list[ColumnDrift]:
    """By PSI."""
    return sorted(drifts, key=lambda drift: (-drift.psi.mean, drift.name))


def _resampled(counts: Float64, resamples: int, random: np.random.Generator) -> Float64:
    """Counts by bin of each resample of groups, (resamples, bins)."""
    n = len(counts)
    return np.asarray(random.multinomial(n, np.full(n, 1 / n), size=resamples) @ counts)


def _merging(before: Histogram, n_users: int) -> Float64:
    """Which bins are counted together, (bins, fewer): each has an equal share, about, of what was; missing values stay
    by themselves."""
    shares = before.shares[:-1]
    most = int(np.clip(n_users // USERS_OF_BIN, FEWEST_BINS, BINS))
    middle = np.cumsum(shares) - shares / 2
    label = np.minimum((middle / max(shares.sum(), FLOOR) * most).astype(np.int64), most - 1)
    merge: Float64 = np.eye(most + 1)[np.append(label, most)]
    return merge


def _shares(counts: Float64) -> Float64:
    return np.asarray(counts / counts.sum(axis=1, keepdims=True))


def _psi(before: Float64, after: Float64) -> Float64:
    """(n,) of counts by bin, (n, bins) each."""
    n_bins = before.shape[1]
    p, q = ((_shares(counts) + FLOOR) / (1 + n_bins * FLOOR) for counts in (before, after))
    return np.asarray(((q - p) * np.log(q / p)).sum(axis=1))


def _ks(before: Float64, after: Float64) -> Float64:
    """(n,) of counts by bin, (n, bins) each. Missing values, the last bin, count as larger than all others."""
    difference = np.cumsum(_shares(before), axis=1) - np.cumsum(_shares(after), axis=1)
    return np.asarray(np.abs(difference).max(axis=1))


def _interval(value: float, drawn: Float64, *, unknown: bool) -> Interval:
    """The value and its interval without the bias that the bootstrap shows, none below 0."""
    if unknown:
        return Interval(float(value), np.nan, np.nan)
    bias = float(drawn.mean() - value)
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail]) - 2 * bias
    return Interval(*(max(0.0, float(end)) for end in (value - bias, low, high)))
