"""The commands about the trainings of MLflow's store, and about this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipelines.cli_options import Report, config_options, json_file_option, json_option, print_report
from pipelines.cli_types import FOLDER, NEW_NAME, RUN_OR_VERSION, CheckedCommand

if TYPE_CHECKING:
    from recsys.config import Config


@click.command(cls=CheckedCommand)
@click.option("--name", type=NEW_NAME, help="Only trainings of NAME-encoder and NAME-ranker. Default: all.")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="At most so many, the newest.")
@json_option
def runs(name: str | None, limit: int) -> Report:
    """List trainings: data, version and aliases, nDCG@10 on test, what text adds; the newest first."""
    from pipelines.runs import list_runs

    return list_runs(name=name, limit=limit)


@click.command(cls=CheckedCommand)
@click.argument("run", metavar="RUN", type=RUN_OR_VERSION)
@click.option("--data", "folder", type=FOLDER, help="A copy of the run's data. Default: the folder that the run read.")
@json_file_option
def reproduce(run: str, folder: Path | None, json_path: Path | None) -> None:
    """Train again from what RUN recorded and compare the bits, else the metrics; exit 1 if they differ beyond chance.
    Nothing is registered. RUN is the id of a training's run or models:/NAME/VERSION."""
    from pipelines.reproduce import reproduce as run_reproduction

    report = run_reproduction(run, folder=folder)
    print_report(report, json_path)
    if not report.passed:
        raise click.exceptions.Exit(1)


@click.command(cls=CheckedCommand)
@config_options
@json_file_option
def doctor(config: Config, json_path: Path | None) -> None:
    """Check this machine: libraries, processor, memory, base models, MLflow, folders; exit 1 if something is broken."""
    from pipelines.doctor import examine

    report = examine(config)
    print_report(report, json_path)
    if not report.passed:
        raise click.exceptions.Exit(1)


COMMANDS = (runs, reproduce, doctor)
