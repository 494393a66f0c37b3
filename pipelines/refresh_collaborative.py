"""`recsys refresh-collaborative`: build a model's collaborative snapshot again, from the clicks in an online store.

Reads the store; writes the snapshot into it, whole or not at all. May run beside a server on the same store.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from features.online.state import OnlineState
from pipelines.data_options import moment_in
from recsys.online.model import OnlineModel, RefreshedSnapshot
from recsys.online.open_state import open_state
from recsys.ranker.model import RankingModel
from recsys.registry import tracking, versions


def refresh_collaborative(store: str, model_uri: str, *, at: int | str | None = None) -> RefreshReport:
    """Build the collaborative snapshot of a model again in its store. at: for requests at that time, microseconds or as
    people write it, without a zone in the model's; None is now. Raises StoreError for the store, ModelError or
    ModelNotFound for the model, InputError for a text that is no time."""
    tracking.connect()
    ranking_model = versions.load(model_uri).ranking_model
    with open_state(store, ranking_model.settings, create=False) as state:
        return RefreshReport(
            refresh_in(state, ranking_model, moment_in(at, ranking_model.settings.data.timezone, "at"))
        )


def refresh_in(state: OnlineState, ranking_model: RankingModel, at: int | None = None) -> RefreshedSnapshot | None:
    """`refresh_collaborative` with everything open; None for a model without collaborative columns."""
    return OnlineModel.of(ranking_model, state).refresh(at, rebuild=True)


@dataclass(frozen=True)
class RefreshReport:
    """What `refresh_collaborative` built; None for a model without collaborative columns."""

    built: RefreshedSnapshot | None

    def as_dict(self) -> dict[str, Any]:
        """The report of `--json`."""
        if self.built is None:
            return {"made": None}
        built = asdict(self.built)
        return {"made": {"edge": built.pop("as_of"), **built}}

    def lines(self) -> list[str]:
        """The report for a person."""
        if self.built is None:
            return ["the model reads no collaborative columns: nothing to build"]
        until = np.datetime64(self.built.as_of, "us").astype("datetime64[s]")
        built = self.built
        return [
            f"collaborative snapshot of {built.items:,} items from the clicks of {built.users:,} users before {until}Z"
            f", built in {built.seconds:.1f} s"
        ]
