"""`recsys compare A B [--data DIR]`: two versions or runs, list by list, on what both were evaluated on.

Reads the `lists.parquet` of their evaluation runs; with a data directory it scores both there instead, on lists later
than every label that either learnt from. Writes nothing but the HTML page that is asked for.
"""

from __future__ import annotations

from pathlib import Path

from features.atomic_files import replaced_file
from recsys.config import Config
from recsys.evaluation.comparison import ComparedRun, ComparedRuns, Comparison
from recsys.evaluation.comparison import compare as compare_sides
from recsys.registry import tracking
from recsys.registry.names import is_version, run_names
from recsys.registry.run_queries import find_run, ranker_of_run, recorded_lists, run_of_version, training_origin


def compare(
    a: str,
    b: str,
    config: Config,
    *,
    folder: Path | None = None,
    method: str = "ranker",
    metric: str = "ndcg_at_10",
    page: Path | None = None,
) -> Comparison:
    """Compare A with B. Each is a run's id or a version's URI, or several of them with commas between: runs of one
    configuration with other seeds.

    folder: the data to score both on. page: also write an HTML page to this file.

    Raises ComparisonError where they have no lists in common, InputError where no
    list of the folder is late enough, ModelNotFound or RunNotFound for a name.
    """
    tracking.connect()
    first, second = run_names(a), run_names(b)
    names = (*first, *second)
    runs = tuple(map(recorded_lists, names)) if folder is None else _scored(names, folder, config)
    sides = ComparedRuns(runs[: len(first)]), ComparedRuns(runs[len(first) :])
    comparison = compare_sides(
        *sides, method=method, metric=metric, resamples=config.evaluation.resamples, seed=config.seed
    )
    if page is not None:
        from recsys.report.comparison_page import comparison_page

        with replaced_file(page) as partial:
            partial.write_text(comparison_page(comparison), encoding="utf-8")
    return comparison


def _scored(names: tuple[str, ...], folder: Path, config: Config) -> tuple[ComparedRun, ...]:
    from pipelines.unseen_data import load_unseen, trained_until
    from recsys.registry.versions import load

    versions = [load(name if is_version(name) else ranker_of_run(name), evaluated=True) for name in names]
    opened = load_unseen(versions, folder, after=trained_until(versions), files=config.data.files)
    frames = [data.evaluate(config).per_impression_frame() for data in opened]
    origins = [training_origin(find_run(run_of_version(version.ranker))) for version in versions]
    return tuple(
        ComparedRun(name, frame, origin=origin) for name, frame, origin in zip(names, frames, origins, strict=True)
    )
