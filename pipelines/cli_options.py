"""What the commands share: options, the printing of reports, times on the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import click

FOLDER = click.Path(path_type=Path)
FILE = click.Path(path_type=Path, dir_okay=False)
INPUT = click.Path(path_type=Path)

json_option = click.option("--json", "json_path", type=FILE, help="Also write the report as JSON to this file.")
model_option = click.option("--model", default="models:/recsys-ranker@champion", show_default=True, help="The ranker.")
rejects_option = click.option("--rejects", type=FOLDER, help="Write rows that cannot be used into this folder.")
store_option = click.option(
    "--store", default="store", show_default=True, help="Folder or redis:// URL of the online store."
)


def config_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The two options that fill the configuration."""
    config = click.option("--config", "config_path", type=FILE, help="YAML file of settings.")
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


def moment(text: str | None, option: str = "--at") -> int | None:
    """Microseconds of a time given on the command line."""
    if text is None:
        return None
    from features.observed import clock, doubt_of_time
    from features.times import EXPECTED, moment_of

    found = moment_of(text, "UTC")
    if found is None:
        raise click.BadParameter(f"expected {EXPECTED}, got {text!r}", param_hint=option)
    if doubt := doubt_of_time(found, clock()):
        click.echo(f"warning: {option} {text!r}: {doubt}; is its unit meant?", err=True)
    return found


def write_json(path: Path | None, report: dict[str, Any]) -> None:
    """Write a report to `path`, whole or not at all; nothing where `path` is None."""
    if path is None:
        return
    partial = path.with_name(f".{path.name}.partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial.write_text(json.dumps(report, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    partial.replace(path)
