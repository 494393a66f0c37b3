"""The page that shows the HTTP API and tries it out: Swagger UI, with its files from this machine and not from the web.

The files are those of the package fastapi-offline. Its own page is not used: its addresses start at the root, so it
does not work behind a path prefix that the server does not know.
"""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles

from recsys.serving.security_headers import page_response

_NO_ICON = "data:,"
_SETTINGS = {"validatorUrl": None, "tryItOutEnabled": True}
"""Without a validator: the usual one sends the API's address to a site on the web."""


def add_api_page(app: FastAPI) -> None:
    """Serve the page at /docs and its files below it."""
    page = get_swagger_ui_html(
        openapi_url="openapi.json",
        title=f"{app.title} API",
        swagger_js_url="docs/swagger-ui-bundle.js",
        swagger_css_url="docs/swagger-ui.css",
        swagger_favicon_url=_NO_ICON,
        swagger_ui_parameters=_SETTINGS,
    )

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return page_response(bytes(page.body).decode())

    app.mount("/docs", StaticFiles(packages=[("fastapi_offline", "static")]))
