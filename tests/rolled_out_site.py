"""Three small versions of one name in a registry of their own, and a store that they can all serve from.

Version 1 is that of the small site, version 2 reads another encoder, version 3 is popularity and reads none.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
import torch
from small_ranking_model import SmallSite, small_site

from features.clock import format_time
from pipelines.load import events_into, load_items_into
from recsys.config import ServingConfig
from recsys.encoder.model import Encoder
from recsys.encoder.text_model import NoEncoder
from recsys.online.open_state import open_state
from recsys.ranker.linear_ranker import LinearRanker
from recsys.ranker.model import RankingModel
from recsys.registry import tracking, versions
from recsys.registry.names import Version
from recsys.rollout.source import ModelSource, cache_of
from recsys.rollout.start import opened_service
from recsys.rollout.watcher import ModelWatcher
from recsys.serving.challenger import Challenger
from recsys.serving.schemas import RankRequest
from recsys.serving.service import RankService
from recsys.serving.traffic import ChallengerOptions

NAME = "moving"
RANKER = f"{NAME}-ranker"
URI, CHALLENGER_URI = f"models:/{RANKER}@champion", f"models:/{RANKER}@challenger"
POPULARITY = "item_clicks_all_zscore"
DAY = 86_400_000_000


@dataclass(frozen=True)
class Challenged:
    """A service with a challenger, and the watchers of both places, which look when they are told to."""

    service: RankService
    challenger: Challenger
    watcher: ModelWatcher
    rival: ModelWatcher


@dataclass(frozen=True)
class RolledOutSite:
    """home: the folder with `mlruns`. store: filled for version 1."""

    home: Path
    store: str
    site: SmallSite

    def point(self, number: int, alias: str = "champion") -> None:
        """Let an alias name a version."""
        mlflow.MlflowClient().set_registered_model_alias(RANKER, alias, str(number))

    def request(self) -> RankRequest:
        """A user with a history and thirty items, a day after everything."""
        log = self.site.log
        user = str(log.users[int(log.events.user[0])])
        moment = int(max(log.events.time.max(), log.impressions.requests.time.max())) + DAY
        ids = log.catalog.ids[:30].tolist()
        return RankRequest.model_validate({"user_id": user, "candidates": ids, "timestamp": format_time(moment)})

    @contextmanager
    def served(self, *, cache: str | None = "", store: str | None = None) -> Iterator[tuple[RankService, ModelWatcher]]:
        """A service of what the alias names, and its watcher, which looks when it is told to."""
        place = store or self.store
        source = ModelSource(URI, cache_of(place, cache))
        with opened_service(source, place, ServingConfig()) as service:
            yield service, ModelWatcher(service, service.champion, source, seconds=0)

    @contextmanager
    def challenged(self, *, share: float = 0.0, shadow: bool = False, cache: str | None = "") -> Iterator[Challenged]:
        """A service of what `champion` names, whose challenger is what `challenger` names once `rival` has looked."""
        cached, settings = cache_of(self.store, cache), ServingConfig(budget_ms=0)
        source, other = ModelSource(URI, cached), ModelSource(CHALLENGER_URI, cached)
        with opened_service(source, self.store, settings, ChallengerOptions(CHALLENGER_URI, share, shadow)) as service:
            assert service.challenger is not None
            champion = ModelWatcher(service, service.champion, source, seconds=0)
            rival = ModelWatcher(service, service.challenger.slot, other, seconds=0)
            yield Challenged(service, service.challenger, champion, rival)

    def artifact(self, version: Version, artifact: str) -> Path:
        """The folder of a version's files in the registry."""
        return Path(mlflow.artifacts.download_artifacts(version.uri)) / "artifacts" / artifact


def make_rolled_out_site(home: Path) -> RolledOutSite:
    """Register the versions and fill the store; the working folder is `home`."""
    site = small_site()
    other = _other_encoder(site.ranking_model.encoder)
    register(site, _reading(site, site.ranking_model.encoder, 1), site.ranking_model.encoder)
    register(site, _reading(site, other, 2), other)
    register(site, popularity(site), None)
    store = str(home / "store")
    with open_state(store, site.ranking_model.settings, create=True) as state:
        load_items_into(state, site.ranking_model, site.data / "items.parquet")
        for table in ("events", "impressions"):
            events_into(state, site.data / f"{table}.parquet")
    return RolledOutSite(home, store, site)


def register(site: SmallSite, model: RankingModel, encoder: Encoder | None) -> Version:
    """The next version of the name, and of its encoder."""
    rows = np.zeros((3, len(model.settings.columns)), np.float32)
    if len(model.settings.columns) == len(site.ranking_model.settings.columns):
        rows = site.ranked.matrix_for("ranker")[:3]
    with tracking.run(tracking.connect(), NAME, parent=True):
        if encoder is not None:
            versions.log_encoder(encoder, NAME, [([], "a text")])
        return versions.log_ranker(model, NAME, rows)


def popularity(site: SmallSite, weight: float = 1.0) -> RankingModel:
    """The most clicked items first; last for a negative weight."""
    update = {"columns": (POPULARITY,), "encoder": None, "encoder_fingerprint": "", "collaborative": None}
    settings = site.ranking_model.settings.model_copy(update=update)
    none = NoEncoder(settings.history_length)
    return replace(site.ranking_model, settings=settings, ranker=LinearRanker({POPULARITY: weight}), encoder=none)


def scores(answer: dict[str, Any]) -> dict[str, float]:
    """Of an answer's items."""
    return {item["item_id"]: item["score"] for item in answer["items"]}


def _reading(site: SmallSite, encoder: Encoder, number: int) -> RankingModel:
    update = {"encoder": f"models:/{NAME}-encoder/{number}", "encoder_fingerprint": encoder.fingerprint}
    settings = site.ranking_model.settings.model_copy(update=update)
    return replace(site.ranking_model, settings=settings, encoder=encoder)


def _other_encoder(encoder: Encoder) -> Encoder:
    """The same shape with other weights, without stored vectors."""
    tower = deepcopy(encoder.tower)
    with torch.no_grad():
        generator = torch.Generator().manual_seed(11)
        for weight in tower.transformer.parameters():
            weight += 0.3 * torch.randn(weight.shape, generator=generator)
    return Encoder(encoder.settings, tower, None)


@contextmanager
def altered(path: Path, data: bytes | None) -> Iterator[None]:
    """A file with other content, or without the file for None, while the block runs."""
    before = path.read_bytes()
    if data is None:
        path.unlink()
    else:
        path.write_bytes(data)
    try:
        yield
    finally:
        path.write_bytes(before)


@contextmanager
def unreachable(home: Path) -> Iterator[None]:
    """The registry's database is gone while the block runs."""
    database = home / "mlruns" / "mlflow.db"
    away = database.rename(home / "away.db")
    try:
        yield
    finally:
        away.rename(database)


@pytest.fixture(scope="module")
def rolled_out_once(tmp_path_factory: pytest.TempPathFactory) -> RolledOutSite:
    home = tmp_path_factory.mktemp("rolled-out")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.chdir(home)
        return make_rolled_out_site(home)


@pytest.fixture
def rolled_out(rolled_out_once: RolledOutSite, monkeypatch: pytest.MonkeyPatch) -> RolledOutSite:
    """The site with version 1 as its champion, its folder the working folder."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(rolled_out_once.home)
    tracking.connect()
    rolled_out_once.point(1)
    rolled_out_once.point(3, "challenger")
    return rolled_out_once
