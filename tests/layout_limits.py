"""`python tests/layout_limits.py`: fails where the three packages outgrow the limits of their layout.

At the top of features stand at most 12 modules, of recsys 3; in pipelines one for each command, `cli*.py`, and at most
8 that commands share. No module is longer than 350 lines, no function than 60.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

PACKAGES = ("features", "recsys", "pipelines")
MOST_AT_TOP = {"features": 12, "recsys": 3}
MOST_SHARED = 8
MODULE_LINES, FUNCTION_LINES = 350, 60
COMMANDS = frozenset(
    (
        "ablate",
        "audit",
        "candidates",
        "compare",
        "demo",
        "doctor",
        "evaluate",
        "keys",
        "list_features",
        "load",
        "load_users",
        "monitor",
        "promote",
        "recommend",
        "refresh_collaborative",
        "retrain",
        "reproduce",
        "rollback",
        "runs",
        "score",
        "serve",
        "simulate",
        "store",
        "train",
    )
)
"""Modules of pipelines that are a command each; add a new command here."""


def problems(root: Path) -> Iterator[str]:
    """One line for each limit that is passed."""
    for package, most in MOST_AT_TOP.items():
        names = _modules(root / package)
        if len(names) > most:
            yield f"{package}/: {len(names)} modules at its top, expected at most {most}: move some into a sub-package"
    shared = [name for name in _modules(root / "pipelines") if name not in COMMANDS and not name.startswith("cli")]
    shared.remove("__init__")
    if len(shared) > MOST_SHARED:
        yield f"pipelines/: {len(shared)} modules beside the commands, expected at most {MOST_SHARED}: {shared}"
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            yield from _long_code(path, str(path.relative_to(root)))


def _modules(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.glob("*.py"))


def _long_code(path: Path, name: str) -> Iterator[str]:
    source = path.read_text(encoding="utf-8")
    n_lines = len(source.splitlines())
    if n_lines > MODULE_LINES:
        yield f"{name}: {n_lines} lines, expected at most {MODULE_LINES}: split it by concept"
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            n_lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if n_lines > FUNCTION_LINES:
                yield f"{name}:{node.lineno}: {node.name} has {n_lines} lines, expected at most {FUNCTION_LINES}"


if __name__ == "__main__":
    lines = list(problems(Path(__file__).resolve().parents[1]))
    for line in lines:
        print(line)
    sys.exit(bool(lines))
