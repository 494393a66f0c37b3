"""Report values as JSON values."""

from __future__ import annotations

from typing import Any

from pydantic_core import to_jsonable_python


def jsonable(value: object) -> Any:
    """Dataclasses and mappings as dicts, tuples as lists, NaN and infinity as None.

    >>> jsonable({"mean": float("nan"), "runs": (1, 2)})
    {'mean': None, 'runs': [1, 2]}
    """
    return to_jsonable_python(value, inf_nan_mode="null")
