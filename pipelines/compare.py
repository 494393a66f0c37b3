"""`recsys compare A B [--data DIR]`: two versions or runs, list by list, on what both were evaluated on.

Reads the `lists.parquet` of their evaluation runs; with a data directory it scores both there instead, on lists later
than every label that either learnt from. Writes nothing.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from features.tables import load_log
from pipelines.evaluate import evaluate_version, trained_until
from pipelines.reading import settings_options
from recsys.comparison import Comparison, Side
from recsys.comparison import compare as compare_sides
from recsys.config import Config
from recsys.errors import ComparisonError
from recsys.registry import tracking
from recsys.registry.recorded import is_version, ranker_of_run, recorded_lists
from recsys.registry.versions import Loaded, load


def compare(
    a: str, b: str, config: Config, *, folder: Path | None = None, method: str = "ranker", metric: str = "ndcg_at_10"
) -> Comparison:
    """Compare A with B. Each is a run's id or a version's URI, or several of them with commas between: runs of one
    configuration with other seeds.

    folder: the data to score both on. Raises ComparisonError where they have no lists in common, InputError where no
    list of the folder is late enough, ModelNotFound or RunNotFound for a name.
    """
    tracking.connect()
    first, second = _names(a), _names(b)
    names, n = (*first, *second), len(first)
    tables, n_seen = _recorded(names) if folder is None else _scored(names, folder, config)
    sides = Side(first, tables[:n], n_seen[:n]), Side(second, tables[n:], n_seen[n:])
    return compare_sides(*sides, method=method, metric=metric, resamples=config.evaluation.resamples, seed=config.seed)


def load_asked(asked: str) -> Loaded:
    """The version that a URI names or that a run registered."""
    return load(asked if is_version(asked) else ranker_of_run(asked))


def score_later(versions: list[Loaded], folder: Path, config: Config) -> tuple[tuple[pd.DataFrame, ...], str]:
    """Tables of the lists of `folder` later than all that any version learnt from, as each version ranks them, and the
    fingerprint of the data. Each reads the tables as its own training did."""
    after = max(map(trained_until, versions))
    tables, fingerprint, options, data = [], "", None, None
    for loaded in versions:
        wanted = settings_options(loaded.unit.settings)
        if data is None or wanted != options:
            data, report = load_log(folder, wanted, impressions_required=True)
            options, fingerprint = wanted, fingerprint or report.fingerprint
        tables.append(evaluate_version(loaded, data, folder, config, after=after).frame())
    return tuple(tables), fingerprint


def _names(side: str) -> tuple[str, ...]:
    names = tuple(part.strip() for part in side.split(",") if part.strip())
    if not names:
        raise ComparisonError(
            f"expected a run's id, models:/NAME/VERSION, or several with commas between, got {side!r}"
        )
    return names


def _recorded(names: tuple[str, ...]) -> tuple[tuple[pd.DataFrame, ...], tuple[int, ...]]:
    found = [recorded_lists(name) for name in names]
    return tuple(one.lists for one in found), tuple(one.n_seen for one in found)


def _scored(names: tuple[str, ...], folder: Path, config: Config) -> tuple[tuple[pd.DataFrame, ...], tuple[int, ...]]:
    tables, _ = score_later([load_asked(name) for name in names], folder, config)
    return tables, (0,) * len(names)
