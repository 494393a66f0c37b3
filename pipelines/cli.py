"""The command line: `recsys COMMAND`. Each command's work is in the module of its name; this file reads arguments.

Exit 0 on success, 2 on bad arguments, 1 on anything else, with one line that says what was expected and what came.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from features.tables.encodings import FileOptions
from pipelines import cli_batch, cli_data, cli_keys, cli_runs, cli_store, cli_versions
from pipelines.cli_options import (
    Report,
    batch_options,
    cache_option,
    config_options,
    file_options,
    json_file_option,
    json_option,
    load_options,
    log_option,
    model_option,
    print_report,
    store_option,
    table_options,
)
from pipelines.cli_types import (
    FOLDER,
    FOLDER_OR_URL,
    INPUT,
    INPUT_OR_URL,
    KEYS,
    MODEL,
    MOMENT,
    NEW_NAME,
    OUT_FILE,
    OUT_FOLDER_OR_URL,
    RUN_NAME,
    CheckedGroup,
    agreeing,
)
from pipelines.process import log_to_stderr, one_blas_thread, one_line, run

if TYPE_CHECKING:
    from pipelines.score import Engine
    from recsys.config import Config

__all__ = ["cli", "main", "one_line", "run"]


@click.group(cls=CheckedGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def cli(debug: bool) -> None:
    """Rank candidate items for users by text and behaviour."""
    log_to_stderr()


cli.add_command(cli_data.data)
cli.add_command(cli_data.features)
cli.add_command(cli_keys.keys)
cli.add_command(cli_store.store)
for _command in (*cli_versions.COMMANDS, *cli_runs.COMMANDS, *cli_batch.COMMANDS):
    cli.add_command(_command)


def _resumed_as_it_was(context: click.Context) -> None:
    arguments = context.params
    named = context.get_parameter_source("name") is not click.core.ParameterSource.DEFAULT
    if arguments["run_id"] is not None and (arguments["config_path"] or arguments["settings"] or named):
        raise click.UsageError("--resume takes the settings and the name of its run; leave out the others")


@cli.command()
@click.argument("folder", metavar="DIR", type=FOLDER)
@table_options
@click.option(
    "--name", type=NEW_NAME, default="recsys", show_default=True, help="Registers NAME-encoder and NAME-ranker."
)
@click.option("--report", "page", type=OUT_FILE, help="Also write the HTML report to this file.")
@click.option("--resume", "run_id", metavar="RUN", help="Resume this interrupted training, with its settings.")
@json_option
@agreeing(_resumed_as_it_was)
def train(folder: Path, config: Config, name: str, page: Path | None, run_id: str | None) -> Report:
    """Train, evaluate and register both models on the tables in DIR."""
    from pipelines.train import resume
    from pipelines.train import train as run_training

    if run_id is not None:
        return resume(folder, run_id, page=page)
    return run_training(folder, config, name=name, page=page)


def _audit_agrees(context: click.Context) -> None:
    arguments = context.params
    if not arguments["replay"] and (arguments["start"] or arguments["end"]):
        raise click.UsageError("--from and --to go with --replay")
    if arguments["logged"] is not None and (arguments["model"] is None or arguments["replay"] or arguments["full"]):
        raise click.UsageError("--logged goes with --model, the version that was served, without --replay and --full")


@cli.command()
@click.argument("folder", metavar="DIR", type=FOLDER)
@click.option("--model", type=MODEL, help="Audit this registered ranker. Default: the inputs of a new training.")
@click.option("--full", is_flag=True, help="Train the encoder too, on permuted clicks; takes as long as trainings.")
@click.option("--replay", is_flag=True, help="Compare the online path with the offline one, list by list.")
@click.option(
    "--logged", metavar="LOG", type=INPUT, help="Compare features that `recsys serve` logged with those of DIR."
)
@click.option("--from", "start", type=MOMENT, metavar="TIME", help="With --replay: only lists from this time on.")
@click.option("--to", "end", type=MOMENT, metavar="TIME", help="With --replay: only lists before this time.")
@table_options
@json_file_option
@agreeing(_audit_agrees)
def audit(
    folder: Path,
    model: str | None,
    full: bool,
    replay: bool,
    logged: Path | None,
    start: str | None,
    end: str | None,
    config: Config,
    json_path: Path | None,
) -> None:
    """Look for leaks in everything that the ranker reads from the tables in DIR; exit 1 if there is one."""
    from pipelines.audit import audit as run_audit
    from pipelines.audit import audit_logged
    from pipelines.audit import replay as run_replay

    if logged is not None and model is not None:
        report: Report = audit_logged(folder, config, logged, model=model)
    elif replay:
        report = run_replay(folder, config, model=model, start=start, end=end)
    else:
        report = run_audit(folder, config, model=model, full=full)
    print_report(report, json_path)
    if not report.as_dict()["passed"]:
        raise click.exceptions.Exit(1)


def _ray_is_asked_for(context: click.Context) -> None:
    if context.params["ray_address"] is not None and context.params["engine"] != "ray":
        raise click.UsageError("--ray-address: expected with --engine ray only")


@cli.command()
@click.argument("folder", metavar="DIR", type=FOLDER_OR_URL)
@click.option(
    "--candidates",
    required=True,
    type=INPUT_OR_URL,
    help="File or folder: impression_id or request_id, user_id, item_id; optional timestamp, query.",
)
@click.option("--out", required=True, type=OUT_FOLDER_OR_URL, help="New folder for the ranked Parquet files.")
@model_option
@click.option(
    "--at",
    type=MOMENT,
    metavar="TIME",
    help="Time of requests that have none; ISO 8601 or epoch, without a zone in the model's. Default: now.",
)
@click.option("--top-k", type=click.IntRange(min=1), help="Keep this many rows of each request.")
@click.option("--resume", is_flag=True, help="Go on with what an earlier run of the same batch has done.")
@click.option(
    "--on-error",
    type=click.Choice(("stop", "skip")),
    default="stop",
    show_default=True,
    help="Where a file of candidates is corrupt: stop, or leave that file out and say so.",
)
@batch_options
@file_options
@json_option
@agreeing(_ray_is_asked_for)
def score(
    folder: Path | str,
    candidates: Path | str,
    out: Path | str,
    model: str,
    at: str | None,
    top_k: int | None,
    resume: bool,
    on_error: str,
    workers: int | None,
    engine: Engine,
    ray_address: str | None,
    batch_rows: int,
    partition_rows: int,
    files: FileOptions,
) -> Report:
    """Rank the candidates of many requests with the events in DIR."""
    from pipelines.score import BatchOptions
    from pipelines.score import score as run_scoring

    options = BatchOptions(resume, workers, batch_rows, partition_rows, on_error == "skip", engine, ray_address)
    return run_scoring(folder, candidates, out, model=model, at=at, top_k=top_k, files=files, options=options)


@cli.command()
@click.argument("folder", metavar="DIR", type=FOLDER)
@click.option(
    "--name",
    type=RUN_NAME,
    default="ablate",
    show_default=True,
    help="Name of the MLflow run; nothing is registered.",
)
@click.option("--plot", type=OUT_FILE, help="Also write the plot to this file, as an HTML page.")
@table_options
@json_option
def ablate(folder: Path, name: str, plot: Path | None, config: Config) -> Report:
    """Compare rankers without text, with TF-IDF, frozen, head-only and fine-tuned encoder on DIR, and their costs."""
    from pipelines.ablate import ablate as run_ablation

    return run_ablation(folder, config, name=name, plot=plot)


SHARE = "Share of the users whom the challenger answers, from 0 to 1."


def _keys_or_none(context: click.Context) -> None:
    if context.params["keys"] is not None and context.params["no_keys"]:
        raise click.UsageError("--no-keys goes without --keys; leave out one of them")


@cli.command()
@model_option
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535))
@store_option
@click.option(
    "--workers", default=1, show_default=True, type=click.IntRange(1, 256), help="Processes that answer, on one socket."
)
@click.option("--create", is_flag=True, help="Create an empty store if there is none.")
@click.option("--keys", type=KEYS, help="Ask for API keys: file or redis:// URL where `recsys keys` keeps them.")
@click.option("--no-keys", is_flag=True, help="Answer everybody, also beyond this machine, without a key.")
@click.option("--no-custom-code", is_flag=True, help="Refuse a version that carries a file of custom features.")
@click.option(
    "--log-format", type=click.Choice(("text", "json")), default="text", show_default=True, help="Of the log's lines."
)
@click.option("--challenger", type=MODEL, help="A second version beside it. Default: its alias @challenger.")
@click.option("--challenger-share", default=0.0, show_default=True, type=click.FloatRange(0, 1), help=SHARE)
@click.option("--shadow", is_flag=True, help="Let the challenger score in the background what the model answers.")
@cache_option
@log_option
@config_options
@agreeing(_keys_or_none)
def serve(
    model: str,
    host: str,
    port: int,
    store: str,
    workers: int,
    create: bool,
    keys: str | None,
    no_keys: bool,
    no_custom_code: bool,
    log_format: str,
    challenger: str | None,
    challenger_share: float,
    shadow: bool,
    config: Config,
) -> None:
    """Answer ranking requests over HTTP."""
    from pipelines.serve import challenger_options
    from pipelines.serve import serve as run_server

    run_server(
        model,
        host,
        port,
        store,
        config,
        workers=workers,
        create=create,
        keys=keys,
        for_everybody=no_keys,
        custom_code=not no_custom_code,
        json_logs=log_format == "json",
        challenger=challenger_options(model, challenger, share=challenger_share, shadow=shadow),
    )


@cli.command("load-items")
@click.argument("file", type=INPUT)
@model_option
@load_options
@json_option
def load_items(file: Path, model: str, store: str, rejects: Path | None, files: FileOptions) -> Report:
    """Put an items table into an online store; new and changed texts are encoded."""
    from pipelines.load import load_items as run_load

    return run_load(file, store, model, rejects=rejects, files=files)


@cli.command("load-events")
@click.argument("file", type=INPUT)
@model_option
@load_options
@json_option
def load_events(file: Path, model: str, store: str, rejects: Path | None, files: FileOptions) -> Report:
    """Put an events or an impressions table into an online store."""
    from pipelines.load import load_events as run_load

    return run_load(file, store, model, rejects=rejects, files=files)


@cli.command("load-users")
@click.argument("file", type=INPUT)
@load_options
@json_option
def load_users(file: Path, store: str, rejects: Path | None, files: FileOptions) -> Report:
    """Put a users table into an online store."""
    from pipelines.load_users import load_users as run_load

    return run_load(file, store, rejects=rejects, files=files)


@cli.command("refresh-collaborative")
@store_option
@model_option
@click.option(
    "--at",
    type=MOMENT,
    metavar="TIME",
    help="Build the snapshot for requests at this time; format as in `recsys score`. Default: now.",
)
@json_option
def refresh_collaborative(store: str, model: str, at: str | None) -> Report:
    """Build a model's collaborative snapshot again from the clicks in an online store."""
    from pipelines.refresh_collaborative import refresh_collaborative as run_refresh

    return run_refresh(store, model, at=at)


def main() -> None:
    """Run the command line; every error ends in one line and an exit code."""
    one_blas_thread()
    debug = "--debug" in sys.argv[1:2]
    sys.exit(run(lambda: cli(standalone_mode=False), debug=debug))


if __name__ == "__main__":
    main()
