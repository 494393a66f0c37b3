"""Ids in paths: any text, percent-encoded where it has to be; slashes may stand as they are."""

from __future__ import annotations

from starlette.convertors import Convertor, register_url_convertor
from starlette.requests import Request

from recsys.serving.errors import BadRequest

_REPLACED, _REPLACED_IN_URL = "\ufffd", b"%EF%BF%BD"


class IdInPath(Convertor[str]):
    """All that follows in the path, line breaks too: `{item_id:id}`."""

    regex = "(?s:.+)"

    def convert(self, value: str) -> str:
        """The id, which is decoded already."""
        return value

    def to_string(self, value: str) -> str:
        """The id as a part of a path."""
        return value


register_url_convertor("id", IdInPath())


def require_utf8(request: Request, value: str, field: str) -> str:
    """An id of a path. Raises BadRequest where its bytes are not UTF-8: the server has put another text in their
    place."""
    raw: bytes = request.scope.get("raw_path") or b""
    if _REPLACED in value and _REPLACED_IN_URL not in raw.upper():
        raise BadRequest("expected percent-encoded UTF-8, got other bytes", field)
    return value
