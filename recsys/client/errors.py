"""The errors of the client; each carries the server's code, message and field, the status, and the request's id.

ClientError
├── InvalidRequest        400, 413, 422  the request is at fault; `field` names the part
├── AuthenticationError   401            no key, or one that the server does not know
├── PermissionDenied      403            the key lacks the scope
├── NotFoundError         404            no such item, or no such route: is the server older than the client?
├── ServerOverloaded      429, 503       refused at once; `retry_after` says for how long, where the server does
├── ServerUnavailable     502, 503, 504  not ready, without its store, or no server behind the proxy
├── ServerFailed          any other      an answer that is none of the contract; the server's log has the request's id
└── NoAnswer                             the connection failed before an answer: the server may have done it, or not
    └── DeadlineExceeded                 the call's time was over before the answer
"""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from time import time
from typing import Any

from pydantic import ValidationError

from recsys.serving.schemas import ProblemAnswer

OVERLOADED, NOT_READY = "overloaded", "not_ready"
"""Codes of requests that were refused before anything was done."""


class ClientError(Exception):
    """A call that has no answer. code, message, field: the server's; code is "" where the answer is none of the
    contract. status: of HTTP, 0 where no answer came. request_id: as in the server's log. retry_after: seconds that the
    server asks to wait."""

    def __init__(
        self,
        message: str,
        *,
        code: str = "",
        field: str | None = None,
        status: int = 0,
        request_id: str = "",
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.field = field
        self.status = status
        self.request_id = request_id
        self.retry_after = retry_after

    def __str__(self) -> str:
        about = [part for part in (f"{self.status or ''} {self.code}".strip(), self.field) if part]
        suffix = f" (request {self.request_id})" if self.request_id else ""
        return ": ".join([*about, self.message]) + suffix


class InvalidRequest(ClientError):
    """The request is not what it has to be."""


class AuthenticationError(ClientError):
    """The server wants a key that it knows."""


class PermissionDenied(ClientError):
    """The key may not do this."""


class NotFoundError(ClientError):
    """There is no such item, user or route."""


class ServerOverloaded(ClientError):
    """The server refuses more requests for now; nothing was done."""


class ServerUnavailable(ClientError):
    """No server is ready to answer, or its store cannot be reached."""


class ServerFailed(ClientError):
    """An answer that is none of the contract."""


class NoAnswer(ClientError):
    """The connection failed: whether the server has done what was asked is not known."""


class DeadlineExceeded(NoAnswer):
    """The time of the call was over before its answer."""


_BY_STATUS: Mapping[int, type[ClientError]] = {
    HTTPStatus.BAD_REQUEST: InvalidRequest,
    HTTPStatus.UNAUTHORIZED: AuthenticationError,
    HTTPStatus.FORBIDDEN: PermissionDenied,
    HTTPStatus.NOT_FOUND: NotFoundError,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: InvalidRequest,
    HTTPStatus.UNPROCESSABLE_ENTITY: InvalidRequest,
    HTTPStatus.TOO_MANY_REQUESTS: ServerOverloaded,
    HTTPStatus.BAD_GATEWAY: ServerUnavailable,
    HTTPStatus.SERVICE_UNAVAILABLE: ServerUnavailable,
    HTTPStatus.GATEWAY_TIMEOUT: ServerUnavailable,
}
_SHOWN = 200


def error_of(status: int, headers: Mapping[str, str], body: bytes, request_id: str) -> ClientError:
    """The error that an answer other than a success stands for. request_id: as it was sent."""
    facts: dict[str, Any] = {
        "status": status,
        "request_id": headers.get("x-request-id", request_id),
        "retry_after": _seconds(headers.get("retry-after", "")),
    }
    kind = _BY_STATUS.get(status, ServerFailed)
    try:
        problem = ProblemAnswer.model_validate_json(body).error
    except ValidationError:
        begins = body[:_SHOWN].decode("utf-8", "replace")
        return kind(f"expected an answer of recsys, got {begins!r}; what stands between?", **facts)
    if problem.code == OVERLOADED:
        kind = ServerOverloaded
    return kind(problem.message, code=problem.code, field=problem.field, **facts)


def _seconds(retry_after: str) -> float | None:
    """Seconds from now of a Retry-After header, which is a number or a date; None for neither."""
    if retry_after.isascii() and retry_after.isdigit():
        return float(retry_after)
    try:
        return max(parsedate_to_datetime(retry_after).timestamp() - time(), 0.0)
    except ValueError:
        return None
