"""Processes of a test's own that are forked from one which has imported the large libraries.

A test that needs a process, to kill it or to take its disk away, need not wait for a new interpreter to import PyTorch
and MLflow: five to ten seconds of the processor each. Code, folder, environment and output are a process's own; the
large libraries are as they were when the first of them was started, with one thread.
"""

from __future__ import annotations

import atexit
import os
import runpy
import shutil
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import forkserver, get_context
from pathlib import Path

LARGE = (
    "lightgbm",
    "matplotlib.ticker",
    "mlflow.pyfunc",
    "mlflow.store.model_registry.sqlalchemy_store",
    "mlflow.store.tracking.sqlalchemy_store",
    "pandas",
    "pyarrow.parquet",
    "scipy.sparse.linalg",
    "sklearn.feature_extraction.text",
    "torch",
    "transformers.models.bert.modeling_bert",
)
THREADS = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
ROOT = Path(__file__).resolve().parents[1]
_FORKS = get_context("forkserver")


@dataclass(frozen=True)
class Done:
    """What a process left: its exit status, negative for a signal, and what it wrote."""

    returncode: int
    stdout: str
    stderr: str


class Warm:
    """A Python process that runs `arguments`: "-c", code, …, or "-m", module, …, as the interpreter takes them.

    environment: variables beside this process's; None for one that is left out.
    """

    def __init__(self, *arguments: str, cwd: Path | None = None, **environment: str | None) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="warm-process-"))
        variables = os.environ | {"PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": None} | THREADS | environment
        kept = {name: value for name, value in variables.items() if value is not None}
        _start_server()
        self._process = _FORKS.Process(target=_become, args=(arguments, cwd or Path.cwd(), kept, self._folder))
        self._process.start()

    def __enter__(self) -> Warm:
        return self

    def __exit__(self, *_: object) -> None:
        self.send_signal(signal.SIGKILL)
        self._process.join()
        shutil.rmtree(self._folder)

    @property
    def pid(self) -> int | None:
        return self._process.pid

    def poll(self) -> int | None:
        """The exit status, None while the process runs."""
        return self._process.exitcode

    def wait(self, seconds: float = 300) -> int:
        """The exit status; the process is killed where it takes longer."""
        self._process.join(seconds)
        if self._process.exitcode is None:
            self.send_signal(signal.SIGKILL)
            raise AssertionError(f"the process took over {seconds} s: {self.stderr()[-2000:]}")
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        if self._process.is_alive() and self._process.pid is not None:
            os.kill(self._process.pid, number)

    def stdout(self) -> str:
        """What the process has written so far."""
        return self._written("stdout")

    def stderr(self) -> str:
        """What the process has written so far."""
        return self._written("stderr")

    def _written(self, name: str) -> str:
        path = self._folder / name
        return path.read_text(encoding="utf-8") if path.exists() else ""


def run_warm(*arguments: str, cwd: Path | None = None, **environment: str | None) -> Done:
    """Run a Python process to its end; arguments as of `Warm`."""
    with Warm(*arguments, cwd=cwd, **environment) as process:
        return Done(process.wait(), process.stdout(), process.stderr())


def _start_server() -> None:
    """Start the process that all others are forked from, where it does not run yet."""
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(THREADS)
    try:
        _FORKS.set_forkserver_preload(list(LARGE))
        forkserver.ensure_running()
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name)
            else:
                os.environ[name] = value


def _become(arguments: Sequence[str], cwd: Path, environment: Mapping[str, str], folder: Path) -> None:
    """Do in a forked process what the interpreter does with these arguments, its output in two files of a folder."""
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT, 0o600), descriptor)
    sys.stdout, sys.stderr = (os.fdopen(one, "w", buffering=1, encoding="utf-8", closefd=False) for one in (1, 2))
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a run in the background may have been told to ignore it
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:0] = [str(ROOT)]
    kind, what, *rest = arguments
    sys.argv = [kind, *rest]
    try:
        if kind == "-c":
            exec(compile(what, "<string>", "exec"), {"__name__": "__main__"})
        else:
            runpy.run_module(what, run_name="__main__", alter_sys=True)
    finally:
        atexit._run_exitfuncs()
