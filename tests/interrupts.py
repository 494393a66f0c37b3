"""An interrupt at a line of the encoder training's log, as Ctrl-C would come."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

LOGGER = logging.getLogger("recsys.encoder.training.early_stopping")


@contextmanager
def interrupted_at(text: str) -> Iterator[list[str]]:
    """Raise KeyboardInterrupt at the first message with `text`; the messages up to it."""
    messages: list[str] = []

    def interrupt(record: logging.LogRecord) -> bool:
        messages.append(record.getMessage())
        if text in messages[-1]:
            raise KeyboardInterrupt
        return True

    level = LOGGER.level
    LOGGER.setLevel(logging.INFO)
    LOGGER.addFilter(interrupt)
    try:
        yield messages
    finally:
        LOGGER.removeFilter(interrupt)
        LOGGER.setLevel(level)
