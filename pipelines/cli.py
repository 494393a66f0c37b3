"""The command line: `recsys COMMAND`. Each command's work is in the module of its name; this file reads arguments.

Exit 0 on success, 2 on bad arguments, 1 on anything else, with one line that says what was expected and what came.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from features.errors import RecsysError

FOLDER = click.Path(path_type=Path)
FILE = click.Path(path_type=Path, dir_okay=False)
INPUT = click.Path(path_type=Path)

json_option = click.option("--json", "json_path", type=FILE, help="Also write the report as JSON to this file.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def cli(debug: bool) -> None:
    """Rank candidate items for users by text and behaviour."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for noisy in ("httpx", "urllib3", "mlflow", "alembic", "matplotlib"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


@cli.group()
def data() -> None:
    """Import, simulate and check input tables."""


@cli.command()
@click.argument("folder", metavar="DIR", type=FOLDER)
@click.option("--config", "config_path", type=FILE, help="YAML file of settings.")
@click.option("--set", "settings", metavar="A.B=C", multiple=True, help="One setting; may be given again.")
@click.option("--name", default="recsys", show_default=True, help="Registers NAME-encoder and NAME-ranker.")
@json_option
def train(folder: Path, config_path: Path | None, settings: tuple[str, ...], name: str, json_path: Path | None) -> None:
    """Train, evaluate and register both models on the tables in DIR."""
    from pipelines.train import train as run_training
    from recsys.config import load_config

    report = run_training(folder, load_config(config_path, settings), name=name)
    write_json(json_path, report.as_dict())
    click.echo("\n".join(report.lines()))


def write_json(path: Path | None, report: dict[str, Any]) -> None:
    """Write a report to `path`, whole or not at all; nothing where `path` is None."""
    if path is None:
        return
    partial = path.with_name(f".{path.name}.partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial.write_text(json.dumps(report, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    partial.replace(path)


def main() -> None:
    """Run the command line; every error ends in one line and an exit code."""
    debug = "--debug" in sys.argv[1:2]
    sys.exit(run(lambda: cli(standalone_mode=False), debug=debug))


def run(command: Callable[[], object], *, debug: bool = False) -> int:
    """Call `command` and turn what it raises into a line on standard error and an exit code."""
    try:
        command()
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
    return 0


def one_line(error: BaseException) -> str:
    """What went wrong in one line: our errors say it themselves, others get their type's name."""
    text = " ".join(str(error).split())
    if isinstance(error, RecsysError):
        return text
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
        where = f" {str(error.filename)!r}" if error.filename else ""
        return f"cannot write{where}: {error.strerror or text}; free some disk space and run the command again"
    if isinstance(error, OSError) and error.filename:
        return f"{str(error.filename)!r}: {error.strerror}"
    return f"{type(error).__name__}: {text} (recsys --debug COMMAND shows where)"


def _fail(line: str) -> int:
    print(f"error: {line}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    main()
