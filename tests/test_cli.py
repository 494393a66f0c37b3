"""The command line: help and README, exit codes, and one clear line for whatever is wrong with the input."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import time
from pathlib import Path

import click
import mlflow
import pandas as pd
import pytest
from trained_site import MODEL, TrainedSite
from warm_process import Warm, run_warm

from features.errors import InputError
from pipelines import cli
from recsys.registry import tracking

README = (Path(__file__).resolve().parents[1] / "README.md").read_text(encoding="utf-8")
FULL_DISK = """
import resource
from pipelines import cli
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
cli.main()
"""


def commands() -> list[tuple[str, click.Command]]:
    """Every command with its words, `recsys data validate`."""
    found: list[tuple[str, click.Command]] = []

    def walk(group: click.Group, words: str) -> None:
        for name, command in group.commands.items():
            if isinstance(command, click.Group):
                walk(command, f"{words} {name}")
            else:
                found.append((f"{words} {name}", command))

    walk(cli.cli, "recsys")
    return found


@pytest.mark.parametrize(("words", "command"), commands(), ids=[words for words, _ in commands()])
def test_every_command_has_help_and_stands_in_the_readme(words: str, command: click.Command) -> None:
    assert command.help
    assert words in README
    for parameter in command.params:
        if isinstance(parameter, click.Option) and parameter.name != "help":
            assert parameter.help or parameter.show_default, parameter.name


READ_TABLES = (
    "train audit score candidates recommend evaluate ablate compare promote monitor retrain "
    "load-items load-events load-users",
    "data validate, data slates, data import, features list",
)


@pytest.mark.parametrize("words", [*READ_TABLES[0].split(), *READ_TABLES[1].split(", ")])
def test_every_command_that_reads_tables_takes_their_encoding_and_the_share_of_rejects(words: str) -> None:
    command = dict(commands())[f"recsys {words}"]
    assert {"encoding", "max_rejects"} <= {parameter.name for parameter in command.params}


@pytest.mark.parametrize(
    "arguments", [["--encoding", "klingon"], ["--encoding", "hex"], ["--max-rejects", "2"], ["--max-rejects", "-1"]]
)
def test_options_of_reading_out_of_range_are_bad_arguments(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["data", "validate", "nowhere", *arguments], capsys)[0] == 2


def test_tables_in_another_encoding_are_named_and_read_by_the_options(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "items.csv").write_bytes("item_id,title\na,新闻\nb,体育\n".encode("gb18030"))
    (tmp_path / "events.csv").write_text("user_id,item_id,timestamp\nu,a,1700000000\nv,b,1700000001\n")
    for command in (["data", "validate", str(tmp_path)], ["data", "slates", str(tmp_path), "--size", "2"]):
        code, said = run(command, capsys)
        assert code == 1
        assert "none of its 2 rows can be used" in said
        assert "--encoding gb18030" in said
        assert run([*command, "--encoding", "gbk"], capsys)[0] == 0


def test_the_share_of_rejects_may_come_from_the_configuration_or_the_option(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "items.csv").write_text("item_id,title\na,A\n")
    (tmp_path / "events.csv").write_text("user_id,item_id,timestamp\nu,a,1700000000\nu,a,soon\nu,a,later\n")
    validate = ["data", "validate", str(tmp_path)]
    code, said = run(validate, capsys)
    assert code == 1
    assert "2 of its 3 rows cannot be used (2 x unreadable_time), more than the share of 0.5" in said
    assert "--max-rejects 0.67" in said
    assert run([*validate, "--max-rejects", "0.67"], capsys)[0] == 0
    assert run([*validate, "--set", "data.max_rejects=0.67"], capsys)[0] == 0
    assert run([*validate, "--set", "data.max_rejects=0.67", "--max-rejects", "0.1"], capsys)[0] == 1


def run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Exit code and standard error of a command in this process."""
    code = cli.run(lambda: cli.cli(arguments, standalone_mode=False))
    return code, capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [["train"], ["score", "x"], ["audit", "x", "--from", "2020"], ["nonsense"], ["train", "x", "--nonsense"]],
)
def test_bad_arguments_exit_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments, capsys)[0] == 2


def copied(trained: TrainedSite, folder: Path) -> Path:
    """A data directory of a test's own."""
    shutil.copytree(trained.data, folder, ignore=shutil.ignore_patterns("truth"))
    return folder


def rewritten(path: Path, change: object) -> None:
    frame = change(pd.read_parquet(path))  # type: ignore[operator]
    frame.to_parquet(path)


def no_column(folder: Path) -> None:
    rewritten(folder / "impressions.parquet", lambda frame: frame.drop(columns="item_id"))


def text_as_time(folder: Path) -> None:
    rewritten(folder / "impressions.parquet", lambda frame: frame.assign(timestamp="yesterday"))


def empty_file(folder: Path) -> None:
    (folder / "items.parquet").write_bytes(b"")


def no_clicks(folder: Path) -> None:
    rewritten(folder / "impressions.parquet", lambda frame: frame.assign(clicked=0))
    (folder / "events.parquet").unlink()


def one_impression(folder: Path) -> None:
    rewritten(folder / "impressions.parquet", lambda f: f[f.impression_id == f.impression_id.iloc[0]])


def corrupt_parquet(folder: Path) -> None:
    path = folder / "impressions.parquet"
    path.write_bytes(path.read_bytes()[:5000])


def no_impressions(folder: Path) -> None:
    (folder / "impressions.parquet").unlink()


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (no_column, "item_id"),
        (text_as_time, "timestamp"),
        (empty_file, "items.parquet"),
        (no_clicks, "click"),
        (one_impression, "1 impressions"),
        (corrupt_parquet, "impressions.parquet"),
        (no_impressions, "recsys data slates"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_unusable_input_ends_in_one_line_that_names_it(
    damage: object, expected: str, trained: TrainedSite, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copied(trained, tmp_path / "data")
    damage(folder)  # type: ignore[operator]
    code, error = run(["train", str(folder)], capsys)
    last = error.strip().splitlines()[-1]
    assert code == 1
    assert last.startswith("error: ")
    assert expected in last
    assert "Traceback" not in error


def test_items_without_any_text_train_a_ranker_with_a_frozen_encoder(
    trained: TrainedSite, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    folder = copied(trained, tmp_path / "data")
    rewritten(folder / "items.parquet", lambda frame: frame.assign(title="", description="", category=""))
    settings = [f"--set=encoder.base_model={trained.base}", "--set=ranker.max_trees=5", "--set=threads=1"]
    code, _ = run(["train", str(folder), "--name", "textless", *settings], capsys)
    assert code == 0
    assert "the encoder is not trained" in caplog.text
    assert mlflow.MlflowClient().get_model_version_by_alias("textless-ranker", "champion").version


def test_a_clean_audit_of_a_registered_ranker_exits_with_0(
    trained: TrainedSite, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["audit", str(trained.data), "--model", MODEL, "--json", str(tmp_path / "a.json"), "--set=threads=1"]
    assert cli.run(lambda: cli.cli(arguments, standalone_mode=False)) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("0 findings in 7 rules over")
    assert json.loads((tmp_path / "a.json").read_text())["passed"]


def with_total_sales(folder: Path) -> list[str]:
    """Give items the number of their clicks in the whole log; the settings that make it a feature."""
    clicks = pd.read_parquet(folder / "events.parquet")["item_id"].value_counts()
    rewritten(folder / "items.parquet", lambda f: f.assign(total_sales=f["item_id"].map(clicks).fillna(0.0)))
    return ["--set=features.numbers=[total_sales]", "--set=threads=1"]


def test_an_audit_with_a_finding_exits_with_1_and_the_last_line_is_the_figure(
    trained: TrainedSite, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copied(trained, tmp_path / "data")
    settings = [*with_total_sales(folder), f"--set=encoder.base_model={trained.base}", "--set=ranker.max_trees=5"]
    assert cli.run(lambda: cli.cli(["audit", str(folder), *settings], standalone_mode=False)) == 1
    lines = capsys.readouterr().out.splitlines()
    assert "[columns] item_total_sales: column 'total_sales' ranks the events after" in "\n".join(lines)
    assert lines[-1].startswith("1 finding")


def test_a_training_whose_audit_fails_registers_nothing(
    trained: TrainedSite, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copied(trained, tmp_path / "data")
    settings = [*with_total_sales(folder), f"--set=encoder.base_model={trained.base}", "--set=encoder.head_epochs=1"]
    code, error = run(["train", str(folder), "--name", "leaking", *settings], capsys)
    assert code == 1
    assert "nothing is registered: item_total_sales breaks rule 'columns'" in error.splitlines()[-1]
    names = [model.name for model in mlflow.MlflowClient().search_registered_models()]
    assert not [name for name in names if name.startswith("leaking")]


def test_a_wrong_model_name_is_one_line(trained: TrainedSite, capsys: pytest.CaptureFixture[str]) -> None:
    candidates = str(trained.data / "impressions.parquet")
    arguments = ["score", str(trained.data), "--candidates", candidates, "--out", "scored", "--model", "models:/no/1"]
    code, error = run(arguments, capsys)
    assert code == 1
    assert error.startswith("error: model 'models:/no/1' is not registered")
    assert not Path("scored").exists()


def test_a_port_in_use_is_one_line(trained: TrainedSite, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, error = run(["serve", "--model", MODEL, "--port", str(port)], capsys)
    assert code == 1
    assert error.startswith(f"error: port {port} on '127.0.0.1'")


def test_a_wrong_setting_names_its_key(trained: TrainedSite, capsys: pytest.CaptureFixture[str]) -> None:
    code, error = run(["train", str(trained.data), "--set", "ranker.num_leafs=3"], capsys)
    assert code == 1
    assert "ranker.num_leafs" in error


def test_an_unexpected_error_is_one_line_too() -> None:
    def fail() -> None:
        raise KeyError("surprise")

    assert cli.run(fail) == 1
    assert cli.one_line(KeyError("surprise")).startswith("KeyError: 'surprise'")
    assert cli.one_line(InputError("two\nlines")) == "two lines"


def test_a_full_disk_is_one_line_and_leaves_no_output(trained: TrainedSite, tmp_path: Path) -> None:
    out = tmp_path / "site"
    done = run_warm("-c", FULL_DISK, "data", "simulate", str(out), "--impressions", "2000")
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith("error: ")
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_in_the_middle_of_training_leaves_no_version(trained: TrainedSite, tmp_path: Path) -> None:
    settings = ["--set", f"encoder.base_model={trained.base}", "--set", "encoder.head_epochs=100000", "--set",
                "encoder.patience=100000", "--set", "encoder.min_impressions=200"]  # fmt: skip
    with Warm("-m", "pipelines.cli", "train", str(trained.data), *settings, cwd=tmp_path) as training:
        while "\nencoder head: epoch 2/" not in training.stderr():
            assert training.poll() is None, training.stderr()
            time.sleep(0.1)
        training.send_signal(signal.SIGINT)
        assert training.wait(60) == 1
        told = training.stderr()
    assert told.strip().splitlines()[-1].startswith("error: interrupted")
    assert "Traceback" not in told
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        tracking.connect()
        assert mlflow.MlflowClient().search_registered_models() == []
        runs = mlflow.search_runs(experiment_names=[tracking.EXPERIMENT], output_format="list")
        assert {run.info.status for run in runs} == {"FAILED"}
