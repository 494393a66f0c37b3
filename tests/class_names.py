"""`python tests/class_names.py`: fails where a class name of the three packages stands for two things."""

from __future__ import annotations

import ast
import sys
from collections import defaultdict
from pathlib import Path

PACKAGES = ("features", "recsys", "pipelines")


def defined_twice(root: Path) -> dict[str, list[str]]:
    """Class names that more than one `class` statement defines, with file and line of each."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ClassDef):
                    found[node.name].append(f"{path.relative_to(root)}:{node.lineno}")
    return {name: places for name, places in found.items() if len(places) > 1}


if __name__ == "__main__":
    twice = defined_twice(Path(__file__).resolve().parents[1])
    for name, places in sorted(twice.items()):
        print(f"class {name} is defined at {' and '.join(places)}; expected one name for one thing: rename one of them")
    sys.exit(bool(twice))
