"""What belongs to the request that is being answered: its id, for the log, and its trace, where one is recorded.

Both follow a request into the threads that work on it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
"""Of the request that is being answered."""
open_span: ContextVar[Callable[[str], AbstractContextManager[object]] | None] = ContextVar("open_span", default=None)
"""Begins a span of the request's trace, by its name; None where none is recorded."""


def span(name: str) -> AbstractContextManager[object]:
    """A part of the request's trace, as long as the context lasts."""
    opening = open_span.get()
    return nullcontext() if opening is None else opening(name)
