"""Candidates for batch scoring: whole requests, streamed."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.arrays import NO_TIME
from features.errors import InputError
from features.tables.candidates import CandidateReader
from features.tables.encodings import FileOptions

HEAD = "request_id,user_id,item_id\n"


def write(folder: Path, content: str) -> Path:
    (folder / "candidates.csv").write_text(content)
    return folder / "candidates.csv"


def test_requests_come_whole_with_user_time_and_query(tmp_path: Path) -> None:
    file = write(tmp_path, "impression_id,user_id,item_id,time,query\n1,u,a,60,q\n1,u,b,60,q\n2,,a,,\n")
    reader = CandidateReader(file)
    (chunk,) = reader
    assert reader.id_column == "impression_id"
    assert (list(chunk.ids), list(chunk.user), list(chunk.query)) == (["1", "2"], ["u", None], ["q", None])
    assert list(chunk.time) == [60_000_000, NO_TIME]
    assert (list(chunk.offsets), list(chunk.item)) == ([0, 2, 3], ["a", "b", "a"])
    assert reader.units == {"timestamp": "epoch s"}


@given(st.lists(st.integers(1, 9), min_size=1, max_size=20), st.integers(1, 12))
@settings(max_examples=50, deadline=None)
def test_no_chunk_splits_a_request_or_is_much_larger_than_asked(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], rows: int
) -> None:
    lines = [f"r{i},u,{k}\n" for i, size in enumerate(sizes) for k in range(size)]
    folder = tmp_path_factory.mktemp("chunks") / "candidates"
    folder.mkdir()
    (folder / "1.csv").write_text(HEAD + "".join(lines[: len(lines) // 2]))
    (folder / "2.csv").write_text(HEAD + "".join(lines[len(lines) // 2 :]))
    chunks = list(CandidateReader(folder, rows=rows)) if len(lines) > 1 else []
    found = [
        (name, int(size)) for c in chunks for name, size in zip(c.ids, c.offsets[1:] - c.offsets[:-1], strict=True)
    ]
    assert found == ([(f"r{i}", size) for i, size in enumerate(sizes)] if len(lines) > 1 else [])
    assert all(len(chunk.item) <= max(2 * rows, rows + 9) for chunk in chunks)


@pytest.mark.parametrize("rows", [1, 100])
def test_a_request_that_comes_back_is_named(tmp_path: Path, rows: int) -> None:
    with pytest.raises(InputError, match=r"request 'x' comes back after another one; sort the file by request_id"):
        list(CandidateReader(write(tmp_path, HEAD + "x,u,a\ny,u,a\nx,u,b\n"), rows=rows))


def test_bad_rows_and_repeats_are_counted(tmp_path: Path) -> None:
    file = write(tmp_path, HEAD + "1,u,a\n1,u,a\n1,u,\n2,u,a\n2,v,b\n3,u,c\n")
    reader = CandidateReader(file, files=FileOptions(max_rejects=0.5))
    (chunk,) = reader
    assert (list(chunk.ids), list(chunk.item)) == (["1", "3"], ["a", "c"])
    assert (reader.n_rows, reader.n_repeats) == (6, 1)
    assert reader.rejected == {"conflicting_request": 2, "missing_value": 1}


@pytest.mark.parametrize("both", [("time", "timestamp"), ("impression_id", "request_id")])
@pytest.mark.parametrize("split", [False, True])
def test_one_column_in_two_spellings_is_refused(tmp_path: Path, both: tuple[str, str], split: bool) -> None:
    columns = {"request_id": "r", "user_id": "u", "item_id": "a", **dict.fromkeys(both, "60")}
    tables = [[name for name in columns if name != left_out] for left_out in both] if split else [list(columns)]
    (tmp_path / "candidates").mkdir()
    for place, names in enumerate(tables):
        content = ",".join(names) + "\n" + ",".join(columns[name] for name in names) + "\n"
        (tmp_path / "candidates" / f"{place}.csv").write_text(content)
    with pytest.raises(InputError, match=r"expected one column of .*, got both") as caught:
        CandidateReader(tmp_path / "candidates").check()
    assert all(repr(name) in str(caught.value) for name in both)


def test_candidates_of_which_most_are_rejected_are_an_error(tmp_path: Path) -> None:
    file = write(tmp_path, HEAD + "1,u,a\n1,v,b\n2,u,\n3,u,c\n")
    said = r"3 of its 4 rows cannot be used \(2 x conflicting_request, 1 x missing_value\)"
    with pytest.raises(InputError, match=said):
        list(CandidateReader(file))
    assert [list(chunk.ids) for chunk in CandidateReader(file, files=FileOptions(max_rejects=0.75))] == [["3"]]


def test_a_column_that_is_nearly_named_is_said(tmp_path: Path) -> None:
    reader = CandidateReader(write(tmp_path, "request_id,user_id,item_id,time_stamp\n1,u,a,60\n"))
    assert [chunk.time[0] for chunk in reader] == [NO_TIME]
    assert reader.warnings == [
        "candidates has no column 'timestamp', and nothing reads its column 'time_stamp'; if that is meant, call it "
        "'timestamp'",
    ]


def test_candidates_in_another_encoding_are_read(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_bytes((HEAD + "请求,用户,新闻\n").encode("gbk"))
    (chunk,) = CandidateReader(tmp_path / "c.csv", files=FileOptions("gbk"))
    assert (chunk.ids[0], chunk.user[0], chunk.item[0]) == ("请求", "用户", "新闻")
    with pytest.raises(InputError, match="--encoding gb18030"):
        list(CandidateReader(tmp_path / "c.csv"))


def test_a_file_without_request_ids_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"expected a column 'impression_id' or 'request_id' in candidates, found"):
        CandidateReader(write(tmp_path, "user_id,item_id\nu,a\n"))
