"""Traces and JSON logs of requests: what a collector gets, and what a log line carries."""

from __future__ import annotations

import gzip
import json
import logging
import sys
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from fastapi.testclient import TestClient
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from small_ranking_model import SmallSite, small_site

from features.online.state import OnlineState
from features.stores.lmdb_store import LmdbStore
from recsys.config import ServingConfig
from recsys.online.open_state import required_store_settings
from recsys.serving.app import create_app
from recsys.serving.json_logs import JsonFormatter
from recsys.serving.service import RankService
from recsys.serving.tracing import ENDPOINTS, is_wanted, tracer


@pytest.fixture
def collector() -> Iterator[tuple[str, list[bytes]]]:
    """The address of a collector, and the bodies that it got."""
    bodies: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            bodies.append(gzip.decompress(body) if self.headers.get("content-encoding") == "gzip" else body)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", bodies
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RankService]:
    site: SmallSite = small_site()
    settings = required_store_settings(site.ranking_model.settings, {})
    with closing(LmdbStore(tmp_path_factory.mktemp("tracing") / "store")) as store:
        state = OnlineState.open(store, settings)
        yield RankService(site.ranking_model, state, ServingConfig(budget_ms=0), ranker="r/1", encoder="e/1")


def spans_of(bodies: list[bytes]) -> tuple[list[Span], set[str]]:
    """All spans, and the services that sent them."""
    spans, services = [], set()
    for body in bodies:
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            attributes = {one.key: one.value.string_value for one in resource.resource.attributes}
            services.add(attributes["service.name"])
            spans += [span for scope in resource.scope_spans for span in scope.spans]
    return spans, services


def attributes_of(span: Span) -> dict[str, Any]:
    return {one.key: getattr(one.value, str(one.value.WhichOneof("value"))) for one in span.attributes}


def test_a_collector_gets_a_span_of_each_request_and_of_each_stage(
    service: RankService, collector: tuple[str, list[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, bodies = collector
    monkeypatch.setenv(ENDPOINTS[1], address)
    trace = "0af7651916cd43dd8448eb211c80319c"
    with tracer() as recording:
        client = TestClient(create_app(service, tracer=recording))
        headers = {"traceparent": f"00-{trace}-b7ad6b7169203331-01", "X-Request-ID": "asked"}
        answer = client.post("/v1/rank", json={"user_id": "u1", "candidates": ["a", "b"]}, headers=headers)
        assert answer.status_code == 200
        assert client.post("/v1/rank", json={"candidates": 7}).status_code == 422
        client.get("/health/live")
        client.get("/metrics")
    spans, services = spans_of(bodies)
    assert services == {"recsys"}
    ranked, refused = (span for span in spans if span.name == "POST /v1/rank")
    stages = [span for span in spans if span.name in ("read", "text")]
    assert len(spans) == 2 + len(stages) == 4
    assert {span.trace_id.hex() for span in [ranked, *stages]} == {trace}
    assert {span.parent_span_id for span in stages} == {ranked.span_id}
    assert ranked.parent_span_id.hex() == "b7ad6b7169203331"
    assert attributes_of(ranked) == {
        "http.request.method": "POST",
        "http.response.status_code": 200,
        "http.route": "/v1/rank",
        "recsys.request_id": "asked",
    }
    assert attributes_of(refused)["http.response.status_code"] == 422
    assert refused.trace_id.hex() != trace


def test_a_collector_that_is_away_costs_no_answer(service: RankService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENDPOINTS[0], "http://127.0.0.1:9/v1/traces")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    with tracer() as recording:
        client = TestClient(create_app(service, tracer=recording))
        assert client.post("/v1/rank", json={"user_id": "u1", "candidates": ["a"]}).status_code == 200


def test_traces_are_recorded_where_a_collector_is_named() -> None:
    assert not is_wanted({})
    assert not is_wanted({ENDPOINTS[1]: ""})
    assert is_wanted({ENDPOINTS[0]: "http://collector"})
    assert not is_wanted({ENDPOINTS[0]: "http://collector", "OTEL_SDK_DISABLED": "true"})


def test_without_the_extra_the_server_says_so_and_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(ENDPOINTS[1], "http://collector")
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with tracer() as recording:
        assert recording is None
    assert "pip install 'recsys[tracing]'" in caplog.text


def test_a_line_of_the_json_log_names_the_request_that_is_answered(
    service: RankService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log"
    handler = logging.FileHandler(path)
    handler.setFormatter(JsonFormatter("worker 1"))
    logger = logging.getLogger("recsys")
    logger.addHandler(handler)
    monkeypatch.setattr(service, "answer", lambda *_, **__: 1 / 0)
    try:
        client = TestClient(create_app(service), raise_server_exceptions=False)
        body = {"user_id": "u1", "candidates": ["a"]}
        assert client.post("/v1/rank", json=body, headers={"X-Request-ID": "r-7"}).status_code == 500
        logger.warning("outside of any request")
    finally:
        logger.removeHandler(handler)
        handler.close()
    failed, outside = (json.loads(line) for line in path.read_text().splitlines())
    assert (failed["level"], failed["request_id"], failed["process"]) == ("error", "r-7", "worker 1")
    assert "ZeroDivisionError" in failed["exception"]
    assert "request_id" not in outside
    assert "exception" not in outside
