"""The wheel: every package, every data file, the entry points; `make demo` installs no extras of development."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from documents import ROOT, read

PACKAGES = ("features", "recsys", "pipelines")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel of a copy of the project, so that no earlier build is mixed in."""
    copy = tmp_path_factory.mktemp("project")
    for name in PACKAGES:
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    code = "from setuptools import build_meta; build_meta.build_wheel('dist')"
    subprocess.run([sys.executable, "-c", code], cwd=copy, check=True, capture_output=True, text=True)
    return zipfile.ZipFile(next((copy / "dist").glob("*.whl")))


def files_of(package: str) -> set[str]:
    folder = ROOT / package
    return {
        str(path.relative_to(ROOT))
        for path in folder.rglob("*")
        if path.is_file() and path.parent.name != "__pycache__"
    }


@pytest.mark.parametrize("package", PACKAGES)
def test_the_wheel_holds_every_file_of_a_package(package: str, wheel: zipfile.ZipFile) -> None:
    assert files_of(package) == {name for name in wheel.namelist() if name.startswith(f"{package}/")}


def test_the_wheel_holds_nothing_but_the_packages(wheel: zipfile.ZipFile) -> None:
    roots = {name.partition("/")[0] for name in wheel.namelist()}
    assert {root for root in roots if not root.endswith(".dist-info")} == set(PACKAGES)


def test_the_entry_points_of_the_wheel_name_functions_that_exist(wheel: zipfile.ZipFile) -> None:
    from pipelines import cli
    from recsys.mlflow_evaluator.evaluator import RankerEvaluator

    name = next(name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    text = wheel.read(name).decode()
    assert f"recsys = {cli.__name__}:{cli.main.__name__}" in text
    assert f"recsys = {RankerEvaluator.__module__}:{RankerEvaluator.__name__}" in text


def commands_of_make(target: str, folder: Path) -> str:
    """What `make` would run for a target where nothing is installed yet."""
    shutil.copy(ROOT / "Makefile", folder)
    for name in ("pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, folder)
    return subprocess.run(["make", "-n", target], cwd=folder, check=True, capture_output=True, text=True).stdout


def test_the_demo_installs_no_extra_and_tests_install_all(tmp_path: Path) -> None:
    extras = set(tomllib.loads(read(ROOT / "pyproject.toml"))["project"]["optional-dependencies"])
    assert ".[" not in commands_of_make("demo", tmp_path)
    for target in ("test", "check", "bench"):
        assert f".[{','.join(sorted(extras))}]" in sort_extras(commands_of_make(target, tmp_path))


def sort_extras(text: str) -> str:
    """The text with the extras of an installation in alphabetical order."""
    before, _, rest = text.partition(".[")
    names, _, after = rest.partition("]")
    return f"{before}.[{','.join(sorted(names.split(',')))}]{after}"


def test_the_readme_and_the_demo_agree_on_how_a_wheel_runs_it() -> None:
    assert "python -m pipelines.demo" in read(ROOT / "README.md")
    version = tomllib.loads(read(ROOT / "pyproject.toml"))["project"]["version"]
    assert f"recsys-{version}-py3-none-any.whl" in read(ROOT / "README.md")
    assert f"## [{version}]" in read(ROOT / "CHANGELOG.md")
