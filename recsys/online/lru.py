"""A bounded memory of what was used last, for several threads."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterable, Sequence
from threading import Lock
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Lru(Generic[Key, Value]):
    """Values under keys; when there are more than `capacity`, those used longest ago go."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._values: OrderedDict[Key, Value] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._values)

    def get_many(self, keys: Sequence[Key]) -> list[Value | None]:
        """The value of each key, None where it is not held."""
        values, held = self._values, []
        with self._lock:
            for key in keys:
                value = values.get(key)
                if value is not None:
                    values.move_to_end(key)
                held.append(value)
        return held

    def put_many(self, items: Iterable[tuple[Key, Value]]) -> None:
        """Hold values, and let go of the oldest beyond the capacity."""
        with self._lock:
            self._values.update(items)
            while len(self._values) > self._capacity:
                self._values.popitem(last=False)
