"""`python tests/lowest_versions.py`: the lowest version that pyproject.toml allows of each dependency, as constraints.

PyTorch is left out: its releases differ by device, and one that is installed is kept. Needs nothing but Python.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"
FLOOR = re.compile(r"(?P<name>[\w.-]+)(\[[\w,]+\])?[>=]=(?P<version>[\w.]+)(\s*;.*)?")


def requirements() -> list[str]:
    """Every requirement of the project and of its extras."""
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    return [one for group in (project["dependencies"], *project["optional-dependencies"].values()) for one in group]


def lowest(requirement: str) -> str:
    """`numpy>=2.0` as `numpy==2.0`."""
    found = FLOOR.fullmatch(requirement)
    if found is None:
        raise ValueError(
            f"requirement {requirement!r} of pyproject.toml: expected NAME>=VERSION, a floor that is tested"
        )
    return f"{found['name']}=={found['version']}"


if __name__ == "__main__":
    print("\n".join(lowest(one) for one in requirements() if not one.startswith("torch>=")))
