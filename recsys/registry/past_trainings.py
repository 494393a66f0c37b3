"""The trainings of a name that the store knows, finished or not, and whether one of them is what is asked for now."""

from __future__ import annotations

from dataclasses import dataclass

import mlflow
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from pydantic import ValidationError

from recsys.config import Config
from recsys.registry.names import Version, ranker_name
from recsys.registry.run_queries import versions_of_run
from recsys.registry.run_tags import DATA_FINGERPRINT, TRAINING
from recsys.registry.versions import settings_of

NOT_LEARNT = {"threads", "serving", "promotion", "monitor"}
"""Settings that change nothing about what a training learns."""


@dataclass(frozen=True)
class PastTraining:
    """A training's run. version: of the ranker that it registered, None for none."""

    run: Run
    version: Version | None

    @property
    def run_id(self) -> str:
        """Of MLflow."""
        return str(self.run.info.run_id)


def past_trainings(experiment: str, name: str) -> list[PastTraining]:
    """The trainings whose models are NAME's, the newest first."""
    client, found, token = mlflow.MlflowClient(), [], None
    while True:
        page = client.search_runs(
            [experiment],
            f"tags.`{TRAINING}` = '{name}'",
            order_by=["attributes.start_time DESC"],
            page_token=token,
        )
        found += [PastTraining(run, _ranker(run, name)) for run in page]
        token = page.token
        if not token:
            return found


def same_training(trainings: list[PastTraining], config: Config, fingerprint: str) -> PastTraining | None:
    """The newest training of this data with these settings, None where there is none. Of such ones a training that
    registered a version comes before one that did not."""
    same = [
        past
        for past in trainings
        if past.run.data.tags.get(DATA_FINGERPRINT) == fingerprint and _has_settings(past, config)
    ]
    finished = [past for past in same if past.version is not None]
    return next(iter([*finished, *same]), None)


def _ranker(run: Run, name: str) -> Version | None:
    versions = (version for version in versions_of_run(run.info.run_id) if version.name == ranker_name(name))
    return next(versions, None)


def _has_settings(past: PastTraining, config: Config) -> bool:
    """Whether a training had the settings of a configuration, its file of custom features included."""
    try:
        recorded = Config.model_validate(mlflow.artifacts.load_dict(f"runs:/{past.run_id}/config.json"))
    except (MlflowException, OSError, ValidationError):  # killed before it began, or of another version of the project
        return False
    before, now = (one.model_dump(mode="json", exclude=NOT_LEARNT) for one in (recorded, config))
    if before != now:
        return False
    custom = config.features.custom
    if past.version is None or (custom is None and recorded.features.file is None):
        return True
    return settings_of(past.version).custom_features == (None if custom is None else custom.fingerprint)
