"""What a command loads and sets before it works: nothing that it does not use, and one BLAS thread."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "transformers", "mlflow", "lightgbm", "sklearn", "matplotlib", "fastapi")
OF_MODELS = ("torch", "transformers", "lightgbm", "sklearn", "numba")

LOADED = f"""
import json, sys
from pipelines import cli
code = cli.run(lambda: cli.cli(sys.argv[1:], standalone_mode=False))
print(json.dumps([code, [name for name in {HEAVY!r} if name in sys.modules]]))
"""

THREADS = """
import json, sys
first = sys.argv[1]
del sys.argv[1]
if first == "numpy":
    import numpy
from pipelines import cli
try:
    cli.main()
except SystemExit as leaving:
    code = leaving.code
import scipy.linalg, torch
from threadpoolctl import threadpool_info
found = {(one["user_api"], one["num_threads"]) for one in threadpool_info()}
print(json.dumps([code, sorted(found), torch.get_num_threads()]))
"""


def last_line(code: str, *arguments: str, home: Path, **environment: str) -> list[object]:
    """What a Python process prints last, as JSON."""
    kept = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=home,
        env=kept | {"PYTHONPATH": str(Path(__file__).resolve().parents[1])} | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    found: list[object] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder with tiny tables in `data`."""
    data = tmp_path / "data"
    data.mkdir()
    titles = ["item_id,title,category", *(f"i{i},Title {i},c{i % 2}" for i in range(6))]
    clicks = ["user_id,item_id,timestamp", *(f"u{i % 3},i{i % 6},{1_700_000_000 + 60 * i}" for i in range(18))]
    for name, lines in (("items", titles), ("events", clicks), ("users", ["user_id,country", "u1,NZ"])):
        (data / f"{name}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--help",), 0),
        (("train", "--help"), 0),
        (("data", "validate", "data"), 0),
        (("data", "slates", "data", "--size", "3"), 0),
        (("data", "simulate", "site", "--items", "60", "--users", "5", "--impressions", "5"), 0),
        (("features", "list"), 0),
        (("features", "list", "data"), 0),
        (("load-users", "data/users.csv", "--store", "none"), 1),
        (("train", "data", "--name", "a:b"), 2),
        (("score", "data", "--candidates", "none", "--out", "out"), 1),
        (("keys", "list"), 1),
        (("serve", "--set", "serving.worker=1"), 1),
    ],
)
def test_a_command_loads_nothing_that_it_does_not_use(home: Path, arguments: tuple[str, ...], code: int) -> None:
    assert last_line(LOADED, *arguments, home=home) == [code, []]


@pytest.mark.parametrize(("command", "expected"), [("rollback", 1), ("runs", 0)])
def test_what_only_asks_mlflow_loads_no_model(home: Path, command: str, expected: int) -> None:
    assert last_line(LOADED.replace(repr(HEAVY), repr(OF_MODELS)), command, home=home) == [expected, []]


@pytest.mark.parametrize("first", ["nothing", "numpy"])
def test_a_command_gives_blas_one_thread_and_leaves_torch_its_own(home: Path, first: str) -> None:
    code, found, torch_threads = last_line(THREADS, first, "data", "validate", "data", home=home, OMP_NUM_THREADS="2")
    assert code == 0
    assert [n for api, n in found if api == "blas"] == [1]  # type: ignore[attr-defined]
    assert {n for api, n in found if api == "openmp"} == {2}  # type: ignore[attr-defined]
    assert torch_threads == 2


def test_threads_that_the_environment_names_are_kept(home: Path) -> None:
    code = "import os, sys; from pipelines.process import one_blas_thread; one_blas_thread(); print(dict(os.environ))"
    kept = "import json, os; " + code.replace("print(dict(os.environ))", "print(json.dumps(dict(os.environ)))")
    environment = last_line(kept, home=home, OPENBLAS_NUM_THREADS="3", MKL_NUM_THREADS="4")
    assert (environment["OPENBLAS_NUM_THREADS"], environment["BLIS_NUM_THREADS"]) == ("3", "1")  # type: ignore[call-overload]
    assert (environment["MKL_NUM_THREADS"], environment.get("OMP_NUM_THREADS")) == ("4", None)  # type: ignore[call-overload,attr-defined]
