"""A log of JSON, one object a line, for collectors that read fields."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

import orjson

from recsys.serving.request_context import request_id


class JsonFormatter(logging.Formatter):
    """Lines with time, level, logger and message; request_id where one is being answered, exception where there is one.
    process: the name of this process, left out where it is empty."""

    def __init__(self, process: str = "") -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        fields = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "process": self._process or None,
            "request_id": request_id.get(),
            "exception": self.formatException(record.exc_info) if record.exc_info else None,
        }
        known = {name: value for name, value in fields.items() if value is not None}
        return orjson.dumps(known, default=str).decode()
