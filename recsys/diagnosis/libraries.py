"""Python and the libraries, against the floors that the installed package names. It imports none of them."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from importlib import metadata

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from recsys.diagnosis.check import BROKEN, NOTE, OK, Check

PACKAGE = "recsys"
_INSTALL = "run `make setup`, or pip install -c constraints.txt ."
_DEVELOPMENT = ("dev", "bench")


def library_checks() -> Iterator[Check]:
    """Python, what every command needs, and one check for each extra."""
    try:
        required = metadata.requires(PACKAGE) or []
        python = SpecifierSet(str(metadata.metadata(PACKAGE)["Requires-Python"]))
    except metadata.PackageNotFoundError:
        yield Check("libraries", BROKEN, f"{PACKAGE} is not installed as a package, its floors are unknown", _INSTALL)
        return
    running = platform.python_version()
    yield Check("python", *((OK, running) if running in python else (BROKEN, f"{running}, expected {python}")))
    requirements = [Requirement(text) for text in required]
    yield _needed([one for one in requirements if _applies(one, "")])
    extras = metadata.metadata(PACKAGE).get_all("Provides-Extra") or []
    for extra in extras:
        if extra not in _DEVELOPMENT:
            yield _extra(extra, [one for one in requirements if _applies(one, extra) and not _applies(one, "")])


def _needed(requirements: list[Requirement]) -> Check:
    problems = [problem for one in requirements if (problem := _problem(one))]
    if problems:
        return Check("libraries", BROKEN, "; ".join(problems), _INSTALL)
    return Check("libraries", OK, f"{len(requirements)} at or above their floors")


def _extra(extra: str, requirements: list[Requirement]) -> Check:
    problems = [problem for one in requirements if (problem := _problem(one))]
    name = f"extra {extra}"
    if not problems:
        found = ", ".join(f"{one.name} {metadata.version(one.name)}" for one in requirements)
        return Check(name, OK, found)
    return Check(name, NOTE, "; ".join(problems), f"pip install '{PACKAGE}[{extra}]' for what it adds")


def _applies(requirement: Requirement, extra: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def _problem(requirement: Requirement) -> str:
    try:
        version = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return f"{requirement.name} is not installed"
    if requirement.specifier.contains(version, prereleases=True):
        return ""
    return f"{requirement.name} {version}, expected {requirement.specifier}"
