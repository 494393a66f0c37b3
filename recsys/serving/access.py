"""Who may send which request: API keys, their scopes, and what a web page of another site may not do.

Plain ASGI, inside `RequestMiddleware`: a refusal has a request id and is counted, and comes before the body is read.
"""

from __future__ import annotations

from typing import Any

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from recsys.serving import api_keys
from recsys.serving.errors import CODES, CROSS_SITE
from recsys.serving.key_ring import KeyRing
from recsys.serving.middleware import error_response
from recsys.serving.prometheus import Telemetry

OPEN = frozenset(("/", "/docs", "/openapi.json", "/health/live", "/health/ready"))
"""Paths without data: pages, their description of the API, and health."""
_OPEN_BELOW = ("/docs/", "/playground/")
_READING = frozenset(("GET", "HEAD", "OPTIONS"))
_RANK = "/v1/rank"
_CHALLENGE = 'Bearer realm="recsys"'
_HOW = "send it as 'Authorization: Bearer KEY' or 'X-API-Key: KEY'; `recsys keys add` makes one"
_OTHER_SITES = frozenset((b"cross-site", b"same-site"))
_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}


def required_scope(method: str, path: str) -> api_keys.Scope | None:
    """The scope that a request needs; None for an open one. Routes that are added later have it by their method.

    /metrics needs read: it holds counts alone, and a scraper whose key may delete users would be worse.
    """
    if method in _READING and (path in OPEN or path.startswith(_OPEN_BELOW)):
        return None
    if method == "DELETE":
        return "admin"
    return "read" if method in _READING or path == _RANK else "write"


class AccessMiddleware:
    """ASGI middleware. keys: None where everybody who reaches the server may use it.

    Without keys it refuses what a page of another site lets a browser send: a browser on this machine reaches what
    listens on loopback, and would carry out the page's writes.
    """

    def __init__(self, app: ASGIApp, *, keys: KeyRing | None, telemetry: Telemetry) -> None:
        self._app = app
        self._keys = keys
        self._refused = telemetry.refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection; the keys are watched while the application lives."""
        if scope["type"] == "lifespan" and self._keys is not None:
            with self._keys.watching():
                await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope) if scope["type"] == "http" else None
        await (refusal or self._app)(scope, receive, send)

    def _refusal(self, scope: Scope) -> Response | None:
        """The answer to a request that may not be answered, None to others."""
        method, path = scope["method"], scope["path"].removeprefix(scope.get("root_path", ""))
        headers = dict(scope["headers"])
        if self._keys is None:
            if method not in _READING and headers.get(b"sec-fetch-site") in _OTHER_SITES:
                return self._refuse("cross_site", 403, "a page of another site may not send this request", CROSS_SITE)
            return None
        needed = required_scope(method, path)
        if needed is None:
            return None
        sent = _sent_key(headers)
        if sent is None:
            return self._refuse("no_key", 401, f"expected an API key, found none; {_HOW}", challenge=_CHALLENGE)
        key = self._keys.find(sent)
        if key is None:
            challenge = f'{_CHALLENGE}, error="invalid_token"'
            return self._refuse("unknown_key", 401, f"the API key is not known; {_HOW}", challenge=challenge)
        if not key.allows(needed):
            challenge = f'{_CHALLENGE}, error="insufficient_scope", scope="{needed}"'
            text = f"{method} {path}: expected a key of scope {needed!r}, got one of scope {key.scope!r}"
            return self._refuse("small_scope", 403, text, challenge=challenge)
        return None

    def _refuse(
        self, reason: str, status: int, text: str, code: str | None = None, *, challenge: str | None = None
    ) -> Response:
        self._refused.labels(reason).inc()
        headers = {} if challenge is None else {"www-authenticate": challenge}
        return error_response(status, text, code or CODES[status], headers=headers)


def _sent_key(headers: dict[bytes, bytes]) -> bytes | None:
    """The key that a request brings, None for none; `Authorization: Bearer` counts before `X-API-Key`."""
    scheme, _, key = headers.get(b"authorization", b"").partition(b" ")
    return (key.strip() if scheme.lower() == b"bearer" else headers.get(b"x-api-key", b"").strip()) or None


def describe_access(document: dict[str, Any]) -> None:
    """Add to an OpenAPI document how keys are sent, and which operation needs which scope."""
    document["components"]["securitySchemes"] = _SCHEMES
    problem = {"application/json": {"schema": {"$ref": "#/components/schemas/ProblemAnswer"}}}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            scope = required_scope(method.upper(), path)
            if scope is not None:
                operation["security"] = [{name: []} for name in _SCHEMES]
                operation["description"] = f"{operation.get('description', '')}\n\nScope of the key: {scope}.".strip()
                for status in (401, 403):
                    operation["responses"][str(status)] = {"description": CODES[status], "content": problem}
