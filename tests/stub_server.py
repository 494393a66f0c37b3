"""A small HTTP server on loopback that answers as it is told: for failures that a healthy server does not have."""

from __future__ import annotations

import json
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread


@dataclass(frozen=True)
class Says:
    """An answer. body: text, or what JSON makes of it. pieces: how many parts it comes in, one in 0.05 s."""

    status: int
    body: object = ""
    headers: tuple[tuple[str, str], ...] = ()
    pieces: int = 1


RESET = "reset"
"""The connection is reset once the request was read."""
SILENCE = "silence"
"""No answer comes until the server stops."""


@dataclass(frozen=True)
class Asked:
    """A request that came."""

    method: str
    path: str
    headers: dict[str, str]
    body: object


@dataclass
class Stub:
    """url: of the server. answers: of the requests to come, in order; the last one stays. asked: requests so far."""

    url: str
    answers: list[Says | str]
    asked: list[Asked] = field(default_factory=list)


def problem(status: int, code: str, message: str, headers: Sequence[tuple[str, str]] = (), **more: str) -> Says:
    """An error as the contract has it."""
    return Says(status, {"error": {"code": code, "message": message, **more}}, tuple(headers))


@contextmanager
def stub_server(*answers: Says | str) -> Iterator[Stub]:
    """A running stub."""
    stopped = Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            stub.asked.append(Asked(self.command, self.path, headers, json.loads(body) if body else None))
            says = stub.answers.pop(0) if len(stub.answers) > 1 else stub.answers[0]
            if isinstance(says, Says):
                self.say(says)
                return
            if says == SILENCE:
                stopped.wait(60)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            self.connection.close()

        def say(self, says: Says) -> None:
            body = (says.body if isinstance(says.body, str) else json.dumps(says.body)).encode()
            self.send_response(says.status)
            for name, value in (*says.headers, ("content-length", str(len(body)))):
                self.send_header(name, value)
            self.end_headers()
            size = -(-len(body) // says.pieces) or 1
            for start in range(0, len(body), size):
                if says.pieces > 1:
                    time.sleep(0.05)
                try:
                    self.wfile.write(body[start : start + size])
                except OSError:
                    self.close_connection = True
                    return

        do_GET = do_POST = do_DELETE = answer

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            pass

    server = Server(("127.0.0.1", 0), Handler)
    stub = Stub(f"http://127.0.0.1:{server.server_address[1]}", list(answers))
    thread = Thread(target=lambda: server.serve_forever(poll_interval=0.01), daemon=True)
    thread.start()
    try:
        yield stub
    finally:
        stopped.set()
        server.shutdown()
        server.server_close()
        thread.join()
