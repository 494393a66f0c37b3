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

from features.offline.reader import LogIndex
from features.tables.load import load_log
from pipelines.data_options import read_options_of_model
from recsys.encoder.scoring import score_candidates
from recsys.encoder.text import Template, item_texts
from recsys.ranker.column_names import TEXT_SCORE
from recsys.ranker.offline_matrix import OfflineScorer
from recsys.registry import versions
from recsys.registry.golden_requests import load_golden

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
            "category": ["politics|home", "", None],
            "description": ["Lawmakers argue over the budget", None, None],
        }
    )


def text_scores() -> list[float]:
    """What the encoder gives in Python."""
    encoder = versions.load(MODEL).ranking_model.encoder
    template = Template.parse(encoder.settings.template)
    scores = []
    for row in text_rows().to_dict("records"):
        text = template.fill({name: row[name] for name in template.columns if isinstance(row[name], str)})
        if not text:
            scores.append(np.nan)
            continue
        history = encoder.encode_texts(row["history"])
        scores.append(float(score_candidates(encoder.weights, history, encoder.encode_texts([text]))[0, 0]))
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


def test_the_encoder_gives_the_text_score_that_the_ranker_reads(trained: TrainedSite) -> None:
    ranking_model = versions.load(MODEL).ranking_model
    log, _ = load_log(trained.data, read_options_of_model(ranking_model.settings))
    index, texts = LogIndex(log), ranking_model.texts(log.catalog)
    requests = log.impressions.take(np.arange(len(log.impressions) - 20, len(log.impressions))).requests
    scorer = OfflineScorer(ranking_model, index, texts, threads=1)
    read, histories = scorer.matrix(requests), scorer.reader(requests).histories
    written = item_texts(log.catalog, ranking_model.settings.template)
    assert max(len(histories.items.row(i)) for i in range(len(requests))) > 0
    items = pd.read_parquet(trained.data / "items.parquet").set_index("item_id")
    rows = items.loc[log.catalog.ids[requests.item], ["title", "category", "description"]].reset_index(drop=True)
    rows["history"] = [[written[code] for code in histories.items.row(i)] for i in requests.request_of_row()]
    answer = mlflow.pyfunc.load_model(ENCODER).predict(rows)
    np.testing.assert_allclose(answer["score"], read[:, ranking_model.settings.columns.index(TEXT_SCORE)], atol=1e-4)
    other = mlflow.pyfunc.load_model(ENCODER).predict(rows.assign(category=None))
    assert np.abs(other["score"] - answer["score"]).max() > 1e-3


def test_the_signature_of_the_encoder_is_the_columns_of_its_template(trained: TrainedSite) -> None:
    model = mlflow.pyfunc.load_model(ENCODER)
    assert model.metadata.signature.inputs.input_names() == ["history", "title", "category", "description"]
    assert list(model.input_example.columns) == ["history", "title", "category", "description"]


def test_a_history_is_read_as_items_are_written(trained: TrainedSite) -> None:
    row = {"title": "House debates spending", "history": [" A  storm\u200e nears \nweather\n"]}
    clean = row | {"history": ["A storm nears\nweather"]}
    answer = mlflow.pyfunc.load_model(ENCODER).predict(pd.DataFrame([row, clean]))
    assert answer["score"][0] == answer["score"][1]


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
