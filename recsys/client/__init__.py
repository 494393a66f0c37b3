"""A typed client of the HTTP API, sync and async; it imports httpx and pydantic, and no other part of the project.

    from recsys.client import Client

    with Client("http://127.0.0.1:8000", key="…") as client:
        answer = client.rank("u1", ["a", "b", {"item_id": "c", "title": "Storm nears the coast"}], top_k=2)

Needs the extra `client`. What fails raises an error of `recsys.client.errors`.
"""

from __future__ import annotations

try:
    import httpx as _httpx  # noqa: F401
except ModuleNotFoundError as error:
    raise ImportError(
        "recsys.client: expected the package httpx, found none; install it with pip install 'recsys[client]'"
    ) from error

from recsys.client.answers import Ready, ReadyChallenger
from recsys.client.asynchronous import AsyncClient
from recsys.client.errors import (
    AuthenticationError,
    ClientError,
    DeadlineExceeded,
    InvalidRequest,
    NoAnswer,
    NotFoundError,
    PermissionDenied,
    ServerFailed,
    ServerOverloaded,
    ServerUnavailable,
)
from recsys.client.retries import RetryBudget
from recsys.client.synchronous import Client
from recsys.serving.schemas import (
    BatchAnswer,
    Contribution,
    DeletedItem,
    Event,
    ForgottenUser,
    Item,
    ModelVersions,
    RankAnswer,
    RankedItem,
    Rejection,
)

__all__ = [
    "AsyncClient",
    "AuthenticationError",
    "BatchAnswer",
    "Client",
    "ClientError",
    "Contribution",
    "DeadlineExceeded",
    "DeletedItem",
    "Event",
    "ForgottenUser",
    "InvalidRequest",
    "Item",
    "ModelVersions",
    "NoAnswer",
    "NotFoundError",
    "PermissionDenied",
    "RankAnswer",
    "RankedItem",
    "Ready",
    "ReadyChallenger",
    "Rejection",
    "RetryBudget",
    "ServerFailed",
    "ServerOverloaded",
    "ServerUnavailable",
]
