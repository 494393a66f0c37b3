"""`recsys doctor`: what a machine has, what it lacks, and exit 1 with advice where something is broken."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipelines import cli
from pipelines.doctor import examine
from recsys.config import load_config
from recsys.diagnosis.base_models import base_model_checks
from recsys.diagnosis.check import BROKEN, NOTE, OK, Check
from recsys.diagnosis.places import place_checks


def by_name(checks: object) -> dict[str, Check]:
    return {check.name: check for check in checks}  # type: ignore[attr-defined]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_machine_that_runs_these_tests_is_in_order_and_nothing_is_written(
    home: Path, capsys: pytest.CaptureFixture[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    report = tmp_path_factory.mktemp("out") / "doctor.json"
    assert cli.run(lambda: cli.cli(["doctor", "--json", str(report)], standalone_mode=False)) == 0
    found = json.loads(report.read_text())
    assert found["passed"]
    checks = {check["name"]: check for check in found["checks"]}
    assert {"python", "libraries", "cores", "memory", "instructions", "GPU", "encoder.dtype", "MLflow"} <= set(checks)
    assert checks["model builtin"]["found"].endswith("reads English, licence MIT")
    assert checks["MLflow"]["status"] == NOTE and "the first training makes it" in checks["MLflow"]["advice"]
    assert capsys.readouterr().out.splitlines()[-1] == "nothing is broken"
    assert list(home.iterdir()) == []


def test_a_base_model_that_is_not_whole_is_broken_and_exit_is_1(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "base").mkdir()
    (home / "base" / "config.json").write_text(json.dumps({"model_type": "bert", "vocab_size": 9}))
    assert cli.run(lambda: cli.cli(["doctor", "--set", "encoder.base_model=./base"], standalone_mode=False)) == 1
    lines = capsys.readouterr().out.splitlines()
    line = next(line for line in lines if "encoder.base_model" in line)
    assert line.startswith("broken") and "lacks model.safetensors; save the model there again" in line
    assert lines[-1] == "broken: encoder.base_model"
    (home / "base" / "model.safetensors").write_bytes(b"")
    config = load_config(None, ("encoder.base_model=./base",))
    whole = by_name(base_model_checks(config))["encoder.base_model"]
    assert (whole.status, whole.found) == (OK, "'./base', bert, ? layers, 9 tokens")
    absent = by_name(base_model_checks(load_config(None, ("encoder.base_model=./nowhere",))))["encoder.base_model"]
    assert (absent.status, absent.found) == (BROKEN, "'./nowhere': no such folder")


def test_a_server_of_mlflow_that_does_not_answer_is_broken(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    found = by_name(place_checks())["MLflow"]
    assert found.status == BROKEN
    assert "http://127.0.0.1:9 does not answer" in found.found and "MLFLOW_TRACKING_URI" in found.advice


def test_a_dtype_that_this_machine_lacks_is_broken(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    found = by_name(examine(load_config(None, ("encoder.dtype=bfloat16",))).checks)
    assert found["encoder.dtype"].status == BROKEN
    assert "choose encoder.dtype auto or float32" in found["encoder.dtype"].found
    assert "AVX-512 no, bf16 no, VNNI no" in found["instructions"].found


def test_a_folder_above_which_a_file_stands_is_broken(home: Path) -> None:
    (home / "store").write_text("a file")
    found = by_name(place_checks())["online store"]
    assert found.status == BROKEN and "cannot be written" in found.found
