"""A thread-safe cache of the values that were used last."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Sequence
from threading import Lock
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Lru(Generic[Key, Value]):
    """Values by key; beyond `capacity` the least recently used are dropped."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._values: OrderedDict[Key, Value] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._values)

    def get_many(self, keys: Sequence[Key]) -> list[Value | None]:
        """The value of each key, None where it is not in the cache."""
        values, held = self._values, []
        with self._lock:
            for key in keys:
                value = values.get(key)
                if value is not None:
                    values.move_to_end(key)
                held.append(value)
        return held

    def get_or_compute(self, keys: Sequence[Key], compute: Callable[[list[Key]], Iterable[Value]]) -> list[Value]:
        """The value of each key; `compute` gives those of the distinct keys that are not in the cache."""
        cached = self.get_many(keys)
        missing = list(dict.fromkeys(key for key, value in zip(keys, cached, strict=True) if value is None))
        if not missing:
            return [value for value in cached if value is not None]
        computed = dict(zip(missing, compute(missing), strict=True))
        self.put_many(computed.items())
        return [computed[key] if value is None else value for key, value in zip(keys, cached, strict=True)]

    def put_many(self, items: Iterable[tuple[Key, Value]]) -> None:
        """Store values, and drop the least recently used beyond the capacity."""
        with self._lock:
            self._values.update(items)
            while len(self._values) > self._capacity:
                self._values.popitem(last=False)
