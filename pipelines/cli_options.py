"""What the commands share: options, and the printing of reports."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, Protocol

import click

from features.atomic_files import replaced_file
from pipelines.cli_types import ENCODING, MODEL, OUT_FILE, OUT_FOLDER, STORE

CONFIG_FILE = click.Path(path_type=Path, dir_okay=False)


class Report(Protocol):
    """What a command did."""

    def as_dict(self) -> dict[str, Any]:
        """For machines."""

    def lines(self) -> list[str]:
        """For people."""


json_file_option = click.option(
    "--json", "json_path", type=OUT_FILE, help="Also write the report as JSON to this file."
)
model_option = click.option(
    "--model", type=MODEL, default="models:/recsys-ranker@champion", show_default=True, help="The ranker."
)
rejects_option = click.option("--rejects", type=OUT_FOLDER, help="Write rows that cannot be used into this folder.")
store_option = click.option(
    "--store",
    type=STORE,
    default="store",
    show_default=True,
    help="Folder or redis:// URL of the online store.",
)


def json_option(command: Callable[..., Report]) -> Callable[..., None]:
    """`--json` of a command, whose report is written to that file and printed."""

    @wraps(command)
    def printed(*args: Any, json_path: Path | None, **rest: Any) -> None:
        print_report(command(*args, **rest), json_path)

    return json_file_option(printed)


_config_option = click.option("--config", "config_path", type=CONFIG_FILE, help="YAML file of settings.")
_setting_option = click.option(
    "--set", "settings", metavar="A.B=C", multiple=True, help="One setting; may be repeated."
)


def config_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The two options that fill the configuration, which the command gets as `config`."""
    return _config_option(_setting_option(_with_config(command)))


def _with_config(command: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(command)
    def with_config(*args: Any, config_path: Path | None, settings: tuple[str, ...], **rest: Any) -> Any:
        from recsys.config import load_config

        return command(*args, config=load_config(config_path, settings), **rest)

    return with_config


_encoding_option = click.option(
    "--encoding", type=ENCODING, help="Encoding of text files, such as gb18030 or cp1252. Default: utf-8."
)
_max_rejects_option = click.option(
    "--max-rejects",
    metavar="SHARE",
    type=click.FloatRange(0, 1),
    help="Largest share of a table's rows that may be rejected. Default: 0.5.",
)


def table_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of a command that reads tables as a configuration says: those that fill it, with `--encoding` and
    `--max-rejects` as two more settings."""
    with_config = _with_config(command)

    @wraps(command)
    def with_settings(
        *args: Any, settings: tuple[str, ...], encoding: str | None, max_rejects: float | None, **rest: Any
    ) -> Any:
        options = {"data.encoding": encoding, "data.max_rejects": max_rejects}
        more = tuple(f"{name}={value}" for name, value in options.items() if value is not None)
        return with_config(*args, settings=(*settings, *more), **rest)

    return _config_option(_setting_option(_encoding_option(_max_rejects_option(with_settings))))


def _folder_setting(name: str, setting: str, help_text: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """An option of a command with `config_options` that is one more setting: a folder."""
    argument = setting.rpartition(".")[2]

    def decorated(command: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(command)
        def with_folder(*args: Any, settings: tuple[str, ...], **rest: Any) -> Any:
            folder = rest.pop(argument)
            more = () if folder is None else (f"{setting}={json.dumps(str(folder), ensure_ascii=False)}",)
            return command(*args, settings=(*settings, *more), **rest)

        return click.option(name, argument, type=OUT_FOLDER, help=help_text)(with_folder)

    return decorated


cache_option = _folder_setting(
    "--cache",
    "serving.model_cache",
    "Folder for copies of the last good versions. Default: STORE.models beside a store that is a folder.",
)
log_option = _folder_setting(
    "--log-rankings",
    "serving.log_rankings",
    "Log answered rankings with their features into this folder, as Parquet; serving.log_share says how many.",
)


def positive_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--positive`, one more setting of a command with `table_options`."""

    @wraps(command)
    def with_rule(*args: Any, settings: tuple[str, ...], positive: str | None, **rest: Any) -> Any:
        more = () if positive is None else (f"data.positive={json.dumps(positive, ensure_ascii=False)}",)
        return command(*args, settings=(*settings, *more), **rest)

    option = click.option(
        "--positive",
        metavar="COLUMN OP NUMBER",
        nargs=3,
        callback=_rule,
        help="Which events are clicks, such as: value '>=' 4. The same as --set 'data.positive=value >= 4'.",
    )
    return option(with_rule)


def _rule(context: click.Context, option: click.Parameter, words: tuple[str, str, str] | None) -> str | None:
    from features.tables.positive_rule import canonical_rule

    try:
        return None if words is None else canonical_rule(" ".join(words))
    except ValueError as error:
        raise click.BadParameter(str(error), context, option) from error


def file_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--encoding` and `--max-rejects` of a command without configuration, which gets them as `files`."""

    @wraps(command)
    def with_files(*args: Any, encoding: str | None, max_rejects: float | None, **rest: Any) -> Any:
        from features.tables.encodings import FileOptions

        options = {"encoding": encoding, "max_rejects": max_rejects}
        files = FileOptions(**{name: value for name, value in options.items() if value is not None})  # type: ignore[arg-type]
        return command(*args, files=files, **rest)

    return _encoding_option(_max_rejects_option(with_files))


def batch_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """How a command that writes a batch does it."""
    rows = click.IntRange(min=1)
    options = (
        click.option(
            "--workers",
            type=click.IntRange(1, 4096),
            help="Processes or actors that score. Default: 1; with --engine ray one a core of the cluster.",
        ),
        click.option(
            "--engine",
            type=click.Choice(("local", "ray")),
            default="local",
            show_default=True,
            help="Score in processes of this machine, or in actors of a Ray cluster.",
        ),
        click.option(
            "--ray-address",
            metavar="ADDRESS",
            help="Of a running cluster: HOST:PORT, ray://HOST:PORT or auto. Default: a cluster of this machine alone.",
        ),
        click.option(
            "--batch-rows",
            default=50_000,
            show_default=True,
            type=rows,
            help="Rows scored together: fewer take less memory. The output is the same.",
        ),
        click.option(
            "--partition-rows", default=200_000, show_default=True, type=rows, help="Candidate rows of an output file."
        ),
    )
    for option in options:
        command = option(command)
    return command


def load_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of every command that puts a table into an online store."""
    return store_option(rejects_option(file_options(command)))


def print_report(report: Report, json_path: Path | None, *, private: bool = False) -> None:
    """Write a report as JSON, where a file is named, and print it. private: its owner alone may read the file."""
    if json_path is not None:
        with replaced_file(json_path) as partial:
            if private:
                partial.unlink(missing_ok=True)
                partial.touch(mode=0o600, exist_ok=False)
            partial.write_text(json.dumps(report.as_dict(), indent=1, allow_nan=False) + "\n", encoding="utf-8")
    click.echo("\n".join(report.lines()))
