"""The playground: a page to rank, to click and to see the order change. It asks the API as any other caller does.

Its files lie in the folder `playground` and are served as they are. The page's addresses are relative, so that it works
behind a path prefix that the server does not know.
"""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles

from recsys.serving.security_headers import page_response

FILES = Path(__file__).with_name("playground")


def add_playground(app: FastAPI) -> None:
    """Serve the page at / and its files below /playground."""
    page = (FILES / "index.html").read_text(encoding="utf-8")

    @app.get("/", include_in_schema=False)
    async def playground() -> HTMLResponse:
        return page_response(page)

    app.mount("/playground", StaticFiles(directory=FILES))
