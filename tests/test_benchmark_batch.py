"""The batch benchmark runs on a tiny site: each figure is there, and stands beside what it is measured against."""

from pathlib import Path

import pytest
from trained_site import MODEL, TrainedSite

from benchmarks.batch import LogAmounts, measure_batches

pytestmark = pytest.mark.slow


def test_it_scores_a_log_of_its_own_beside_bare_predict(
    trained: TrainedSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECSYS_CACHE", str(tmp_path / "cache"))
    amounts = LogAmounts(events=2_000, users=60, items=120, rows=(1_000,))
    results = {one.name: one for one in measure_batches(trained.data, MODEL, tmp_path / "log", amounts)}
    assert list(results) == ["seconds_of_1000_rows", "rows_per_second_of_1000", "peak_megabytes_of_1000_rows"]
    rate = results["rows_per_second_of_1000"]
    assert rate.value * results["seconds_of_1000_rows"].value == pytest.approx(1_000)
    assert rate.ratio == pytest.approx(rate.value / (rate.reference or 0))
    assert results["peak_megabytes_of_1000_rows"].value > 50
