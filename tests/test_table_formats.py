"""Files as they are: formats, folders, row numbers, and every way in which a file can be broken."""

import gzip
import json
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.errors import InputError
from features.tables.delimited import CsvDialect, delimited_batches
from features.tables.formats import columns_of, files_of, find_table, raw_batches
from features.tables.schema import Kind
from features.tables.sources import Source

ROWS = [{"item_id": "007", "title": 'A "quoted", title'}, {"item_id": "8", "title": "zwei\nZeilen"}]
CSV = 'item_id,title\n007,"A ""quoted"", title"\n8,"zwei\nZeilen"\n'


def read(file: Path, columns: tuple[str, ...] = ("item_id", "title")) -> list[dict[str, object]]:
    found = []
    kinds: dict[str, tuple[Kind, ...]] = {name: ("id",) if name == "item_id" else ("any",) for name in columns}
    for batch in raw_batches(Source(file), kinds):
        for row in batch.data.to_pylist():
            found.append({k: v.decode() if isinstance(v, bytes) else v for k, v in row.items()})
    return found


def write(folder: Path, name: str) -> Path:
    file = folder / name
    lines = "".join(json.dumps(row) + "\n\n" for row in ROWS)
    text = {"csv": CSV, "tsv": CSV.replace(",", "\t").replace('"\t', '",').replace('""\t', '"",'), "jsonl": lines}
    if name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(ROWS), file)
    elif name.endswith(".gz"):
        file.write_bytes(gzip.compress(text[name.split(".")[1]].encode()))
    else:
        file.write_text(text[name.split(".")[1]])
    return file


@pytest.mark.parametrize("suffix", ["parquet", "csv", "csv.gz", "jsonl", "jsonl.gz"])
def test_every_format_gives_the_same_rows_and_keeps_leading_zeros(tmp_path: Path, suffix: str) -> None:
    assert read(write(tmp_path, f"items.{suffix}")) == ROWS


def test_tab_separated_files_are_read_as_csv_is(tmp_path: Path) -> None:
    file = tmp_path / "items.tsv"
    file.write_text('item_id\ttitle\n007\t"a ""b"", c"\n')
    assert read(file) == [{"item_id": "007", "title": 'a "b", c'}]


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbf" + CSV.encode())
    (tmp_path / "b.jsonl").write_bytes(b"\xef\xbb\xbf" + json.dumps(ROWS[0]).encode())
    assert read(tmp_path / "a.csv") == ROWS
    assert read(tmp_path / "b.jsonl") == ROWS[:1]


def test_a_folder_is_its_files_in_the_order_of_their_names(tmp_path: Path) -> None:
    folder = tmp_path / "items"
    (folder / "deep").mkdir(parents=True)
    for name in ("b.csv", "a.csv", "_SUCCESS", ".part.csv", "deep/c.csv"):
        (folder / name).write_text(CSV)
    assert [file.path.name for file in files_of(folder)] == ["a.csv", "b.csv", "c.csv"]
    assert find_table(tmp_path, "items") == folder


def test_ragged_lines_are_rejects_and_do_not_shift_the_numbers_of_the_rows_after_them(tmp_path: Path) -> None:
    file = tmp_path / "items.csv"
    file.write_text("item_id,title\n1,a\n2\n3,c\n4,d,e\n5,f\n6\n")
    batches = list(raw_batches(Source(file), {"item_id": ("id",)}))
    assert [int(row) for batch in batches for row in batch.rows] == [1, 3, 5]
    rejects = [reject for batch in batches for reject in batch.rejects]
    assert [(one.row, one.reason) for one in rejects] == [(2, "ragged_line"), (4, "ragged_line"), (6, "ragged_line")]
    assert rejects[0].value == "1 cells, not 2: 2"


def test_a_file_without_header_counts_its_first_line_as_row_one(tmp_path: Path) -> None:
    file = tmp_path / "x.tsv"
    file.write_text('1\t"a\n2\n3\tb\n')
    (batch,) = delimited_batches(Source(file), ["x", "y"], CsvDialect("\t", ("x", "y"), quoted=False))
    assert batch.data.to_pylist() == [{"x": b"1", "y": b'"a'}, {"x": b"3", "y": b"b"}]
    assert list(batch.rows) == [1, 3]
    assert batch.rejects[0].row == 2


@given(st.lists(st.booleans(), min_size=1, max_size=60))
@settings(max_examples=60, deadline=None)
def test_row_numbers_name_the_line_whatever_is_ragged(
    tmp_path_factory: pytest.TempPathFactory, good: list[bool]
) -> None:
    file = tmp_path_factory.mktemp("ragged") / "items.csv"
    file.write_text("a,b\n" + "".join(f"{i + 1},x\n" if ok else "bad\n" for i, ok in enumerate(good)))
    batches = list(raw_batches(Source(file), {"a": ("id",)}))
    for batch in batches:
        assert [int(value) for value in batch.data.column("a").to_pylist()] == list(batch.rows)
    assert [r.row for b in batches for r in b.rejects] == [i + 1 for i, ok in enumerate(good) if not ok]


def test_lines_that_are_no_json_object_are_rejects(tmp_path: Path) -> None:
    file = tmp_path / "items.jsonl"
    file.write_bytes(b'{"item_id": 1}\n[1]\n{"item_id": \n\n{"item_id": "\xff"}\n{"item_id": 2.5}\n{"item_id": true}\n')
    (batch,) = raw_batches(Source(file), {"item_id": ("id",)})
    assert batch.data.to_pylist() == [{"item_id": "1"}]
    assert {(one.row, one.reason) for one in batch.rejects} == {
        (2, "bad_json"),
        (3, "bad_json"),
        (4, "invalid_utf8"),
        (5, "float_id"),
        (6, "wrong_type"),
    }


def test_a_json_field_of_several_types_is_read_as_text(tmp_path: Path) -> None:
    file = tmp_path / "items.jsonl"
    file.write_text('{"item_id": "a", "x": 1}\n{"item_id": "b", "x": "two"}\n{"item_id": "c"}\n')
    assert [row["x"] for row in read(file, ("item_id", "x"))] == ["1", "two", None]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("items.parquet", b"", "is empty"),
        ("items.csv", b"", "is empty"),
        ("items.jsonl", b"", "is empty"),
        ("items.parquet", b"PAR1 and then nothing of the kind PAR1", "expected a readable Parquet file"),
        ("items.csv", "item_id,größe\n1,2\n".encode("latin-1"), "expected UTF-8 text, got byte 0xf6"),
        ("items.json", b'[{"item_id": 1}]', "expected JSON lines, one object a line"),
        ("items.csv", b"a,a\n1,2\n", "expected every column once, found ['a']"),
        ("items.csv.gz", b"not gzip at all", "expected a readable CSV file"),
        ("items.xlsx", b"PK", "expected a name that ends in"),
    ],
)
def test_an_unusable_file_is_one_line_that_names_it(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(InputError, match="items") as caught:
        columns_of(Source(file))
    assert said in str(caught.value)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_files_and_tables_given_twice_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        files_of(tmp_path / "none.csv")
    with pytest.raises(InputError, match="expected a folder"):
        find_table(tmp_path / "none", "items")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="found no file"):
        files_of(tmp_path / "empty")
    for name in ("items.csv", "items.parquet"):
        (tmp_path / name).write_text("x")
    with pytest.raises(InputError, match=r"items.parquet, items.csv; remove one"):
        find_table(tmp_path, "items")
    assert find_table(tmp_path, "events") is None


@pytest.mark.parametrize("suffix", ["parquet", "csv.gz", "jsonl.gz"])
def test_a_file_cut_off_or_scrambled_anywhere_raises_nothing_but_input_error(tmp_path: Path, suffix: str) -> None:
    rows = [{"item_id": str(i), "title": f"title {i % 97}"} for i in range(3000)]
    whole = tmp_path / f"items.{suffix}"
    if suffix == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), whole, compression="zstd", row_group_size=1000)
    else:
        lines = "item_id,title\n" + "".join(f"{row['item_id']},{row['title']}\n" for row in rows)
        text = lines if suffix == "csv.gz" else "".join(json.dumps(row) + "\n" for row in rows)
        whole.write_bytes(gzip.compress(text.encode()))
    content = whole.read_bytes()
    dice, outcomes = random.Random(7), []
    for trial in range(100):
        broken = bytearray(content)
        if trial % 2:
            broken = broken[: dice.randrange(len(content))]
        else:
            for _ in range(5):
                broken[dice.randrange(len(content))] = dice.randrange(256)
        whole.write_bytes(broken)
        try:
            columns_of(Source(whole))
            outcomes.append(len(read(whole)))
        except InputError as error:
            assert str(whole) in str(error)
            outcomes.append(-1)
    assert outcomes.count(-1) > 40
