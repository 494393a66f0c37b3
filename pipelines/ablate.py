"""`recsys ablate DIR`: rankers without text, with TF-IDF and with encoders, compared on a data directory.

Reads a data directory. Writes an MLflow run with the table, the plot, the figures of every variant and comparison, and
the metrics of every test list by variant as `lines.parquet`. Registers nothing.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import mlflow

from features.atomic_files import replaced_file
from features.tables.load import load_log
from features.tables.report import TableReport
from pipelines.data_options import read_options
from pipelines.stopwatch import RunUsage, Stopwatch
from recsys.ablation.report import AblationReport
from recsys.ablation.variants import run_variants, variants_of
from recsys.config import Config
from recsys.evaluation.evaluate import MethodComparison
from recsys.evaluation.report import LIFT_METRIC
from recsys.registry import run_logging, tracking
from recsys.report import figures
from recsys.report.figures import Figure
from recsys.report.page import figure_page
from recsys.training.context import open_training_context

log = logging.getLogger(__name__)

CHOICE = "ablation.choice"
STAGES = {
    "read": "reads and checks the tables",
    "ablation": "trains the text models and the ranker of every variant",
}


@dataclass(frozen=True)
class AblateReport:
    """What an ablation read and measured."""

    tables: TableReport
    slices: Mapping[str, int]
    ablation: AblationReport
    usage: RunUsage

    def as_dict(self) -> dict[str, Any]:
        """The report of `recsys ablate --json`."""
        return {
            "data": self.tables.as_dict(),
            "slices": dict(self.slices),
            **self.ablation.as_dict(),
            **asdict(self.usage),
        }

    def lines(self) -> list[str]:
        """The report for a person."""
        return [*self.ablation.lines(), "", str(self.usage)]


def ablate(folder: Path, config: Config, *, name: str = "ablate", plot: Path | None = None) -> AblateReport:
    """Measure every variant on a data directory. plot: also write the figure to this file.

    Raises InputError for tables that cannot be used, TrainingError where a variant's ranker cannot be trained.
    """
    timer = Stopwatch(STAGES)
    experiment = tracking.connect()
    with tempfile.TemporaryDirectory() as rejects:
        with timer.stage("read"):
            data, tables = load_log(folder, read_options(config), rejects=Path(rejects), impressions_required=True)
        for line in tables.lines():
            log.info("%s", line)
        context = open_training_context(config, data)
        with tracking.run(experiment, name, parent=True) as run:
            run_logging.log_inputs(config, folder, tables.fingerprint, "ablation", rejects=Path(rejects))
            with timer.stage("ablation"):
                ablation = run_variants(context, variants_of(config))
            report = AblateReport(
                tables=tables,
                slices=context.sliced.counts(),
                ablation=ablation,
                usage=timer.usage(run.info.run_id),
            )
            figure = ablation_figure(ablation)
            _log_report(report, figure)
    if plot is not None:
        with replaced_file(plot) as partial:
            partial.write_text(figure_page(figure), encoding="utf-8")
    return report


def ablation_figure(ablation: AblationReport) -> Figure:
    """The plot of an ablation."""
    test, first = ablation.evaluation.test, ablation.variants[0].name
    labels, lifts, cold = {}, {}, {}
    for variant in ablation.variants:
        chosen = ", the choice" if variant.name == ablation.choice.line else ""
        labels[variant.name] = f"{variant.cost.milliseconds:.1f} ms, {variant.cost.seconds:.0f} s{chosen}"
        if variant.name != first:
            lift = MethodComparison(variant.name, first).name
            lifts[variant.name], cold[variant.name] = ablation.evaluation.lifts[lift], ablation.cold_lifts[lift]
    quality = {variant.name: test.methods[variant.name][LIFT_METRIC] for variant in ablation.variants}
    return figures.ablation_charts(labels, quality, lifts, cold, over=first, test=test)


def _log_report(report: AblateReport, figure: Figure) -> None:
    ablation = report.ablation
    mlflow.log_metrics(ablation.metrics() | report.usage.metrics())
    mlflow.set_tag(CHOICE, ablation.choice.line)
    run_logging.log_frame(ablation.evaluation.per_impression_frame(), "lines")
    run_logging.log_figure(figure, "ledger")
    run_logging.log_report(report.as_dict(), report.lines())
