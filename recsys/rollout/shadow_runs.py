"""What a challenger in shadow shows, as a run of the MLflow experiment for each pair of versions that was compared.

The figures are read from the server's metrics, which are those of all its processes, so that one process logs for all.
They count from the start of the server; each time the whole is written, so that what MLflow misses is in the next one.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event, Thread

import mlflow
from mlflow.entities import Metric

from recsys.errors import RegistryUnreachable
from recsys.registry import tracking
from recsys.serving.challenger_metrics import (
    COMPARED,
    IN_ORDER,
    OUTCOMES,
    OVERLAP,
    REQUESTS,
    SAME_FIRST,
    SHADOW_SECONDS,
)
from recsys.serving.prometheus import Telemetry
from recsys.serving.service import RankService
from recsys.serving.traffic import ChallengerOptions

logger = logging.getLogger(__name__)
Pair = tuple[str, str]
"""Champion and challenger, as NAME/VERSION."""
_END_SECONDS = 5.0
"""How long the end of the server waits for MLflow at most."""


@dataclass
class _Run:
    """A run that MLflow has made. figures: that it holds."""

    run_id: str
    figures: Mapping[str, float] = field(default_factory=dict)
    is_open: bool = True


class ShadowRuns:
    """The runs of one server. telemetry: of any of its processes."""

    def __init__(self, telemetry: Telemetry, options: ChallengerOptions) -> None:
        self._telemetry = telemetry
        self._options = options
        self._runs: dict[Pair, _Run] = {}
        self._is_away = False

    def log(self, *, end: bool = False) -> None:
        """Write what is new, and end the runs of pairs that are compared no more. end: end all. A registry that does
        not answer is logged once."""
        known = {pair: run.figures for pair, run in self._runs.items()}
        pairs = shadow_figures(self._telemetry)
        new = {pair: figures for pair, figures in pairs.items() if figures != known.get(pair)}
        if not new and not (end and known):
            return
        try:
            with tracking.answering():
                for pair, figures in new.items():
                    self._write(pair, figures)
                for pair, run in self._runs.items():
                    if run.is_open and (end or pair not in new):
                        mlflow.MlflowClient().set_terminated(run.run_id)
                        run.is_open = False
        except RegistryUnreachable as error:
            if not self._is_away:
                logger.warning("what the challenger shows is not logged: %s", error)
            self._is_away = True
        else:
            self._is_away = False

    def _write(self, pair: Pair, figures: Mapping[str, float]) -> None:
        run = self._runs.get(pair)
        if run is None:
            run = self._runs[pair] = _Run(self._new_run(pair))
        run.is_open = True
        now, step = time.time_ns() // 1_000_000, int(sum(figures[outcome] for outcome in OUTCOMES))
        metrics = [Metric(name, value, now, step) for name, value in figures.items()]
        mlflow.MlflowClient().log_batch(run.run_id, metrics)
        run.figures = figures

    def _new_run(self, pair: Pair) -> str:
        tracking.fail_fast()
        champion, challenger = pair
        tags = {
            "champion": f"models:/{champion}",
            "challenger": f"models:/{challenger}",
            "challenger_share": str(self._options.share),
        }
        experiment = tracking.connect()
        run_id = str(mlflow.MlflowClient().create_run(experiment, tags=tags).info.run_id)
        tracking.name_run(run_id, f"shadow {challenger}")
        return run_id


def shadow_figures(telemetry: Telemetry) -> dict[Pair, dict[str, float]]:
    """The figures of each pair of versions: how many answers were compared, dropped and failed; and where some were
    compared, the share of them with the same first item, the mean overlap of the first 10, the mean of Kendall's tau,
    and the mean milliseconds of both rankings."""
    values = _values(telemetry)
    pairs = {(labels[0], labels[1]) for name, *labels in values if name == f"{REQUESTS}_total"}
    return {pair: _figures(values, pair) for pair in sorted(pairs)}


def _figures(values: Mapping[tuple[str, ...], float], pair: Pair) -> dict[str, float]:
    def of(name: str, *labels: str) -> float:
        return values.get((name, *labels), 0.0)

    counts = {outcome: of(f"{REQUESTS}_total", *pair, outcome) for outcome in OUTCOMES}
    n = counts[COMPARED]
    if not n:
        return counts
    return counts | {
        "same_first": of(f"{SAME_FIRST}_total", *pair) / n,
        "overlap_at_10": of(f"{OVERLAP}_sum", *pair) / n,
        "kendall_tau": 2 * of(f"{IN_ORDER}_sum", *pair) / n - 1,
        "champion_ms": 1000 * of(f"{SHADOW_SECONDS}_sum", "champion", *pair) / n,
        "challenger_ms": 1000 * of(f"{SHADOW_SECONDS}_sum", "challenger", *pair) / n,
    }


def _values(telemetry: Telemetry) -> dict[tuple[str, ...], float]:
    """The shadow's samples by name and the values of the labels that they have, in the order below."""
    labels = ("variant", "champion", "challenger", "outcome")
    return {
        (sample.name, *(sample.labels[label] for label in labels if label in sample.labels)): sample.value
        for metric in telemetry.collected()
        if metric.name.startswith("recsys_shadow_")
        for sample in metric.samples
        if "le" not in sample.labels
    }


@contextmanager
def shadow_logged(service: RankService) -> Iterator[None]:
    """Log what the challenger of a service shows while the block runs, in a thread of its own, and at the end. Does
    nothing where there is no challenger in shadow."""
    challenger = service.challenger
    if challenger is None or challenger.shadow is None:
        yield
        return
    runs, stopped = ShadowRuns(service.telemetry, challenger.options), Event()
    thread = Thread(
        target=_log_until, args=(runs, stopped, service.settings.shadow_log_seconds), name="shadow-log", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join(_END_SECONDS)


def _log_until(runs: ShadowRuns, stopped: Event, seconds: float) -> None:
    while True:
        end = stopped.wait(seconds or None)
        try:
            runs.log(end=end)
        except Exception:
            logger.exception("what the challenger shows is not logged")
        if end:
            return
