"""`python -m benchmarks.promotion_gate`: how often the promotion gate errs, over simulated promotions with known truth.

Each promotion is a challenger against a champion on lists of users who differ: some have one list, some many, and a
user's lists are alike. A list has one clicked item; its rank by each version gives nDCG@10, so values are 0, or the
discount of one of ten ranks, as those of a real site with one click a list. Versions rank by scores that agree in part,
so that the paired differences have the spread that was seen between two trainings of one data set.

The comparison and the gate are the real ones, with the defaults of `recsys promote`; audit and costs are given as good.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from benchmarks.report import Result, command
from features.arrays import Float64, Int64
from recsys.config import Config
from recsys.evaluation.comparison import ComparedRun, ComparedRuns, compare
from recsys.evaluation.promotion_gate import Evidence, ServingCost, reasons_against

PROMOTIONS, QUICK = 1_000, 200
CANDIDATES = 30
LISTS = 5_000
GAIN = 0.01
USER_SPREAD = 0.8
"""Of a user's own level of difficulty beside the noise of a list, which is 1."""
TASTE_SPREAD = 0.15
"""Of how much better one version is for a user than the other."""
AT_ONCE = 400_000
"""Lists of the simulation that a shift is calibrated on."""


@dataclass(frozen=True)
class Site:
    """Who is measured. lists: in all. users: that have them. noise: of a version's score of a list that the other does
    not share; it sets the spread of the paired differences."""

    lists: int
    users: int
    noise: float


@dataclass(frozen=True)
class Audit:
    """One that found nothing."""

    passed: bool = True

    def lines(self) -> list[str]:
        """Nothing."""
        return []


TYPICAL = Site(LISTS, 2_500, 0.35)
SITES = {
    "": TYPICAL,
    " few users": Site(LISTS, 100, 0.35),
    " fewest lists and users": Site(500, 50, 0.35),
    " versions that differ more": Site(LISTS, 2_500, 0.8),
}


def measure(quick: bool) -> list[Result]:
    """False promotions of versions that are no better, and gains of .01 nDCG@10 that are found."""
    n = QUICK if quick else PROMOTIONS
    results = []
    for name, site in SITES.items():
        gains = (0.0, GAIN) if site.lists >= LISTS else (0.0,)
        results += [_promotions(f"gain of {gain:g},{name or ' typical'}", site, gain, n) for gain in gains]
    results.append(_promotions(f"loss of {GAIN:g}, typical", TYPICAL, -GAIN, n))
    return results


def _promotions(name: str, site: Site, gain: float, n: int) -> Result:
    """Share of n promotions that the gate lets through, beside what it should be at most or at least."""
    shift = _shift(site, gain)
    promoted, spread = [], []
    for number in range(n):
        champion, challenger, user = _simulate(site, shift, np.random.default_rng([1, number]))
        promoted.append(_gate(champion, challenger, user, number))
        spread.append(float(np.std(challenger - champion)))
    share = float(np.mean(promoted))
    half = 1.96 * float(np.sqrt(max(share * (1 - share), 1 / n) / n))
    limit = 0.8 if gain > 0 else 0.05
    unit = f"promoted of {n:,}; {site.lists:,} lists, {site.users:,} users, sd of differences {np.mean(spread):.3f}"
    return Result(name, share, unit, limit, share / limit, max(0.0, share - half), min(1.0, share + half))


def _gate(champion: Float64, challenger: Float64, user: Int64, seed: int) -> bool:
    """Whether the real gate promotes the challenger."""
    config = Config()
    a, b = (
        ComparedRuns((ComparedRun(name, _frame(values, user)),))
        for name, values in (("challenger", challenger), ("champion", champion))
    )
    evidence = Evidence(
        challenger="challenger",
        champion="champion",
        learnt_until="",
        n_lists=len(user),
        n_users=len(np.unique(user)),
        comparison=compare(a, b, resamples=config.evaluation.resamples, seed=seed),
        costs={"challenger": ServingCost(1.0, 1.0, 100)},
        audit=Audit(),
    )
    return not reasons_against(evidence, config.promotion)


def _frame(ndcg: Float64, user: Int64) -> pd.DataFrame:
    """The metrics of every list, as an evaluation records them."""
    n = len(ndcg)
    return pd.DataFrame(
        {
            "impression_id": np.arange(n).astype(str),
            "user_id": user.astype(str),
            "time": pd.to_datetime(np.arange(n), unit="s", utc=True),
            "candidates": CANDIDATES,
            "clicked": 1,
            "ranker_ndcg_at_10": ndcg,
        }
    )


def _simulate(site: Site, shift: float, random: np.random.Generator) -> tuple[Float64, Float64, Int64]:
    """nDCG@10 of champion and challenger, and the user of each list, (n,) each. shift: of the challenger's scores."""
    weight = random.gamma(1.0, size=site.users)
    more = random.choice(site.users, size=site.lists - site.users, p=weight / weight.sum())
    user = np.concatenate([np.arange(site.users), more])
    level = random.normal(scale=USER_SPREAD, size=site.users)[user] + random.normal(size=site.lists)
    taste = random.normal(scale=TASTE_SPREAD, size=site.users)[user]
    others = random.normal(size=(site.lists, CANDIDATES - 1))
    values = []
    for sign in (-1, 1):
        own = random.normal(scale=site.noise, size=site.lists)
        clicked = level + own + sign * taste / 2 + (shift if sign > 0 else 0.0) + 1.0
        noise = random.normal(scale=site.noise, size=others.shape)
        rank = 1 + (others + noise > clicked[:, None]).sum(axis=1)
        values.append(np.where(rank <= 10, 1 / np.log2(1 + rank), 0.0))
    return values[0], values[1], user


def _shift(site: Site, gain: float) -> float:
    """The shift of the challenger's scores that raises its nDCG@10 by `gain` on average."""
    if gain == 0:
        return 0.0
    many = Site(AT_ONCE, AT_ONCE // 2, site.noise)
    low, high = -0.3, 0.3
    for _ in range(14):
        middle = (low + high) / 2
        champion, challenger, _user = _simulate(many, middle, np.random.default_rng(0))
        low, high = (middle, high) if challenger.mean() - champion.mean() < gain else (low, middle)
    return (low + high) / 2


if __name__ == "__main__":
    command(measure)
