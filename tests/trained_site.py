"""A simulated site with both models trained and registered by the real pipeline, in seconds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from small_ranking_model import small_encoder, tiny_settings

from pipelines.simulate import simulate
from pipelines.train import TrainReport, train
from recsys.config import Config, load_config

NAME = "tiny"
MODEL = f"models:/{NAME}-ranker@champion"


@dataclass(frozen=True)
class TrainedSite:
    """home: the folder whose `mlruns` holds the versions. data: the tables. base: the encoder's base model."""

    home: Path
    data: Path
    base: Path
    config: Config
    report: TrainReport


def tables_until(data: Path, folder: Path, moment: int) -> Path:
    """Copies of the tables without what came after `moment`, microseconds; returns `folder`."""
    folder.mkdir()
    for path in data.glob("*.parquet"):
        frame = pd.read_parquet(path)
        if "timestamp" in frame:
            frame = frame[frame["timestamp"] <= pd.Timestamp(moment, unit="us", tz="UTC")]
        frame.to_parquet(folder / path.name)
    return folder


def train_site(home: Path) -> TrainedSite:
    """Simulate, make a base model that knows the words, train, register."""
    data, base = home / "data", home / "base"
    simulate(data, users=120, items=120, impressions=2_500, seed=5)
    titles = pq.read_table(data / "items.parquet").column("title").to_pylist()
    small_encoder(base, sorted({word.lower() for title in titles for word in title.split()}), load_config())
    config = load_config(None, tiny_settings(base))
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.chdir(home)
        return TrainedSite(home, data, base, config, train(data, config, name=NAME))
