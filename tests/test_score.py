"""Batch scoring: the evaluation's own scores, ranked, whole requests, with a manifest."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from s3_server import bucket, s3
from trained_site import MODEL, TrainedSite
from warm_process import run_warm

from features.errors import InputError
from features.offline.reader import LogIndex
from features.tables.encodings import FileOptions
from features.tables.load import load_log
from pipelines.data_options import read_options_of_model
from pipelines.score import BatchOptions, score
from recsys.batch.folder import batch_folder
from recsys.metrics.rank_order import ordered
from recsys.ranker.offline_matrix import OfflineScorer
from recsys.registry import versions

__all__ = ["bucket", "s3"]


@pytest.fixture
def candidates(trained: TrainedSite, tmp_path: Path) -> Path:
    """The newest lists without their labels, in order."""
    frame = pd.read_parquet(trained.data / "impressions.parquet").sort_values("timestamp", kind="stable")
    newest = frame["impression_id"].drop_duplicates().tail(300)
    path = tmp_path / "candidates.parquet"
    columns = ["impression_id", "user_id", "timestamp", "item_id"]
    frame[frame["impression_id"].isin(newest)][columns].to_parquet(path)
    return path


KILLED = """
import os, signal, sys
import numpy
import recsys.encoder.model
from features.exact import exp
from pipelines import cli, score
exp(numpy.zeros(1))
moments, sys.argv[1:] = sys.argv[1].split(), sys.argv[2:]
for moment in moments:
    name, _, times = moment.partition(":")
    process = os.fork()
    if process == 0:
        left = iter(range(int(times)))
        next(left)
        def kill(event, arguments):
            if event == "os.rename" and str(arguments[1]).endswith(name) and next(left, None) is None:
                os.kill(os.getpid(), signal.SIGKILL)
        sys.addaudithook(kill)
        cli.main()
    assert os.waitpid(process, 0)[1] == signal.SIGKILL
"""
"""Runs `recsys` once for each moment FILE:N, killed with -9 before the Nth rename to a file of that name."""
SMALL = BatchOptions(partition_rows=400)
"""So that 300 lists are several partitions."""


def files_of(out: Path) -> dict[str, object]:
    """The bytes of each file; the manifest without times and attempts."""
    files = {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    manifest = json.loads(files.pop("_manifest.json"))
    times = ("started", "finished", "attempts")
    return files | {"manifest": {name: value for name, value in manifest.items() if name not in times}}


def read(out: Path) -> pd.DataFrame:
    return pd.concat([pd.read_parquet(part) for part in sorted(out.glob("part-*.parquet"))], ignore_index=True)


def test_batch_gives_the_scores_of_the_evaluation(trained: TrainedSite, candidates: Path, tmp_path: Path) -> None:
    score(trained.data, candidates, tmp_path / "out", model=MODEL)
    found = read(tmp_path / "out").set_index(["impression_id", "item_id"])["score"]
    ranking_model = versions.load(MODEL).ranking_model
    log, _ = load_log(trained.data, read_options_of_model(ranking_model.settings))
    lists = log.impressions.take(np.flatnonzero(np.isin(log.impressions.ids, found.index.levels[0].to_numpy(object))))
    expected = OfflineScorer(ranking_model, LogIndex(log), ranking_model.texts(log.catalog), threads=1).scores(
        lists.requests
    )
    ids = np.repeat(lists.ids, lists.requests.lengths())
    pairs = pd.MultiIndex.from_arrays([ids, log.catalog.ids[lists.requests.item]])
    assert len(found) == len(expected)
    assert np.array_equal(found.loc[pairs].to_numpy(), expected)


def test_every_request_is_ranked_from_1_by_score(trained: TrainedSite, candidates: Path, tmp_path: Path) -> None:
    report = score(trained.data, candidates, tmp_path / "out", model=MODEL)
    for _, one in read(tmp_path / "out").groupby("impression_id", sort=False):
        assert list(one["rank"]) == list(range(1, len(one) + 1))
        assert (np.diff(one["score"]) <= 0).all()
    manifest = json.loads((tmp_path / "out" / "_manifest.json").read_text())
    assert manifest == report.as_dict()
    assert manifest["rows_in"] == manifest["rows_out"] == len(pd.read_parquet(candidates))
    assert manifest["requests"] == 300
    assert manifest["models"]["ranker"] == "models:/tiny-ranker/1"


def test_top_k_keeps_the_best_of_each_request(trained: TrainedSite, candidates: Path, tmp_path: Path) -> None:
    score(trained.data, candidates, tmp_path / "all", model=MODEL)
    score(trained.data, candidates, tmp_path / "top", model=MODEL, top_k=3)
    best = read(tmp_path / "all").query("rank <= 3").reset_index(drop=True)
    pd.testing.assert_frame_equal(read(tmp_path / "top"), best)


def test_unknown_users_and_items_are_ranked_and_counted_and_bad_rows_rejected(
    trained: TrainedSite, tmp_path: Path
) -> None:
    items = pd.read_parquet(trained.data / "items.parquet")["item_id"].head(3).tolist()
    lines = [
        "request_id,user_id,item_id",
        *(f"r1,nobody,{item}" for item in items),
        "r1,nobody,never-seen",
        "r1,nobody,",
    ]
    path = tmp_path / "candidates.csv"
    path.write_text("\n".join(lines) + "\n")
    report = score(trained.data, path, tmp_path / "out", model=MODEL)
    assert read(tmp_path / "out").columns.tolist() == ["request_id", "user_id", "item_id", "score", "rank"]
    assert len(read(tmp_path / "out")) == 4
    manifest = report.as_dict()
    assert (manifest["unknown_users"], manifest["unknown_items"]) == (1, 1)
    assert sum(manifest["rejected"].values()) == 1
    assert '"row": 5' in (tmp_path / "out" / "rejects" / "candidates.jsonl").read_text()


def test_an_output_folder_with_files_is_refused(trained: TrainedSite, candidates: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("keep")
    with pytest.raises(InputError, match=r"expected a new or empty folder"):
        score(trained.data, candidates, tmp_path / "out", model=MODEL)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_a_wrong_header_of_the_candidates_is_found_before_tables_and_model(tmp_path: Path) -> None:
    file = tmp_path / "candidates.csv"
    for header, said in (
        ("user_id,item_id", "expected a column 'impression_id' or 'request_id' in candidates, found"),
        ("request_id,user,item_id", "expected a column 'user_id' in candidates, found"),
        ("request_id,user_id,item_id,time,timestamp", "expected one column of times, got both"),
    ):
        file.write_text(f"{header}\n")
        with pytest.raises(InputError, match=said):
            score(tmp_path / "no tables", file, tmp_path / "out", model="models:/nothing@champion")
    pd.DataFrame({"request_id": ["r"], "user_id": ["u"], "item_id": [1.0]}).to_parquet(tmp_path / "candidates.parquet")
    with pytest.raises(InputError, match="column 'item_id': expected text, whole numbers or 16-byte UUIDs, got double"):
        score(tmp_path / "no tables", tmp_path / "candidates.parquet", tmp_path / "out", model="models:/nothing")


def test_candidates_of_which_most_are_rejected_leave_their_rejects_alone(trained: TrainedSite, tmp_path: Path) -> None:
    file = tmp_path / "candidates.csv"
    file.write_text("request_id,user_id,item_id\n1,u,a\n2,u,\n3,u,\n")
    with pytest.raises(InputError, match=r"candidates table .* 2 of its 3 rows cannot be used"):
        score(trained.data, file, tmp_path / "out", model=MODEL)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["rejects"]
    report = score(trained.data, file, tmp_path / "out", model=MODEL, files=FileOptions(max_rejects=0.7))
    assert report.manifest["rejected"] == {"missing_value": 2}


def test_a_failure_leaves_no_output(trained: TrainedSite, tmp_path: Path) -> None:
    path = tmp_path / "candidates.csv"
    path.write_text("request_id,user_id,item_id\nr1,u,a\nr2,u,a\nr1,u,b\n")
    with pytest.raises(InputError, match="'r1' comes back"):
        score(trained.data, path, tmp_path / "out", model=MODEL)
    assert not (tmp_path / "out").exists()


@given(st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=6), min_size=1, max_size=5))
def test_equal_scores_are_ordered_by_item(scores: list[list[int]]) -> None:
    offsets = np.cumsum([0, *map(len, scores)])
    flat = np.array([value for one in scores for value in one], float)
    tie = np.concatenate([np.arange(len(one))[::-1] for one in scores])
    rows, ranks = ordered(flat, tie, offsets)
    position = 0
    for start, one in zip(offsets, scores, strict=False):
        expected = sorted(range(len(one)), key=lambda i: (-one[i], tie[start + i]))
        assert list(rows[position : position + len(one)] - start) == expected
        assert list(ranks[position : position + len(one)]) == list(range(1, len(one) + 1))
        position += len(one)


@pytest.mark.slow
def test_neither_batches_nor_threads_nor_workers_change_a_byte(
    trained: TrainedSite, candidates: Path, tmp_path: Path
) -> None:
    ways = {"one": (SMALL, 1), "other": (replace(SMALL, batch_rows=37, workers=2), 2)}
    for name, (options, threads) in ways.items():
        score(trained.data, candidates, tmp_path / name, model=MODEL, at=0, options=options, threads=threads)
    assert files_of(tmp_path / "other") == files_of(tmp_path / "one")
    assert len(list((tmp_path / "one").glob("part-*"))) > 5


@pytest.mark.slow
def test_a_batch_that_was_killed_three_times_is_resumed_to_the_same_bytes(
    trained: TrainedSite, candidates: Path, tmp_path: Path
) -> None:
    out, at = tmp_path / "out", "2024-01-01T00:00:00Z"
    arguments = ["score", str(trained.data), "--candidates", str(candidates), "--out", str(out), "--model", MODEL,
                 "--at", at, "--partition-rows", "400", "--resume"]  # fmt: skip
    moments = "part-00001.parquet:1 _manifest.json:2 part-00004.parquet:1"
    done = run_warm("-c", KILLED, moments, *arguments, cwd=trained.home)
    assert done.returncode == 0, done.stderr
    assert not out.exists()
    with pytest.raises(InputError, match=r"an earlier run left 4 partitions of it in .* --resume"):
        score(trained.data, candidates, out, model=MODEL, at=at, options=SMALL)
    resumed = score(trained.data, candidates, out, model=MODEL, at=at, options=replace(SMALL, resume=True))
    assert resumed.manifest["attempts"] == 4
    score(trained.data, candidates, tmp_path / "once", model=MODEL, at=at, options=SMALL)
    assert files_of(out) == files_of(tmp_path / "once")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["candidates.parquet", "once", "out"]
    again = score(trained.data, candidates, out, model=MODEL, options=replace(SMALL, resume=True))
    assert again.manifest == resumed.manifest


def test_a_resume_with_other_inputs_is_refused(trained: TrainedSite, tmp_path: Path) -> None:
    path, out = tmp_path / "candidates.csv", tmp_path / "out"
    path.write_text("request_id,user_id,item_id\nr1,u1,n1\nr1,u1,n2\nr2,u2,n1\nr3,u1,n1\nr1,u1,n3\n")
    options = BatchOptions(partition_rows=2, batch_rows=1)
    with pytest.raises(InputError, match=r"'r1' comes back .*; sort the file by request_id$"):
        score(trained.data, path, out, model=MODEL, at=5_000_000, options=options)
    path.write_text("request_id,user_id,item_id\nr1,u1,n1\n")
    with pytest.raises(InputError) as refused:
        score(trained.data, path, out, model=MODEL, at=6_000_000, top_k=3, options=replace(options, resume=True))
    named = re.findall(r"(\w+) was (\S+) and is (\S+?)[; ]", str(refused.value))
    assert [name for name, *_ in named] == ["candidates_fingerprint", "at", "top_k"]
    assert named[1:] == [
        ("at", '"1970-01-01T00:00:05.000000Z"', '"1970-01-01T00:00:06.000000Z"'),
        ("top_k", "null", "3"),
    ]
    assert str(refused.value).endswith("name another place for a new batch, or remove that folder")
    with pytest.raises(InputError, match=r"an earlier run left 1 partition of it in .* or remove that folder"):
        score(trained.data, path, out, model=MODEL, options=options)


def test_a_refused_resume_of_a_complete_batch_leaves_its_rejects(trained: TrainedSite, tmp_path: Path) -> None:
    path, out = tmp_path / "candidates.csv", tmp_path / "out"
    path.write_text("request_id,user_id,item_id\nr1,u1,n1\nr1,u1,\n")
    score(trained.data, path, out, model=MODEL, at=0)
    before = files_of(out)
    path.write_text("request_id,user_id,item_id\nr2,u1,n1\nr2,u1,n2\nr2,u1,\n")
    tables = tmp_path / "tables"
    shutil.copytree(trained.data, tables)
    events = pd.read_parquet(tables / "events.parquet")
    unusable = events.head(1).assign(item_id=None)  # a reject of this attempt
    pd.concat([events, unusable], ignore_index=True).to_parquet(tables / "events.parquet")
    with pytest.raises(InputError, match=r"cannot be resumed: .*candidates_fingerprint was .* for a new batch$"):
        score(tables, path, out, model=MODEL, at=0, options=BatchOptions(resume=True))
    assert "rejects/candidates.jsonl" in before
    assert files_of(out) == before


def test_a_second_run_is_told_to_wait_and_not_to_remove_what_the_first_one_writes(tmp_path: Path) -> None:
    path, out = tmp_path / "candidates.csv", tmp_path / "out"
    path.write_text("request_id,user_id,item_id\nr1,u1,n1\n")
    with batch_folder(out, resume=False) as running:
        running.begin({}, started="now")
        rows = pa.table({"n": [1]})
        running.add(0, running.writer().write(0, rows.schema, [rows]), {})
        with pytest.raises(InputError, match="another command is writing it at this moment; wait for that one"):
            score(tmp_path, path, out)


def test_a_corrupt_file_of_candidates_stops_the_batch_or_is_left_out_and_named(
    trained: TrainedSite, tmp_path: Path
) -> None:
    folder, out = tmp_path / "candidates", tmp_path / "out"
    folder.mkdir()
    for name in ("a.csv", "c.csv"):
        (folder / name).write_text(f"request_id,user_id,item_id\nof {name},u1,n1\n")
    pd.DataFrame({"request_id": ["b"] * 5_000, "user_id": "u1", "item_id": [f"n{n}" for n in range(5_000)]}).to_parquet(
        folder / "b.parquet"
    )
    whole = (folder / "b.parquet").read_bytes()
    middle = len(whole) // 3
    damaged = whole[:middle] + bytes(len(whole) // 3) + whole[2 * middle :]
    (folder / "b.parquet").write_bytes(damaged)
    with pytest.raises(InputError, match=r"b\.parquet': expected a readable Parquet file"):
        score(trained.data, folder, out, model=MODEL)
    report = score(trained.data, folder, out, model=MODEL, options=BatchOptions(skip_unreadable=True))
    assert list(read(out)["request_id"]) == ["of a.csv", "of c.csv"]
    assert list(report.manifest["skipped_files"]) == ["b.parquet"]
    assert "expected a readable Parquet file" in report.manifest["skipped_files"]["b.parquet"]
    assert any(line.startswith("left out 'b.parquet'") for line in report.lines())
    assert (folder / "b.parquet").read_bytes() == damaged
    for name in ("a.csv", "c.csv"):
        (folder / name).unlink()
    with pytest.raises(InputError, match="there is no other file of candidates that can be read"):
        score(trained.data, folder, tmp_path / "none", model=MODEL, options=BatchOptions(skip_unreadable=True))
    assert not (tmp_path / "none").exists()


def test_an_object_store_is_read_and_written_as_a_folder_is(
    trained: TrainedSite, candidates: Path, bucket: Any, tmp_path: Path
) -> None:
    score(trained.data, candidates, tmp_path / "out", model=MODEL, at="2026-01-01")
    bucket.put(str(trained.data), "batches/log", recursive=True)
    bucket.put_file(str(candidates), "batches/candidates.parquet")
    url = "s3://batches/nightly"
    report = score("s3://batches/log", "s3://batches/candidates.parquet", url, model=MODEL, at="2026-01-01")
    assert report.lines()[-1] == f"ranked by models:/tiny-ranker/1 into {url!r}"
    bucket.get(f"{url}/", str(tmp_path / "fetched"), recursive=True)
    assert files_of(tmp_path / "fetched") == files_of(tmp_path / "out")
