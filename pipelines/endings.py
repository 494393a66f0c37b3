"""How a command ends: its exit code, and for whatever goes wrong one line on standard error.

Exit 0 on success, 2 on bad arguments, 1 on anything else, with one line that says what was expected and what came.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable

import click

from features.atomic_files import NO_SPACE
from features.errors import RecsysError

_NO_SPACE = re.compile(r"No space left on device|File too large|Disk quota exceeded")


def run(command: Callable[[], object], *, debug: bool = False) -> int:
    """Call `command` and turn what it raises into a line on standard error and an exit code."""
    try:
        left = command()
    except click.exceptions.Exit as leaving:
        return leaving.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.exceptions.Abort) as stopped:
        return _fail(f"interrupted; {_what_is_left(stopped)}")
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if debug:
            raise
        return _fail(one_line(error))
    return left if isinstance(left, int) else 0


def _what_is_left(stopped: BaseException) -> str:
    """What an interrupted command says of itself; click has its own exception for Ctrl-C, whose cause is ours."""
    cause = stopped if isinstance(stopped, KeyboardInterrupt) else stopped.__cause__
    return str(cause or "") or "nothing half-written was left behind"


def one_line(error: BaseException) -> str:
    """What went wrong in one line: our errors say it themselves, others get their type's name."""
    text = " ".join(str(error).split())
    if isinstance(error, RecsysError):
        return text
    if isinstance(error, OSError) and error.errno in NO_SPACE:
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
