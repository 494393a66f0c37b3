"""Quotes in delimited text: no row is read as a part of another, and every broken one is named."""

import csv
import gzip
import io
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import features.tables.quoting
from features.tables.formats import raw_batches
from features.tables.rejects import Reject
from features.tables.sources import Source

HEAD = "user_id,item_id,timestamp,event_type,event_id\n"


def event(number: int, event_id: str = "") -> str:
    return f"u{number},i{number},{1_700_000_000 + number},click,{event_id or f'e{number}'}\n"


def read(file: Path, columns: str) -> tuple[list[list[str | None]], list[int], list[Reject], int]:
    """Cells, row numbers, rejects, and how many cells had escaped quotes."""
    cells, numbers, rejects, escaped = [], [], [], 0
    for batch in raw_batches(Source(file), dict.fromkeys(columns.split(","), ("any",))):
        cells += [[None if cell is None else cell.decode() for cell in row.values()] for row in batch.data.to_pylist()]
        numbers += batch.rows.tolist()
        rejects += batch.rejects
        escaped += batch.escaped
    return cells, numbers, rejects, escaped


@pytest.fixture(params=[8 << 20, 64], ids=["one block", "blocks of 64 bytes"])
def block(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(features.tables.quoting, "_BLOCK_BYTES", request.param)
    return int(request.param)


@pytest.mark.usefixtures("block")
@pytest.mark.parametrize("suffix", ["csv", "csv.gz"])
def test_an_unclosed_quote_costs_its_own_row_and_no_other(tmp_path: Path, suffix: str) -> None:
    # the quote of row 10 would be closed by that of row 50, and rows 11 to 49 would be inside
    lines = [event(number, {10: '"e9', 50: '"e49'}.get(number, "")) for number in range(1, 61)]
    file = tmp_path / f"events.{suffix}"
    file.write_bytes(gzip.compress((HEAD + "".join(lines)).encode()) if suffix == "csv.gz" else b"")
    if suffix == "csv":
        file.write_text(HEAD + "".join(lines))
    cells, numbers, rejects, _ = read(file, "event_id")
    assert [(one.row, one.reason, one.value) for one in rejects] == [
        (10, "unclosed_quote", lines[9].strip()),
        (50, "unclosed_quote", lines[49].strip()),
    ]
    assert numbers == [number for number in range(1, 61) if number not in (10, 50)]
    assert cells == [[f"e{number}"] for number in numbers]


@pytest.mark.usefixtures("block")
@pytest.mark.parametrize("quoted", ['"e50"', '""', '"a, b"'])
def test_a_quoted_cell_further_down_does_not_close_the_quote(tmp_path: Path, quoted: str) -> None:
    file = tmp_path / "events.csv"
    file.write_text(HEAD + "".join(event(n, {10: '"e10', 50: quoted}.get(n, "")) for n in range(1, 61)))
    _, numbers, rejects, _ = read(file, "event_id")
    assert [(one.row, one.reason) for one in rejects] == [(10, "unclosed_quote")]
    assert numbers == [n for n in range(1, 61) if n != 10]


@pytest.mark.usefixtures("block")
def test_rows_inside_a_cell_that_is_closed_after_them_are_rejected_one_by_one(tmp_path: Path) -> None:
    file = tmp_path / "events.csv"
    file.write_text(HEAD + "".join(event(n, {2: '"e2', 4: 'e4"'}.get(n, "")) for n in range(1, 7)))
    _, numbers, rejects, _ = read(file, "event_id")
    assert [(one.row, one.reason) for one in rejects] == [(n, "rows_in_a_cell") for n in (2, 3, 4)]
    assert numbers == [1, 5, 6]


@pytest.mark.usefixtures("block")
def test_one_row_of_two_cells_inside_a_cell_is_told_by_its_id(tmp_path: Path) -> None:
    file = tmp_path / "items.csv"
    file.write_text('item_id,title\nb7,"Tea\nb8,Bread"\nb9,"Roses are red,\nviolets, are blue"\n')
    cells, numbers, rejects, _ = read(file, "title")
    assert [(one.row, one.reason, one.value) for one in rejects] == [
        (1, "rows_in_a_cell", 'b7,"Tea'),
        (2, "rows_in_a_cell", 'b8,Bread"'),
    ]
    assert (cells, numbers) == ([["Roses are red,\nviolets, are blue"]], [3])


@pytest.mark.usefixtures("block")
def test_text_after_a_closing_quote_breaks_a_row_of_csv_and_is_text_in_tsv(tmp_path: Path) -> None:
    content = 'item_id,title,tag\n1,"Star Wars" returns,a\n2,5" disk,b\n3,"x, y",c\n'
    (tmp_path / "a.csv").write_text(content)
    cells, numbers, rejects, _ = read(tmp_path / "a.csv", "title")
    assert (cells, numbers) == ([['5" disk'], ["x, y"]], [2, 3])
    assert [(one.row, one.reason) for one in rejects] == [(1, "text_after_quote")]
    (tmp_path / "a.tsv").write_text(content.replace("x, y", "x; y").replace(",", "\t"))
    cells, numbers, rejects, _ = read(tmp_path / "a.tsv", "title")
    assert (cells, numbers) == ([['"Star Wars" returns'], ['5" disk'], ["x; y"]], [1, 2, 3])
    assert rejects == []


@pytest.mark.usefixtures("block")
def test_quotes_escaped_by_backslashes_are_quotes(tmp_path: Path) -> None:
    file = tmp_path / "items.csv"
    file.write_text(
        "item_id,title,tag\n"
        '1,"He said \\"hi\\"",a\n'
        '2,"ends with \\"it\\"",b\n'
        '3,"back\\\\slash, \\n stays",c\n'
        "4,plain \\ text,d\n"
        '5,"two ""ways"" of \\"one\\"",e\n'
        '6,"line\nbreak","f"\n'
    )
    cells, numbers, rejects, escaped = read(file, "title")
    assert rejects == []
    assert numbers == [1, 2, 3, 4, 5, 6]
    assert [cell for (cell,) in cells][:2] == ['He said "hi"', 'ends with "it"']
    assert [cell for (cell,) in cells][2:] == [
        "back\\slash, \\n stays",
        "plain \\ text",
        'two "ways" of "one"',
        "line\nbreak",
    ]
    assert escaped == 3  # cells with quotes among what is escaped


@pytest.mark.usefixtures("block")
def test_a_cell_may_end_with_a_backslash_where_nothing_is_escaped(tmp_path: Path) -> None:
    file = tmp_path / "items.csv"
    file.write_text('item_id,title\n1,"C:\\dir\\"\n2,"x, y"\n')
    cells, _, rejects, escaped = read(file, "title")
    assert cells == [["C:\\dir\\"], ["x, y"]]
    assert (rejects, escaped) == ([], 0)


@pytest.mark.usefixtures("block")
def test_a_description_of_many_lines_is_one_cell(tmp_path: Path) -> None:
    text = "one, two\n\nthree, four, five\nsix"
    file = tmp_path / "items.csv"
    file.write_text(f'item_id,title,description\n1,a,"{text}"\n2,b,"{text}"\n3,c,d\n')
    cells, numbers, rejects, _ = read(file, "description")
    assert (cells, numbers, rejects) == ([[text], [text], ["d"]], [1, 2, 3], [])


@pytest.mark.usefixtures("block")
def test_ragged_and_broken_rows_keep_their_numbers_beside_each_other(tmp_path: Path) -> None:
    file = tmp_path / "x.csv"
    file.write_text('a,b\n\n1,x\n2\n3,"open\n4,"y"\n\n5,6,7\n8,z\n')
    cells, numbers, rejects, _ = read(file, "a")
    assert [cell for (cell,) in cells] == ["1", "4", "8"]
    assert numbers == [1, 4, 6]
    assert sorted((one.row, one.reason) for one in rejects) == [
        (2, "ragged_line"),
        (3, "unclosed_quote"),
        (5, "ragged_line"),
    ]


CELLS = st.text(st.sampled_from('ab ,"\\\n'), max_size=6)


@given(st.lists(st.tuples(CELLS, CELLS, CELLS), min_size=1, max_size=12), st.sampled_from([16, 50, 8 << 20]))
@example([("a\\", 'b"', ""), ('""', ",\n", "x")], 16)
@settings(max_examples=200, deadline=None)
def test_what_the_standard_library_writes_is_read_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, str]], block: int
) -> None:
    # but for cells whose lines look like rows
    file = tmp_path_factory.mktemp("csv") / "x.csv"
    out = io.StringIO()
    csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows([("x", "y", "z"), *rows])
    file.write_text(out.getvalue())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(features.tables.quoting, "_BLOCK_BYTES", block)
        patch.setattr(features.tables.quoting._Walk, "_swallowed", lambda *_: False)
        cells, numbers, rejects, escaped = read(file, "x,y,z")
    assert (rejects, escaped) == ([], 0)
    assert numbers == list(range(1, len(rows) + 1))
    assert cells == [[cell or None for cell in row] for row in rows]
