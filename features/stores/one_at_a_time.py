"""Work on a store that one process does at a time, while others wait for it or leave it to that one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from features.stores.base import KeyValueStore

_WAIT_SECONDS = 0.2


@contextmanager
def one_at_a_time(store: KeyValueStore, name: str, *, giving_up: Callable[[], bool]) -> Iterator[bool]:
    """Wait until no other process that uses the store is in a block of this name. giving_up: asked while another one
    is; once it is true the block gets False.
    """
    while True:
        with store.hold(name) as held:
            if held or giving_up():
                yield held
                return
        time.sleep(_WAIT_SECONDS)
