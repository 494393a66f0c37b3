"""One call from its first attempt to its answer, without any input or output, for sync and async clients alike.

`exchange` is a generator. It yields a request to send, or a time to wait, and is sent what came of it; it returns the
answer or raises an error of `recsys.client.errors`.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count

import httpx
from pydantic import ValidationError

from recsys.client.calls import Call, Content
from recsys.client.errors import ClientError, DeadlineExceeded, NoAnswer, ServerFailed, error_of
from recsys.client.retries import RetryPolicy, may_repeat

KEEP_ALIVE = 4.0
"""Seconds that an idle connection is kept: less than the five after which uvicorn closes it, so that no request is sent
on a connection that is just being closed."""
MOST_CONNECTIONS = 100
OVER = "the time of the call is over"
_SHORTEST = 0.001
_USABLE_KEY = re.compile(r"[\x21-\x7e]+")
_NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError)


@dataclass(frozen=True)
class ClientSettings:
    """Where a client sends its calls, and how. timeout: seconds of a whole call, retries and waits included."""

    base_url: str
    key: str | None = field(default=None, repr=False)
    timeout: float = 5.0
    retries: RetryPolicy = field(default_factory=RetryPolicy)

    def __post_init__(self) -> None:
        if not _is_address(self.base_url):
            raise ValueError(f"expected a base_url like 'https://rank.example.com', got {self.base_url!r}")
        if self.key is not None and not _USABLE_KEY.fullmatch(self.key):
            raise ValueError(
                "expected a key of visible ASCII characters, got one with others; was a line end read too?"
            )
        if not self.timeout > 0:
            raise ValueError(f"expected a timeout of more than 0 seconds, got {self.timeout!r}")

    @property
    def headers(self) -> dict[str, str]:
        """What every request carries."""
        return {"Accept": "application/json"} | ({"Authorization": f"Bearer {self.key}"} if self.key else {})

    @property
    def limits(self) -> httpx.Limits:
        """How many connections are open, and for how long."""
        return httpx.Limits(
            max_connections=MOST_CONNECTIONS, max_keepalive_connections=MOST_CONNECTIONS, keepalive_expiry=KEEP_ALIVE
        )


def _is_address(text: str) -> bool:
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL:
        return False
    return url.scheme in ("http", "https") and bool(url.host)


@dataclass(frozen=True)
class Send:
    """A request to send. deadline: by `time.monotonic`, when the answer has to be there."""

    method: str
    path: str
    body: bytes | None
    headers: Mapping[str, str]
    deadline: float

    def check_time(self) -> None:
        """Raises httpx.ReadTimeout once the time is over: httpx's own timeout begins anew with each piece of a body."""
        if time.monotonic() >= self.deadline:
            raise httpx.ReadTimeout(OVER)


class TimeLeft(Mapping[str, float]):
    """httpx's timeouts of connecting, sending and reading, each of them what is left of a call's time when it is asked
    for: together they do not take longer than the call may."""

    def __init__(self, deadline: float) -> None:
        self._deadline = deadline

    def __getitem__(self, phase: str) -> float:
        return max(self._deadline - time.monotonic(), _SHORTEST)

    def __iter__(self) -> Iterator[str]:
        return iter(("connect", "pool", "read", "write"))

    def __len__(self) -> int:
        return 4


@dataclass(frozen=True)
class Pause:
    """Seconds to wait."""

    seconds: float


Received = tuple[int, Mapping[str, str], bytes]
"""Status, headers and body of an answer."""
Step = Send | Pause
Reply = Received | httpx.HTTPError | None
"""What came of a step: of a request its answer or its failure."""


def exchange(call: Call[Content], settings: ClientSettings, timeout: float | None) -> Generator[Step, Reply, Content]:
    """Send a call until it is answered, may not be sent again, or its time is over. timeout: seconds of this call."""
    seconds = settings.timeout if timeout is None else timeout
    deadline = time.monotonic() + seconds
    request_id = uuid.uuid4().hex
    headers = {"X-Request-ID": request_id, **call.headers}
    headers |= {} if call.body is None else {"Content-Type": "application/json"}
    retries = settings.retries
    retries.budget.sent()
    for retried in count():
        reply = yield Send(call.method, call.path, call.body, headers, deadline)
        if isinstance(reply, tuple) and reply[0] == httpx.codes.OK:
            return _read(call, reply, request_id)
        error, was_sent = _failure(reply, request_id, seconds)
        wait = retries.wait(error, retried)
        if (
            not call.retried
            or retried >= retries.most
            or not may_repeat(error, is_repeatable=call.repeatable, was_sent=was_sent)
            or time.monotonic() + wait >= deadline
            or not retries.budget.take()
        ):
            raise error
        yield Pause(wait)
    raise AssertionError("the loop ends by an answer or an error")


def _read(call: Call[Content], reply: Received, request_id: str) -> Content:
    _, headers, body = reply
    try:
        return call.answer.model_validate_json(body)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in problem["loc"]) or "the body"
        message = f"expected the answer of {call.method} {call.path}, got another: {field}: {problem['msg']}"
        raise ServerFailed(
            message, status=httpx.codes.OK, request_id=headers.get("x-request-id", request_id)
        ) from error


def _failure(reply: Reply, request_id: str, seconds: float) -> tuple[ClientError, bool]:
    """The error, and whether the server may have begun to work on the request."""
    if isinstance(reply, tuple):
        return error_of(*reply, request_id), True
    was_sent = not isinstance(reply, _NEVER_SENT)
    if isinstance(reply, httpx.TimeoutException):
        text = f"expected an answer within {seconds:g} s, got none"
        return DeadlineExceeded(text, request_id=request_id), was_sent
    reason = str(reply) or type(reply).__name__
    return NoAnswer(f"expected an answer, but the connection failed: {reason}", request_id=request_id), was_sent
