"""A batch in an object store: the S3 server of moto, which knows conditional writes."""

from __future__ import annotations

import json
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from s3_server import bucket, s3
from s3fs import S3FileSystem
from test_batch import TIMES, expected
from toy_batch import INPUTS, Counting, write_toy
from warm_process import run_warm

from features.errors import InputError, RecsysError
from recsys.batch.folder import batch_folder
from recsys.batch.local_copy import local_copy
from recsys.batch.object_lock import ObjectLock
from recsys.batch.object_store import open_place
from recsys.batch.processes import Processes
from recsys.batch.run import write_partitions

__all__ = ["bucket", "expected", "s3"]
URL = "s3://batches/nightly"
TWO_WORKERS = """
import sys
from recsys.errors import WorkerDied
from toy_batch import Counting, write_toy
try:
    write_toy(sys.argv[1], workers=2, scorer=Counting(killed_at=4))
except WorkerDied:
    write_toy(sys.argv[1], workers=2, resume=True)
"""


def objects(bucket: Any, root: str = "batches/nightly") -> dict[str, Any]:
    """The bytes of each object of a batch; its manifest without times and attempts."""
    found: dict[str, Any] = {path.removeprefix(f"{root}/"): bucket.cat_file(path) for path in bucket.find(root)}
    manifest = json.loads(found.pop("_manifest.json"))
    return found | {"manifest": {name: value for name, value in manifest.items() if name not in TIMES}}


def test_an_object_store_gets_the_bytes_that_a_folder_gets(
    bucket: Any, expected: dict[str, Any], tmp_path: Path
) -> None:
    write_toy(URL)
    assert objects(bucket) == expected
    assert list(tmp_path.iterdir()) == []
    assert len(bucket.find("batches/.nightly.lock")) == 1


def test_a_batch_is_resumed_after_the_partitions_that_its_manifest_lists(bucket: Any, expected: dict[str, Any]) -> None:
    with pytest.raises(RecsysError, match="--resume goes on after 1 partition"), batch_folder(URL, resume=False) as one:
        one.begin(INPUTS, started="then")
        rows = next(iter(Counting().ranked(3))).table
        done = one.writer().write(0, rows.schema, [frame.table for frame in Counting().ranked(3)])
        one.add(0, done, {"rows_out": 3})
        one.writer().write(1, rows.schema, [rows])  # uploaded and not listed
        raise RecsysError("a failure")
    assert json.loads(bucket.cat_file("batches/nightly/_manifest.json"))["state"] == "unfinished"
    with pytest.raises(InputError, match="an earlier run left 1 partition of it in 's3://batches/nightly'"):
        write_toy(URL)
    with pytest.raises(InputError, match="top_k was null and is 5"):
        write_toy(URL, resume=True, inputs=INPUTS | {"top_k": 5})
    assert write_toy(URL, resume=True, started="later")["attempts"] == 2
    assert objects(bucket) == expected
    assert write_toy(URL, resume=True)["attempts"] == 2
    with pytest.raises(InputError, match="expected a new or empty folder"):
        write_toy(URL)


def test_objects_of_somebody_else_are_never_removed(bucket: Any) -> None:
    bucket.pipe_file("batches/nightly/part-00000.parquet", b"mine")
    for resume in (False, True):
        with pytest.raises(InputError, match=r"expected a new or empty folder, got 'part-00000.parquet'"):
            write_toy(URL, resume=resume)
    assert bucket.cat_file("batches/nightly/part-00000.parquet") == b"mine"


def test_nothing_stays_of_a_batch_of_which_nothing_is_done(bucket: Any) -> None:
    with pytest.raises(RecsysError), batch_folder(URL, resume=False) as folder:
        folder.begin(INPUTS, started="now")
        folder.rejects.mkdir()
        (folder.rejects / "items.jsonl").write_text("{}\n")
        assert folder.publish_rejects() == "s3://batches/nightly/rejects"
        raise RecsysError("nothing can be scored")
    assert bucket.find("batches/nightly") == ["batches/nightly/rejects/items.jsonl"]
    write_toy(URL)
    assert "rejects/items.jsonl" not in objects(bucket)


def test_several_processes_upload_partitions_and_one_may_die(bucket: Any, expected: dict[str, Any]) -> None:
    done = run_warm("-c", TWO_WORKERS, URL)
    assert done.returncode == 0, done.stderr
    assert objects(bucket) == expected


def test_a_second_run_is_refused_until_the_lock_is_released_or_expires(
    bucket: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        batch_folder(URL, resume=False),
        pytest.raises(InputError, match="another command is writing it at this moment"),
    ):
        write_toy(URL)
    lock, late = (ObjectLock(bucket, "batches/.nightly.lock", URL, seconds=seconds) for seconds in (0.0, 60.0))
    lock.acquire()
    with caplog.at_level(logging.INFO):
        late.acquire()  # after the expiry of the other, whose process may have been killed
    assert "which ended without releasing it" in caplog.text
    late.check()
    with pytest.raises(RecsysError, match="the lock could not be renewed"):
        lock.check()
    lock.release()
    late.check()
    late.release()


def test_one_of_many_that_find_a_lock_expired_gets_it(bucket: Any) -> None:
    ObjectLock(bucket, "batches/.nightly.lock", URL, seconds=0.0).acquire()
    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(_try_to_lock, range(8)))
    assert sum(got) == 1


def _try_to_lock(_: int) -> bool:
    files, _path = open_place(URL)
    try:
        ObjectLock(files, "batches/.nightly.lock", URL, seconds=600).acquire()
    except InputError:
        return False
    return True


def test_inputs_are_copied_for_the_run(bucket: Any, tmp_path: Path) -> None:
    bucket.pipe({"batches/log/items.csv": b"item_id\n", "batches/log/events/part-1.csv": b"user_id\n"})
    with local_copy("s3://batches/log") as folder:
        assert folder.name == "log"
        found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.csv")}
    assert found == {"items.csv": b"item_id\n", "events/part-1.csv": b"user_id\n"}
    with local_copy("s3://batches/log/items.csv") as file:
        assert (file.name, file.read_bytes()) == ("items.csv", b"item_id\n")
    assert list(tmp_path.iterdir()) == []
    for url in ("s3://batches/nothing", "s3://no-such-bucket/log"):
        with pytest.raises(InputError, match=url), local_copy(url):
            pass


def test_a_store_that_does_not_answer_is_one_line(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    S3FileSystem.clear_instance_cache()
    with pytest.raises(RecsysError, match=f"'{URL}': the store cannot be used: "):
        write_toy(URL)
    S3FileSystem.clear_instance_cache()


@pytest.mark.parametrize(
    ("url", "said"),
    [("s3://batches", "expected a folder in a bucket, got a bucket"), ("nowhere://a/b", "expected a path, or a URL")],
)
def test_a_url_that_is_no_folder_is_said(bucket: Any, url: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        write_toy(url)


def test_a_lost_lock_stops_the_run_before_it_lists_a_partition(bucket: Any) -> None:
    with pytest.raises(RecsysError, match="another run may write this batch"), batch_folder(URL, resume=False) as one:
        one.begin(INPUTS, started="now")
        bucket.pipe_file("batches/.nightly.lock/00000002.json", bucket.cat_file("batches/.nightly.lock/00000001.json"))
        write_partitions(one, (3,), Processes(Counting()))


def test_a_lock_that_cannot_be_renewed_is_lost(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    lock, failed = ObjectLock(bucket, "batches/.nightly.lock", URL, seconds=0.4), threading.Semaphore(0)
    lock.acquire()

    def fail(*_: Any, **__: Any) -> None:
        failed.release()
        raise OSError("no answer")

    with monkeypatch.context() as patch:
        patch.setattr(bucket, "pipe_file", fail)
        for _ in range(6):  # renewed every quarter of its time
            failed.acquire()
        with pytest.raises(RecsysError, match="the lock could not be renewed for"):
            lock.check()
    lock.release()
