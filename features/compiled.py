"""Loops over candidates that are compiled by numba: in-order float64 arithmetic, the same bits on every CPU.

Compiled code is kept on disk beside the module, or in the user's cache folder (`NUMBA_CACHE_DIR` names another); where
neither can be written, every process compiles again, which takes some seconds. The cache notices changes of a
function's own file alone: a compiled function calls none of another file, and gets their constants as arguments.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """The function, compiled at its first call; it releases the GIL. It reorders no sum and fuses no operations."""
    options: dict[str, Any] = {"nogil": True, "fastmath": False, "error_model": "numpy"}
    try:
        made: Any = numba.njit(cache=True, **options)(function)
    except RuntimeError:  # no folder for the cache can be written
        made = numba.njit(**options)(function)
    return cast("Function", made)
