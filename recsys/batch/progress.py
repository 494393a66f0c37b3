"""How far a long run is: a bar on a terminal, elsewhere a line now and then."""

from __future__ import annotations

import logging
import sys
from time import monotonic

from tqdm import tqdm

log = logging.getLogger(__name__)

_LINE_SECONDS = 30


class RunProgress:
    """Counts what is done. title: of the run. unit: a noun for what is counted. total: how many there are, None where
    that is not known."""

    def __init__(self, title: str, unit: str, total: int | None = None) -> None:
        self._title, self._unit, self._total = title, unit, total
        self._bar = tqdm(desc=title, total=total, unit=unit, unit_scale=True, disable=not sys.stderr.isatty())
        self._done, self._said = 0, monotonic()

    def __enter__(self) -> RunProgress:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def add(self, number: int) -> None:
        """Count so many more that are done."""
        self._bar.update(number)
        self._done += number
        if self._bar.disable and monotonic() - self._said > _LINE_SECONDS:
            of_all = "" if self._total is None else f" of {self._total:,}"
            log.info("%s: %s%s %ss are done", self._title, f"{self._done:,}", of_all, self._unit)
            self._said = monotonic()
