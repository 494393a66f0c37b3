"""Answers that come before the end of a request's body, over a real socket: the client sees them."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import closing
from threading import Thread

import pytest
import uvicorn
from fastapi import FastAPI, Request

from pipelines.serve import listen
from recsys.serving import middleware
from recsys.serving.middleware import RequestMiddleware
from recsys.serving.prometheus import Telemetry

MIB = 2**20
PIECE = b" " * 65_536


@pytest.fixture
def port() -> Iterator[int]:
    """A server behind the envelope, which takes a MiB; nothing but /read asks for a body."""
    app = FastAPI()

    @app.post("/read")
    async def read(request: Request) -> int:
        return len(await request.body())

    app.add_middleware(RequestMiddleware, telemetry=Telemetry(), max_body=MIB, max_headers=16 * 1024)
    with closing(listen("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
        thread = Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


def answered(port: int, head: str, n_pieces: int, *, chunked: bool = False) -> tuple[int, dict[str, str], str]:
    """Status, error and headers of the answer to a request whose body is sent whole before anything is read."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        client.sendall(f"{head}\r\nhost: here\r\n\r\n".encode())
        for _ in range(n_pieces):
            client.sendall(b"10000\r\n" + PIECE + b"\r\n" if chunked else PIECE)
        if chunked:
            client.sendall(b"0\r\n\r\n")
        return read_answer(client)


def read_answer(client: socket.socket) -> tuple[int, dict[str, str], str]:
    with client.makefile("rb") as answer:
        status = int(answer.readline().split()[1])
        lines = iter(lambda: answer.readline().decode().strip(), "")
        headers = dict(line.lower().split(": ", 1) for line in lines)
        body = json.loads(answer.read(int(headers["content-length"])))
    return status, body.get("error", {}) if isinstance(body, dict) else {}, headers.get("connection", "")


def test_a_body_of_20_mb_is_refused_where_the_client_sees_it(port: int) -> None:
    status, error, _ = answered(port, f"POST /v1/rank HTTP/1.1\r\ncontent-length: {320 * len(PIECE)}", 320)
    assert (status, error["code"]) == (413, "body_too_large")
    assert error["message"].startswith("expected a body of at most 1,048,576 bytes")


def test_a_body_without_a_length_that_grows_too_large_is_refused_where_the_client_sees_it(port: int) -> None:
    head = "POST /read HTTP/1.1\r\ntransfer-encoding: chunked"
    assert answered(port, head, 320, chunked=True)[0] == 413
    assert answered(port, head, 15, chunked=True)[0] == 200


def test_an_answer_that_needs_no_body_waits_for_its_end(port: int) -> None:
    head = f"POST /nowhere HTTP/1.1\r\ncontent-length: {15 * len(PIECE)}"
    assert answered(port, head, 15)[0] == 404


def test_a_client_that_waits_to_be_asked_for_its_body_is_answered_at_once(port: int) -> None:
    head = f"POST /v1/rank HTTP/1.1\r\nexpect: 100-continue\r\ncontent-length: {320 * len(PIECE)}"
    status, error, connection = answered(port, head, 0)
    assert (status, error["code"], connection) == (413, "body_too_large", "close")


def test_a_client_that_never_ends_is_cut_off(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(middleware, "REST_SECONDS", 0.2)
    head = f"POST /v1/rank HTTP/1.1\r\ncontent-length: {320 * len(PIECE)}"
    status, error, connection = answered(port, head, 1)
    assert (status, error["code"], connection) == (413, "body_too_large", "close")
