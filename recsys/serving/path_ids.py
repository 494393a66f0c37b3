"""Ids in paths: any text, percent-encoded where it has to be; slashes may stand as they are."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

from starlette.convertors import Convertor, register_url_convertor
from starlette.requests import Request

from recsys.serving.errors import BadRequest


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


def path_id(request: Request, prefix: str, name: str) -> str:
    """The id after `prefix` in a request's path, which its route has as parameter `name`, from the bytes that were
    sent: servers replace what is no UTF-8. Raises BadRequest where it is none.
    """
    raw: bytes = request.scope.get("raw_path") or b""
    before, _, sent = raw.partition(prefix.encode())
    if before != str(request.scope.get("root_path", "")).encode():  # not the place that the route has matched
        sent = b""
    try:
        return unquote_to_bytes(sent).decode() or str(request.path_params[name])
    except UnicodeDecodeError as error:
        raise BadRequest("expected percent-encoded UTF-8, got other bytes", name) from error
