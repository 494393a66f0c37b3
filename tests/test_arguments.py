"""Arguments are checked before anything is read, and mean the same in every command."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import uvicorn
from trained_site import MODEL, TrainedSite

from features.errors import InputError
from features.stores.lmdb_store import LmdbStore
from features.tables.data_settings import DataSettings
from pipelines import audit, cli, refresh_collaborative
from pipelines import train as training
from pipelines.data_options import moment_in
from pipelines.score import score
from pipelines.train import train
from recsys.config import DataConfig, load_config
from recsys.encoder.training.checkpoint import CHECKPOINT_FILE
from recsys.errors import ModelNotFound, TrainingError
from recsys.online.open_state import open_existing_state
from recsys.registry import versions
from recsys.registry.lookup import resolve
from recsys.registry.names import LONGEST_NAME, name_problem
from recsys.registry.resume import resume_command_on_failure

HALF_PAST_NINE = "2023-11-20 09:30:00"
IN_NEW_YORK = 1_700_490_600_000_000
"""That time there: 14:30 UTC."""


def run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Exit code and last line on standard error of a command in this process."""
    code = cli.run(lambda: cli.cli(arguments, standalone_mode=False))
    return code, [*capsys.readouterr().err.strip().splitlines(), ""][-1 if code == 0 else -2]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with an unreadable data directory: whoever reads a table ends with its name."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "items.csv").write_bytes(b"")
    (tmp_path / "file").write_text("x")
    return tmp_path


@pytest.mark.parametrize("name", ["a:b", "a/b", "a@b", "", " a", "a ", "a?b", "a\n", "-a", "n" * (LONGEST_NAME + 1)])
def test_a_name_that_no_model_can_have_is_refused_before_anything_is_read(
    name: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (["train", "data"], ["promote", "1"], ["rollback"]):
        code, line = run([*words, f"--name={name}"], capsys)
        assert code == 2
        assert "Invalid value for '--name': expected" in line
    with pytest.raises(InputError, match="name of the models: expected"):
        train(folder / "data", load_config(), name=name)


@pytest.mark.parametrize("name", ["news", "shop-de", "v1.2_x", "新闻", "my shop", "a" * LONGEST_NAME])
def test_names_that_mlflow_takes_are_taken(name: str) -> None:
    assert name_problem(name) == ""


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["train", "data", "--json", "file/x.json"], 1, "output file 'file/x.json': expected a path in a folder"),
        (["train", "data", "--json", "data"], 2, "expected a file, but 'data' is a folder"),
        (["train", "data", "--report", "file/x.html"], 1, "output file 'file/x.html': expected a path in a folder"),
        (["train", "data", "--report", "data"], 2, "expected a file, but 'data' is a folder"),
        (["ablate", "data", "--plot", "file/x.html"], 1, "output file 'file/x.html'"),
        (["ablate", "data", "--name", " "], 2, "expected 1 to 250 characters"),
        (["data", "validate", "data", "--rejects", "file"], 1, "output folder 'file': expected a path in a folder"),
        (["data", "simulate", "file/site"], 1, "output folder 'file/site': expected a path in a folder"),
        (["score", "data", "--candidates", "none", "--out", "out"], 1, "'none' does not exist"),
        (["score", "data", "--candidates", "file", "--out", "file/x"], 1, "output folder 'file/x'"),
        (["score", "data", "--candidates", "file", "--out", "data"], 1, "expected a new or empty folder, got files"),
        (["score", "data", "--candidates", "file", "--out", "o", "--at", "soon"], 2, "expected ISO 8601, epoch s"),
        (["score", "data", "--candidates", "file", "--out", "o", "--model", "news"], 2, "expected models:/NAME/"),
        (["evaluate", "data", "--model", "models:/news"], 2, "expected models:/NAME/VERSION"),
        (["audit", "data", "--replay", "--to", "soon"], 2, "expected ISO 8601, epoch s"),
        (["compare", "models:/news", "b"], 2, "expected models:/NAME/VERSION"),
        (["compare", "a", "b", "--metric", "ndcg"], 2, "'ndcg' is not one of"),
        (["promote", "three"], 2, "expected a version's number"),
        (["load-items", "none"], 1, "'none' does not exist"),
        (["load-users", "file", "--store", "file"], 1, "online store 'file': expected a folder or a redis:// URL"),
        (["serve", "--store", "file"], 1, "online store 'file': expected a folder or a redis:// URL"),
        (["train", "none"], 1, "data directory 'none': expected a folder of tables, found nothing"),
        (["train", "none", "--json", "data"], 2, "expected a file, but 'data' is a folder"),
    ],
)  # fmt: skip
def test_an_argument_of_no_use_is_named_before_anything_is_read(
    arguments: list[str], code: int, told: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    got, line = run(arguments, capsys)
    assert got == code
    assert told in line
    assert sorted(path.name for path in folder.iterdir()) == ["data", "file"]


def test_a_time_without_a_zone_is_in_the_zone_that_is_named() -> None:
    assert moment_in(HALF_PAST_NINE, "America/New_York", "at") == IN_NEW_YORK
    assert moment_in("2023-11-20T09:30:00+01:00", "America/New_York", "at") == IN_NEW_YORK - 6 * 3_600_000_000
    assert moment_in("1700490600", "America/New_York", "at") == IN_NEW_YORK
    assert (moment_in(5, "UTC", "at"), moment_in(None, "UTC", "at")) == (5, None)
    with pytest.raises(InputError, match="at: expected ISO 8601"):
        moment_in("soon", "UTC", "at")


def in_new_york(trained: TrainedSite, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the registered ranker be one whose data is of New York."""
    loaded = versions.load(MODEL)
    settings = loaded.ranking_model.settings.model_copy(update={"data": DataSettings(timezone="America/New_York")})
    there = replace(loaded, ranking_model=replace(loaded.ranking_model, settings=settings))
    monkeypatch.setattr(versions, "load", lambda uri: there)


def test_the_time_of_a_batch_is_in_the_time_zone_of_the_model(
    trained: TrainedSite, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    in_new_york(trained, monkeypatch)
    (tmp_path / "candidates.csv").write_text("request_id,user_id,item_id\nr1,u1,n1\n")
    arguments = ["score", str(trained.data), "--candidates", str(tmp_path / "candidates.csv"), "--out"]
    assert run([*arguments, str(tmp_path / "out"), "--model", MODEL, "--at", HALF_PAST_NINE], capsys)[0] == 0
    assert '"at": "2023-11-20T14:30:00.000000Z"' in (tmp_path / "out" / "_manifest.json").read_text()


def test_the_time_of_a_making_of_tables_is_in_the_time_zone_of_the_model(
    trained: TrainedSite, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    moments: list[int | None] = []
    monkeypatch.setattr(refresh_collaborative, "refresh_in", lambda state, ranking_model, at: moments.append(at))
    in_new_york(trained, monkeypatch)
    monkeypatch.setattr(refresh_collaborative, "open_state", lambda store, settings, create: nullcontext())
    refresh_collaborative.refresh_collaborative(str(tmp_path / "store"), MODEL, at=HALF_PAST_NINE)
    assert moments == [IN_NEW_YORK]


def test_the_bounds_of_a_replay_are_in_the_time_zone_of_the_data(
    trained: TrainedSite, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    replayed: list[Any] = []
    monkeypatch.setattr(audit, "run_replay", lambda context, state, feed, lists: replayed.append(lists.requests.time))
    newest = pd.read_parquet(trained.data / "impressions.parquet")["timestamp"].max()
    config = trained.config.model_copy(update={"data": DataConfig(timezone="America/New_York")})
    written = newest.tz_convert("America/New_York").tz_localize(None).isoformat(" ")
    audit.replay(trained.data, config, start=written)
    assert (replayed[0] == newest.value // 1000).all()
    assert len(replayed[0]) > 0


def test_what_is_not_registered_is_told_apart(trained: TrainedSite) -> None:
    name = "tiny-ranker"
    with pytest.raises(ModelNotFound, match=rf"'models:/{name}@live': {name} is registered, but has no alias 'live'"):
        resolve(f"models:/{name}@live")
    with pytest.raises(ModelNotFound, match=r"the aliases .*champion \(version 1\) and the versions 1.*name a version"):
        resolve(f"models:/{name}@live")
    with pytest.raises(ModelNotFound, match=r"has no alias 'champion'; it has no alias and the versions 1"):
        resolve("models:/tiny-encoder@champion")
    with pytest.raises(ModelNotFound, match=rf"{name} is registered, but has no version 99; it has the versions 1"):
        resolve(f"models:/{name}/99")
    with pytest.raises(ModelNotFound, match=r"'models:/tiny-rankr/1' is not registered at .*mean 'tiny-ranker'"):
        resolve("models:/tiny-rankr/1")


def test_a_batch_of_which_no_request_can_be_ranked_leaves_its_rejects_alone(
    trained: TrainedSite, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = tmp_path / "candidates.csv", tmp_path / "out"
    arguments = ["score", str(trained.data), "--candidates", str(path), "--out", str(out), "--model", MODEL]
    for share, said in (("0.5", "2 of its 2 rows cannot be used"), ("1", "none of its 2 rows can be ranked")):
        path.write_text("request_id,user_id,item_id\nr1,u1,n1\nr1,u2,n2\n")
        code, line = run([*arguments, "--max-rejects", share], capsys)
        assert code == 1
        assert said in line
        assert line.endswith(f"the rejected rows are in {str(out / 'rejects')!r}")
        assert [found.name for found in out.iterdir()] == ["rejects"]
        assert len((out / "rejects" / "candidates.jsonl").read_text().splitlines()) == 2
    path.write_text("request_id,user_id,item_id\nr1,u1,\nr2,u2,\n")
    code, line = run(arguments, capsys)
    assert code == 1
    assert "none of its 2 rows can be used; the first: row 1, missing_value, field 'item_id'" in line
    path.write_text("request_id,user_id,item_id\nr1,u1,n1\n")
    assert score(trained.data, path, out, model=MODEL).manifest["rows_out"] == 1
    assert sorted(found.name for found in out.iterdir()) == ["_manifest.json", "part-00000.parquet"]


def test_a_table_of_which_no_row_is_taken_is_an_error(
    trained: TrainedSite, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "events.csv").write_text("user_id,item_id,timestamp\nu1,n1,2999-01-01\nu2,n1,2999-01-01\n")
    store = str(tmp_path / "store")
    arguments = ["load-events", str(tmp_path / "events.csv"), "--store", store, "--model", MODEL]
    code, line = run(arguments, capsys)
    assert code == 1
    assert "2 of its 2 rows cannot be" in line
    code, line = run([*arguments, "--max-rejects", "1"], capsys)
    assert code == 1
    assert "none of its 2 rows was taken: 2 x time_in_future" in line


def test_a_server_does_not_make_a_store_unless_it_is_told_to(
    trained: TrainedSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    served: list[int] = []
    monkeypatch.setattr(uvicorn.Server, "run", lambda server, sockets: served.append(len(sockets)))
    LmdbStore(tmp_path / "empty").close()
    for name in ("typo", "empty"):
        arguments = ["serve", "--model", MODEL, "--port", "0", "--store", str(tmp_path / name)]
        code, line = run(arguments, capsys)
        assert code == 1
        assert line.startswith(f"error: online store {str(tmp_path / name)!r}: expected")
        assert line.endswith("`recsys serve --create` begins with an empty one")
        assert served == []
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]
    assert cli.run(lambda: cli.cli([*arguments, "--create"], standalone_mode=False)) == 0
    assert served == [1]
    with open_existing_state(str(tmp_path / "empty")) as state:
        assert state.settings.reads


def test_an_interrupted_training_says_how_to_go_on_where_it_left_a_checkpoint(
    trained: TrainedSite, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, checkpoints: Any) -> None:
        if with_checkpoint:
            (checkpoints.folder / CHECKPOINT_FILE).write_bytes(b"")
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "train_encoder", interrupted)
    monkeypatch.chdir(tmp_path)
    arguments = ["train", str(trained.data), "--set", f"encoder.base_model={trained.base}", "--set", "threads=1"]
    with_checkpoint = False
    assert run(arguments, capsys) == (1, "error: interrupted; nothing half-written was left behind")
    with_checkpoint = True
    code, line = run(arguments, capsys)
    assert code == 1
    kept = [path.parent.name for path in (tmp_path / "mlruns" / "checkpoints").glob(f"*/{CHECKPOINT_FILE}")]
    told = f"the progress so far is saved, resume with: recsys train {trained.data} --resume {kept[0]}"
    assert line == f"error: interrupted; {told}"


def test_only_what_can_be_gone_on_with_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    (tmp_path / CHECKPOINT_FILE).write_bytes(b"")
    with pytest.raises(TrainingError), resume_command_on_failure(Path("data"), "r1", tmp_path):
        raise TrainingError("no click")
    assert caplog.text == ""
    with pytest.raises(OSError, match="disk"), resume_command_on_failure(Path("my data"), "r1", tmp_path):
        raise OSError("disk")
    assert "resume with: recsys train 'my data' --resume r1" in caplog.text


def test_a_table_of_lists_is_made_in_the_time_zone_that_is_set(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = folder / "new"
    data.mkdir()
    items = "".join(f"i{i},Title {i}\n" for i in range(6))
    clicks = "".join(f"u{i},i{(i + j) % 6},2023-11-20 09:3{j}:00\n" for i in range(6) for j in range(2))
    (data / "items.csv").write_text(f"item_id,title\n{items}")
    (data / "events.csv").write_text(f"user_id,item_id,timestamp\n{clicks}")
    arguments = ["data", "slates", str(data), "--size", "3", "--set", "data.timezone=America/New_York"]
    assert cli.run(lambda: cli.cli(arguments, standalone_mode=False)) == 0
    assert pd.read_parquet(data / "impressions.parquet")["timestamp"].min().hour == 14
