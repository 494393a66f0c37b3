"""Changes of several threads, written together: one transaction, and one wait for the disk, for all that have come.

A thread hands in its change and waits for its turn. The thread whose turn it is writes everything that was handed in
so far, in that order, while others go on handing in; those find their changes written when their turns come.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Generic, TypeVar

from features.errors import StoreError

Change = TypeVar("Change")


@dataclass(eq=False)
class _Waiting(Generic[Change]):
    """A change that was handed in. size: of it, in rows. error: why it could not be written."""

    change: Change
    size: int
    written: bool = False
    error: Exception | None = None


class GroupCommit(Generic[Change]):
    """Writes changes in groups. Safe for threads."""

    def __init__(self, write: Callable[[Sequence[Change]], None], *, most: int) -> None:
        """write: writes changes whole, in their order and durably, or raises and writes none. most: rows of a group;
        one change alone may have more."""
        self._write = write
        self._most = most
        self._waiting: deque[_Waiting[Change]] = deque()
        self._turn = Lock()

    @property
    def waiting(self) -> int:
        """How many changes wait for their turn."""
        return len(self._waiting)

    def add(self, change: Change, *, size: int) -> None:
        """Write a change of so many rows; it is written on return. Raises what `write` raises. A group that a change is
        at fault for is tried again change by change; after a StoreError it is not, since it may be kept."""
        mine = _Waiting(change, size)
        self._waiting.append(mine)
        while not mine.written:
            with self._turn:
                if not mine.written:
                    self._write_next(mine)
        if mine.error is not None:
            raise mine.error

    def _write_next(self, mine: _Waiting[Change]) -> None:
        """Write the changes whose turn it is. When this thread is interrupted, those of others are left to them."""
        group: list[_Waiting[Change]] = []
        try:
            group.append(self._waiting.popleft())
            rows = group[0].size
            while self._waiting and rows + self._waiting[0].size <= self._most:
                group.append(self._waiting.popleft())
                rows += group[-1].size
            self._write_group(group)
        except BaseException:
            self._waiting.extendleft(one for one in reversed(group) if one is not mine and not one.written)
            raise

    def _write_group(self, group: Sequence[_Waiting[Change]]) -> None:
        try:
            self._write([one.change for one in group])
        except StoreError as error:
            for one in group:
                one.error = error
        except Exception as error:
            if len(group) > 1:
                for one in group:
                    self._write_group([one])
                return
            group[0].error = error
        for one in group:
            one.written = True
