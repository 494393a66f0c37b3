"""What others parse keeps its names: the keys of `recsys train --json` and the HTTP schema are those of version 0.1.0.

A key that is added, renamed or removed changes a file of tests/fixtures/interfaces and docs: change them together.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).parent / "fixtures" / "interfaces"


def key_paths(value: object, path: str = "") -> set[str]:
    """Every path of keys in a JSON value, such as `/test/methods/ranker`; elements of lists share one."""
    if isinstance(value, dict):
        return {path or "/"}.union(*(key_paths(entry, f"{path}/{key}") for key, entry in value.items()))
    if isinstance(value, list):
        return {path}.union(*(key_paths(entry, f"{path}[]") for entry in value))
    return {path}


def schema_paths(document: dict[str, Any]) -> set[str]:
    """Operations with their parameters and status codes, and the properties of all schemas with their types."""
    paths = set()
    for route, operations in document["paths"].items():
        for method, operation in operations.items():
            name = f"{method.upper()} {route}"
            paths |= {name} | {f"{name} answers {status}" for status in operation["responses"]}
            paths |= {f"{name} parameter {parameter['name']}" for parameter in operation.get("parameters", ())}
    for name, schema in document["components"]["schemas"].items():
        for field, entry in schema.get("properties", {}).items():
            required = "required" if field in schema.get("required", ()) else "optional"
            types = sorted(str(choice.get("type", choice.get("$ref"))) for choice in entry.get("anyOf", ()))
            paths.add(f"{name}.{field}: {entry.get('type') or '|'.join(types)}, {required}")
    return paths


def recorded_paths(name: str) -> list[str]:
    """The paths of a file of tests/fixtures/interfaces."""
    paths: list[str] = json.loads((_FOLDER / f"{name}.json").read_text())
    return paths
