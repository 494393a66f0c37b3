"""`python -m benchmarks.small_sets [DIR …]`: on few impressions, is what a training registers worse than its parts?

A small set is made of a data directory: users drawn at random, their first N impressions to train and validate, the
next ones, at most 3,000, to test. Each is trained with default settings, as `recsys train` does, and what it registers
is compared with every other method on the test impressions. Works in a temporary folder.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import pandas as pd
from scipy.stats import norm

from benchmarks.report import Result, report
from features.arrays import Float64
from features.tables.mind import import_mind
from pipelines.process import one_blas_thread
from pipelines.train import train
from recsys.config import load_config
from recsys.metrics.bootstrap import Interval, mean_interval
from recsys.training.model_choice import RANKER
from recsys.training.stages import REGISTERED

SIZES, DRAWS, TESTED = (200, 500, 2000), range(5, 10), 3000
"""Draws 0 to 4 chose the rule for small data, so that others measure it."""
MOST_USERS = 0.8
"""Share of a set's users that a draw has at most, so that draws of a small set differ."""
VALID = 0.15
"""Share of the first N impressions that validates, as by default."""
NOT_COMPARED = frozenset(("random", REGISTERED))


@dataclass(frozen=True)
class SmallSet:
    """What a training on a small set registered, and nDCG@10 of each test impression by method."""

    data: str
    size: int
    draw: int
    registered: str
    ndcg: dict[str, Float64]
    users: np.ndarray

    def loss(self, method: str) -> Float64:
        """nDCG@10 of what was registered less that of a method, (n,)."""
        return self.ndcg[self.registered] - self.ndcg[method]

    @property
    def others(self) -> list[str]:
        """The methods that it is compared with."""
        return [method for method in self.ndcg if method != self.registered]

    def best_part(self) -> str:
        """The method that is best on the test impressions, which what is registered cannot know."""
        return max(self.others, key=lambda method: float(self.ndcg[method].mean()))


@click.command(help=__doc__)
@click.option("--quick", is_flag=True, help="One draw of 200 impressions.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Also write the results to this file.")
@click.argument("folders", metavar="DIR…", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
def main(quick: bool, json_path: Path | None, folders: tuple[Path, ...]) -> None:
    """Run the benchmark."""
    one_blas_thread()
    sizes, draws = ((200,), DRAWS[:1]) if quick else (SIZES, DRAWS)
    report(lambda: measure(folders, sizes, draws), json_path)


def measure(folders: tuple[Path, ...], sizes: tuple[int, ...], draws: range) -> list[Result]:
    """Train on every small set and compare what is registered with its parts."""
    sets: list[SmallSet] = []
    with tempfile.TemporaryDirectory() as home:
        for folder in folders:
            source = native_tables(folder.resolve(), Path(home))
            for size in sizes:
                for draw in draws:
                    sets.append(train_small_set(source, folder.name, size, draw, Path(home)))
                    print(describe(sets[-1]), flush=True)
    return list(results(sets))


def native_tables(folder: Path, home: Path) -> Path:
    """The folder, or, where it holds the files of MIND, the native tables made of them."""
    if not (folder / "behaviors.tsv").exists():
        return folder
    imported = home / folder.name
    import_mind(folder, imported)
    return imported


def train_small_set(source: Path, name: str, size: int, draw: int, home: Path) -> SmallSet:
    """Make one small set of a data directory and train on it. name: of the set. home: for all that is written."""
    folder = home / f"{name}-{size}-{draw}"
    n = write_small_set(source, folder, size, draw)
    first, valid, test = size / n * (1 - VALID) / 3, size / n * VALID, 1 - size / n
    slices = {"encoder": first, "ranker": 1 - first - valid - test, "valid": valid, "test": test}
    settings = [f"slices.{slice_}={share!r}" for slice_, share in slices.items()]
    with chdir(home):
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{home}/mlflow.db"
        trained = train(folder, load_config(None, (*settings, "final_training=false")))
    evaluation = trained.evaluation
    tested = evaluation.metrics[RANKER].ndcg_at_10
    measured = np.isfinite(tested)
    ndcg = {
        method: metrics.ndcg_at_10[measured]
        for method, metrics in evaluation.metrics.items()
        if method not in NOT_COMPARED
    }
    return SmallSet(name, size, draw, trained.choice.method, ndcg, evaluation.impressions.requests.user[measured])


def write_small_set(source: Path, folder: Path, size: int, draw: int) -> int:
    """Write the tables of users drawn at random who have so many impressions and 3,000 more, or of 80% of all users;
    the number of impressions written."""
    folder.mkdir()
    tables = {name: pd.read_parquet(source / f"{name}.parquet") for name in ("items", "events", "impressions")}
    rows = tables["impressions"]
    lists = rows.drop_duplicates("impression_id").sort_values("timestamp", kind="stable")
    counts = lists.groupby("user_id", sort=True).size()
    order = np.random.default_rng([size, draw]).permutation(len(counts))[: int(MOST_USERS * len(counts))]
    enough = np.searchsorted(np.cumsum(counts.to_numpy()[order]), size + TESTED) + 1
    users = counts.index[order[:enough]]
    chosen = lists[lists["user_id"].isin(users)][: size + TESTED]
    tables["impressions"] = rows[rows["impression_id"].isin(chosen["impression_id"])]
    events = tables["events"]
    before = pd.to_datetime(events["timestamp"], utc=True) <= pd.to_datetime(chosen["timestamp"], utc=True).max()
    tables["events"] = events[events["user_id"].isin(users) & before]
    for name, table in tables.items():
        table.to_parquet(folder / f"{name}.parquet", index=False)
    return len(chosen)


def describe(small: SmallSet) -> str:
    """One line on one small set."""
    best = small.best_part()
    means = " ".join(f"{method} {values.mean():.4f}" for method, values in small.ndcg.items())
    found = interval(small.loss(best), small.users)
    return (
        f"{small.data} {small.size} {small.draw}: {small.registered} over {best} {found.mean:+.4f} "
        f"[{found.low:+.4f}, {found.high:+.4f}]; {means}"
    )


def interval(values: Float64, users: np.ndarray) -> Interval:
    """95% interval over users of the mean of values, (n,)."""
    return mean_interval(values, users, resamples=1000, seed=0)


def p_value(values: Float64, users: np.ndarray) -> float:
    """Two-sided, of a mean of 0, by the normal approximation with users as clusters."""
    sums = np.bincount(np.unique(users, return_inverse=True)[1], weights=values - values.mean())
    spread = float(np.sqrt((sums**2).sum())) / len(values)
    return 1.0 if spread == 0 else float(2 * norm.sf(abs(values.mean()) / spread))


def holm(p_values: Float64) -> Float64:
    """Adjusted p values, (n,), by Holm's method."""
    order = np.argsort(p_values)
    factors = np.arange(len(p_values), 0, -1)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p_values[order] * factors))
    return adjusted


def results(sets: list[SmallSet]) -> Iterator[Result]:
    """The figures over all small sets."""
    comparisons = [(small, method) for small in sets for method in small.others]
    mean = np.array([small.loss(method).mean() for small, method in comparisons])
    p = np.array([p_value(small.loss(method), small.users) for small, method in comparisons])
    losses = (mean < 0) & (p < 0.05)
    yield Result("comparisons", len(comparisons), "")
    yield Result("losses", int(losses.sum()), "of the comparisons, significant at 95%, not adjusted")
    yield Result("losses_holm", int(((mean < 0) & (holm(p) < 0.05)).sum()), "after Holm's correction")
    to_best = np.array([small.loss(small.best_part()).mean() for small in sets])
    yield Result("over_best_part", float(to_best.mean()), "nDCG@10, best part of each set by its test")
    by_group: dict[tuple[str, int], list[SmallSet]] = {}
    for small in sets:
        by_group.setdefault((small.data, small.size), []).append(small)
    fixed = []
    for (data, size), group in by_group.items():
        methods = set.intersection(*(set(small.others) for small in group))
        means = {m: float(np.mean([small.loss(m).mean() for small in group])) for m in methods}
        best = min(means, key=means.__getitem__)
        fixed.append(means[best])
        yield Result(f"{data}_{size}_over_{best}", means[best], f"nDCG@10, mean of {len(group)} draws")
    yield Result("over_best_part_by_set", float(np.mean(fixed)), "nDCG@10, best part of all draws of a set and size")


if __name__ == "__main__":
    main()
