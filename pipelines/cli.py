"""The command line: `recsys COMMAND`. Each command's work is in the module of its name; this file reads arguments.

Exit 0 on success, 2 on bad arguments, 1 on anything else, with one line that says what was expected and what came.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import click

from features.encodings import FileOptions
from features.errors import RecsysError
from pipelines import cli_data
from pipelines.cli_options import (
    FILE,
    FOLDER,
    INPUT,
    Report,
    config_options,
    file_options,
    json_option,
    model_option,
    moment,
    print_report,
    rejects_option,
    store_option,
    table_options,
)

_NO_SPACE = re.compile(r"No space left on device|File too large|Disk quota exceeded")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def cli(debug: bool) -> None:
    """Rank candidate items for users by text and behaviour."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for noisy in ("httpx", "urllib3", "mlflow", "alembic", "matplotlib"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


cli.add_command(cli_data.data)
cli.add_command(cli_data.features)


@cli.command()
@click.argument("folder", metavar="DIR", type=FOLDER)
@table_options
@click.option("--name", default="recsys", show_default=True, help="Registers NAME-encoder and NAME-ranker.")
@click.option("--report", "page", type=FILE, help="Also write the HTML report to this file.")
@click.option("--resume", "run_id", metavar="RUN", help="Go on with this interrupted training, with its settings.")
@json_option
@click.pass_context
def train(
    context: click.Context,
    folder: Path,
    config_path: Path | None,
    settings: tuple[str, ...],
    name: str,
    page: Path | None,
    run_id: str | None,
    json_path: Path | None,
) -> None:
    """Train, evaluate and register both models on the tables in DIR."""
    from pipelines.train import resume
    from pipelines.train import train as run_training
    from recsys.config import load_config

    if run_id is not None:
        named = context.get_parameter_source("name") is not click.core.ParameterSource.DEFAULT
        if config_path or settings or named:
            raise click.UsageError("--resume goes on with the settings and the name of its run; leave out the others")
        print_report(resume(folder, run_id, page=page), json_path)
        return
    print_report(run_training(folder, load_config(config_path, settings), name=name, page=page), json_path)


@cli.command()
@click.argument("folder", metavar="DIR", type=FOLDER)
@click.option("--model", help="Audit this registered ranker; without it, what a training would use.")
@click.option("--full", is_flag=True, help="Train the encoder too, on permuted clicks; takes as long as trainings.")
@click.option("--replay", is_flag=True, help="Run the lists through the online path instead, against the offline one.")
@click.option("--from", "start", metavar="TIME", help="With --replay: the first list's time; ISO 8601 or epoch.")
@click.option("--to", "end", metavar="TIME", help="With --replay: the time that every list is before.")
@table_options
@json_option
def audit(
    folder: Path,
    model: str | None,
    full: bool,
    replay: bool,
    start: str | None,
    end: str | None,
    config_path: Path | None,
    settings: tuple[str, ...],
    json_path: Path | None,
) -> None:
    """Look for leaks in everything that the ranker reads from the tables in DIR; exit 1 if there is one."""
    from pipelines.audit import audit as run_audit
    from pipelines.audit import replay as run_replay
    from recsys.config import load_config

    config = load_config(config_path, settings)
    if not replay and (start or end):
        raise click.UsageError("--from and --to go with --replay")
    if replay:
        times = (moment(start, "--from"), moment(end, "--to"))
        report: Report = run_replay(folder, config, model=model, start=times[0], end=times[1])
    else:
        report = run_audit(folder, config, model=model, full=full)
    print_report(report, json_path)
    if not report.as_dict()["passed"]:
        raise click.exceptions.Exit(1)


@cli.command()
@click.argument("folder", metavar="DIR", type=FOLDER)
@click.option(
    "--candidates",
    required=True,
    type=INPUT,
    help="File or folder: impression_id or request_id, user_id, item_id; optional timestamp, query.",
)
@click.option("--out", required=True, type=FOLDER, help="New folder for the ranked Parquet files.")
@model_option
@click.option("--at", metavar="TIME", help="Time of requests that have none; ISO 8601 or epoch. Default: now.")
@click.option("--top-k", type=click.IntRange(min=1), help="Keep this many rows of each request.")
@file_options
@json_option
def score(
    folder: Path,
    candidates: Path,
    out: Path,
    model: str,
    at: str | None,
    top_k: int | None,
    files: FileOptions,
    json_path: Path | None,
) -> None:
    """Rank the candidates of many requests with the events in DIR."""
    from pipelines.score import score as run_scoring

    report = run_scoring(folder, candidates, out, model=model, at=moment(at), top_k=top_k, files=files)
    print_report(report, json_path)


@cli.command()
@click.argument("folder", metavar="DIR", type=FOLDER)
@model_option
@click.option("--all", "all_lists", is_flag=True, help="Every list, even those whose labels the version learnt from.")
@table_options
@json_option
def evaluate(
    folder: Path,
    model: str,
    all_lists: bool,
    config_path: Path | None,
    settings: tuple[str, ...],
    json_path: Path | None,
) -> None:
    """Evaluate a registered version on the lists in DIR that are later than all it learnt from."""
    from pipelines.evaluate import evaluate as run_evaluation
    from recsys.config import load_config

    print_report(run_evaluation(folder, model, load_config(config_path, settings), all_lists=all_lists), json_path)


@cli.command()
@click.argument("folder", metavar="DIR", type=FOLDER)
@click.option("--name", default="ablate", show_default=True, help="Name of the MLflow run; nothing is registered.")
@click.option("--plot", type=FILE, help="Also write the plot to this file, as PNG.")
@table_options
@json_option
def ablate(
    folder: Path,
    name: str,
    plot: Path | None,
    config_path: Path | None,
    settings: tuple[str, ...],
    json_path: Path | None,
) -> None:
    """Say what text is worth on the tables in DIR: no text, TF-IDF, frozen, trained head, fine-tuned, and the cost."""
    from pipelines.ablate import ablate as run_ablation
    from recsys.config import load_config

    print_report(run_ablation(folder, load_config(config_path, settings), name=name, plot=plot), json_path)


@cli.command()
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@click.option("--data", "folder", type=FOLDER, help="Score both on this data directory, on lists later than either.")
@click.option("--method", default="ranker", show_default=True, help="A method of both evaluations.")
@click.option("--metric", default="ndcg_at_10", show_default=True, help="auc, mrr, ndcg_at_5 or ndcg_at_10.")
@table_options
@json_option
def compare(
    a: str,
    b: str,
    folder: Path | None,
    method: str,
    metric: str,
    config_path: Path | None,
    settings: tuple[str, ...],
    json_path: Path | None,
) -> None:
    """Compare two runs or versions list by list, overall and by slice; A1,A2,A3 are one side of several seeds."""
    from pipelines.compare import compare as run_comparison
    from recsys.config import load_config

    config = load_config(config_path, settings)
    print_report(run_comparison(a, b, config, folder=folder, method=method, metric=metric), json_path)


@cli.command()
@click.argument("version")
@click.option("--name", default="recsys", show_default=True, help="VERSION is one of NAME-ranker.")
@click.option("--data", "folder", type=FOLDER, help="Data directory with newer lists. Default: the training's.")
@click.option("--force", is_flag=True, help="Promote whatever speaks against it; the version's tags will say so.")
@table_options
@json_option
def promote(
    version: str,
    name: str,
    folder: Path | None,
    force: bool,
    config_path: Path | None,
    settings: tuple[str, ...],
    json_path: Path | None,
) -> None:
    """Make VERSION the champion if it beats the present one on lists that neither has learnt from."""
    from pipelines.audit import audit_version
    from pipelines.promote import promote as run_promotion
    from recsys.config import load_config
    from recsys.errors import PromotionError

    config = load_config(config_path, settings)
    audit = partial(audit_version, config=config)
    decision = run_promotion(version, config, name=name, folder=folder, audit=audit, force=force)
    print_report(decision, json_path)
    if not decision.promoted:
        raise PromotionError(f"{decision.evidence.challenger} is not promoted: {'; '.join(decision.reasons)}")


@cli.command()
@click.option("--name", default="recsys", show_default=True, help="The champion is one of NAME-ranker.")
@json_option
def rollback(name: str, json_path: Path | None) -> None:
    """Undo the latest promotion: the champion before it is the champion again."""
    from pipelines.promote import rollback as run_rollback

    print_report(run_rollback(name=name), json_path)


@cli.command()
@model_option
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535))
@store_option
@config_options
def serve(model: str, host: str, port: int, store: str, config_path: Path | None, settings: tuple[str, ...]) -> None:
    """Answer ranking requests over HTTP."""
    from pipelines.serve import serve as run_server
    from recsys.config import load_config

    run_server(model, host, port, store, load_config(config_path, settings))


@cli.command("load-items")
@click.argument("file", type=INPUT)
@store_option
@model_option
@rejects_option
@file_options
@json_option
def load_items(
    file: Path, store: str, model: str, rejects: Path | None, files: FileOptions, json_path: Path | None
) -> None:
    """Put an items table into an online store; new and changed texts are encoded."""
    from pipelines.load import load_items as run_load

    print_report(run_load(file, store, model, rejects=rejects, files=files), json_path)


@cli.command("load-events")
@click.argument("file", type=INPUT)
@store_option
@model_option
@rejects_option
@file_options
@json_option
def load_events(
    file: Path, store: str, model: str, rejects: Path | None, files: FileOptions, json_path: Path | None
) -> None:
    """Put an events or an impressions table into an online store."""
    from pipelines.load import load_events as run_load

    print_report(run_load(file, store, model, rejects=rejects, files=files), json_path)


@cli.command("load-users")
@click.argument("file", type=INPUT)
@store_option
@rejects_option
@file_options
@json_option
def load_users(file: Path, store: str, rejects: Path | None, files: FileOptions, json_path: Path | None) -> None:
    """Put a users table into an online store."""
    from pipelines.load import load_users as run_load

    print_report(run_load(file, store, rejects=rejects, files=files), json_path)


@cli.command("rebuild-tables")
@store_option
@model_option
@click.option("--at", metavar="TIME", help="Make those that a request at this time reads. Default: now.")
@json_option
def rebuild_tables(store: str, model: str, at: str | None, json_path: Path | None) -> None:
    """Make a model's collaborative tables in an online store anew, from the clicks that it holds."""
    from pipelines.rebuild import rebuild_tables as run_rebuild

    print_report(run_rebuild(store, model, at=moment(at)), json_path)


def main() -> None:
    """Run the command line; every error ends in one line and an exit code."""
    debug = "--debug" in sys.argv[1:2]
    sys.exit(run(lambda: cli(standalone_mode=False), debug=debug))


def run(command: Callable[[], object], *, debug: bool = False) -> int:
    """Call `command` and turn what it raises into a line on standard error and an exit code."""
    try:
        left = command()
    except click.exceptions.Exit as leaving:
        return leaving.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.exceptions.Abort):
        return _fail("interrupted; nothing half-written was left behind")
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if debug:
            raise
        return _fail(one_line(error))
    return left if isinstance(left, int) else 0


def one_line(error: BaseException) -> str:
    """What went wrong in one line: our errors say it themselves, others get their type's name."""
    text = " ".join(str(error).split())
    if isinstance(error, RecsysError):
        return text
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
        where = f" {str(error.filename)!r}" if error.filename else ""
        return f"cannot write{where}: {error.strerror or text}; free some disk space and run the command again"
    if _NO_SPACE.search(text):  # as libraries that write by themselves say it
        return f"cannot write: {text}; free some disk space and run the command again"
    if database := re.search(r"\(sqlite3\.OperationalError\) ([^\[(]+)", text):
        return (
            f"MLflow's database, see MLFLOW_TRACKING_URI: expected one that can be read and written, got: "
            f"{database[1].strip()}; free some disk space or look at the file's rights, and run the command again"
        )
    if isinstance(error, OSError) and error.filename:
        return f"{str(error.filename)!r}: {error.strerror}"
    return f"{type(error).__name__}: {text} (recsys --debug COMMAND shows where)"


def _fail(line: str) -> int:
    print(f"error: {line}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    main()
