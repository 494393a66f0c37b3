"""`recsys rebuild-tables`: a model's collaborative tables made anew in an online store, from the clicks that it holds.

Reads the store; writes the tables into it, whole or not at all. May run beside a server on the same store.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from features.online.state import OnlineState
from pipelines.data_options import moment_in
from recsys.config import ServingConfig
from recsys.online.collaborative_refresh import Rebuilt
from recsys.online.open_state import open_state
from recsys.ranker.model import Unit
from recsys.registry import tracking, versions
from recsys.serving.service import RankService


def rebuild_tables(store: str, model_uri: str, *, at: int | str | None = None) -> RebuildReport:
    """Make the collaborative tables of a model anew in its store. at: for requests at that time, microseconds or as
    people write it, without a zone in the model's; None is now. Raises StoreError for the store, ModelError or
    ModelNotFound for the model, InputError for a text that is no time."""
    tracking.connect()
    unit = versions.load(model_uri).unit
    with open_state(store, unit.settings, create=False) as state:
        return RebuildReport(rebuild_in(state, unit, moment_in(at, unit.settings.data.timezone, "at")))


def rebuild_in(state: OnlineState, unit: Unit, at: int | None = None) -> Rebuilt | None:
    """`rebuild_tables` with everything open; None for a model that reads no such tables."""
    service = RankService(unit, state, ServingConfig(cached_texts=20_000), ranker="", encoder="")
    return service.rebuild(at, anew=True)


@dataclass(frozen=True)
class RebuildReport:
    """What `rebuild_tables` made; None where the model reads no such tables."""

    made: Rebuilt | None

    def as_dict(self) -> dict[str, Any]:
        """The report of `--json`."""
        return {"made": None if self.made is None else asdict(self.made)}

    def lines(self) -> list[str]:
        """The report for a person."""
        if self.made is None:
            return ["the model reads no collaborative tables: nothing to make"]
        made = self.made
        until = np.datetime64(made.edge, "us").astype("datetime64[s]")
        return [
            f"collaborative tables of {made.items:,} items from the clicks of {made.users:,} users before {until}Z, "
            f"made in {made.seconds:.1f} s"
        ]
