"""Folders called name=value are columns of the files inside, in every format and wherever a table is named."""

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.errors import InputError
from features.tables.candidates import CandidateReader
from features.tables.formats import columns_of, files_of
from features.tables.load import load_log, read_table_rows
from features.tables.sources import partition_of

NOON = 1_704_110_400


def write(folder: Path, name: str, rows: list[dict[str, object]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    frame = pd.DataFrame(rows)
    if name.endswith(".parquet"):
        frame.to_parquet(folder / name, index=False)
    elif name.endswith(".jsonl"):
        frame.to_json(folder / name, orient="records", lines=True)
    else:
        frame.to_csv(folder / name, index=False)


def events(first: int, n: int) -> list[dict[str, object]]:
    return [{"user_id": f"u{k}", "item_id": "a", "timestamp": NOON + k} for k in range(first, first + n)]


@pytest.mark.parametrize("suffix", ["parquet", "csv", "jsonl"])
@pytest.mark.parametrize("table", ["events", "events.parquet"])
def test_a_partitioned_event_type_is_read(tmp_path: Path, suffix: str, table: str) -> None:
    write(tmp_path, "items.csv", [{"item_id": "a", "title": "Apple"}])
    write(tmp_path / table / "event_type=view", f"1.{suffix}", events(0, 6))
    write(tmp_path / table / "event_type=click", f"1.{suffix}", events(6, 2))
    write(tmp_path / table / "event_type=__HIVE_DEFAULT_PARTITION__", f"1.{suffix}", events(8, 1))
    report = load_log(tmp_path)[1]
    assert (report.events, report.clicks) == (9, 3)


def test_what_pandas_writes_with_partitions_is_read_as_one_file_is(tmp_path: Path) -> None:
    rows = [{**row, "event_type": "view" if k % 4 else "click"} for k, row in enumerate(events(0, 20))]
    for folder, partitions in (("one", None), ("many", ["event_type", "timestamp"])):
        write(tmp_path / folder, "items.csv", [{"item_id": "a", "title": "Apple"}])
        pd.DataFrame(rows).to_parquet(tmp_path / folder / "events.parquet", partition_cols=partitions)
    assert load_log(tmp_path / "one")[1].fingerprint == load_log(tmp_path / "many")[1].fingerprint


def test_item_columns_may_be_folders_and_values_are_decoded(tmp_path: Path) -> None:
    write(tmp_path / "items" / "category=Bread%20%2F%20Cakes" / "year=2023", "1.csv", [{"item_id": "a", "title": "A"}])
    write(tmp_path / "items" / "category=Tea" / "year=2024", "1.csv", [{"item_id": "b", "title": "B"}])
    (checked_a, checked_b) = list(read_table_rows(tmp_path / "items", "items"))
    assert checked_a.data.to_pylist()[0]["category category"] == "Bread / Cakes"
    assert checked_b.data.to_pylist()[0]["category category"] == "Tea"
    types = columns_of(files_of(tmp_path / "items")[0])
    assert (types["category"], types["year"]) == (pa.string(), pa.float64())


def test_a_part_of_a_table_keeps_what_its_folder_says(tmp_path: Path) -> None:
    write(tmp_path / "events" / "event_type=view", "1.csv", events(0, 2))
    for path in (tmp_path / "events" / "event_type=view", tmp_path / "events" / "event_type=view" / "1.csv"):
        found = [row for checked in read_table_rows(path, "events") for row in checked.data.to_pylist()]
        assert [row["event_type"] for row in found] == ["view", "view"]


def test_the_folder_of_a_whole_table_says_nothing(tmp_path: Path) -> None:
    write(tmp_path / "language=de", "items.csv", [{"item_id": "a", "title": "Apple"}])
    write(tmp_path / "language=de" / "events", "1.csv", events(0, 2))
    assert partition_of(tmp_path / "language=de" / "items.csv", tmp_path / "language=de" / "items.csv") == {}
    assert files_of(tmp_path / "language=de" / "events")[0].partition == {}


def test_a_column_of_the_file_holds_against_its_folder(tmp_path: Path) -> None:
    write(tmp_path / "events" / "event_type=view", "1.csv", [{**row, "event_type": "click"} for row in events(0, 1)])
    (checked,) = read_table_rows(tmp_path / "events", "events")
    assert checked.data.to_pylist()[0]["event_type"] == "click"


def test_hidden_folders_hold_no_rows_and_two_folders_of_one_column_are_an_error(tmp_path: Path) -> None:
    write(tmp_path / "events" / "event_type=view", "1.csv", events(0, 1))
    for name in ("_delta_log/0.json", "_temporary/0/1.csv", ".checkpoints/1.csv"):
        write(tmp_path / "events" / Path(name).parent, Path(name).name, events(5, 1))
    assert [file.path.name for file in files_of(tmp_path / "events")] == ["1.csv"]
    write(tmp_path / "events" / "event_type=view" / "event_type=click", "2.csv", events(0, 1))
    with pytest.raises(InputError, match="found two of 'event_type'"):
        files_of(tmp_path / "events")


def test_candidates_may_be_partitioned_by_request(tmp_path: Path) -> None:
    for request in ("r1", "r2"):
        table = pa.table({"user_id": ["u", "u"], "item_id": ["a", "b"]})
        (tmp_path / "candidates" / f"request_id={request}").mkdir(parents=True)
        pq.write_table(table, tmp_path / "candidates" / f"request_id={request}" / "1.parquet")
    (chunk,) = CandidateReader(tmp_path / "candidates")
    assert (list(chunk.ids), list(chunk.offsets)) == (["r1", "r2"], [0, 2, 4])
