"""A version of a machine with bfloat16, loaded and served where only float32 is computed, on the same store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from small_ranking_model import SmallSite, small_site
from trained_site import TrainedSite

import recsys.encoder.dtype as dtype_module
from features.online.state import OnlineState
from features.online.text_vectors import read_vectors
from pipelines.load import events_into, load_items_into
from recsys.encoder.dtype import Dtype
from recsys.encoder.model import Encoder
from recsys.encoder.text import Template, item_texts, text_hash
from recsys.online.open_state import open_state
from recsys.ranker.model import RankingModel
from recsys.registry import tracking, versions
from recsys.serving.app import create_app
from recsys.serving.service import RankService

NAME = "half"
NEW = {"item_id": "new", "title": "A storm nears the capital"}


@dataclass(frozen=True)
class Machine:
    """What computes: a machine with bfloat16 (emulated where this one has none) or one without."""

    patch: pytest.MonkeyPatch

    def has_bfloat16(self, there: bool) -> None:
        self.patch.setattr(dtype_module, "has_bfloat16", lambda device: there)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


@pytest.fixture
def site(trained: TrainedSite, machine: Machine) -> SmallSite:
    """A version registered in bfloat16; its encoder's table holds half of the texts."""
    machine.has_bfloat16(there=True)
    site = small_site()
    plain = site.ranking_model.encoder
    texts = sorted({text for text in item_texts(site.log.catalog, plain.settings.template) if text})
    settings = replace(plain.settings, dtype="bfloat16")
    encoder = Encoder(settings, plain.tower.with_dtype("bfloat16"), plain.head).with_table(texts[::2])
    with tracking.run(tracking.connect(), NAME, parent=True):
        version = versions.log_encoder(encoder, NAME, [([texts[0]], "a new text")])
        unit_settings = site.ranking_model.settings.model_copy(
            update={"encoder": version.uri, "encoder_fingerprint": encoder.fingerprint}
        )
        ranking_model = RankingModel(unit_settings, site.ranking_model.ranker, encoder, site.ranking_model.lexical)
        rows = site.ranked.matrix_for("ranker")[:5]
        versions.log_ranker(ranking_model, NAME, rows)
    return site


@dataclass(frozen=True)
class Served:
    """The champion, loaded anew and served on a store."""

    ranking_model: RankingModel
    state: OnlineState
    client: TestClient

    def answers(self, site: SmallSite) -> list[list[tuple[str, float]]]:
        """Items and scores of three requests over the whole catalog, after all that the store holds."""
        found = []
        for user in site.log.users[:3]:
            answer = self.client.post("/v1/rank", json={"user_id": user, "candidates": list(site.log.catalog.ids)})
            assert answer.status_code == 200, answer.text
            found.append([(item["item_id"], item["score"]) for item in answer.json()["items"]])
        return found

    def stored(self, dtype: Dtype, text: str) -> bool:
        """Whether the store has a vector of the text that was made in a dtype."""
        with self.state.snapshot() as view:
            vectors = read_vectors(view.values, self.ranking_model.encoder.fingerprint, dtype, [text_hash(text)])
        return vectors[0] is not None


@contextmanager
def served(store: Path) -> Iterator[Served]:
    loaded = versions.load(f"models:/{NAME}-ranker@champion")
    with open_state(str(store), loaded.ranking_model.settings, create=True) as state:
        service = RankService(loaded.ranking_model, state, ranker=str(loaded.ranker), encoder=str(loaded.encoder))
        yield Served(loaded.ranking_model, state, TestClient(create_app(service), headers={"X-Budget-Ms": "0"}))


def test_the_same_stored_vectors_give_the_same_scores_without_bfloat16(
    site: SmallSite, machine: Machine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with served(tmp_path / "store") as there:
        assert load_items_into(there.state, there.ranking_model, site.data / "items.parquet").encoded > 0
        events_into(there.state, site.data / "events.parquet")
        expected = there.answers(site)
    assert "does not compute" not in caplog.text
    machine.has_bfloat16(there=False)
    with served(tmp_path / "store") as here:
        encoder = here.ranking_model.encoder
        assert (encoder.settings.dtype, encoder.tower.computes_in) == ("bfloat16", "float32")
        assert here.answers(site) == expected
        assert load_items_into(here.state, here.ranking_model, site.data / "items.parquet").encoded == 0
    assert "trained in bfloat16, which this machine does not compute" in caplog.text


def test_a_new_text_is_kept_under_the_dtype_that_made_it(site: SmallSite, machine: Machine, tmp_path: Path) -> None:
    text = Template.parse(site.config.encoder.template).fill({"title": NEW["title"]})
    machine.has_bfloat16(there=False)
    with served(tmp_path / "store") as here:
        assert here.client.post("/v1/items", json={"items": [NEW]}).json()["accepted"] == 1
        assert (here.stored("float32", text), here.stored("bfloat16", text)) == (True, False)
    machine.has_bfloat16(there=True)
    with served(tmp_path / "store") as there:
        assert there.client.post("/v1/rank", json={"candidates": ["new"]}).status_code == 200
        assert (there.stored("float32", text), there.stored("bfloat16", text)) == (True, True)
