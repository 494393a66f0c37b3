"""The process of a command: its BLAS threads, its exit code, and one line for an error.

Exit 0 on success, 2 on bad arguments, 1 on anything else, with one line that says what was expected and what came.

BLAS gets one thread: requests and chunks are what this project runs side by side, on threads of its own, and a matrix
product that takes threads as well makes each of those wait for the others. NumPy's and SciPy's wheels bring OpenBLAS;
Accelerate and BLIS are set the same way. MKL and OpenMP are left alone, since torch and LightGBM take their own number
of threads from them (`threads`, `serving.threads`).
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Callable

import click

from features.atomic_files import NO_SPACE
from features.errors import RecsysError

_VARIABLES = ("OPENBLAS_NUM_THREADS", "BLIS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
_LOADED = {"openblas": "OPENBLAS_NUM_THREADS", "blis": "BLIS_NUM_THREADS"}
_NO_SPACE = re.compile(r"No space left on device|File too large|Disk quota exceeded")


def one_blas_thread() -> None:
    """Give BLAS one thread in this process and in those that it starts, unless the environment says otherwise.

    A library reads its variable when it is loaded, so this is called before NumPy is imported; those already
    loaded are set directly.
    """
    set_by_user = {variable for variable in _VARIABLES if variable in os.environ}
    for variable in _VARIABLES:
        os.environ.setdefault(variable, "1")
    if "numpy" in sys.modules:
        from threadpoolctl import ThreadpoolController

        libraries = [library for library, variable in _LOADED.items() if variable not in set_by_user]
        ThreadpoolController().select(internal_api=libraries).limit(limits=1)


def log_to_stderr(process: str = "", *, as_json: bool = False) -> None:
    """Let the log of this process go to standard error. process: its name, with which each line begins. as_json: one
    object a line."""
    before = f"{process}: " if process else ""
    logging.basicConfig(level=logging.INFO, format=f"{before}%(message)s", stream=sys.stderr)
    if as_json:
        from recsys.serving.json_logs import JsonFormatter

        for handler in logging.getLogger().handlers:
            handler.setFormatter(JsonFormatter(process))
    for noisy in ("httpx", "urllib3", "mlflow", "alembic", "matplotlib"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def run(command: Callable[[], object], *, debug: bool = False) -> int:
    """Call `command` and turn what it raises into a line on standard error and an exit code."""
    try:
        result = command()
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.exceptions.Abort) as stopped:
        return _fail(f"interrupted; {_interruption_note(stopped)}")
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if debug:
            raise
        return _fail(one_line(error))
    return result if isinstance(result, int) else 0


def _interruption_note(stopped: BaseException) -> str:
    """The message of an interrupted command; click has its own exception for Ctrl-C, whose cause is ours."""
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
    if _NO_SPACE.search(text):  # errors of libraries that write files themselves
        return f"cannot write: {text}; free some disk space and run the command again"
    if database := re.search(r"\(sqlite3\.OperationalError\) ([^\[(]+)", text):
        return (
            f"MLflow's database, see MLFLOW_TRACKING_URI: expected one that can be read and written, got: "
            f"{database[1].strip()}; free some disk space or check the file's permissions, and run the command again"
        )
    if isinstance(error, OSError) and error.filename:
        return f"{str(error.filename)!r}: {error.strerror}"
    return f"{type(error).__name__}: {text} (recsys --debug COMMAND shows where)"


def _fail(line: str) -> int:
    print(f"error: {line}", file=sys.stderr)
    return 1
