"""Statistics, export, import and compaction of online stores, of both kinds, while others write."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_logs import MINUTE, read_online
from test_erasure import NOW, filled
from test_online_store import EVERYTHING

from features.errors import InputError, StoreError
from features.matrix.columns import feature_matrix
from features.online.events import IncomingEvent
from features.online.item_tables import ItemTables, RecordName
from features.online.state import OnlineState
from features.online.statistics import store_statistics
from features.online.text_vectors import read_vectors, write_vectors
from features.online.transfer import export_store, import_store
from features.online.unused_records import ModelsInUse, drop_unused
from features.stores.base import KeyValueStore, scan_prefix
from features.stores.open import compact_store, open_store
from pipelines import cli

NewPlace = Callable[[], str]
HASH, ENCODERS = "ab" * 16, ("12" * 16, "34" * 16)


@pytest.fixture
def place(new_place: NewPlace) -> str:
    return new_place()


@pytest.fixture
def store(place: str) -> Iterator[KeyValueStore]:
    with closing(open_store(place, create=True)) as opened:
        yield opened


def answers(state: OnlineState) -> bytes:
    """Every feature of every user, as bits."""
    readers = [read_online(state, user, NOW, ["a", "b", "c"], now=0) for user in ("anna", "anna2", "zoe", None)]
    return b"".join(feature_matrix(EVERYTHING, reader)[1].tobytes() for reader in readers)


def test_statistics_count_every_kind(store: KeyValueStore) -> None:
    state = filled(store)
    write_vectors(store, ENCODERS[0], "float32", [HASH], np_rows(1))
    ItemTables(store, "owner").write(5, [(RecordName(b"n", "a"), b"x")])
    state.forget_users(["anna", "nobody"], now=NOW)
    report = store_statistics(state).as_dict()
    wanted = {"items": 2, "users_with_history": 1, "users_with_attributes": 1, "forgotten_users": 2, "format": 2}
    assert {name: report[name] for name in wanted} == wanted
    assert report["newest_event"] == "1970-01-01T00:03:00.000000Z"
    assert report["collaborative"][0]["built"] == ["1970-01-01T00:00:00.000005Z"]
    assert report["kinds"]["vectors of encoder 12121212, float32"]["keys"] == 1
    assert sum(kind["keys"] for kind in report["kinds"].values()) == len(dict(store.everything()))
    assert "unknown" not in report["kinds"]
    assert report["bytes"] > sum(kind["bytes"] for kind in report["kinds"].values()) / 2
    assert any("forgotten users" in line for line in store_statistics(state).lines())


def np_rows(n: int) -> object:
    import numpy as np

    return np.arange(4 * n, dtype=np.float32).reshape(n, 4)


@pytest.mark.parametrize("delay", [0, 10 * MINUTE])
def test_an_imported_store_answers_with_the_same_bits_in_either_kind(
    store: KeyValueStore, new_place: NewPlace, redis_server: object, tmp_path: Path, delay: int
) -> None:
    state = filled(store, delay)
    state.forget_users(["anna"], now=NOW)
    n = export_store(store, tmp_path / "file")
    for target in (str(tmp_path / "lmdb"), redis_server.place()):  # type: ignore[attr-defined]
        assert import_store(tmp_path / "file", target) == n
        with closing(open_store(target, create=False)) as opened:
            assert dict(opened.everything()) == dict(store.everything())
            with opened.read() as read, store.read() as expected:
                for prefix in b"hilqv":
                    some = bytes((prefix,))
                    assert list(scan_prefix(read, some)) == list(scan_prefix(expected, some))
            copy = OnlineState.open(opened)
            assert answers(copy) == answers(state)
            assert len(copy.add_events([IncomingEvent("anna", "a", MINUTE)])) == 1
            copy.add_events([IncomingEvent("zoe", "a", NOW - 1)])
        before = dict_of(target)
        with pytest.raises((InputError, StoreError), match=r"expected a new or empty folder|expected an empty one"):
            import_store(tmp_path / "file", target)
        assert dict_of(target) == before


def dict_of(place: str) -> dict[bytes, bytes]:
    with closing(open_store(place, create=False)) as store:
        return dict(store.everything())


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_a_file_that_was_cut_or_changed_is_refused_and_leaves_no_store(
    new_place: NewPlace, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("export")
    with closing(open_store(new_place(), create=True)) as store:
        filled(store)
        export_store(store, folder / "file")
    content = bytearray((folder / "file").read_bytes())
    position = data.draw(st.integers(0, len(content) - 1) | st.integers(0, 20))
    if data.draw(st.booleans()):
        del content[position:]
    else:
        content[position] ^= data.draw(st.integers(1, 255))
    (folder / "wrong").write_bytes(content)
    target = new_place()
    with pytest.raises(InputError, match="expected"):
        import_store(folder / "wrong", target)
    with pytest.raises(StoreError, match="found none"):
        open_store(target, create=False)


def test_an_import_that_fails_halfway_leaves_no_store(
    new_place: NewPlace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(open_store(new_place(), create=True)) as store:
        store.update(lambda change: change.put_many([(b"i%d" % n, b"x") for n in range(20)] + [(b"s", b"no settings")]))
        export_store(store, tmp_path / "file")
    target = new_place()
    with pytest.raises(StoreError, match="settings of the online store"):
        import_store(tmp_path / "file", target)
    with pytest.raises(StoreError, match="found none"):
        open_store(target, create=False)


def test_everything_is_of_one_moment_while_others_write(store: KeyValueStore) -> None:
    """A pass that has begun gives what was there then: nothing new, nothing changed, all that is gone."""
    keys = [b"%c%05d" % (kind, number) for kind in b"ic" for number in range(3_000)]
    store.update(lambda change: change.put_many((key, key) for key in keys))
    found: dict[bytes, bytes] = {}
    for number, (key, value) in enumerate(store.everything()):
        assert found.setdefault(key, value) == value
        if number % 1_500 == 0:
            store.update(lambda change: change.put_many((key, b"new") for key in keys[::7]))
            store.update(lambda change: change.delete_many(keys[::5]))
            store.update(lambda change, n=number: change.put_many([(b"i later %d" % n, b"x")]))  # type: ignore[misc]
            store.update(lambda change: change.put_many((key, b"back") for key in keys[::35]))
    assert found == {key: key for key in keys}


class StartsWith:
    """A search for the keys of one prefix."""

    def __init__(self, prefix: bytes) -> None:
        self._prefix = prefix

    def seek(self, key: bytes) -> bytes | None:
        if key.startswith(self._prefix):
            return key
        return self._prefix if key < self._prefix else None


def test_a_matching_update_sees_all_keys_that_its_search_wants(store: KeyValueStore) -> None:
    values = [(b"c%05d" % number, b"x") for number in range(2_500)]
    store.update(lambda change: change.put_many([*values, (b"d", b""), (b"b", b"")]))
    found = store.update_matching(StartsWith(b"c01"), lambda change, keys: (change.delete_many(keys), keys)[1])
    assert found == [b"c%05d" % number for number in range(1_000, 2_000)]
    assert store.update_matching(StartsWith(b"c"), lambda change, keys: len(keys)) == 1_500
    assert store.update_matching(StartsWith(b"z"), lambda change, keys: keys) == []


def test_a_matching_update_finds_what_others_write_while_it_looks(redis_server: object) -> None:
    place = redis_server.place()  # type: ignore[attr-defined]
    with closing(open_store(place, create=True)) as store, closing(open_store(place, create=True)) as other:
        store.update(lambda change: change.put_many((b"c%05d" % number, b"x") for number in range(3)))
        written = []

        class Meanwhile(StartsWith):
            def seek(self, key: bytes) -> bytes | None:
                if not written:
                    written.append(b"c new")
                    other.update(lambda change: change.put_many([(b"c new", b"y")]))
                return super().seek(key)

        assert store.update_matching(Meanwhile(b"c n"), lambda change, keys: change.get_many(keys)) == [b"y"]


def test_only_what_no_model_in_use_reads_is_dropped(store: KeyValueStore) -> None:
    state = filled(store)
    for encoder in ENCODERS:
        write_vectors(store, encoder, "float32", [HASH], np_rows(1))  # type: ignore[arg-type]
    tables = [ItemTables(store, owner) for owner in ("used", "unused")]
    for table in tables:
        table.write(5, [(RecordName(b"n", item), b"x") for item in "ab"])
    before = answers(state)
    assert drop_unused(store, ModelsInUse({ENCODERS[0]}, {"used"})) == {"collaborative records": 2, "vectors": 1}
    with store.read() as snapshot:
        assert [table.editions(snapshot) for table in tables] == [{5: 1}, {}]
        assert [read_vectors(snapshot, encoder, "float32", [HASH])[0] is None for encoder in ENCODERS] == [False, True]
    assert answers(state) == before


def test_a_compacted_file_is_smaller_and_answers_the_same(tmp_path: Path) -> None:
    place = tmp_path / "store"
    with closing(open_store(str(place), create=True)) as store:
        state = filled(store)
        store.update(lambda change: change.put_many((b"x%d" % number, b"x" * 2_000) for number in range(500)))
        store.update(lambda change: change.delete_many(b"x%d" % number for number in range(500)))
        expected, content = answers(state), dict(store.everything())
        with pytest.raises(StoreError, match="expected no other process that has it open"):
            compact_store(str(place))
    (place / "compacting").mkdir()  # as a compaction that was killed leaves it
    (place / "compacting" / "data.mdb").write_bytes(b"half")
    (place / "data.mdb").chmod(0o600)
    done = compact_store(str(place))
    assert done is not None and done.after < done.before / 2
    assert (place / "data.mdb").stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in place.iterdir()) == ["data.mdb", "lock.mdb", "open.lock"]
    with closing(open_store(str(place), create=False)) as store:
        assert dict(store.everything()) == content
        assert answers(OnlineState.open(store)) == expected
        store.update(lambda change: change.put_many([(b"x", b"y")]))


HOLD = """
import sys, lmdb
from features.stores.open import open_store
kept = open_store(sys.argv[2], create=False) if sys.argv[1] == "recsys" else lmdb.open(sys.argv[2])
print("open", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("program", ["recsys", "lmdb"])
def test_a_file_that_another_process_has_open_is_not_compacted(
    program: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = str(tmp_path / "store")
    with closing(open_store(place, create=True)) as store:
        filled(store)
    command = [sys.executable, "-c", HOLD, program, place]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path.cwd()) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == b"open\n"
        before = (tmp_path / "store" / "data.mdb").stat().st_ino
        code = cli.run(lambda: cli.cli(["store", "compact", "--store", place], standalone_mode=False))
        assert code == 1
        assert "expected no other process that has it open" in capsys.readouterr().err
        assert (tmp_path / "store" / "data.mdb").stat().st_ino == before
        holder.communicate()
    assert cli.run(lambda: cli.cli(["store", "compact", "--store", place], standalone_mode=False)) == 0


def run(*words: str) -> int:
    return cli.run(lambda: cli.cli(["store", *words], standalone_mode=False))


def test_the_commands_do_what_they_say(place: str, new_place: NewPlace, tmp_path: Path) -> None:
    with closing(open_store(place, create=True)) as store:
        filled(store)
    report = tmp_path / "report.json"
    rest = ("--json", str(report))
    assert run("stats", "--store", place, *rest) == 0
    assert json.loads(report.read_text())["users_with_history"] == 2
    (tmp_path / "users").write_bytes(b"\xef\xbb\xbfanna2\r\n\nnobody")
    assert run("forget", "anna", "anna", "--users", str(tmp_path / "users"), "--store", place, *rest) == 0
    counts = json.loads(report.read_text())
    assert (counts["users"], counts["known"], counts["unknown"]) == (3, 2, 1)
    assert run("export", str(tmp_path / "file"), "--store", place, *rest) == 0
    assert run("export", str(tmp_path / "file"), "--store", place) == 1
    copy = new_place()
    assert run("import", str(tmp_path / "file"), "--store", copy, *rest) == 0
    assert dict_of(copy) == dict_of(place)
    assert run("compact", "--store", place, *rest) == 0


def test_commands_of_no_use_say_why(place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "latin").write_bytes("ü\n".encode("latin-1"))
    (tmp_path / "empty").write_bytes(b"\n")
    with closing(open_store(place, create=True)) as store:
        filled(store)
    for words, code, told in (
        (["forget", "--store", place], 2, "name a USER, or a file"),
        (["forget", "", "--store", place], 1, "user_id: expected a text"),
        (["forget", "--users", str(tmp_path / "latin"), "--store", place], 1, "expected UTF-8"),
        (["forget", "--users", str(tmp_path / "empty"), "--store", place], 1, "expected an id a line, found none"),
        (["stats", "--store", str(tmp_path / "none")], 1, "expected a folder with a store, found none"),
        (["import", str(tmp_path / "latin"), "--store", place], 1, "that `recsys store export` wrote, found another"),
        (["import", str(tmp_path), "--store", place], 1, "found a folder"),
    ):
        assert run(*words) == code, words
        assert told in capsys.readouterr().err
