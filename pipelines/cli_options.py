"""What the commands share: options, and the printing of reports."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, Protocol

import click

from features.atomic_files import replaced_file
from pipelines.cli_types import InputFolder, InputPath, ModelUri, Moment, NewName, OutputFile, OutputFolder, Store

FOLDER = InputFolder("folder")
INPUT = InputPath("path")
OUT_FOLDER = OutputFolder("folder")
OUT_FILE = OutputFile("file")
CONFIG_FILE = click.Path(path_type=Path, dir_okay=False)
NEW_NAME = NewName("name")
MODEL = ModelUri("uri")
MOMENT = Moment("time")

json_option = click.option("--json", "json_path", type=OUT_FILE, help="Also write the report as JSON to this file.")
model_option = click.option(
    "--model", type=MODEL, default="models:/recsys-ranker@champion", show_default=True, help="The ranker."
)
rejects_option = click.option("--rejects", type=OUT_FOLDER, help="Write rows that cannot be used into this folder.")
store_option = click.option(
    "--store",
    type=Store("place"),
    default="store",
    show_default=True,
    help="Folder or redis:// URL of the online store.",
)


def config_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The two options that fill the configuration."""
    config = click.option("--config", "config_path", type=CONFIG_FILE, help="YAML file of settings.")
    setting = click.option("--set", "settings", metavar="A.B=C", multiple=True, help="One setting; may be repeated.")
    return config(setting(command))


def _encoding(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    from features.errors import InputError
    from features.tables.encodings import check_encoding

    try:
        return None if value is None else check_encoding(value)
    except InputError as error:
        raise click.BadParameter(str(error)) from error


_encoding_option = click.option(
    "--encoding", callback=_encoding, help="Encoding of text files, such as gb18030 or cp1252. Default: utf-8."
)
_max_rejects_option = click.option(
    "--max-rejects",
    metavar="SHARE",
    type=click.FloatRange(0, 1),
    help="Largest share of a table's rows that may be rejected. Default: 0.5.",
)


def table_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of a command that reads tables as a configuration says: those that fill it, `--encoding` and
    `--max-rejects` among them, which the command gets as two more of its `settings`."""

    @wraps(command)
    def with_settings(
        *args: Any, settings: tuple[str, ...], encoding: str | None, max_rejects: float | None, **rest: Any
    ) -> Any:
        given = {"data.encoding": encoding, "data.max_rejects": max_rejects}
        more = tuple(f"{name}={value}" for name, value in given.items() if value is not None)
        return command(*args, settings=(*settings, *more), **rest)

    return config_options(_encoding_option(_max_rejects_option(with_settings)))


def file_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--encoding` and `--max-rejects` of a command without configuration, which gets them as `files`."""

    @wraps(command)
    def with_files(*args: Any, encoding: str | None, max_rejects: float | None, **rest: Any) -> Any:
        from features.tables.encodings import FileOptions

        given = {"encoding": encoding, "max_rejects": max_rejects}
        files = FileOptions(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]
        return command(*args, files=files, **rest)

    return _encoding_option(_max_rejects_option(with_files))


class Report(Protocol):
    """What a command found and did."""

    def as_dict(self) -> dict[str, Any]:
        """For machines."""

    def lines(self) -> list[str]:
        """For people."""


def print_report(report: Report, json_path: Path | None) -> None:
    """Write a report as JSON, where a file is named, and print it."""
    write_json(json_path, report.as_dict())
    click.echo("\n".join(report.lines()))


def write_json(path: Path | None, report: dict[str, Any]) -> None:
    """Write a report to `path`, whole or not at all; nothing where `path` is None."""
    if path is None:
        return
    with replaced_file(path) as partial:
        partial.write_text(json.dumps(report, indent=1, allow_nan=False) + "\n", encoding="utf-8")
