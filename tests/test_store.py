"""What every kind of store has to do: whole changes or none, and snapshots that stay as they were."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.errors import StoreError
from features.stores.base import MAX_KEY_BYTES, SCANNED_PREFIXES, KeyValueStore, StoreSnapshot, Transaction, scan_prefix
from features.stores.open import open_store

NewPlace = Callable[[], str]
FIRST = b"i"
MARK = b"m"
"""Read first in every snapshot, since that is when a snapshot begins at the latest."""


@pytest.fixture
def store(new_place: NewPlace) -> Iterator[KeyValueStore]:
    with closing(open_store(new_place(), create=True)) as opened:
        yield opened


def put(store: KeyValueStore, **values: bytes) -> None:
    store.update(lambda change: change.put_many((FIRST + key.encode(), value) for key, value in values.items()))


def get(store: KeyValueStore, *keys: str) -> list[bytes | None]:
    with store.read() as snapshot:
        return snapshot.get_many([FIRST + key.encode() for key in keys])


def test_values_come_back_in_the_order_they_were_asked_for(store: KeyValueStore) -> None:
    put(store, a=b"1", b=b"")
    assert get(store, "b", "none", "a", "a") == [b"", None, b"1", b"1"]
    assert get(store) == []


def test_of_a_key_that_is_put_twice_at_once_the_last_value_stays(store: KeyValueStore) -> None:
    store.update(lambda change: change.put_many([(b"a", b"9"), (b"b", b"1"), (b"a", b"10")]))
    with store.read() as snapshot:
        assert snapshot.get_many([b"a", b"b"]) == [b"10", b"1"]


def test_keys_and_values_are_any_bytes_and_keys_as_long_as_promised(store: KeyValueStore) -> None:
    longest = FIRST + bytes(range(256)) + b"\xff" * (MAX_KEY_BYTES - 257)
    values = {longest: bytes(range(256)), longest[:-1]: b"\0", FIRST + b"\0": b"x", FIRST + b"\0\0": b"y", FIRST: b"z"}
    store.update(lambda change: change.put_many(values.items()))
    with store.read() as snapshot:
        assert snapshot.get_many(list(values)) == list(values.values())
        assert list(snapshot.scan(FIRST, FIRST + b"\xff" * 510)) == sorted(values.items())
    for wrong in (longest + b"x", b""):
        with pytest.raises(StoreError):
            store.update(lambda change, wrong=wrong: change.put_many([(wrong, b"")]))  # type: ignore[misc]


def test_a_change_that_raises_leaves_nothing_and_the_store_goes_on(store: KeyValueStore) -> None:
    def fail(change: Transaction) -> None:
        change.put_many([(FIRST + b"a", b"2"), (FIRST + b"b", b"2")])
        raise RuntimeError("no")

    put(store, a=b"1")
    with pytest.raises(RuntimeError):
        store.update(fail)
    assert get(store, "a", "b") == [b"1", None]
    put(store, b=b"3")
    assert get(store, "a", "b") == [b"1", b"3"]


def test_a_change_that_writes_nothing_returns_what_it_found(store: KeyValueStore) -> None:
    put(store, a=b"1")
    assert store.update(lambda change: change.get_many([FIRST + b"a"])) == [b"1"]
    put(store, a=b"2")
    assert get(store, "a") == [b"2"]


def test_long_ranges_are_whole_and_in_order(store: KeyValueStore) -> None:
    keys = [FIRST + b"%05d" % number for number in range(4321)]
    store.update(lambda change: change.put_many((key, key[::-1]) for key in reversed(keys)))
    with store.read() as snapshot:
        assert list(scan_prefix(snapshot, FIRST)) == [(key, key[::-1]) for key in keys]
        assert [key for key, _ in snapshot.scan(keys[7], keys[3007])] == keys[7:3007]
        assert list(snapshot.scan(keys[7], keys[7])) == []
        store.update(lambda change: change.delete_many(keys[::3]))
        assert list(scan_prefix(snapshot, FIRST)) == [(key, key[::-1]) for key in keys]


def test_a_place_without_a_store_is_refused_where_one_has_to_be(new_place: NewPlace) -> None:
    with pytest.raises(StoreError, match="found none; fill one with `recsys load-items`"):
        open_store(new_place(), create=False)


def test_other_places_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="expected a folder or a URL that begins with redis://"):
        open_store("mysql://somewhere", create=True)


keys = st.builds(
    bytes.__add__,
    st.sampled_from([bytes((first,)) for first in SCANNED_PREFIXES[:2]] + [b"c", b"m"]),
    st.sampled_from((b"\0", b"\x20", b"a", b"a\0", b"\xa0")),
)
puts = st.dictionaries(keys, st.none() | st.binary(max_size=3), max_size=6)
changes = st.lists(st.tuples(puts, puts, st.sampled_from(("keep", "keep", "keep", "fail"))), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None)
@given(changes, st.sets(st.integers(0, 6)))
def test_a_store_is_a_dict_whose_snapshots_stay_as_they_were(
    new_place: NewPlace, changes: list[tuple[dict[bytes, bytes | None], dict[bytes, bytes | None], str]], held: set[int]
) -> None:
    model: dict[bytes, bytes] = {}
    every = sorted({key for first, second, _ in changes for key in (*first, *second)} | {MARK})
    with closing(open_store(new_place(), create=True)) as store, ExitStack() as open_snapshots:
        snapshots: list[tuple[StoreSnapshot, dict[bytes, bytes]]] = []
        for number, (first, second, outcome) in enumerate(changes):
            if number in held:
                snapshot = open_snapshots.enter_context(store.read())
                assert snapshot.get_many([MARK]) == [model.get(MARK)]
                snapshots.append((snapshot, dict(model)))
            if outcome == "keep":
                store.update(lambda change, first=first, second=second: apply(change, model, first, second))  # type: ignore[misc]
            else:
                with pytest.raises(ZeroDivisionError):
                    store.update(lambda change, first=first: apply(change, dict(model), first, {}) / 0)  # type: ignore[misc, func-returns-value, operator]
        snapshots.append((open_snapshots.enter_context(store.read()), model))
        for snapshot, expected in snapshots:
            check(snapshot, expected, every)


def apply(
    change: Transaction,
    model: dict[bytes, bytes],
    first: dict[bytes, bytes | None],
    second: dict[bytes, bytes | None],
) -> int:
    """Make two rounds of puts and deletes (None) in a change and in the model; the change sees its own."""
    for part in (first, second):
        change.put_many((key, value) for key, value in part.items() if value is not None)
        change.delete_many([key for key, value in part.items() if value is None])
        for key, value in part.items():
            if value is None:
                model.pop(key, None)
            else:
                model[key] = value
        check(change, model, sorted(part))
    return 1


def check(snapshot: StoreSnapshot, model: dict[bytes, bytes], every: list[bytes]) -> None:
    assert snapshot.get_many(every) == [model.get(key) for key in every]
    for first in SCANNED_PREFIXES[:2]:
        kind = bytes((first,))
        ordered = sorted((key, value) for key, value in model.items() if key.startswith(kind))
        assert list(scan_prefix(snapshot, kind)) == ordered
        low, high = kind + b"\x20", kind + b"\xa0"
        assert list(snapshot.scan(low, high)) == [(key, value) for key, value in ordered if low <= key < high]
