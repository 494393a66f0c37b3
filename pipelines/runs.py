"""`recsys runs`: the trainings of the store at a glance, the newest first.

Reads MLflow's store and writes nothing. It imports no model.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from recsys.evaluation.report import count, format_interval
from recsys.evaluation.text_table import text_table
from recsys.metrics.bootstrap import Interval
from recsys.metrics.jsonable import jsonable
from recsys.registry import tracking
from recsys.registry.run_list import LIFT, METHODS, TrainingRun, list_trainings

_SHOWN_FINGERPRINT = 8
_NAN = float("nan")


@dataclass(frozen=True)
class RunsReport:
    """The newest trainings. name: of the models that were asked for, None for all. limit: how many were asked for."""

    runs: tuple[TrainingRun, ...]
    name: str | None
    limit: int

    def as_dict(self) -> dict[str, Any]:
        """The report of `recsys runs --json`; None for what was not recorded."""
        return {"runs": [_run_dict(run) for run in self.runs], "name": self.name, "limit": self.limit}

    def lines(self) -> list[str]:
        """A table, a line for each training, and where the rest is."""
        if not self.runs:
            whose = "" if self.name is None else f" of {self.name!r}"
            return [f"no training{whose} is recorded; train with `recsys train DIR --name {self.name or 'recsys'}`"]
        rows = [["run", "id", "status", "data", "version", *METHODS, LIFT.replace("_", " ")]]
        rows += [_cells(run) for run in self.runs]
        more = f" at most; --limit N for more than {self.limit}" if len(self.runs) == self.limit else ""
        return [
            text_table(rows),
            "",
            f"{count(len(self.runs), 'training')}{more}. nDCG@10 on test; compare two by `recsys compare RUN RUN`.",
        ]


def list_runs(*, name: str | None = None, limit: int = 20) -> RunsReport:
    """The newest trainings, at most `limit`. name: of the models, None for all of them."""
    if not tracking.has_database(tracking.tracking_uri()):
        return RunsReport((), name, limit)
    experiment = tracking.connect()
    return RunsReport(list_trainings(experiment, name=name, limit=limit), name, limit)


def _run_dict(run: TrainingRun) -> dict[str, Any]:
    missing = {key: value or None for key, value in asdict(run).items() if isinstance(value, str)}
    return {
        **missing,
        "started": run.started.isoformat(timespec="seconds"),
        "version": None if run.version is None else run.version.uri,
        "aliases": list(run.aliases),
        "ndcg_at_10": jsonable(run.ndcg),
        "lift": {LIFT: jsonable(run.lift)},
    }


def _cells(run: TrainingRun) -> list[str]:
    version = "" if run.version is None else " ".join((str(run.version), *run.aliases))
    data = f"{run.data_name} {run.data_fingerprint[:_SHOWN_FINGERPRINT]}"
    figures = [format_interval(Interval(run.ndcg[method], _NAN, _NAN)) for method in METHODS]
    lift = format_interval(run.lift, signed=True)
    return [run.run_name, run.run_id, run.status.lower(), data, version, *figures, lift]
