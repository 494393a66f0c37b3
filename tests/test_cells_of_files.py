r"""Cells that formats hold in their own ways: mixed JSON, lists, decimals, UUIDs, encodings, words for nothing."""

import gzip
import json
import uuid
from collections.abc import Callable
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.errors import InputError
from features.tables.encodings import FileOptions, check_encoding, open_text
from features.tables.items import CatalogColumns
from features.tables.load import ReadOptions, load_log
from features.tables.rejects import Rejects
from features.tables.schema import EVENTS, IMPRESSIONS, ITEMS, USERS
from features.tables.table_reader import TableReader

NOON = 1_704_110_400
EVENT_HEAD = "user_id,item_id,timestamp\n"


def directory(folder: Path, items: pa.Table | list[dict[str, Any]] | str) -> Path:
    """A data directory with one click on each of 40 items."""
    folder.mkdir(exist_ok=True)
    if isinstance(items, pa.Table):
        pq.write_table(items, folder / "items.parquet")
    elif isinstance(items, str):
        (folder / "items.csv").write_text(items)
    else:
        (folder / "items.jsonl").write_text(lines(items))
    (folder / "events.csv").write_text(rows_of(EVENT_HEAD, lambda k: f"u{k},{k},{NOON + k}"))
    return folder


def lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def rows_of(head: str, row: Callable[[int], str], n: int = 40) -> str:
    return head + "".join(row(k) + "\n" for k in range(n))


def read(path: Path, schema: Any, **options: Any) -> tuple[list[dict[str, Any]], Rejects]:
    rejects = Rejects(None)
    reader = TableReader(path, schema, timezone="UTC", rejects=rejects, files=FileOptions(**options))
    return [row for checked in reader for row in checked.data.to_pylist()], rejects


def test_a_json_field_may_alternate_between_a_text_and_a_list_of_texts(tmp_path: Path) -> None:
    values = ["sports", ["sports", None, "news"], [], None, 7, 1.0, True, [2, "b"]]
    items = [{"item_id": k, "title": f"T{k}", "category": values[k % 8]} for k in range(40)]
    catalog = load_log(directory(tmp_path / "mixed", items))[0].catalog
    found, offsets = catalog.categories["category"], catalog.categories["category"].codes.offsets
    rows = [[found.values[code] for code in found.codes.codes[start:end]] for start, end in pairwise(offsets)]
    by_id = dict(zip(catalog.ids, rows, strict=False))
    assert [by_id[str(k)] for k in range(8)] == [
        ["sports"],
        ["news", "sports"],
        [],
        [],
        ["7"],
        ["1"],
        ["true"],
        ["2", "b"],
    ]


def test_a_description_in_parts_is_one_text_and_what_is_no_text_rejects_its_row(tmp_path: Path) -> None:
    file = tmp_path / "items.jsonl"
    descriptions = ["plain", ["Part one.", "Part two."], {"html": "<p>"}, [["deep"]], 3]
    file.write_text(lines([{"item_id": k, "title": "T", "description": d} for k, d in enumerate(descriptions)]))
    rows, rejects = read(file, ITEMS)
    assert [row["description"] for row in rows] == ["plain", "Part one. Part two.", "3"]
    assert rejects.by_reason("items") == {"wrong_type": 2}
    first = rejects.first("items")
    assert first is not None
    assert (first.row, first.field, first.value) == (3, "description", '{"html":"<p>"}')


def test_numbers_flags_and_labels_of_json_may_be_of_several_types(tmp_path: Path) -> None:
    file = tmp_path / "impressions.jsonl"
    labels: list[Any] = [1, "0", True, [1], {"x": 1}, "2"]
    shown = {"impression_id": "i", "user_id": "u", "timestamp": NOON}
    file.write_text(lines([{**shown, "item_id": k, "clicked": label} for k, label in enumerate(labels)]))
    found, rejects = read(file, IMPRESSIONS)
    assert [row["clicked"] for row in found] == [1, 0, 1, 2]
    assert rejects.by_reason("impressions") == {"wrong_type": 2}


@pytest.mark.parametrize("template", ["{title}\n{category}", "{title}"])
def test_a_category_is_joined_from_its_list_whatever_reads_it(tmp_path: Path, template: str) -> None:
    lists = [["A", None], ["A", "B"], None, ["B"]]
    table = pa.table(
        {
            "item_id": pa.array(range(40)),
            "title": [f"T{k}" for k in range(40)],
            "category": pa.array([lists[k % 4] for k in range(40)], pa.list_(pa.string())),
        }
    )
    texts = ("category",) if "category" in template else ()
    log = load_log(directory(tmp_path / "lists", table), ReadOptions(item_columns=CatalogColumns(texts=texts)))[0]
    joined = ["A" if v == ["A", None] else "|".join(v or []) for v in (lists[k % 4] for k in range(40))]  # type: ignore[arg-type]
    plain = rows_of("item_id,title,category\n", lambda k: f"{k},T{k},{joined[k]}")
    same = load_log(directory(tmp_path / "plain", plain), ReadOptions(item_columns=CatalogColumns(texts=texts)))[0]
    found, expected = log.catalog.categories["category"], same.catalog.categories["category"]
    assert found.values == expected.values == ("A", "B")
    assert found.codes.codes.tolist() == expected.codes.codes.tolist()
    if texts:
        assert list(log.catalog.texts["category"]) == list(same.catalog.texts["category"])


def test_whole_decimals_are_ids_and_fractions_are_rejected(tmp_path: Path) -> None:
    for name, kind, values in (
        ("a", pa.decimal128(38, 0), ["7", "8"]),
        ("b", pa.decimal128(38, 10), ["7", "8", "1.5"]),
        ("c", pa.decimal256(60, 2), ["7", "8"]),
    ):
        table = pa.table({"item_id": pa.array([Decimal(v) for v in values], kind), "title": ["T"] * len(values)})
        pq.write_table(table, tmp_path / f"{name}.parquet")
        rows, rejects = read(tmp_path / f"{name}.parquet", ITEMS)
        assert [row["item_id"] for row in rows] == ["7", "8"]
        assert rejects.by_reason("items") == ({"float_id": 1} if name == "b" else {})


@pytest.mark.parametrize("kind", [pa.binary(16), pa.binary(), pa.large_binary(), pa.uuid()])
def test_uuids_of_16_bytes_are_ids_in_their_usual_form(tmp_path: Path, kind: pa.DataType) -> None:
    ids = [uuid.UUID(int=(k << 120) | 0xFF00 | k) for k in range(200, 240)]
    storage = pa.array([one.bytes for one in ids], kind if kind != pa.uuid() else pa.binary(16))
    column = storage if kind != pa.uuid() else pa.ExtensionArray.from_storage(pa.uuid(), storage)
    pq.write_table(pa.table({"user_id": column, "city": ["x"] * 40}), tmp_path / "users.parquet")
    rows, rejects = read(tmp_path / "users.parquet", USERS)
    assert [row["user_id"] for row in rows] == [str(one) for one in ids]
    assert rejects.by_reason("users") == {}


def test_sixteen_letters_in_bytes_are_text(tmp_path: Path) -> None:
    for name, kind in (("a", pa.binary(16)), ("b", pa.binary())):
        table = pa.table({"user_id": pa.array([b"0123456789abcdef"], kind)})
        pq.write_table(table, tmp_path / f"{name}.parquet")
        assert read(tmp_path / f"{name}.parquet", USERS)[0] == [{"user_id": "0123456789abcdef"}]


def test_an_id_over_several_lines_of_a_csv_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "users.csv").write_text('user_id\n1\n"2\n3"\n4\n')
    rows, rejects = read(tmp_path / "users.csv", USERS)
    assert [row["user_id"] for row in rows] == ["1", "4"]
    assert rejects.by_reason("users") == {"line_break_in_id": 1}


@pytest.mark.parametrize("suffix", ["csv", "tsv", "csv.gz", "jsonl"])
@pytest.mark.parametrize("encoding", ["gb18030", "utf-16", "big5", "utf-8"])
def test_tables_in_other_encodings_are_the_same_tables(tmp_path: Path, suffix: str, encoding: str) -> None:
    separator = "\t" if suffix == "tsv" else ","
    if suffix == "jsonl":
        text = "".join(json.dumps({"item_id": k, "title": f"新聞 {k}"}, ensure_ascii=False) + "\n" for k in range(9))
    else:
        text = f"item_id{separator}title\n" + "".join(f'{k}{separator}"新聞 {k}"\n' for k in range(9))
    content = text.encode(encoding)
    file = tmp_path / f"items.{suffix}"
    file.write_bytes(gzip.compress(content) if suffix.endswith("gz") else content)
    rows, rejects = read(file, ITEMS, encoding=encoding)
    assert [(row["item_id"], row["title"]) for row in rows] == [(str(k), f"新聞 {k}") for k in range(9)]
    assert rejects.by_reason("items") == {}


def test_a_table_in_another_encoding_is_an_error_that_names_the_option(tmp_path: Path) -> None:
    titles = [f"新闻{k}" if k > 1 else "news" for k in range(40)]
    folder = directory(tmp_path / "gbk", [])
    (folder / "items.jsonl").unlink()
    text = "item_id,title\n" + "".join(f"{k},{title}\n" for k, title in enumerate(titles))
    (folder / "items.csv").write_bytes(text.encode("gbk"))
    with pytest.raises(
        InputError, match=r"38 of its 40 rows .*38 x invalid_utf8.*--encoding gb18030.*--max-rejects 0.95"
    ):
        load_log(folder)
    assert load_log(folder, ReadOptions(files=FileOptions("gbk")))[1].rejected == 0
    assert load_log(folder, ReadOptions(files=FileOptions(max_rejects=0.95)))[1].rejected == 38


def test_bytes_that_an_encoding_does_not_have_reject_their_row_alone(tmp_path: Path) -> None:
    lines = [f"{k},新闻{k}".encode("gbk") for k in range(6)]
    lines[2] = b"2,\xff\xff"
    (tmp_path / "items.csv").write_bytes(b"item_id,title\n" + b"\n".join(lines) + b"\n")
    rows, rejects = read(tmp_path / "items.csv", ITEMS, encoding="gbk")
    assert [row["item_id"] for row in rows] == ["0", "1", "3", "4", "5"]
    assert rejects.by_reason("items") == {"invalid_gbk": 1}


@pytest.mark.parametrize("name", ["klingon", "hex", "rot13", ""])
def test_an_unknown_encoding_is_named(name: str) -> None:
    with pytest.raises(InputError, match=f"expected the name of a text encoding .*got '{name}'"):
        check_encoding(name)


@pytest.mark.parametrize("written", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize("named", ["utf-8", "gb18030", "utf-16"])
def test_a_byte_order_mark_says_the_encoding_whatever_is_named(tmp_path: Path, written: str, named: str) -> None:
    (tmp_path / "items.csv").write_bytes("item_id,title\na,新聞\n".encode(written))
    (tmp_path / "items.jsonl").write_bytes('{"item_id": "a", "title": "新聞"}\n'.encode(written))
    for name in ("items.csv", "items.jsonl"):
        rows, _ = read(tmp_path / name, ITEMS, encoding=named)
        assert [(row["item_id"], row["title"]) for row in rows] == [("a", "新聞")]


def test_a_file_that_is_not_in_the_encoding_at_all_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("item_id,title\na,b\n")
    with pytest.raises(
        InputError, match=r"items.csv': expected UTF-16 text, .*another encoding than --encoding utf-16"
    ):
        read(tmp_path / "items.csv", ITEMS, encoding="utf-16")


def test_a_file_with_another_delimiter_is_told(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("item_id;title\na;b\n")
    with pytest.raises(InputError, match=r"its columns seem to be separated by ';', expected ',' in .csv"):
        read(tmp_path / "items.csv", ITEMS)


def test_a_text_stream_gives_utf8_however_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_bytes("日本語\nテキスト\n".encode("shift_jis"))
    with open_text(tmp_path / "x.txt", "shift_jis") as stream:
        assert list(stream) == ["日本語\n".encode(), "テキスト\n".encode()]
    with open_text(tmp_path / "x.txt", "shift_jis") as stream:
        assert b"".join(iter(lambda: stream.read(2), b"")) == "日本語\nテキスト\n".encode()


def test_database_nulls_are_missing_and_words_for_nothing_are_listed(tmp_path: Path) -> None:
    def category(k: int) -> str:
        return "\\N" if k < 8 else "NULL" if k < 11 else f"c{k % 3}"

    items = rows_of("item_id,title,category\n", lambda k: f"{k},T{k},{category(k)}")
    folder = directory(tmp_path / "nulls", items)
    users = ["u", "\\N"]
    (folder / "events.csv").write_text(rows_of(EVENT_HEAD, lambda k: f"{users[k % 2]},{k},{NOON + k}"))
    log, report = load_log(folder)
    assert log.catalog.categories["category"].values == ("NULL", "c0", "c1", "c2")
    assert list(log.users) == ["u"]
    said = "\n".join(report.warnings)
    assert r"items.category: 8 of 40 rows have \N, read as a missing value" in said
    assert "items.category: words for nothing are read as text: 'NULL' x 3 in 40 rows" in said
    assert r"events.user_id: 20 of 40 rows have \N" in said


def test_escaped_quotes_and_columns_that_are_nearly_named_are_said(tmp_path: Path) -> None:
    folder = directory(tmp_path / "said", rows_of("item_id,title\n", lambda k: f'{k},"the \\"{k}\\""'))
    head = "user_id,item_id,timestamp,eventType\n"
    (folder / "events.csv").write_text(rows_of(head, lambda k: f"u,{k},{NOON + k},click"))
    log, report = load_log(folder)
    assert log.catalog.title[0] == 'the "0"'
    said = "\n".join(report.warnings)
    assert "items.csv': 40 cells have quotes escaped by backslashes" in said
    assert "events has no column 'event_type', and nothing reads its column 'eventType'" in said


def test_lists_that_are_written_as_text_are_said(tmp_path: Path) -> None:
    items = rows_of("item_id,title,category\n", lambda k: f"""{k},T,"['a', 'b']\"""" if k % 2 else f"{k},T,a|b")
    report = load_log(directory(tmp_path / "lists", items))[1]
    assert any("items.category: 20 of 40 rows have a list written as text" in warning for warning in report.warnings)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("events.csv", "user_id,item_id,timestamp\nu,1,\nu,2,NULL\nu,3,\\N\n"),
        ("events.csv", "user_id,item_id\nu,1\n"),
        ("events.jsonl", '{"user_id": "u", "item_id": 1, "timestamp": null}\n'),
    ],
)
def test_a_table_without_any_time_says_what_would_make_it_usable(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    with Rejects(tmp_path / "rejects") as rejects, pytest.raises(InputError) as caught:
        list(TableReader(tmp_path / name, EVENTS, timezone="UTC", rejects=rejects))
    assert "give the numbers as epoch seconds: 1700000001, 1700000002" in str(caught.value)
    assert rejects.by_reason("events") == {}
    assert not (tmp_path / "rejects").exists()


def test_times_that_begin_in_a_later_file_are_found(tmp_path: Path) -> None:
    (tmp_path / "events").mkdir()
    (tmp_path / "events" / "a.csv").write_text("user_id,item_id,timestamp\nu,1,\n")
    (tmp_path / "events" / "b.csv").write_text(f"user_id,item_id,timestamp\nu,1,{NOON}\nu,2,{NOON}\n")
    rows, rejects = read(tmp_path / "events", EVENTS)
    assert (len(rows), rejects.by_reason("events")) == (2, {"missing_value": 1})
