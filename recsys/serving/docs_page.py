"""The page that shows the HTTP API and tries it out: Swagger UI, with its files from this machine and not from the web.

The files are those of the package fastapi-offline. Addresses are relative, so the page also works behind a path prefix.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from importlib import resources
from typing import Any

from fastapi import FastAPI, Response
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse

SCRIPT, STYLE = "swagger-ui-bundle.js", "swagger-ui.css"
_MEDIA_TYPES = {SCRIPT: "text/javascript", STYLE: "text/css"}
_NO_ICON = "data:,"
_SETTINGS = {"validatorUrl": None, "tryItOutEnabled": True}
"""Without a validator: the usual one sends the API's address to a site on the web."""


def add_api_page(app: FastAPI) -> None:
    """Serve the page at /docs and its two files below it."""
    page = get_swagger_ui_html(
        openapi_url="openapi.json",
        title=f"{app.title} API",
        swagger_js_url=f"docs/{SCRIPT}",
        swagger_css_url=f"docs/{STYLE}",
        swagger_favicon_url=_NO_ICON,
        swagger_ui_parameters=_SETTINGS,
    )

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return page

    for name in _MEDIA_TYPES:
        app.add_api_route(f"/docs/{name}", _file(name), include_in_schema=False)


def _file(name: str) -> Callable[[], Coroutine[Any, Any, Response]]:
    content = (resources.files("fastapi_offline") / "static" / name).read_bytes()

    async def answer() -> Response:
        return Response(content, media_type=_MEDIA_TYPES[name], headers={"cache-control": "max-age=86400"})

    return answer
