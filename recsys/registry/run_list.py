"""The trainings of the store at a glance, by two searches for each page: runs, and their versions; then aliases."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import product

import mlflow
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from recsys.evaluation.report import LIFT_METRIC
from recsys.metrics.bootstrap import Interval
from recsys.registry.names import CHALLENGER, CHAMPION, Version
from recsys.registry.run_tags import CONFIG_HASH, DATA_FINGERPRINT, DATA_NAME, GIT_COMMIT, TRAINING

METHODS = ("ranker", "text", "popularity")
LIFT = "ranker_over_behaviour"

_PAGE = 100
"""Runs of a page; a question about so many fits into the address of a request to MLflow's server."""
_NAN = float("nan")


@dataclass(frozen=True)
class TrainingRun:
    """A training as its run recorded it. models: NAME. version: of the ranker that it registered, None where there is
    none, or none any more. aliases: of that version now, `champion` and `challenger`. ndcg: nDCG@10 on test by method.
    lift: of the ranker over behaviour alone. What was not recorded is "" or NaN."""

    run_id: str
    run_name: str
    models: str
    status: str
    started: datetime
    data_name: str
    data_fingerprint: str
    config_hash: str
    git_commit: str
    version: Version | None
    aliases: tuple[str, ...]
    ndcg: Mapping[str, float]
    lift: Interval


def list_trainings(experiment: str, *, name: str | None = None, limit: int) -> tuple[TrainingRun, ...]:
    """The newest trainings of an experiment, the newest first. name: of the models, None for all of them."""
    condition = f"tags.`{TRAINING}` LIKE '%'" if name is None else f"tags.`{TRAINING}` = '{name}'"
    client = mlflow.MlflowClient()
    found: list[TrainingRun] = []
    token: str | None = None
    while len(found) < limit:
        page = client.search_runs(
            [experiment],
            condition,
            max_results=min(_PAGE, limit - len(found)),
            order_by=["attributes.start_time DESC"],
            page_token=token,
        )
        rankers = _rankers(client, page)
        found += [_training(run, rankers.get(run.info.run_id)) for run in page]
        token = page.token
        if not token:
            break
    aliases = _aliases(client, {run.version.name for run in found if run.version is not None})
    return tuple(replace(run, aliases=aliases.get(run.version, ())) for run in found)


def _rankers(client: mlflow.MlflowClient, runs: Sequence[Run]) -> dict[str, Version]:
    """The ranker version that each run registered, where it is still there, by the run's id."""
    if not runs:
        return {}
    ids = ", ".join(f"'{run.info.run_id}'" for run in runs)
    versions = client.search_model_versions(f"run_id IN ({ids})", max_results=10 * _PAGE)
    rankers = ((str(version.run_id), Version(version.name, str(version.version))) for version in versions)
    return {run_id: ranker for run_id, ranker in rankers if ranker.is_ranker}


def _aliases(client: mlflow.MlflowClient, models: Iterable[str]) -> dict[Version | None, tuple[str, ...]]:
    """The aliases that this project gives, by version. To read a registered model would read all of its versions."""
    aliases: dict[Version | None, tuple[str, ...]] = {}
    for model, alias in product(sorted(models), (CHAMPION, CHALLENGER)):
        try:
            number = client.get_model_version_by_alias(model, alias).version
        except MlflowException:  # no version has it
            continue
        version = Version(model, str(number))
        aliases[version] = (*aliases.get(version, ()), alias)
    return aliases


def _training(run: Run, version: Version | None) -> TrainingRun:
    tags, metrics = run.data.tags, run.data.metrics
    lift = (metrics.get(f"lift.{LIFT}{end}", _NAN) for end in ("", ".low", ".high"))
    return TrainingRun(
        run_id=run.info.run_id,
        run_name=run.info.run_name,
        models=tags[TRAINING],
        status=run.info.status,
        started=datetime.fromtimestamp(run.info.start_time / 1000, UTC),
        data_name=tags.get(DATA_NAME, ""),
        data_fingerprint=tags.get(DATA_FINGERPRINT, ""),
        config_hash=tags.get(CONFIG_HASH, ""),
        git_commit=tags.get(GIT_COMMIT, ""),
        version=version,
        aliases=(),
        ndcg={method: metrics.get(f"test.{method}.{LIFT_METRIC}", _NAN) for method in METHODS},
        lift=Interval(*lift),
    )
