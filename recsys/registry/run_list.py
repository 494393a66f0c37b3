"""The trainings of the store at a glance, by one search for each page of runs and one for each model's aliases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import mlflow
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from recsys.evaluation.report import LIFT_METRIC
from recsys.metrics.bootstrap import Interval
from recsys.registry.names import parse_uri
from recsys.registry.run_tags import CONFIG_HASH, DATA_FINGERPRINT, DATA_NAME, GIT_COMMIT, RANKER, TRAINING

METHODS = ("ranker", "text", "popularity")
LIFT = "ranker_over_behaviour"

_PAGE = 1000
_NAN = float("nan")


@dataclass(frozen=True)
class TrainingRun:
    """A training as its run recorded it. models: NAME. version: URI of the ranker that it registered, "" for none.
    aliases: of that version now. ndcg: nDCG@10 on test by method; lift: of the ranker over behaviour alone. What was
    not recorded is "" or NaN."""

    run_id: str
    run_name: str
    models: str
    status: str
    started: datetime
    data_name: str
    data_fingerprint: str
    config_hash: str
    git_commit: str
    version: str
    aliases: tuple[str, ...]
    ndcg: Mapping[str, float]
    lift: Interval


def list_trainings(experiment: str, *, name: str | None = None, limit: int) -> tuple[TrainingRun, ...]:
    """The newest trainings of an experiment, the newest first. name: of the models, None for all of them."""
    condition = f"tags.`{TRAINING}` LIKE '%'" if name is None else f"tags.`{TRAINING}` = '{name}'"
    client = mlflow.MlflowClient()
    runs: list[Run] = []
    token: str | None = None
    while len(runs) < limit:
        page = client.search_runs(
            [experiment],
            condition,
            max_results=min(_PAGE, limit - len(runs)),
            order_by=["attributes.start_time DESC"],
            page_token=token,
        )
        runs += page
        token = page.token
        if not token:
            break
    aliases = _aliases(client, runs)
    return tuple(_training(run, aliases) for run in runs)


def _aliases(client: mlflow.MlflowClient, runs: Sequence[Run]) -> dict[str, tuple[str, ...]]:
    """Aliases by version, of the models that the runs registered."""
    uris = {run.data.tags[RANKER] for run in runs if RANKER in run.data.tags}
    found: dict[str, tuple[str, ...]] = {}
    for model in sorted({parse_uri(uri).name for uri in uris}):
        try:
            aliases = dict(client.get_registered_model(model).aliases)
        except MlflowException:  # it was deleted since
            continue
        for alias, number in sorted(aliases.items()):
            uri = f"models:/{model}/{number}"
            found[uri] = (*found.get(uri, ()), alias)
    return found


def _training(run: Run, aliases: Mapping[str, tuple[str, ...]]) -> TrainingRun:
    tags, metrics = run.data.tags, run.data.metrics
    version = tags.get(RANKER, "")
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
        aliases=aliases.get(version, ()),
        ndcg={method: metrics.get(f"test.{method}.{LIFT_METRIC}", _NAN) for method in METHODS},
        lift=Interval(*lift),
    )
