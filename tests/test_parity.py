"""One score on every path, on real data: evaluation, batch file, and online answers replayed in time order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from fastapi.testclient import TestClient
from small_ranking_model import small_encoder, tiny_settings

from features.log import Log, Requests
from features.offline.reader import LogIndex
from features.tables.load import load_log
from pipelines.data_options import read_options_of_model
from pipelines.load import load_items_into
from pipelines.score import score
from pipelines.train import train
from recsys.config import load_config
from recsys.metrics.ranking import list_metrics
from recsys.online.open_state import open_state
from recsys.ranker.offline_matrix import OfflineScorer
from recsys.registry import versions
from recsys.serving.app import create_app
from recsys.serving.service import RankService
from recsys.training.time_split import slice_impressions

pytestmark = pytest.mark.slow

IMPRESSIONS = 1000
TOLERANCE = 1e-6
OWN_FEATURES = """from features.definitions.custom import *

FEATURES = (
    Feature("brand_clicks_1d", "Brand.", CountOf(Count("click", of_category("brand"), days(1))), within_list=True),
    Feature("item_worth", "Graded.", WeightedCount({"click": 3, "impression": -1}, ITEM)),
)
"""


@dataclass(frozen=True)
class Office:
    """A ranker trained on amazon-office, and its scores of test lists as the evaluation computes them.

    expected: score by impression and item. measured: (n,) nDCG@10 of each list in the training's report.
    """

    data: Path
    loaded: versions.LoadedModel
    log: Log
    ids: np.ndarray
    requests: Requests
    expected: pd.Series
    measured: np.ndarray
    label: np.ndarray


def half_of_the_users(source: Path, folder: Path) -> Path:
    """The tables of every second user, and all items; returns `folder`."""
    folder.mkdir()
    users = pd.read_parquet(source / "impressions.parquet", columns=["user_id"])["user_id"].unique()
    kept = set(np.sort(users)[::2])
    for path in source.glob("*.parquet"):
        frame = pd.read_parquet(path)
        (frame[frame["user_id"].isin(kept)] if "user_id" in frame else frame).to_parquet(folder / path.name)
    return folder


@pytest.fixture(scope="module")
def office(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Office:
    home = tmp_path_factory.mktemp("office")
    data, base = half_of_the_users(shared_data / "amazon-office", home / "data"), home / "base"
    titles = pq.read_table(data / "items.parquet").column("title").to_pylist()
    own = home / "own.py"
    own.write_text(OWN_FEATURES)
    config = load_config(None, (*tiny_settings(base), "encoder.progressive_chunks=2", f"features.file={own}"))
    small_encoder(base, sorted({word.lower() for title in titles for word in title.split()}), config)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.chdir(home)
        report = train(data, config, name="office")
        own.unlink()
        loaded = versions.load(report.models.ranker.uri)
    assert {"brand_clicks_1d", "item_worth"} <= set(loaded.ranking_model.settings.columns)
    log, _ = load_log(data, read_options_of_model(loaded.ranking_model.settings))
    test = log.impressions.take(slice_impressions(log.impressions, config.slices).test[:IMPRESSIONS])
    texts = loaded.ranking_model.texts(log.catalog)
    scores = OfflineScorer(loaded.ranking_model, LogIndex(log), texts, threads=1).scores(test.requests)
    ids = np.repeat(test.ids, test.requests.lengths())
    index = pd.MultiIndex.from_arrays([ids, log.catalog.ids[test.requests.item]])
    found = report.evaluation
    ndcg = pd.Series(found.metrics["ranker"].ndcg_at_10, found.impressions.ids)
    return Office(
        data, loaded, log, test.ids, test.requests, pd.Series(scores, index), ndcg[test.ids].to_numpy(), test.label
    )


def test_the_evaluation_measured_these_scores(office: Office) -> None:
    ndcg = list_metrics(office.expected.to_numpy(), office.label, office.requests.offsets).ndcg_at_10
    assert len(office.ids) == IMPRESSIONS
    assert np.array_equal(ndcg, office.measured)


def test_batch_scores_equal_the_evaluations(office: Office, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = pd.read_parquet(office.data / "impressions.parquet")
    frame = frame[frame["impression_id"].isin(set(office.ids))]
    frame[["impression_id", "user_id", "timestamp", "item_id"]].to_csv(tmp_path / "candidates.csv", index=False)
    monkeypatch.setattr(versions, "load", lambda _: office.loaded)
    monkeypatch.chdir(tmp_path)
    score(office.data, tmp_path / "candidates.csv", tmp_path / "out", model="models:/office-ranker/1")
    found = pd.read_parquet(next((tmp_path / "out").glob("part-*.parquet")))
    found = found.set_index(["impression_id", "item_id"])["score"]
    assert len(found) == len(office.expected)
    assert np.abs(found.loc[office.expected.index] - office.expected).max() < TOLERANCE


def test_online_scores_replayed_in_time_order_equal_the_evaluations(
    office: Office, new_place: Callable[[], str]
) -> None:
    loaded, log, requests = office.loaded, office.log, office.requests
    with open_state(new_place(), loaded.ranking_model.settings, create=True) as state:
        load_items_into(state, loaded.ranking_model, office.data / "items.parquet")
        service = RankService(loaded.ranking_model, state, ranker=str(loaded.ranker), encoder=str(loaded.encoder))
        client = TestClient(create_app(service), headers={"X-Budget-Ms": "0"})
        applied, worst = 0, 0.0
        for i in range(len(requests)):
            due = int(np.searchsorted(log.events.time, requests.time[i], side="left"))
            apply_events(client, log, applied, due)
            applied = max(applied, due)
            service.served.online.refresh(int(requests.time[i]))
            worst = max(worst, difference(client, office, i))
    assert worst < TOLERANCE


def apply_events(client: TestClient, log: Log, first: int, end: int) -> None:
    """Post the log's events first to end, as a client would."""
    events = log.events
    for start in range(first, end, 5000):
        part = range(start, min(start + 5000, end))
        rows = [
            {
                "user_id": log.users[events.user[k]],
                "item_id": log.catalog.ids[events.item[k]],
                "timestamp": int(events.time[k]),
                "event_type": events.types[events.type[k]],
            }
            for k in part
        ]
        answer = client.post("/v1/events", json={"events": rows})
        assert answer.json() == {"accepted": len(rows), "rejected": []}


def difference(client: TestClient, office: Office, i: int) -> float:
    """Largest difference of an online answer from the evaluation's scores."""
    requests = office.requests
    candidates = office.log.catalog.ids[requests.item[requests.offsets[i] : requests.offsets[i + 1]]]
    request = {
        "user_id": office.log.users[requests.user[i]],
        "candidates": candidates.tolist(),
        "timestamp": int(requests.time[i]),
    }
    items = client.post("/v1/rank", json=request).json()["items"]
    assert {item["item_id"] for item in items} == set(candidates)
    return max(abs(item["score"] - office.expected[office.ids[i], item["item_id"]]) for item in items)
