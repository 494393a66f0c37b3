"""Batch scoring: the evaluation's own scores, ranked, whole requests, with a manifest."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trained_site import MODEL, TrainedSite

from features.errors import InputError
from features.offline.reader import LogIndex
from features.tables.encodings import FileOptions
from features.tables.load import load_log
from pipelines.data_options import read_options_of_model
from pipelines.score import score
from recsys.metrics.rank_order import ordered
from recsys.ranker.offline_matrix import OfflineScorer
from recsys.registry import versions


@pytest.fixture
def candidates(trained: TrainedSite, tmp_path: Path) -> Path:
    """The newest lists without their labels, in order."""
    frame = pd.read_parquet(trained.data / "impressions.parquet").sort_values("timestamp", kind="stable")
    newest = frame["impression_id"].drop_duplicates().tail(300)
    path = tmp_path / "candidates.parquet"
    columns = ["impression_id", "user_id", "timestamp", "item_id"]
    frame[frame["impression_id"].isin(newest)][columns].to_parquet(path)
    return path


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
