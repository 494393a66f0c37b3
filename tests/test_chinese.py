"""Chinese through the whole chain: simulated items, a small BERT that reads characters, training, every path after."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from chinese_bert import save_chinese_bert
from fastapi.testclient import TestClient
from small_ranking_model import tiny_settings
from trained_site import TrainedSite, tables_until

from features.log import Impressions, Log
from features.offline.reader import LogIndex
from features.tables.load import load_log
from pipelines import simulate as simulation
from pipelines.data_options import read_options, read_options_of_model
from pipelines.load import events_into, load_items_into
from pipelines.score import score
from pipelines.simulation.texts import Language, read_language
from pipelines.train import train
from recsys.config import load_config
from recsys.encoder.text import item_texts
from recsys.online.open_state import open_state
from recsys.ranker.offline_matrix import OfflineScorer
from recsys.registry import tracking, versions
from recsys.serving.app import create_app
from recsys.serving.service import RankService
from recsys.training.time_split import slice_impressions

pytestmark = pytest.mark.slow

MODEL = "models:/zh-ranker@champion"
MAX_TOKENS = 64
SETTINGS = (
    "encoder.template='{title}。{category}。{description}'",
    f"encoder.max_tokens={MAX_TOKENS}",
    "encoder.head_epochs=10",
    "encoder.head_batch_size=64",
    "encoder.head_learning_rate=1e-3",
    "encoder.fine_tune_epochs=1",
    "encoder.fine_tune_learning_rate=3e-4",
)


def few_topics() -> Language:
    """Two topics of each of the first six categories: few enough to be told apart within seconds."""
    full = read_language("chinese")
    names = full.categories[:6]
    parts = [[topic for topic in full.topics if topic.category == name][:2] for name in names]
    return dataclasses.replace(full, topics=tuple(topic for part in parts for topic in part))


@pytest.fixture(scope="module")
def site_once(tmp_path_factory: pytest.TempPathFactory) -> TrainedSite:
    home = tmp_path_factory.mktemp("chinese")
    data = home / "data"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(simulation.LANGUAGES, "zh", few_topics)
        simulation.simulate(data, users=200, items=200, impressions=4_000, seed=5, language="zh")
        items = pd.read_parquet(data / "items.parquet")
        base = save_chinese_bert(home / "base", [*items["title"], *items["description"], *items["category"]])
        config = load_config(None, (*tiny_settings(base), *SETTINGS))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.chdir(home)
        return TrainedSite(home, data, base, config, train(data, config, name="zh"))


@pytest.fixture
def site(site_once: TrainedSite, monkeypatch: pytest.MonkeyPatch) -> TrainedSite:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(site_once.home)
    tracking.connect()
    return site_once


def described(site: TrainedSite) -> list[str]:
    """The text of every item."""
    log, _ = load_log(site.data, read_options(site.config))
    return item_texts(log.catalog, site.config.encoder.template)[:-1]


def newest(site: TrainedSite, loaded: versions.LoadedModel) -> tuple[Log, Impressions, pd.Series]:
    """The log, its last 60 lists, and the score of each of their candidates as the evaluation computes it."""
    log, _ = load_log(site.data, read_options_of_model(loaded.ranking_model.settings))
    lists = log.impressions.take(slice_impressions(log.impressions, site.config.slices).test[-60:])
    texts = loaded.ranking_model.texts(log.catalog)
    scores = OfflineScorer(loaded.ranking_model, LogIndex(log), texts, threads=1).scores(lists.requests)
    names = [np.repeat(lists.ids, lists.requests.lengths()), log.catalog.ids[lists.requests.item]]
    return log, lists, pd.Series(scores, pd.MultiIndex.from_arrays(names))


def test_trained_text_beats_frozen_text_and_matching_characters_beat_chance(site: TrainedSite) -> None:
    report = site.report.as_dict()
    mean = {method: metrics["ndcg_at_10"]["mean"] for method, metrics in report["test"].items()}
    assert mean["text"] - mean["text_frozen"] >= 0.06
    assert report["lift"]["text_over_text_frozen"]["low"] > 0.02
    assert mean["tfidf"] - mean["random"] >= 0.2
    assert report["lift"]["ranker_over_behaviour"]["low"] > 0


def test_a_character_is_a_token_none_is_unknown_and_what_is_cut_is_counted(site: TrainedSite) -> None:
    texts = set(described(site))
    counts = site.report.as_dict()["encoder"]
    lengths = [len(text) + 2 for text in texts]
    assert counts["tokens_unknown"] == 0
    assert counts["texts_truncated"] == sum(length > MAX_TOKENS for length in lengths) > 0
    assert counts["tokens"] == sum(min(length, MAX_TOKENS) for length in lengths)


def test_loaded_vectors_are_those_of_the_texts_and_end_where_the_text_is_cut(site: TrainedSite) -> None:
    encoder = versions.load(MODEL).ranking_model.encoder
    texts = described(site)
    assert (encoder.table.find(texts) >= 0).all()
    made = encoder.project(encoder.tower.encode(texts))
    assert np.abs(made - encoder.encode_texts(texts)).max() < 1e-5
    long = next(text for text in texts if len(text) > MAX_TOKENS)
    some = [long, long[: MAX_TOKENS - 2], long[: MAX_TOKENS - 2] + "完全不同的结尾", long[:20]]
    vectors = encoder.encode_texts(some)
    assert np.abs(vectors[:3] - vectors[0]).max() < 1e-5 < np.abs(vectors[3] - vectors[0]).max()


def test_batch_scores_equal_the_evaluations(site: TrainedSite, tmp_path: Path) -> None:
    _, lists, expected = newest(site, versions.load(MODEL))
    rows = pd.read_parquet(site.data / "impressions.parquet")
    rows = rows[rows["impression_id"].isin(set(lists.ids))]
    rows[["impression_id", "user_id", "timestamp", "item_id"]].to_parquet(tmp_path / "candidates.parquet")
    score(site.data, tmp_path / "candidates.parquet", tmp_path / "out", model=MODEL)
    found = pd.read_parquet(next((tmp_path / "out").glob("part-*.parquet")))
    found = found.set_index(["impression_id", "item_id"])["score"]
    assert len(found) == len(expected)
    assert np.abs(found.loc[expected.index] - expected).max() < 1e-6


def test_online_scores_equal_the_evaluations_and_a_mark_of_direction_changes_none(
    site: TrainedSite, tmp_path: Path
) -> None:
    loaded = versions.load(MODEL)
    log, lists, expected = newest(site, loaded)
    requests, last = lists.requests, len(lists) - 1
    moment, user = int(requests.time[last]), log.users[requests.user[last]]
    candidates = expected.loc[lists.ids[last]]
    past = tables_until(site.data, tmp_path / "past", moment - 1)
    with open_state(str(tmp_path / "store"), loaded.ranking_model.settings, create=True) as state:
        load_items_into(state, loaded.ranking_model, site.data / "items.parquet")
        events_into(state, past / "impressions.parquet")
        events_into(state, past / "events.parquet")
        service = RankService(loaded.ranking_model, state, ranker=str(loaded.ranker), encoder=str(loaded.encoder))
        service.served.online.refresh(moment)
        client = TestClient(create_app(service), headers={"X-Budget-Ms": "0"})
        request = {"user_id": user, "candidates": candidates.index.tolist(), "timestamp": moment}
        items = client.post("/v1/rank", json=request).json()["items"]
        found = pd.Series({item["item_id"]: item["score"] for item in items})
        assert (found - candidates).abs().max() < 1e-6
        described = [
            {"item_id": name, "title": f"{mark}新的火箭{mark}升空"} for name, mark in (("a", ""), ("b", "\u200e"))
        ]
        items = client.post("/v1/rank", json=request | {"candidates": described}).json()["items"]
        assert items[0]["score"] == items[1]["score"]
