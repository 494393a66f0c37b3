"""Headers of every answer that tell a browser what it may do with it, and pages whose own scripts alone may run.

No answer has a header of CORS: no page of another origin reads one.
"""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256

from fastapi.responses import HTMLResponse
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_POLICY = "Content-Security-Policy"
_NOTHING = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
_ALWAYS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "X-Frame-Options": "DENY"}
_UNLESS_SET = {_POLICY: _NOTHING, "Cache-Control": "no-store"}
_INLINE = re.compile(r"<(?P<tag>script|style)>(?P<text>.*?)</(?P=tag)>", re.DOTALL)


class SecurityHeadersMiddleware:
    """ASGI middleware, the outermost one, so that errors have the headers too. cacheable: path prefix of files that a
    browser may keep."""

    def __init__(self, app: ASGIApp, *, cacheable: str) -> None:
        self._app = app
        self._cacheable = cacheable

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection; all but HTTP passes through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(_ALWAYS)
                kept = scope["path"].startswith(self._cacheable) and message["status"] in (200, 304)
                for name, value in _UNLESS_SET.items():
                    if not (kept and name == "Cache-Control"):
                        headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_with_headers)


def page_response(page: str) -> HTMLResponse:
    """A page that loads scripts, styles and images of this server, runs the scripts and styles in it, asks this server,
    and nothing else."""
    return HTMLResponse(page, headers={_POLICY: page_policy(page), "Cache-Control": "no-cache"})


def page_policy(page: str) -> str:
    """The Content-Security-Policy of `page_response`: inline scripts and styles are named by their SHA-256."""
    own = "'self'"
    hashes: dict[str, list[str]] = {"script": [own], "style": [own]}
    for match in _INLINE.finditer(page):
        digest = b64encode(sha256(match["text"].encode()).digest()).decode()
        hashes[match["tag"]].append(f"'sha256-{digest}'")
    none = ["'none'"]
    sources = {
        "default-src": none,
        "script-src": hashes["script"],
        "style-src": hashes["style"],
        "img-src": [own, "data:"],
        "connect-src": [own],
        "base-uri": none,
        "form-action": none,
        "frame-ancestors": none,
    }
    return "; ".join(f"{name} {' '.join(values)}" for name, values in sources.items())
