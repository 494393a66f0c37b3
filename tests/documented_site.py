"""A simulated site with two registered versions, in a folder where every command of README and docs can run.

It holds what the pages name: the tables in `DIR`, with the columns and event types of docs/features.md, `mine.py`,
`candidates.parquet`, `lists.parquet`, MIND's files in `SRC`, and versions 1 and 2 of news-ranker.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from documents import ROOT, blocks
from small_ranking_model import small_encoder, tiny_settings

from features.tables.logged_columns import LOGGED
from pipelines.simulate import simulate
from pipelines.train import train
from recsys.config import load_config

NAME = "news"
FEATURES_PAGE = ROOT / "docs" / "features.md"
GENEROUS = (
    "promotion.min_lists=1",
    "promotion.min_users=2",
    "promotion.margin=-1",
    "promotion.max_milliseconds=100000",
    "audit.lists=20",
    "ranker.max_trees=5",
)
"""Settings beside the tiny ones: a promotion is granted, an audit is short."""


@dataclass(frozen=True)
class DocumentedSite:
    """home: the folder that commands run in. settings: YAML file of a tiny training. base: the encoder's base model.
    run: the id of the run that registered version 1."""

    home: Path
    settings: Path
    base: Path
    run: str


def document_site(home: Path) -> DocumentedSite:
    """Simulate, add what the pages name, train twice, and lay out the files."""
    folder, base = home / "DIR", home / "base"
    simulate(folder, users=120, items=120, impressions=2_500, seed=5)
    items = _with_columns(folder)
    _with_event_types(folder, items)
    pd.DataFrame({"user_id": ["u000", "u001"], "country": ["no", "se"]}).to_parquet(folder / "users.parquet")
    words = {word.lower() for title in items["title"] for word in title.split()}
    small_encoder(base, sorted(words), load_config(), length=128)
    config = load_config(None, (*tiny_settings(base), *GENEROUS))
    settings = home / "tiny.yaml"
    settings.write_text(yaml.safe_dump(config.model_dump(mode="json")), encoding="utf-8")
    _write_files(home, folder)
    _write_log(home / "LOG", folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.chdir(home)
        run = train(folder, config, name=NAME).usage.run_id
        train(folder, config.model_copy(update={"seed": 1}), name=NAME)
        _write_lists(home)
    return DocumentedSite(home, settings, base, run)


def _with_columns(folder: Path) -> pd.DataFrame:
    """The items with a brand, a price, pages and an image, none of which says anything of clicks."""
    items = pd.read_parquet(folder / "items.parquet")
    rng = np.random.default_rng(0)
    items["brand"] = rng.choice(["Acme", "Globex", "Initech"], len(items))
    items["price"] = rng.uniform(1, 100, len(items)).round(2)
    items["pages"] = rng.integers(10, 500, len(items))
    items["image"] = list(rng.normal(size=(len(items), 4)).astype(np.float32))
    items.to_parquet(folder / "items.parquet")
    return items


def _with_event_types(folder: Path, items: pd.DataFrame) -> None:
    """Add a few purchases beside the views, clicks and likes of the simulated site, and ratings of them all."""
    events = pd.read_parquet(folder / "events.parquet")
    bought = events.sample(20, random_state=0).assign(event_type="purchase", item_id=items["item_id"].iloc[0])
    if "event_id" in bought:
        bought["event_id"] = [f"purchase-{number}" for number in range(len(bought))]
    events = pd.concat([events, bought], ignore_index=True)
    events["value"] = np.random.default_rng(0).integers(1, 6, len(events))
    events.to_parquet(folder / "events.parquet")


def _write_files(home: Path, folder: Path) -> None:
    features = next(block for block in blocks(FEATURES_PAGE, "python") if "FEATURES = (" in block.text)
    (home / "mine.py").write_text(features.text, encoding="utf-8")
    impressions = pd.read_parquet(folder / "impressions.parquet")
    newest = impressions["impression_id"].drop_duplicates().tail(20)
    rows = impressions[impressions["impression_id"].isin(newest)]
    rows[["impression_id", "user_id", "timestamp", "item_id"]].to_parquet(home / "candidates.parquet")
    (home / "SRC").mkdir()
    (home / "SRC" / "news.tsv").write_text(
        "N1\tsports\tgolf\tA title\tText\turl\t[]\t[]\nN2\tnews\tworld\tB\t\turl\t[]\t[]\n"
    )
    (home / "SRC" / "behaviors.tsv").write_text("1\tU1\t11/9/2019 12:00:01 AM\tN2\tN1-1 N2-0\n")


def _write_log(log: Path, folder: Path) -> None:
    """The newest lists as if a server had ranked and logged them."""
    rows = pd.read_parquet(folder / "impressions.parquet").tail(200)
    place = rows.groupby("impression_id").cumcount() + 1
    columns = {"query": None, "shown": True, "described": False, "history_given": False, "rung": "full"}
    columns |= {"ranker": f"{NAME}-ranker/1", "encoder": f"{NAME}-encoder/1", "propensity": 1.0}
    frame = rows.assign(position=place, score=-place.astype(float), **columns)[LOGGED.names]
    log.mkdir()
    pq.write_table(pa.Table.from_pandas(frame, LOGGED, preserve_index=False), log / "rankings-documented.parquet")


def _write_lists(home: Path) -> None:
    """The metrics of every test impression of the latest training, as its evaluation's run holds them."""
    runs = mlflow.search_runs(search_all_experiments=True, order_by=["start_time DESC"], output_format="list")
    client = mlflow.MlflowClient()
    for run in runs:
        found = [file.path for file in client.list_artifacts(run.info.run_id) if file.path.endswith("lists.parquet")]
        if found:
            shutil.copy(client.download_artifacts(run.info.run_id, found[0]), home / "lists.parquet")
            return
    raise AssertionError("expected lists.parquet in a run of the training")
