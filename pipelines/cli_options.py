"""What the commands share: options, and the printing of reports."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import click

from features.outputs import replaced_file
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
