"""A batch of any size: never half done, the same bytes however it is run."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_batch import INPUTS, TASKS, Counting, write_toy
from warm_process import run_warm

from features.errors import InputError, RecsysError
from features.tables.candidates import CandidateChunk
from features.tables.seen_requests import SeenRequests
from recsys.batch.folder import batch_folder
from recsys.batch.partition_file import row_groups
from recsys.batch.partitions import partitions_of
from recsys.batch.processes import Processes
from recsys.batch.run import write_partitions
from recsys.batch.shared_arrays import shared_object
from recsys.errors import WorkerDied

TIMES = ("started", "finished", "attempts")
FULL_DISK = """
import resource, sys
from pathlib import Path
from toy_batch import write_toy
from pipelines.process import run
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
sys.exit(run(lambda: write_toy(Path(sys.argv[1]), resume=True) and 0))
"""


def files_of(out: Path) -> dict[str, Any]:
    """The bytes of each file of a batch; its manifest without times and attempts."""
    files: dict[str, Any] = {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}
    manifest = json.loads(files.pop("_manifest.json"))
    return files | {"manifest": {name: value for name, value in manifest.items() if name not in TIMES}}


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What one run writes."""
    out = tmp_path_factory.mktemp("expected") / "out"
    write_toy(out)
    return files_of(out)


def broken_off(out: Path, after: int = 2) -> Path:
    """A batch of which only the first partitions are done; the folder that holds them."""
    with pytest.raises(RecsysError), batch_folder(out, resume=False) as folder:
        folder.begin(INPUTS, started="then")
        for number, task in enumerate(TASKS[:after]):
            rows = pa.table({"n": [task]})
            folder.add(number, folder.writer().write(number, rows.schema, [rows]), {"rows_out": 1})
        raise RecsysError("a failure")
    return out.with_name(f".{out.name}.unfinished")


def test_a_batch_is_there_when_it_is_complete(expected: dict[str, Any], tmp_path: Path) -> None:
    assert list(expected["manifest"]) == ["state", "format", *INPUTS, "rows_out", "partitions"]
    assert expected["manifest"]["state"] == "complete"
    assert expected["manifest"]["rows_out"] == sum(TASKS)
    assert [one["file"] for one in expected["manifest"]["partitions"]] == [f"part-0000{n}.parquet" for n in range(3)]
    assert write_toy(tmp_path / "out")["attempts"] == 1
    assert [pq.read_table(part).num_rows for part in sorted((tmp_path / "out").glob("*.parquet"))] == list(TASKS)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_batch_killed_at_any_kind_of_step_is_resumed_to_the_same_bytes(
    expected: dict[str, Any], tmp_path: Path
) -> None:
    steps = {
        "6": "the first partition is written and not renamed",
        "8": "it is renamed, and the manifest that lists it is not",
        "10": "one partition is done, the second is written",
        "17": "all partitions are done, the last manifest is not begun",
        "19": "the folder is complete and not in its place",
        "20": "it is in its place and locked",
    }
    done = run_warm("-m", "toy_batch", str(tmp_path), *steps)
    assert done.returncode == 0, done.stderr
    left = {number: sorted(path.name for path in tmp_path.glob(f".{number}.unfinished/part-*")) for number in steps}
    assert [len(left[number]) for number in steps] == [0, 1, 1, 3, 3, 0]
    attempts = []
    for number in steps:
        out = tmp_path / number
        attempts.append(write_toy(out, resume=True, started="later")["attempts"])
        assert files_of(out) == expected
    assert attempts == [1, 1, 2, 2, 2, 1]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(steps)


def test_an_unfinished_batch_is_not_written_over(expected: dict[str, Any], tmp_path: Path) -> None:
    out = tmp_path / "out"
    left = broken_off(out)
    with pytest.raises(InputError, match=r"an earlier run left 2 partitions of it in .*go on from there by --resume"):
        write_toy(out)
    assert json.loads((left / "_manifest.json").read_text())["state"] == "unfinished"
    shutil.rmtree(left)
    write_toy(out)
    assert files_of(out) == expected


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"model": "models:/toy-ranker/2"}, r'model was "models:/toy-ranker/1" and is "models:/toy-ranker/2"'),
        ({"top_k": 5}, r"top_k was null and is 5; expected the same as before"),
    ],
)
def test_a_resume_with_another_input_is_refused_and_changes_nothing(
    other: dict[str, Any], said: str, tmp_path: Path
) -> None:
    left = broken_off(tmp_path / "out")
    before = files_of(left)
    with pytest.raises(InputError, match=said):
        write_toy(tmp_path / "out", resume=True, inputs=INPUTS | other)
    assert files_of(left) == before
    shutil.rmtree(left)
    write_toy(tmp_path / "out")
    with pytest.raises(InputError, match=said):
        write_toy(tmp_path / "out", resume=True, inputs=INPUTS | other)
    assert write_toy(tmp_path / "out", resume=True, started="later")["started"] == "now"


def test_a_partition_that_is_gone_or_cut_is_written_again(expected: dict[str, Any], tmp_path: Path) -> None:
    for number, damage in enumerate((Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:-1]))):
        out = tmp_path / str(number)
        left = broken_off(out)
        for name in ("part-00000.parquet", "part-00001.parquet"):
            damage(left / name)
        write_toy(out, resume=True)
        assert files_of(out) == expected


def test_a_second_run_into_one_folder_is_refused(tmp_path: Path) -> None:
    with batch_folder(tmp_path / "out", resume=False) as folder:
        folder.begin(INPUTS, started="now")
        for resume in (False, True):
            with pytest.raises(InputError, match="another command is writing it at this moment"):
                write_toy(tmp_path / "out", resume=resume)
    write_toy(tmp_path / "out")


def test_what_the_manifest_does_not_list_is_not_published(expected: dict[str, Any], tmp_path: Path) -> None:
    with batch_folder(tmp_path / "out", resume=False) as folder:
        folder.begin(INPUTS, started="now")
        write_partitions(folder, TASKS, Processes(Counting()))
        folder.temporary().write_bytes(b"of a worker that outlived an earlier run")
        folder.publish(folder.manifest.totals())
    assert files_of(tmp_path / "out") == expected


def test_a_link_to_an_empty_folder_is_a_place(expected: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "disk")
    write_toy(tmp_path / "out")
    assert (tmp_path / "out").is_symlink()
    assert files_of(tmp_path / "disk") == expected


def test_a_folder_of_something_else_is_not_resumed(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "_manifest.json").write_text('{"k": 500}')
    with pytest.raises(InputError, match="expected a new or empty folder, got files; name another one"):
        write_toy(tmp_path / "out", resume=True)


def test_several_processes_write_the_same_bytes(expected: dict[str, Any], tmp_path: Path) -> None:
    write_toy(tmp_path / "out", workers=2)
    assert files_of(tmp_path / "out") == expected


def test_a_worker_that_is_killed_loses_nothing(expected: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(WorkerDied, match="a worker process ended in the middle"):
        write_toy(tmp_path / "out", workers=2, scorer=Counting(killed_at=4))
    write_toy(tmp_path / "out", workers=2, resume=True)
    assert files_of(tmp_path / "out") == expected
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_full_disk_is_one_line_and_the_batch_goes_on_when_there_is_room(
    expected: dict[str, Any], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    left = broken_off(out, after=1)
    done = run_warm("-c", FULL_DISK, str(out), "700")
    assert done.returncode == 1
    assert "cannot be written: File too large; free some space or name another place; --resume goes on after 1 " \
        "partition" in done.stderr  # fmt: skip
    assert not out.exists()
    (left / "part-00000.parquet").unlink()
    write_toy(out, resume=True)
    assert files_of(out) == expected


def test_an_interrupted_batch_says_how_to_go_on(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt, match="--resume goes on after 1 partition"):  # noqa: SIM117
        with batch_folder(tmp_path / "out", resume=False) as folder:
            folder.begin(INPUTS, started="now")
            rows = pa.table({"n": [3]})
            folder.add(0, folder.writer().write(0, rows.schema, [rows]), {"rows_out": 1})
            raise KeyboardInterrupt


def test_a_damaged_manifest_is_named(tmp_path: Path) -> None:
    left = broken_off(tmp_path / "out")
    (left / "_manifest.json").write_text("{")
    with pytest.raises(InputError, match=r"_manifest.json': expected the manifest of a batch"):
        write_toy(tmp_path / "out", resume=True)


def chunk(sizes: list[int], first: int) -> CandidateChunk:
    names = np.array([f"r{first + n}" for n in range(len(sizes))], object)
    items = np.array([f"{name} {n}" for name, size in zip(names, sizes, strict=True) for n in range(size)], object)
    return CandidateChunk(names, names, first + np.arange(len(sizes)), names, np.cumsum([0, *sizes]), items)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=30), st.integers(1, 12), st.data())
def test_partitions_depend_on_the_rows_alone(sizes: list[int], rows: int, data: st.DataObject) -> None:
    bounds = [0, *sorted(data.draw(st.sets(st.integers(1, len(sizes) - 1)) if len(sizes) > 1 else st.just(set())))]
    chunks = [chunk(sizes[a:b], a) for a, b in zip(bounds, [*bounds[1:], len(sizes)], strict=True)]
    found = list(partitions_of(chunks, rows))
    (whole,) = partitions_of([chunk(sizes, 0)], sum(sizes))
    for name in ("ids", "user", "time", "query", "item"):
        assert np.concatenate([getattr(one, name) for one in found]).tolist() == getattr(whole, name).tolist()
    expected: list[list[int]] = [[]]
    for size in sizes:
        if expected[-1] and sum(expected[-1]) + size > rows:
            expected.append([])
        expected[-1].append(size)
    assert [np.diff(one.offsets).tolist() for one in found] == expected


@given(st.lists(st.integers(0, 7), max_size=12), st.integers(1, 5))
def test_row_groups_depend_on_the_rows_alone(sizes: list[int], rows: int) -> None:
    numbers = iter(range(sum(sizes)))
    tables = [pa.table({"n": pa.array([next(numbers) for _ in range(size)], pa.int64())}) for size in sizes]
    found = [group.column("n").to_pylist() for group in row_groups(tables, rows)]
    every = list(range(sum(sizes)))
    assert found == [every[start : start + rows] for start in range(0, len(every), rows)]


@given(st.lists(st.lists(st.integers(0, 200), max_size=9), max_size=20))
def test_a_request_that_was_seen_is_found(calls: list[list[int]]) -> None:
    seen, known = SeenRequests(), set[int]()
    for hashes in calls:
        again = [n for n, value in enumerate(hashes) if value in known or value in hashes[:n]]
        assert seen.first_seen_before(np.array(hashes, np.uint64)) == (again[0] if again else None)
        if again:
            return
        known.update(hashes)


def test_a_shared_object_comes_back_with_its_arrays(tmp_path: Path) -> None:
    value = {"a": np.arange(5, dtype=np.int32), "b": np.zeros((0, 3)), "c": np.array(["x", None], object), "d": "text"}
    with shared_object(value, tmp_path / "shared") as shared:
        found = shared()
        assert found["d"] == "text"
        for name in "abc":
            assert found[name].dtype == value[name].dtype
            assert found[name].tolist() == value[name].tolist()
        found["a"][0] = 9
        assert shared()["a"][0] == 0


def test_a_shared_object_is_gone_after_a_failure(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), shared_object({}, tmp_path / "shared"):
        raise KeyboardInterrupt
    with pytest.raises((AttributeError, pickle.PicklingError)), shared_object(lambda: 0, tmp_path / "shared"):
        pass
    assert list(tmp_path.iterdir()) == []
