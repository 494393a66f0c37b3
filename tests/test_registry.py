"""Registering models at MLflow: numbers, runs, links and a quiet console."""

from __future__ import annotations

import json
from pathlib import Path

import mlflow
import pytest
from small_ranking_model import small_site

from recsys.registry import tracking, versions
from recsys.registry.names import Version
from recsys.registry.run_queries import run_of_version, versions_of_run

NAME = "quiet"


def register() -> tuple[str, Version, Version]:
    """Id of a run and the versions that it registers."""
    site = small_site()
    encoder, rows = site.ranking_model.encoder, site.ranked.matrix_for("ranker")[:3]
    with tracking.run(tracking.connect(), NAME, parent=True) as run:
        return (
            run.info.run_id,
            versions.log_encoder(encoder, NAME, [([], "a text")]),
            versions.log_ranker(site.ranking_model, NAME, rows),
        )


@pytest.fixture
def registered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> list[tuple[str, Version, Version]]:
    """Two registrations under one name in a fresh store, what they print still to be read."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    small_site()
    capfd.readouterr()
    return [register(), register()]


def test_a_second_registration_is_the_next_version_of_its_own_run(
    registered: list[tuple[str, Version, Version]], capfd: pytest.CaptureFixture[str]
) -> None:
    printed = "".join(capfd.readouterr())
    assert "registered model" not in printed.lower()
    assert "Created version" not in printed
    for number, (run_id, encoder, ranker) in enumerate(registered, start=1):
        assert (encoder, ranker) == (Version("quiet-encoder", str(number)), Version("quiet-ranker", str(number)))
        assert run_of_version(encoder) == run_of_version(ranker) == run_id
        assert set(versions_of_run(run_id)) == {encoder, ranker}
    client = mlflow.MlflowClient()
    aliases = client.get_registered_model("quiet-ranker").aliases
    assert {alias: str(number) for alias, number in aliases.items()} == {"champion": "1", "challenger": "2"}
    source = client.get_model_version("quiet-ranker", "2").source
    model = client.get_logged_model(source.removeprefix("models:/"))
    assert json.loads(model.tags["mlflow.modelVersions"]) == [{"name": "quiet-ranker", "version": "2"}]
