"""Changes of several threads: written together, in order, each with an outcome of its own."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event

import pytest

from features.errors import StoreError
from features.online.group_commit import GroupCommit


class Disk:
    """Writes changes once it is let go, all but those that name a fault."""

    def __init__(self) -> None:
        self.groups: list[list[str]] = []
        self.begun, self.let_go = Event(), Event()

    def write(self, changes: Sequence[str]) -> None:
        self.begun.set()
        assert self.let_go.wait(30)
        if any("fault" in change for change in changes):
            raise OSError(f"no room for {list(changes)}")
        self.groups.append(list(changes))


def hand_in(disk: Disk, changes: Sequence[str], *, most: int = 100) -> list[Future[None]]:
    """Hand in the first change, and the others in their order while it is being written."""
    commits = GroupCommit(disk.write, most=most)
    with ThreadPoolExecutor(len(changes)) as threads:
        outcomes = [threads.submit(commits.add, changes[0], size=1)]
        assert disk.begun.wait(30)
        for n, change in enumerate(changes[1:], start=1):
            outcomes.append(threads.submit(commits.add, change, size=1))
            while commits.waiting < n:
                pass
        disk.let_go.set()
    return outcomes


def test_what_comes_during_a_write_is_written_together_in_its_order() -> None:
    disk = Disk()
    assert [outcome.result() for outcome in hand_in(disk, "abcd")] == [None] * 4
    assert disk.groups == [["a"], ["b", "c", "d"]]


def test_a_group_has_no_more_rows_than_it_may() -> None:
    disk = Disk()
    hand_in(disk, "abcdef", most=2)
    assert disk.groups == [["a"], ["b", "c"], ["d", "e"], ["f"]]


def test_a_change_that_cannot_be_written_fails_alone() -> None:
    disk = Disk()
    outcomes = hand_in(disk, ["a", "b", "fault", "c"])
    with pytest.raises(OSError, match=r"no room for \['fault'\]"):
        outcomes[2].result()
    assert [outcomes[n].result() for n in (0, 1, 3)] == [None] * 3
    assert disk.groups == [["a"], ["b"], ["c"]]


def test_what_a_store_may_have_kept_is_not_written_again_and_every_thread_hears_of_it() -> None:
    tries: list[list[str]] = []
    disk = Disk()

    def write(changes: Sequence[str]) -> None:
        tries.append(list(changes))
        disk.write(changes)
        if "lost answer" in changes:
            raise StoreError("the answer is lost")

    commits = GroupCommit(write, most=100)
    with ThreadPoolExecutor(3) as threads:
        outcomes = [threads.submit(commits.add, "a", size=1)]
        assert disk.begun.wait(30)
        for n, change in enumerate(["lost answer", "b"], start=1):
            outcomes.append(threads.submit(commits.add, change, size=1))
            while commits.waiting < n:
                pass
        disk.let_go.set()
    assert tries == [["a"], ["lost answer", "b"]]
    assert [isinstance(outcome.exception(), StoreError) for outcome in outcomes] == [False, True, True]


def test_a_thread_that_is_interrupted_leaves_the_changes_of_others_to_them() -> None:
    written: list[str] = []

    def write(changes: Sequence[str]) -> None:
        if "stop" in changes:
            raise KeyboardInterrupt
        written.extend(changes)

    commits = GroupCommit(write, most=100)
    with pytest.raises(KeyboardInterrupt):
        commits.add("stop", size=1)
    commits.add("a", size=1)
    assert (written, commits.waiting) == (["a"], 0)
