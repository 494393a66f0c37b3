"""The sizing benchmark runs on a tiny site: each figure is there, and what takes more room has the larger one."""

from pathlib import Path

import pytest
from trained_site import MODEL, TrainedSite

from benchmarks import sizing
from benchmarks.sizing import Amounts, measure_sizes

pytestmark = pytest.mark.slow


def test_it_measures_the_store_and_a_server(
    trained: TrainedSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sizing, "AT_ONCE", 50)
    results = measure_sizes(trained.data, MODEL, tmp_path / "sized", Amounts(items=120, users=60))
    values = {one.name: one.value for one in results}
    assert list(values) == [
        "store_bytes_per_item",
        "store_bytes_per_user",
        "store_bytes_per_event",
        "store_bytes_per_event_with_id",
        "store_bytes_per_shown_item",
        "store_bytes_of_tables_per_item",
        "store_file_megabytes",
        "server_megabytes_at_start",
        "server_bytes_per_item",
    ]
    assert values["store_bytes_per_item"] > 4 * 32  # a vector of the tiny encoder alone
    assert values["store_bytes_per_event_with_id"] > values["store_bytes_per_event"] > 0
    assert values["server_megabytes_at_start"] > 50
