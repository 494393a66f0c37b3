"""Middleware of every HTTP request: request id, size limit, metrics, and unhandled errors.

Plain ASGI, so that it also sees what fails before a route is found.
"""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import Mapping

import anyio
import orjson
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from recsys.serving.errors import CODES, error_body
from recsys.serving.prometheus import Telemetry
from recsys.serving.request_context import request_id

logger = logging.getLogger(__name__)

REQUEST_ID = "x-request-id"
REST_BYTES = 256 * 2**20
REST_SECONDS = 20.0
"""How much of a rejected body is read, and for how long, before the connection is closed."""
_USABLE_ID = re.compile(r"[\x21-\x7e]{1,128}")


def error_response(
    status: int, text: str, code: str | None = None, *, headers: Mapping[str, str] | None = None
) -> Response:
    """An error answer. code: that of the status where none is given."""
    body = orjson.dumps(error_body(code or CODES[status], text))
    return Response(body, status, headers=headers, media_type="application/json")


class RequestMiddleware:
    """ASGI middleware. max_body: bytes of a request body. max_headers: of its address and headers together."""

    def __init__(self, app: ASGIApp, *, telemetry: Telemetry, max_body: int, max_headers: int) -> None:
        self._app = app
        self._telemetry = telemetry
        self._max_body = max_body
        self._max_headers = max_headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection; all but HTTP passes through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        exchange = _RequestResponse(scope, receive, send, self._max_body)
        scope["state"]["arrived"] = started
        request_id.set(exchange.request_id)
        try:
            await self._run(exchange, scope)
        finally:
            endpoint = getattr(scope.get("route"), "path", "other")
            self._telemetry.requests.labels(endpoint, str(exchange.status)).inc()
            self._telemetry.seconds.labels(endpoint).observe(time.perf_counter() - started)

    async def _run(self, exchange: _RequestResponse, scope: Scope) -> None:
        header_bytes = _header_bytes(scope)
        if header_bytes > self._max_headers:
            text = f"expected at most {self._max_headers:,} bytes of address and headers together, got {header_bytes:,}"
            await exchange.fail(431, text)
            return
        if exchange.announced > self._max_body:
            await exchange.fail(413, _too_large(self._max_body))
            return
        try:
            await self._app(scope, exchange.receive, exchange.send)
        except Exception:
            logger.exception("request %s failed", exchange.request_id)
            if exchange.status:
                raise
            await exchange.fail(500, f"the server failed; see its log for request {exchange.request_id}")


class _RequestResponse:
    """One request and its answer. status: of the answer, 0 until it has begun.

    A client that is still sending reads no answer, and a connection that is closed under it loses the answer too. So an
    answer that comes before the body's end waits for the rest, which is thrown away, up to a bound.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send, max_body: int) -> None:
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        sent_id = headers.get(REQUEST_ID.encode(), "")
        length = headers.get(b"content-length", "0")
        self.request_id = sent_id if _USABLE_ID.fullmatch(sent_id) else uuid.uuid4().hex
        self.announced = int(length) if length.isascii() and length.isdigit() else 0
        self.status = 0
        self._receive, self._send, self._max_body, self._received = receive, send, max_body, 0
        self._unread = self.announced > 0 or b"transfer-encoding" in headers
        self._waits_for_continue = headers.get(b"expect", "").lower() == "100-continue"
        self._scope = scope
        scope.setdefault("state", {})["request_id"] = self.request_id

    async def receive(self) -> Message:
        """The next piece of the body. Raises HTTPException 413 once it is too much."""
        message = await self._next()
        if self._received > self._max_body:
            raise HTTPException(413, _too_large(self._max_body))
        return message

    async def send(self, message: Message) -> None:
        """The next piece of the answer, with the request's id among its headers."""
        if message["type"] == "http.response.start":
            await self._read_rest()
            self.status = message["status"]
            message["headers"] = [*message.get("headers", []), (REQUEST_ID.encode(), self.request_id.encode())]
            if self._unread:
                message["headers"].append((b"connection", b"close"))
        await self._send(message)

    async def fail(self, status: int, text: str) -> None:
        """A whole error answer."""
        await error_response(status, text)(self._scope, self.receive, self.send)

    async def _next(self) -> Message:
        message = await self._receive()
        self._received += len(message.get("body", b""))
        self._unread = bool(message.get("more_body", False))
        self._waits_for_continue = False  # asking for the body is what grants it
        return message

    async def _read_rest(self) -> None:
        """Read and discard the rest of the body, except where the client waits for `100 Continue`."""
        if not self._unread or self._waits_for_continue:
            return
        with anyio.move_on_after(REST_SECONDS):
            while self._unread and self._received < self._max_body + REST_BYTES:
                await self._next()


def _header_bytes(scope: Scope) -> int:
    address = len(scope.get("raw_path") or scope["path"].encode()) + len(scope["query_string"])
    return address + sum(len(name) + len(value) for name, value in scope["headers"])


def _too_large(limit: int) -> str:
    return f"expected a body of at most {limit:,} bytes; send fewer rows at once"
