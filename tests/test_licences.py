"""The check of third-party licences: which expressions pass, and that every runtime package is looked at."""

from __future__ import annotations

import tomllib

import pytest
from documents import ROOT, read
from licences import EXCEPTIONS, RUNTIME_EXTRAS, Licensed, is_permissive, runtime_packages


@pytest.mark.parametrize(
    ("licence", "passes"),
    [
        ("MIT", True),
        ("BSD-2-Clause AND Apache-2.0 WITH LLVM-exception", True),
        ("GPL-3.0-only OR MIT", True),
        ("MPL-2.0 AND (Apache-2.0 OR MIT)", False),
        ("MIT AND GPL-3.0-only", False),
        ("GPL-3.0-only", False),
        ("", False),
    ],
)
def test_a_licence_passes_where_every_part_of_it_is_permissive(licence: str, passes: bool) -> None:
    assert is_permissive(licence) == passes
    assert (Licensed("anything", "1", licence).reason is not None) == passes


def test_an_exception_holds_for_the_licence_that_was_read() -> None:
    licence, reason = EXCEPTIONS["certifi"]
    assert Licensed("certifi", "1", licence).reason == reason
    assert Licensed("certifi", "1", "GPL-3.0-only").reason is None


def test_every_requirement_of_the_project_is_looked_at_and_what_it_needs_in_turn() -> None:
    project = tomllib.loads(read(ROOT / "pyproject.toml"))["project"]
    requirements = [*project["dependencies"], *(x for e in RUNTIME_EXTRAS for x in project["optional-dependencies"][e])]
    names = {package.name.lower().replace("_", "-") for package in runtime_packages(requirements)}
    assert {"torch", "mlflow", "redis", "hiredis", "openvino", "starlette", "certifi"} <= names
    assert not {"pytest", "ruff", "mypy"} & names
