"""MIND's native files become native tables."""

import json
from pathlib import Path

import numpy as np
import pytest

from features.errors import InputError
from features.tables.encodings import FileOptions
from features.tables.load import load_log
from features.tables.mind import import_mind

NEWS = 'N1\tsports\tgolf\tA "title\tAn abstract\turl\t[]\t[]\nN2\tnews\tworld\tB\t\turl\t[]\t[]\n'
FIRST = "1\tU1\t11/9/2019 12:00:01 AM\tN3 N1 N2\tN1-1 N9-0\n"
SECOND = "2\tU2\t11/10/2019 1:30:00 PM\t\tN2-0 N9-1\n"


def source(folder: Path, behaviors: str, news: str = NEWS) -> Path:
    folder.mkdir(parents=True)
    (folder / "behaviors.tsv").write_text(behaviors)
    (folder / "news.tsv").write_text(news)
    return folder


def test_lists_items_and_histories_are_those_of_the_files(tmp_path: Path) -> None:
    report = import_mind(source(tmp_path / "mind", SECOND + FIRST), tmp_path / "out")
    assert (report.items, report.undescribed, report.impressions, report.candidates) == (2, 2, 2, 4)
    assert (report.clicks, report.users, report.history_events, report.rejected) == (2, 2, 3, {})
    log, _ = load_log(tmp_path / "out")
    assert list(log.catalog.ids) == ["N1", "N2", "N3", "N9"]
    assert list(log.catalog.title[:2]) == ['A "title', "B"]
    assert log.catalog.categories["category"].values == ("news", "sports")
    start = np.datetime64("2019-11-09T00:00:01", "us").astype(np.int64)
    assert list(log.impressions.ids) == ["1", "2"]
    assert log.impressions.requests.time[0] == start
    past = ~log.events.dated
    assert list(log.catalog.ids[log.events.item[past]]) == ["N3", "N1", "N2"]
    assert list(log.events.time[past] - start) == [-3_000_000, -2_000_000, -1_000_000]
    assert log.events.positive.all()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "events.parquet",
        "impressions.parquet",
        "items.parquet",
    ]


def test_train_and_dev_are_merged_under_prefixed_ids_with_the_earliest_history(tmp_path: Path) -> None:
    later = "1\tU1\t11/15/2019 9:00:00 AM\tN3 N1 N2 N9\tN1-0 N2-1\n"
    source(tmp_path / "mind" / "train", FIRST)
    source(tmp_path / "mind" / "dev", later, NEWS + "N9\tnews\tworld\tNine\tabstract\turl\t[]\t[]\n")
    report = import_mind(tmp_path / "mind", tmp_path / "out")
    assert (report.items, report.impressions, report.history_events, report.differing_histories) == (3, 2, 3, 1)
    assert list(load_log(tmp_path / "out")[0].impressions.ids) == ["train-1", "dev-1"]


def test_rows_that_cannot_be_used_are_rejected_with_their_reason(tmp_path: Path) -> None:
    bad = [
        "3\tU3\t2019-11-09\t\tN1-1 N2-0\n",
        "4\tU3\t11/9/2019 1:00:00 AM\t\tN1 N2\n",
        "5\tU3\t11/9/2019 1:00:00 AM\t\tN1-1 N2\n",
        "6\tU3\t11/9/2019 1:00:00 AM\t\t\n",
        "7\tU3\n",
    ]
    mind = source(tmp_path / "mind", FIRST + "".join(bad))
    report = import_mind(mind, tmp_path / "out", FileOptions(max_rejects=1))
    assert report.impressions == 1
    assert report.rejected == {
        "bad_label": 1,
        "missing_value": 1,
        "ragged_line": 1,
        "unlabelled": 1,
        "unreadable_time": 1,
    }
    written = (tmp_path / "out" / "rejects" / "behaviors.jsonl").read_text().splitlines()
    assert sorted(json.loads(line)["row"] for line in written) == [2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("behaviors", "said"),
    [
        ("1\tU1\t11/9/2019 12:00:01 AM\tN3\tN1 N9\n", "expected rows with labels .* found only rejected ones"),
        ("", "is empty; expected MIND's behaviors.tsv"),
        ("1,U1,x\n", "expected rows with labels"),
    ],
)
def test_files_without_a_usable_row_leave_nothing_behind(tmp_path: Path, behaviors: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        import_mind(source(tmp_path / "mind", behaviors), tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["mind"]


def test_files_in_another_encoding_and_most_rows_rejected_are_told_apart_from_rows_without_labels(
    tmp_path: Path,
) -> None:
    news = "".join(f"N{k}\tnews\tworld\t新闻\t摘要\turl\t[]\t[]\n" for k in range(1, 4))
    mind = source(tmp_path / "mind", FIRST)
    (mind / "news.tsv").write_bytes(news.encode("gb18030"))
    with pytest.raises(InputError, match=r"news table .* 3 of its 3 rows .*3 x invalid_utf8.*--encoding gb18030"):
        import_mind(mind, tmp_path / "out")
    import_mind(mind, tmp_path / "out", FileOptions("gb18030"))
    assert list(load_log(tmp_path / "out")[0].catalog.title[:1]) == ["新闻"]
    test_set = "".join(f"{k}\tU1\t11/9/2019 1:00:00 AM\t\tN1 N2\n" for k in range(5, 9))
    report = import_mind(source(tmp_path / "mind2", FIRST + test_set), tmp_path / "out2")
    assert report.rejected == {"unlabelled": 4}


def test_an_interrupted_import_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(state: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("features.tables.mind._history_events", interrupted)
    with pytest.raises(KeyboardInterrupt):
        import_mind(source(tmp_path / "mind", FIRST), tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["mind"]


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"found no behaviors.tsv"):
        import_mind(tmp_path, tmp_path / "out")
    (tmp_path / "behaviors.tsv").write_text(FIRST)
    with pytest.raises(InputError, match=r"expected news.tsv beside behaviors.tsv"):
        import_mind(tmp_path, tmp_path / "out")


@pytest.mark.shared
def test_the_real_sample_has_the_counts_of_its_description(shared_data: Path, tmp_path: Path) -> None:
    report = import_mind(shared_data / "mind-sample", tmp_path / "out")
    assert (report.items, report.impressions, report.rejected) == (2_000, 5_000, {})
    log, read = load_log(tmp_path / "out", impressions_required=True)
    assert (read.impressions, read.candidates, read.rejected) == (5_000, 189_359, 0)
    assert np.median(log.impressions.requests.lengths()) == 24
    assert len(np.unique(log.impressions.requests.item)) == 7_457
    assert read.added == report.clicks == 7_542
    untitled = log.catalog.title[log.impressions.requests.item] == ""
    assert 0.97 < untitled.mean() < 0.98
    assert int((~log.events.dated).sum()) == report.history_events
    assert log.events.time[~log.events.dated].max() < log.impressions.requests.time.min()
