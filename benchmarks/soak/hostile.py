"""Requests that no client means: drawn from the server's OpenAPI document, and bodies that break parsers."""

from __future__ import annotations

import http.client
import json
from collections import Counter
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from schemathesis.core.result import Ok

from benchmarks.server_process import ServerProcess

SEED = 7
Note = Callable[[str, "int | None"], None]
"""Takes what was sent and the status of the answer, None for none."""
_SECONDS = 30
"""That an answer may take, else the server hangs."""
_DELIBERATE = (503,)
_DEEP = 100_000
_PATHS = ("/v1/rank", "/v1/events", "/v1/items", "/v1/users")


@dataclass(frozen=True)
class Hostile:
    """What a campaign found. requests: sent. statuses: how many of each. failed: requests that were answered by an
    error of the server, or not at all."""

    requests: int
    statuses: dict[int, int]
    failed: list[str]


def send_hostile(server: ServerProcess, requests: int) -> Hostile:
    """Two thirds of the requests follow or break the schemas of the OpenAPI document, the others are arbitrary JSON."""
    statuses, failed = Counter[int](), list[str]()

    def note(what: str, status: int | None) -> None:
        statuses[status or 0] += 1
        if status is None or (status >= 500 and status not in _DELIBERATE):
            failed.append(f"{status}: {what[:300]}")

    _from_schemas(server, 2 * requests // 3, note)
    _arbitrary(server, requests // 3, note)
    for what, path, body, expected in planted():
        status = _status(server, path, body)
        note(what, status)
        if status not in expected:
            failed.append(f"{what} at {path}: expected {expected}, got {status}")
    return Hostile(statuses.total(), dict(statuses), failed)


def planted() -> list[tuple[str, str, bytes, tuple[int, ...]]]:
    """Bodies with a name, where they are sent and the statuses that are right for them."""
    too_many = json.dumps({"user_id": "u", "candidates": [f"i{n}" for n in range(1_001)]}).encode()
    wrong = (400, 422)
    return [
        ("1,001 candidates", "/v1/rank", too_many, wrong),
        ("a body of 100 MB", "/v1/rank", b'{"user_id": "' + b"x" * 100_000_000 + b'"}', (413,)),
        ("NaN", "/v1/rank", b'{"user_id": "u", "candidates": ["a"], "timestamp": NaN}', wrong),
        ("infinity", "/v1/rank", b'{"user_id": "u", "candidates": ["a"], "timestamp": 1e999}', wrong),
        ("nulls", "/v1/rank", b'{"user_id": null, "candidates": [null]}', wrong),
        ("deep nesting", "/v1/rank", b'{"candidates": ' + b"[" * _DEEP + b"]" * _DEEP + b"}", wrong),
        ("invalid UTF-8", "/v1/rank", b'{"user_id": "\xff\xfe", "candidates": ["a"]}', wrong),
        ("half a surrogate pair", "/v1/rank", b'{"user_id": "\\ud800", "candidates": ["a"]}', wrong),
        ("control characters", "/v1/rank", b'{"user_id": "u", "candidates": ["\\u0000\\u001b"]}', (200, *wrong)),
        ("an empty body", "/v1/events", b"", wrong),
        ("no JSON", "/v1/items", b"<xml/>", wrong),
    ]


def _from_schemas(server: ServerProcess, requests: int, note: Note) -> None:
    def send(case: Case[Any]) -> None:
        try:
            status = case.call(base_url=server.address, timeout=_SECONDS).status_code
        except OSError:
            status = None
        note(f"{case.method} {case.formatted_path} {case.body!r}", status)

    found = list(schemathesis.openapi.from_url(f"{server.address}/openapi.json").get_all_operations())
    operations = [one.ok() for one in found if isinstance(one, Ok)]
    if len(operations) < len(found):
        raise RuntimeError(f"expected an OpenAPI document whose operations can all be read, got {found}")
    each = max(1, requests // (2 * len(operations)))
    for operation in operations:
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            with suppress(Unsatisfiable):  # an operation without parameters has no wrong request
                _for_each(operation.as_strategy(generation_mode=mode), each, send)


def _arbitrary(server: ServerProcess, requests: int, note: Note) -> None:
    def send(drawn: tuple[str, Any]) -> None:
        path, text = drawn[0], json.dumps(drawn[1])
        note(f"{path} {text}", _status(server, path, text.encode()))

    leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
    names = st.sampled_from(("user_id", "candidates", "timestamp", "history", "events", "items", "item_id", "title"))
    anything = st.recursive(
        leaves, lambda inner: st.lists(inner, max_size=6) | st.dictionaries(names | st.text(), inner, max_size=6)
    )
    bodies = st.dictionaries(names, anything, max_size=6) | anything
    _for_each(st.tuples(st.sampled_from(_PATHS), bodies), requests, send)


def _for_each(strategy: st.SearchStrategy[Any], n: int, run: Callable[[Any], None]) -> None:
    """Run with n drawn values, the same in every campaign."""
    drawn = settings(
        max_examples=max(1, n),
        deadline=None,
        database=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )

    def test(value: Any) -> None:
        run(value)

    seed(SEED)(drawn(given(strategy)(test)))()


def _status(server: ServerProcess, path: str, body: bytes) -> int | None:
    """None where no answer comes in time."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=_SECONDS)
    with closing(connection):
        try:
            connection.request("POST", path, body, {"Content-Type": "application/json"})
        except (BrokenPipeError, ConnectionResetError):  # answered before the body was read to its end
            pass
        except (OSError, http.client.HTTPException):
            return None
        try:
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return None
