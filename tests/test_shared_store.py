"""One store that several processes use: names that one at a time has, and what a killed reader leaves."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from threading import Thread

import lmdb
from warm_process import Warm, run_warm

from features.stores.one_at_a_time import one_at_a_time
from features.stores.open import open_store

OPEN = (
    "import sys, time; from pathlib import Path; from features.stores.lmdb_store import LmdbStore; "
    "s = LmdbStore(Path(sys.argv[1]))"
)
READ = f"{OPEN}; c = s.read(); c.__enter__().get_many([b'x']); print('reading', flush=True); time.sleep(600)"


def test_a_name_of_a_store_is_held_by_one_at_a_time(new_place: Callable[[], str]) -> None:
    with closing(open_store(new_place(), create=True)) as store:
        with store.hold("a") as first, store.hold("a") as second, store.hold("b") as other:
            assert (first, second, other) == (True, False, True)
        with store.hold("a") as again:
            assert again


def test_work_waits_for_another_s_until_it_gives_up(new_place: Callable[[], str]) -> None:
    with closing(open_store(new_place(), create=True)) as store:
        order: list[str] = []

        def work() -> None:
            with one_at_a_time(store, "a", giving_up=lambda: False) as mine:
                order.append(f"second {mine}")

        with store.hold("a"):
            with one_at_a_time(store, "a", giving_up=lambda: True) as mine:
                assert not mine
            thread = Thread(target=work)
            thread.start()
            order.append("first")
        thread.join()
        assert order == ["first", "second True"]


def test_a_store_that_is_opened_forgets_readers_that_were_killed(tmp_path: Path) -> None:
    place = str(tmp_path / "store")
    assert run_warm("-c", OPEN, place).returncode == 0
    with closing(
        lmdb.open(place, max_readers=1024)
    ) as open_here:  # whoever opens it alone begins a new list of readers
        with Warm("-c", READ, place) as reader:
            deadline = time.monotonic() + 60
            while "reading" not in reader.stdout() and time.monotonic() < deadline:
                time.sleep(0.02)
            reader.send_signal(signal.SIGKILL)
            assert reader.wait() == -signal.SIGKILL
        assert "no active readers" not in open_here.readers()
        assert run_warm("-c", OPEN, place).returncode == 0
        assert "no active readers" in open_here.readers()
