"""`recsys ablate DIR`: what text is worth on a data directory, from none to a fine-tuned encoder, and what it costs.

Reads a data directory. Writes an MLflow run with the table, the plot, the figures of every line and comparison, and
the metrics of every test list by line as `lines.parquet`. Registers nothing.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow

from features.atomic_files import replaced_file
from features.tables.load import load_log
from features.tables.report import TableReport
from pipelines.chain import open_training_context
from pipelines.data_options import read_options
from pipelines.stopwatch import Stopwatch, peak_rss_mb
from recsys.ablation.report import AblationReport
from recsys.ablation.variants import lines_of, run_variants
from recsys.config import Config
from recsys.evaluation.evaluate import MethodComparison
from recsys.evaluation.report import LIFT_METRIC
from recsys.registry import run_logging, tracking
from recsys.report import figures
from recsys.report.figures import Figure
from recsys.report.page import figure_page

log = logging.getLogger(__name__)

CHOICE = "ablation.choice"


@dataclass(frozen=True)
class AblateReport:
    """What an ablation read and measured."""

    tables: TableReport
    slices: Mapping[str, int]
    ledger: AblationReport
    seconds: Mapping[str, float]
    peak_rss_mb: int
    run_id: str

    def as_dict(self) -> dict[str, Any]:
        """The report of `recsys ablate --json`."""
        return {
            "data": self.tables.as_dict(),
            "slices": dict(self.slices),
            **self.ledger.as_dict(),
            "seconds": dict(self.seconds),
            "peak_rss_mb": self.peak_rss_mb,
            "run_id": self.run_id,
        }

    def lines(self) -> list[str]:
        """The report for a person."""
        spent = f"{sum(self.seconds.values()):.0f} s with at most {self.peak_rss_mb} MB; run {self.run_id}"
        return [*self.ledger.text(), "", spent]


def ablate(folder: Path, config: Config, *, name: str = "ablate", plot: Path | None = None) -> AblateReport:
    """Measure every line of the ledger on a data directory. plot: also write the figure to this file.

    Raises InputError for tables that cannot be used, TrainingError where a line's ranker cannot be trained.
    """
    watch = Stopwatch()
    experiment = tracking.connect()
    with tempfile.TemporaryDirectory() as rejects:
        with watch.stage("read"):
            data, tables = load_log(folder, read_options(config), rejects=Path(rejects), impressions_required=True)
        for line in tables.lines():
            log.info("%s", line)
        chain = open_training_context(config, data)
        with tracking.run(experiment, name, parent=True) as run:
            run_logging.log_config(config)
            run_logging.log_dataset(folder, tables.fingerprint, "ablation")
            mlflow.log_artifacts(rejects, "rejects")
            with watch.stage("ablation"):
                ledger = run_variants(chain, lines_of(config))
            report = AblateReport(
                tables=tables,
                slices=chain.sliced.counts(),
                ledger=ledger,
                seconds=watch.seconds,
                peak_rss_mb=peak_rss_mb(),
                run_id=run.info.run_id,
            )
            figure = ledger_figure(ledger)
            _log_report(report, figure)
    if plot is not None:
        with replaced_file(plot) as partial:
            partial.write_text(figure_page(figure), encoding="utf-8")
    return report


def ledger_figure(ledger: AblationReport) -> Figure:
    """The plot of a ledger."""
    test, first = ledger.evaluation.test, ledger.lines[0].name
    labels, lifts, cold = {}, {}, {}
    for one in ledger.lines:
        chosen = ", the choice" if one.name == ledger.choice.line else ""
        labels[one.name] = f"{one.cost.milliseconds:.1f} ms, {one.cost.seconds:.0f} s{chosen}"
        if one.name != first:
            lift = MethodComparison(one.name, first).name
            lifts[one.name], cold[one.name] = ledger.evaluation.lifts[lift], ledger.cold_lifts[lift]
    quality = {one.name: test.methods[one.name][LIFT_METRIC] for one in ledger.lines}
    return figures.ledger(labels, quality, lifts, cold, over=first, test=test)


def _log_report(report: AblateReport, figure: Figure) -> None:
    ledger = report.ledger
    seconds = {f"seconds.{name}": value for name, value in report.seconds.items()}
    mlflow.log_metrics(ledger.metrics() | seconds | {"peak_rss_mb": report.peak_rss_mb})
    mlflow.set_tag(CHOICE, ledger.choice.line)
    run_logging.log_frame(ledger.evaluation.per_impression_frame(), "lines")
    run_logging.log_figure(figure, "ledger")
    mlflow.log_dict(report.as_dict(), "report.json")
    mlflow.log_text("\n".join(report.lines()), "report.txt")
