"""The registered models through MLflow: the same scores as in Python, in process and from MLflow's own server."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from trained_site import MODEL, TrainedSite

from recsys.encoder.scoring import text_columns
from recsys.encoder.text import Template
from recsys.registry import versions
from recsys.registry.golden import load_golden

ENCODER = "models:/tiny-encoder/1"


def ranker_rows() -> tuple[pd.DataFrame, list[float]]:
    """The golden rows of the ranker as MLflow takes them, and their scores."""
    golden = load_golden(versions._artifact(versions.resolve(MODEL), "unit"))
    return pd.DataFrame(golden.requests).astype("float64"), golden.scores


def text_rows() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "history": [["Senate passes the budget", "A storm nears Florida"], [], ["Senate passes the budget"]],
            "title": ["House debates spending", "A storm nears Florida", None],
            "description": ["Lawmakers argue over the budget", None, None],
        }
    )


def text_scores() -> list[float]:
    """What the encoder gives in Python."""
    encoder = versions.load(MODEL).unit.encoder
    template = Template.parse(encoder.settings.template)
    scores = []
    for row in text_rows().to_dict("records"):
        text = template.fill({name: row[name] for name in ("title", "description") if isinstance(row[name], str)})
        if not text:
            scores.append(np.nan)
            continue
        history = encoder.encode_texts(row["history"])
        scores.append(float(text_columns(encoder.weights, history, encoder.encode_texts([text]))[0, 0]))
    return scores


def test_the_ranker_scores_and_ranks_as_in_python(trained: TrainedSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    rows, scores = ranker_rows()
    answer = mlflow.pyfunc.load_model(MODEL).predict(rows)
    assert np.abs(answer["score"] - scores).max() < 1e-6
    assert list(answer["rank"]) == list(pd.Series(scores).rank(method="first", ascending=False).astype(int))


def test_with_an_impression_id_ranks_are_within_its_list(trained: TrainedSite) -> None:
    rows, _ = ranker_rows()
    rows["impression_id"] = ["a", "b", "a", "b", "b"]
    answer = mlflow.pyfunc.load_model(MODEL).predict(rows)
    assert sorted(answer["rank"][rows["impression_id"] == "a"]) == [1, 2]
    assert sorted(answer["rank"][rows["impression_id"] == "b"]) == [1, 2, 3]


def test_the_encoder_scores_texts_as_in_python(trained: TrainedSite) -> None:
    answer = mlflow.pyfunc.load_model(ENCODER).predict(text_rows())
    np.testing.assert_allclose(answer["score"], text_scores(), atol=1e-4, equal_nan=True)


def test_both_models_have_a_signature_and_an_input_example(trained: TrainedSite) -> None:
    for uri in (MODEL, ENCODER):
        model = mlflow.pyfunc.load_model(uri)
        assert model.metadata.signature.inputs is not None
        assert model.input_example is not None


@contextlib.contextmanager
def served(uri: str) -> Iterator[str]:
    """MLflow's scoring server over a registered model, on a free loopback port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = Path(sys.executable).parent
    environment = os.environ | {
        "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}",
        "MLFLOW_TRACKING_URI": mlflow.get_tracking_uri(),
        "OMP_NUM_THREADS": "1",
    }
    command = [str(folder / "mlflow"), "models", "serve", "-m", uri, "--env-manager", "local", "-p", str(port)]
    server = subprocess.Popen(
        [*command, "-h", "127.0.0.1"],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 120
        while True:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/ping", timeout=5):
                break
            assert time.monotonic() < deadline, "mlflow models serve did not answer in 120 s"
            assert server.poll() is None, "mlflow models serve ended"
            time.sleep(0.5)
        yield url
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)


def invoke(url: str, rows: pd.DataFrame) -> pd.DataFrame:
    """Post rows as `dataframe_split` and read the answer."""
    split = json.loads(rows.to_json(orient="split"))
    body = json.dumps({"dataframe_split": {"columns": split["columns"], "data": split["data"]}}).encode()
    request = urllib.request.Request(f"{url}/invocations", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return pd.DataFrame(json.load(answer)["predictions"])


@pytest.mark.slow
def test_mlflow_serves_the_ranker_with_the_same_scores(trained: TrainedSite) -> None:
    rows, scores = ranker_rows()
    with served(MODEL) as url:
        assert np.abs(invoke(url, rows)["score"] - scores).max() < 1e-6


@pytest.mark.slow
def test_mlflow_serves_the_encoder_with_the_same_scores(trained: TrainedSite) -> None:
    with served(ENCODER) as url:
        answer = invoke(url, text_rows())
    np.testing.assert_allclose(answer["score"].astype(float), text_scores(), atol=1e-4, equal_nan=True)
