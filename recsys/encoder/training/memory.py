"""Memory that was freed, given back to the system."""

from __future__ import annotations

import ctypes
import sys


def give_back() -> None:
    """Return what the C library's allocator keeps for reuse; a no-op where it has no such call (it is glibc's).

    Tensors of all sizes leave holes that the next ones do not fit, so a training grows without it.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
