"""`recsys candidates` and `recsys recommend` on a trained site: files, times, users, filters, bad input."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from s3_server import bucket, s3
from trained_site import MODEL, TrainedSite

from features.errors import InputError
from pipelines import candidates as commands
from pipelines import cli
from pipelines.candidates import CandidateRequest, candidates
from pipelines.recommend import recommend
from pipelines.score import score
from recsys.encoder.text_model import NoEncoder
from recsys.ranker.linear_ranker import LinearRanker
from recsys.registry import tracking, versions

__all__ = ["bucket", "s3"]
COLUMNS = ["request_id", "user_id", "timestamp", "item_id", "rank", "sources"]


@pytest.fixture
def at(trained: TrainedSite) -> str:
    """A time with a tenth of the events after it."""
    return str(pd.read_parquet(trained.data / "events.parquet")["timestamp"].quantile(0.9).isoformat())


@pytest.fixture
def request_at(at: str) -> CandidateRequest:
    """All users, 30 candidates each."""
    return CandidateRequest(None, most=30, model=MODEL, at=at)


def read(out: Path) -> pd.DataFrame:
    return pd.concat([pd.read_parquet(part) for part in sorted(out.glob("part-*.parquet"))], ignore_index=True)


def contents(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(out.glob("part-*.parquet"))}


def test_scoring_the_candidates_gives_the_recommendations(
    trained: TrainedSite, request_at: CandidateRequest, tmp_path: Path
) -> None:
    found = candidates(trained.data, tmp_path / "candidates", request_at)
    rows = read(tmp_path / "candidates")
    assert list(rows.columns) == COLUMNS
    assert len(rows) == found.manifest["rows_out"]
    assert rows.groupby("user_id", sort=False)["rank"].apply(list).map(lambda ranks: ranks == [*range(1, 31)]).all()
    assert found.manifest == json.loads((tmp_path / "candidates" / "_manifest.json").read_text())
    score(trained.data, tmp_path / "candidates", tmp_path / "scored", model=MODEL, top_k=5)
    report = recommend(trained.data, tmp_path / "recommended", request_at, top=5)
    scored = read(tmp_path / "scored")[["user_id", "item_id", "score", "rank"]]
    pd.testing.assert_frame_equal(read(tmp_path / "recommended"), scored)
    assert (report.manifest["rows_in"], report.manifest["rows_out"]) == (len(rows), len(scored))
    assert report.manifest == json.loads((tmp_path / "recommended" / "_manifest.json").read_text())


def test_every_candidate_says_which_sources_found_it_at_which_rank(
    trained: TrainedSite, request_at: CandidateRequest, tmp_path: Path
) -> None:
    found = candidates(trained.data, tmp_path / "out", request_at)
    entries = read(tmp_path / "out")["sources"]
    counts = dict.fromkeys(("nearest", "co_click", "popular", "new"), 0)
    for row in entries:
        assert len(row) >= 1
        for entry in row:
            counts[entry["source"]] += 1
            assert 1 <= entry["rank"] <= 30
            assert np.isfinite(entry["score"])
    assert found.manifest["by_source"] == counts
    assert min(counts.values()) > 0


def test_later_events_and_items_change_no_byte(
    trained: TrainedSite, request_at: CandidateRequest, at: str, tmp_path: Path
) -> None:
    changed = tmp_path / "data"
    shutil.copytree(trained.data, changed)
    moment = pd.Timestamp(at)
    events = pd.read_parquet(changed / "events.parquet")
    users, items = events["user_id"].dropna().unique(), events["item_id"].unique()
    planted = events.head(len(users)).assign(
        user_id=users, item_id=np.resize(items[::-1], len(users)), timestamp=moment, event_type="click"
    )
    newcomer = planted.head(1).assign(user_id="newcomer", timestamp=moment + pd.Timedelta("1h"))
    pd.concat([events, planted, newcomer], ignore_index=True).to_parquet(changed / "events.parquet")
    impressions = pd.read_parquet(changed / "impressions.parquet")
    shown = impressions[impressions["impression_id"] == impressions["impression_id"].iloc[0]]
    shown = shown.assign(impression_id="planted", timestamp=moment, clicked=0)
    pd.concat([impressions, shown], ignore_index=True).to_parquet(changed / "impressions.parquet")
    table = pd.read_parquet(changed / "items.parquet")
    later = table.head(1).assign(item_id="zz-later", published_at=moment)
    pd.concat([table, later], ignore_index=True).to_parquet(changed / "items.parquet")
    for folder, name in ((trained.data, "before"), (changed, "after")):
        candidates(folder, tmp_path / name, request_at)
        recommend(folder, tmp_path / f"{name}-best", request_at, top=3)
    assert contents(tmp_path / "after") == contents(tmp_path / "before")
    assert contents(tmp_path / "after-best") == contents(tmp_path / "before-best")


def test_threads_and_sizes_of_blocks_change_no_byte(
    trained: TrainedSite, request_at: CandidateRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recommend(trained.data, tmp_path / "one", replace(request_at, threads=1), top=5)
    candidates(trained.data, tmp_path / "candidates-one", replace(request_at, threads=1))
    settings = commands.CandidateSettings
    monkeypatch.setattr(commands, "CandidateSettings", lambda **sizes: settings(**sizes, block_users=7))
    recommend(trained.data, tmp_path / "two", replace(request_at, threads=2), top=5)
    candidates(trained.data, tmp_path / "candidates-two", replace(request_at, threads=2))
    assert contents(tmp_path / "two") == contents(tmp_path / "one")
    assert contents(tmp_path / "candidates-two") == contents(tmp_path / "candidates-one")


def test_named_users_come_in_their_order_and_unknown_ones_get_popular_items(
    trained: TrainedSite, request_at: CandidateRequest, tmp_path: Path
) -> None:
    (tmp_path / "users.csv").write_text("user_id,note\nu003,\nnobody,\nu001,\nu003,\n,no id\nu002,\n")
    request = replace(request_at, users=tmp_path / "users.csv")
    report = candidates(trained.data, tmp_path / "out", request)
    rows = read(tmp_path / "out")
    assert rows["user_id"].drop_duplicates().tolist() == ["u003", "nobody", "u001", "u002"]
    assert (report.manifest["users"], report.manifest["unknown_users"]) == (4, 1)
    assert report.manifest["rejected"]["asked_users"] == {"missing_value": 1}
    scored = score(trained.data, tmp_path / "out", tmp_path / "scored", model=MODEL)
    assert scored.manifest["rows_in"] == len(rows)  # and not the rejected row
    of_nobody = rows[rows["user_id"] == "nobody"]["sources"]
    assert {entry["source"] for row in of_nobody for entry in row} == {"popular", "new"}
    best = recommend(trained.data, tmp_path / "best", request, top=2)
    assert read(tmp_path / "best")["user_id"].value_counts().to_dict() == dict.fromkeys(
        ["u003", "nobody", "u001", "u002"], 2
    )
    assert "1 unknown user" in best.lines()[1]


def test_excluded_and_clicked_items_are_never_recommended(
    trained: TrainedSite, request_at: CandidateRequest, at: str, tmp_path: Path
) -> None:
    recommend(trained.data, tmp_path / "first", request_at, top=10)
    first = read(tmp_path / "first")
    gone = first["item_id"].value_counts().index[0]
    pairs = first[first["item_id"] != gone].groupby("user_id").head(1)[["user_id", "item_id"]]
    pd.DataFrame({"item_id": [gone, "never heard of"]}).to_parquet(tmp_path / "gone.parquet")
    pairs.to_csv(tmp_path / "pairs.csv", index=False)
    request = replace(request_at, exclude=(tmp_path / "gone.parquet", tmp_path / "pairs.csv"))
    recommend(trained.data, tmp_path / "second", request, top=10)
    second = set(map(tuple, read(tmp_path / "second")[["user_id", "item_id"]].to_numpy()))
    assert gone not in {item for _, item in second}
    assert not second & set(map(tuple, pairs.to_numpy()))
    events = pd.read_parquet(trained.data / "events.parquet")
    known = events[(events["timestamp"] < pd.Timestamp(at)) & (events["event_type"] != "view")]
    assert not second & set(map(tuple, known[["user_id", "item_id"]].to_numpy()))
    again = replace(request_at, skip="nothing")
    candidates(trained.data, tmp_path / "again", again)
    with_clicked = set(map(tuple, read(tmp_path / "again")[["user_id", "item_id"]].to_numpy()))
    assert with_clicked & set(map(tuple, known[["user_id", "item_id"]].to_numpy()))


def test_files_of_exclusions_do_not_share_their_rejects_and_may_be_empty(
    trained: TrainedSite, request_at: CandidateRequest, tmp_path: Path
) -> None:
    recommend(trained.data, tmp_path / "all", request_at, top=1)
    gone = read(tmp_path / "all")["item_id"].value_counts().index[0]
    files = {"long": "a,\n" * 40 + "a,u001\n" * 60, "short": f"{gone},u001\n,u001\n", "none": "", "one": ""}
    for name, rows in files.items():
        (tmp_path / f"{name}.csv").write_text(("item_id\n" if name == "one" else "item_id,user_id\n") + rows)
    request = replace(request_at, exclude=tuple(tmp_path / f"{name}.csv" for name in files))
    report = recommend(trained.data, tmp_path / "out", request, top=1)
    rejected = {"asked_users": {}, "exclusions": {"missing_value": 40}, "exclusions_2": {"missing_value": 1}}
    assert report.manifest["rejected"] == rejected | {"exclusions_3": {}, "exclusions_4": {}}
    first = read(tmp_path / "out").set_index("user_id")["item_id"]
    assert first["u001"] != gone
    (tmp_path / "none.csv").write_text("item_id,user_id\n,u001\n")
    with pytest.raises(InputError, match=r"exclusions_3 table .*none of its 1 rows can be used"):
        recommend(trained.data, tmp_path / "unusable", request)


def test_recall_of_the_later_clicks_is_that_of_the_written_candidates(
    trained: TrainedSite, request_at: CandidateRequest, at: str, tmp_path: Path
) -> None:
    events = pd.read_parquet(trained.data / "events.parquet")
    until = events["timestamp"].max()
    report = candidates(trained.data, tmp_path / "out", request_at, evaluate_until=until.isoformat())
    recall = report.manifest["recall"]
    later = events[(events["timestamp"] >= pd.Timestamp(at)) & (events["timestamp"] < until)]
    later = later[later["event_type"] != "view"].dropna(subset="user_id")[["user_id", "item_id"]].drop_duplicates()
    before = events[(events["timestamp"] < pd.Timestamp(at)) & (events["event_type"] != "view")]
    known = set(map(tuple, before[["user_id", "item_id"]].to_numpy()))
    answers = set(map(tuple, read(tmp_path / "out")[["user_id", "item_id"]].to_numpy()))
    pairs = [pair for pair in map(tuple, later.to_numpy()) if pair not in known and pair[0] in {u for u, _ in answers}]
    assert recall["clicks"] == len(pairs)
    assert recall["by_source"]["union"]["found"] == sum(pair in answers for pair in pairs)
    shares = pd.Series([pair in answers for pair in pairs]).groupby([user for user, _ in pairs]).mean()
    assert recall["by_source"]["union"]["recall"]["mean"] == pytest.approx(shares.mean())
    assert recall["users"] == len(shares)


def register_popularity(name: str) -> str:
    """A version that reads clicks alone, without an encoder; its URI."""
    model = versions.load(MODEL).ranking_model
    column = "item_clicks_all_zscore"
    update = {"columns": (column,), "fallback_columns": (), "encoder": None, "encoder_fingerprint": ""}
    settings = model.settings.model_copy(update=update | {"collaborative": None})
    none = NoEncoder(settings.history_length)
    popular = replace(model, settings=settings, ranker=LinearRanker({column: 1.0}), encoder=none, fallback=None)
    with tracking.run(tracking.connect(), name, parent=True):
        return versions.log_ranker(popular, name, np.zeros((3, 1), np.float32)).uri


def test_a_version_without_text_has_the_sources_that_need_none(
    trained: TrainedSite, request_at: CandidateRequest, tmp_path: Path
) -> None:
    request = replace(request_at, model=register_popularity("textless"))
    report = candidates(trained.data, tmp_path / "out", request)
    assert set(report.manifest["by_source"]) == {"co_click", "popular", "new"}
    assert report.manifest["models"]["encoder"] is None
    recommend(trained.data, tmp_path / "best", request, top=3)
    assert read(tmp_path / "best")["user_id"].value_counts().unique().tolist() == [3]


def test_a_period_of_evaluation_before_the_time_is_refused(
    trained: TrainedSite, request_at: CandidateRequest, at: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"evaluate-until: expected a time after --at"):
        candidates(trained.data, tmp_path / "out", request_at, evaluate_until=at)
    assert not (tmp_path / "out").exists()


def test_a_time_before_everything_leaves_popular_items_to_nobody(
    trained: TrainedSite, request_at: CandidateRequest, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="expected a users table, or users with an event or an impression before 1990"):
        candidates(trained.data, tmp_path / "out", replace(request_at, at="1990-01-01"))
    (tmp_path / "users.csv").write_text("user_id\nu001\n")
    early = replace(request_at, at="1990-01-01", users=tmp_path / "users.csv")
    with pytest.raises(
        InputError, match=r"none of 1 user gets a candidate: 0 items of the items table may be candidates"
    ):
        recommend(trained.data, tmp_path / "out", early)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("user\nu001\n", "expected a column 'user_id' in asked_users, found"),
        ("user_id\n\n", "asked_users table"),
    ],
)
def test_unusable_files_of_users_end_in_one_line(
    content: str, said: str, trained: TrainedSite, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "users.csv").write_text(content)
    (tmp_path / "out").mkdir()
    arguments = ["recommend", str(trained.data), "--users", str(tmp_path / "users.csv"), "--model", MODEL]
    code = cli.run(lambda: cli.cli([*arguments, "--out", str(tmp_path / "out")], standalone_mode=False))
    assert code == 1
    assert said in capsys.readouterr().err
    assert list((tmp_path / "out").iterdir()) == []


def test_the_commands_write_their_reports(
    trained: TrainedSite, at: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in ("candidates", "recommend"):
        arguments = [command, str(trained.data), "--users", "all", "--k", "20", "--model", MODEL, "--at", at]
        arguments += ["--out", str(tmp_path / command), "--json", str(tmp_path / f"{command}.json")]
        assert cli.run(lambda words=arguments: cli.cli(words, standalone_mode=False)) == 0
        report = json.loads((tmp_path / f"{command}.json").read_text())
        assert report == json.loads((tmp_path / command / "_manifest.json").read_text())
        assert (report["k"], report["skip"]) == (20, "clicked")
    assert "the best of" in capsys.readouterr().out
    few = ["recommend", str(trained.data), "--users", "all", "--out", "o"]
    for arguments in (few[:2] + few[4:], [*few, "--k", "5", "--top", "6"], [*few, "--skip", "bought"]):
        assert cli.run(lambda words=arguments: cli.cli(words, standalone_mode=False)) == 2


def test_tables_users_and_exclusions_may_lie_in_an_object_store(
    trained: TrainedSite, request_at: CandidateRequest, bucket: Any, tmp_path: Path
) -> None:
    users, excluded = tmp_path / "users.csv", tmp_path / "excluded.csv"
    known = pd.read_parquet(trained.data / "events.parquet")[["user_id", "item_id"]].head(3)
    known[["user_id"]].drop_duplicates().to_csv(users, index=False)
    known[["item_id"]].to_csv(excluded, index=False)
    request = replace(request_at, users=users, exclude=(excluded,))
    candidates(trained.data, tmp_path / "here", request)
    bucket.put(str(trained.data), "batches/log", recursive=True)
    for file in (users, excluded):
        bucket.put_file(str(file), f"batches/{file.name}")
    there = replace(request, users="s3://batches/users.csv", exclude=("s3://batches/excluded.csv",))
    candidates("s3://batches/log", tmp_path / "there", there)
    assert contents(tmp_path / "there") == contents(tmp_path / "here")
