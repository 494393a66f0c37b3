"""The API's errors as the contract's JSON: {"error": {"code", "message", "field"?}} with the right status.

ServingError                  status and code of an answer that is no ranking
├── BadRequest        422     a field is not what it has to be
├── NotFound          404     what the path names is not stored
├── Overloaded        503     more requests wait than the server may hold
└── NotReady          503     the server is starting or shutting down
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, ClassVar

from features.errors import RecsysError

CODES: Mapping[int, str] = {
    400: "malformed_json",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    413: "body_too_large",
    422: "invalid_request",
    431: "headers_too_large",
    500: "internal_error",
    503: "unavailable",
}
"""Error code of each status without an error of ours."""

INVALID, TOO_OLD, STORE = "invalid_request", "timestamp_too_old", "store_unavailable"
CROSS_SITE = "cross_site_request"


_UNKNOWN_KEY = "extra_forbidden"
"""Pydantic's type of an error about a key that a model does not have."""


class ServingError(RecsysError):
    """A request that cannot be answered; `field` is the dotted path of the field at fault, if it is one field's."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class BadRequest(ServingError):
    """A field of the request is not what it has to be."""

    status = 422
    code = INVALID


class NotFound(ServingError):
    """What the path names is not stored."""

    status = 404
    code = CODES[404]


class Overloaded(ServingError):
    """More requests wait than the server may hold."""

    status = 503
    code = "overloaded"


class NotReady(ServingError):
    """The server is starting or shutting down."""

    status = 503
    code = "not_ready"


def error_body(code: str, message: str, field: str | None = None) -> dict[str, Any]:
    """The body of an error answer; the message is one line."""
    content = {"code": code, "message": " ".join(message.split())}
    if field:
        content["field"] = field
    return {"error": content}


def field_path(location: Sequence[int | str]) -> str:
    """A dotted path, `candidates.3.item_id`, from where pydantic found the problem; "" for the body as a whole."""
    parts = [str(part) for part in location]
    return ".".join(parts[1:] if parts[:1] == ["body"] else parts)


def most_telling(errors: Sequence[Any]) -> Any:
    """Of pydantic's errors about one body the one to report: a key that does not exist, which is often why another one
    is missing, or else the first."""
    return next((error for error in errors if error["type"] == _UNKNOWN_KEY), errors[0])


def describe_error(error: Any, expected: Iterable[str]) -> str:
    """The message for one of pydantic's errors. expected: the keys of the object that it is about."""
    if error["type"] != _UNKNOWN_KEY:
        return str(error["msg"])
    key, keys = str(error["loc"][-1]), list(expected)
    plain = {_plain(name): name for name in keys}
    near = get_close_matches(_plain(key), plain, n=1)
    hint = f", did you mean {plain[near[0]]!r}" if near else ""
    return f"unknown key {key!r}{hint}; expected none but {', '.join(keys)}"


def _plain(key: str) -> str:
    """A key without case and separators: userId and user_id are one."""
    return key.lower().replace("_", "").replace("-", "")
