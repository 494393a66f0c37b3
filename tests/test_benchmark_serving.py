"""The serving benchmark runs on a tiny site: rankings and events are answered, and each figure has its reference."""

from pathlib import Path

import pytest
from trained_site import MODEL, TrainedSite

from benchmarks import serving
from benchmarks.serving import measure_served

pytestmark = pytest.mark.slow


def test_it_measures_rankings_and_events_of_a_server(
    trained: TrainedSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "CLIENTS", 2)
    results = {one.name: one for one in measure_served(trained.data, MODEL, tmp_path / "store", (10, 20), rounds=1)}
    assert list(results) == [
        "rank_10_p50",
        "rank_10_p99",
        "rank_20_p50",
        "rank_20_p99",
        "rankings_per_second_of_2_clients",
        "events_per_second",
    ]
    for name in list(results)[:4]:
        one = results[name]
        assert one.reference is not None
        assert 0 < one.reference < one.value
        assert one.ratio == one.value / one.reference
    assert results["rank_10_p50"].value <= results["rank_10_p99"].value
    assert all(one.value > 0 for one in results.values())
