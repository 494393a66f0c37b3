"""The commands about registered versions: how good they are, which is better, and which is the champion."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipelines.cli_options import Report, json_file_option, json_option, model_option, print_report, table_options
from pipelines.cli_types import (
    DATA_OR_STORE,
    FOLDER,
    INPUT,
    NEW_NAME,
    OUT_FILE,
    SIDE,
    VERSION,
    CheckedCommand,
    agreeing,
)

if TYPE_CHECKING:
    from recsys.config import Config

METRICS = ("auc", "mrr", "ndcg_at_5", "ndcg_at_10")
"""As `recsys.metrics.ranking` has them."""


def _tables_or_rankings(context: click.Context) -> None:
    arguments = context.params
    if (arguments["rankings"] is None) != (arguments["events"] is None):
        raise click.UsageError("--rankings and --events go together: lists and their clicks")
    if (arguments["folder"] is None) == (arguments["rankings"] is None):
        raise click.UsageError("expected either DIR or --rankings with --events")
    named = context.get_parameter_source("model") is not click.core.ParameterSource.DEFAULT
    if arguments["rankings"] is not None and (named or arguments["all_lists"]):
        raise click.UsageError("--rankings measures every version that was served; leave out --model and --all")


@click.command(cls=CheckedCommand)
@click.argument("folder", metavar="[DIR]", required=False, type=FOLDER)
@model_option
@click.option("--all", "all_lists", is_flag=True, help="All lists, including those that the version was trained on.")
@click.option(
    "--rankings", metavar="LOG", type=INPUT, help="In place of DIR: what `recsys serve --log-rankings LOG` wrote."
)
@click.option("--events", type=INPUT, help="With --rankings: events table with the clicks that came.")
@table_options
@json_option
@agreeing(_tables_or_rankings)
def evaluate(
    folder: Path | None, model: str, all_lists: bool, rankings: Path | None, events: Path | None, config: Config
) -> Report:
    """Evaluate a registered version on the lists in DIR that are later than its training data; or, with --rankings, the
    versions that were served."""
    from pipelines.evaluate import evaluate as run_evaluation
    from pipelines.evaluate import evaluate_served

    if rankings is not None and events is not None:
        return evaluate_served(rankings, events, config)
    if folder is None:
        raise click.UsageError("expected DIR")
    return run_evaluation(folder, model, config, all_lists=all_lists)


@click.command(cls=CheckedCommand)
@click.argument("a", metavar="A", type=SIDE)
@click.argument("b", metavar="B", type=SIDE)
@click.option(
    "--data", "folder", type=FOLDER, help="Score both on this data directory, on lists later than their training data."
)
@click.option("--method", default="ranker", show_default=True, help="A method of both evaluations.")
@click.option("--metric", type=click.Choice(METRICS), default="ndcg_at_10", show_default=True)
@click.option("--html", "page", type=OUT_FILE, help="Also write the comparison to this file, as an HTML page.")
@table_options
@json_option
def compare(a: str, b: str, folder: Path | None, method: str, metric: str, page: Path | None, config: Config) -> Report:
    """Compare two runs or versions list by list, overall and by slice, and their settings; A1,A2,A3 are one side of
    several seeds."""
    from pipelines.compare import compare as run_comparison

    return run_comparison(a, b, config, folder=folder, method=method, metric=metric, page=page)


@click.command(cls=CheckedCommand)
@click.argument("version", type=VERSION)
@click.option("--name", type=NEW_NAME, default="recsys", show_default=True, help="VERSION is one of NAME-ranker.")
@click.option("--data", "folder", type=FOLDER, help="Data directory with newer lists. Default: the training's.")
@click.option("--force", is_flag=True, help="Promote in spite of reasons against it, which the version's tags record.")
@table_options
@json_file_option
def promote(
    version: str,
    name: str,
    folder: Path | None,
    force: bool,
    config: Config,
    json_path: Path | None,
) -> None:
    """Make VERSION the champion if it beats the present one on lists that neither was trained on."""
    from pipelines.audit import audit_version
    from pipelines.promote import promote as run_promotion
    from recsys.errors import PromotionError

    audit = partial(audit_version, config=config)
    decision = run_promotion(version, config, name=name, folder=folder, audit=audit, force=force)
    print_report(decision, json_path)
    if not decision.promoted:
        raise PromotionError(f"{decision.evidence.challenger} is not promoted: {'; '.join(decision.reasons)}")


@click.command(cls=CheckedCommand)
@click.option("--name", type=NEW_NAME, default="recsys", show_default=True, help="The champion is one of NAME-ranker.")
@json_option
def rollback(name: str) -> Report:
    """Undo the latest promotion: the champion before it is the champion again."""
    from pipelines.rollback import rollback as run_rollback

    return run_rollback(name=name)


def _clicks_of_rankings(context: click.Context) -> None:
    if context.params["events"] is not None and context.params["rankings"] is None:
        raise click.UsageError("--events goes with --rankings: the clicks on what was served")


@click.command(cls=CheckedCommand)
@click.argument("place", metavar="DIR|STORE", type=DATA_OR_STORE)
@model_option
@click.option("--rankings", metavar="LOG", type=INPUT, help="What `recsys serve --log-rankings LOG` wrote.")
@click.option("--events", type=INPUT, help="With --rankings: table with the clicks. Default: the events in DIR.")
@click.option("--html", "page", type=OUT_FILE, help="Also write the report as an HTML page to this file.")
@table_options
@json_file_option
@agreeing(_clicks_of_rankings)
def monitor(
    place: str,
    model: str,
    rankings: Path | None,
    events: Path | None,
    page: Path | None,
    config: Config,
    json_path: Path | None,
) -> None:
    """Compare what comes now with what a version was evaluated on; exit 1 with a line that names what drifted.

    DIR: tables, of which later lists count. STORE: an online store, whose items count, and with --rankings the columns
    that were read. Thresholds are settings: --set monitor.psi=0.25, --set monitor.ks=0.2.
    """
    from pipelines.monitor import monitor as run_monitor
    from recsys.errors import DriftAlarm

    report = run_monitor(place, config, model=model, rankings=rankings, events=events, page=page)
    print_report(report, json_path)
    if headline := report.headline():
        raise DriftAlarm(headline)


@click.command(cls=CheckedCommand)
@click.argument("folder", metavar="DIR", type=FOLDER)
@click.option(
    "--name", type=NEW_NAME, default="recsys", show_default=True, help="Registers NAME-encoder and NAME-ranker."
)
@click.option(
    "--keep",
    metavar="N",
    type=click.IntRange(min=1),
    help="Then delete versions, runs and checkpoints of NAME but for the newest N rankers, champion, challenger and "
    "what `recsys rollback` could go back to. Default: delete nothing.",
)
@click.option("--dry-run", is_flag=True, help="Change nothing; say what would be done and deleted.")
@table_options
@json_option
def retrain(folder: Path, name: str, keep: int | None, dry_run: bool, config: Config) -> Report:
    """Train on the tables in DIR, audit, and promote the new version if it is better; nothing where nothing is new."""
    from pipelines.retrain import retrain as run_retraining

    return run_retraining(folder, config, name=name, keep=keep, dry_run=dry_run)


COMMANDS = (evaluate, compare, promote, rollback, monitor, retrain)
