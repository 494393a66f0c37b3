"""The client for asyncio and trio; methods and behaviour are those of `Client`."""

from __future__ import annotations

import ssl
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

import anyio
import httpx

from recsys.client import calls
from recsys.client.answers import Ready
from recsys.client.calls import Call, Content, Id, ItemLike, Time
from recsys.client.exchange import OVER, ClientSettings, Pause, Reply, Send, Step, TimeLeft, exchange
from recsys.client.retries import RetryBudget, RetryPolicy
from recsys.serving.schemas import BatchAnswer, DeletedItem, Event, ForgottenUser, Item, RankAnswer
from recsys.serving.traffic import Variant


class AsyncClient:
    """As `Client`, for use from one event loop."""

    def __init__(
        self,
        base_url: str,
        key: str | None = None,
        *,
        timeout: float = 5.0,
        retries: int = 2,
        budget: RetryBudget | None = None,
        verify: ssl.SSLContext | bool = True,
    ) -> None:
        policy = RetryPolicy(most=retries, budget=budget or RetryBudget())
        self._settings = ClientSettings(base_url, key, timeout, policy)
        self._http = httpx.AsyncClient(
            base_url=base_url, headers=self._settings.headers, limits=self._settings.limits, verify=verify
        )

    async def rank(
        self,
        user_id: Id | None,
        candidates: Sequence[ItemLike],
        *,
        history: Sequence[ItemLike] | None = None,
        query: str | None = None,
        timestamp: Time | None = None,
        top_k: int | None = None,
        explain: bool = False,
        budget_ms: float | None = None,
        variant: Variant | None = None,
        timeout: float | None = None,
    ) -> RankAnswer:
        """As `Client.rank`."""
        call = calls.rank(
            user_id,
            candidates,
            history=history,
            query=query,
            timestamp=timestamp,
            top_k=top_k,
            explain=explain,
            budget_ms=budget_ms,
            variant=variant,
        )
        return await self._run(call, timeout)

    async def add_events(
        self, events: Sequence[Event | Mapping[str, Any]], *, timeout: float | None = None
    ) -> BatchAnswer:
        """As `Client.add_events`."""
        return await self._run(calls.add_events(events), timeout)

    async def add_items(
        self, items: Sequence[Item | Mapping[str, Any]], *, timeout: float | None = None
    ) -> BatchAnswer:
        """As `Client.add_items`."""
        return await self._run(calls.add_items(items), timeout)

    async def add_users(self, users: Sequence[Mapping[str, Any]], *, timeout: float | None = None) -> BatchAnswer:
        """As `Client.add_users`."""
        return await self._run(calls.add_users(users), timeout)

    async def get_item(self, item_id: Id, *, timeout: float | None = None) -> Item:
        """As `Client.get_item`."""
        return await self._run(calls.get_item(item_id), timeout)

    async def delete_item(self, item_id: Id, *, timeout: float | None = None) -> DeletedItem:
        """As `Client.delete_item`."""
        return await self._run(calls.delete_item(item_id), timeout)

    async def forget_user(self, user_id: Id, *, timeout: float | None = None) -> ForgottenUser:
        """As `Client.forget_user`."""
        return await self._run(calls.forget_user(user_id), timeout)

    async def ready(self, *, timeout: float | None = None) -> Ready:
        """As `Client.ready`."""
        return await self._run(calls.ready(), timeout)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _run(self, call: Call[Content], timeout: float | None) -> Content:
        steps = exchange(call, self._settings, timeout)
        reply: Reply = None
        while True:
            try:
                step = steps.send(reply)
            except StopIteration as done:
                answer: Content = done.value
                return answer
            reply = await self._do(step)

    async def _do(self, step: Step) -> Reply:
        if isinstance(step, Pause):
            await anyio.sleep(step.seconds)
            return None
        try:
            with anyio.fail_after(max(step.deadline - time.monotonic(), 0)):
                return await self._send(step)
        except TimeoutError:
            return httpx.ReadTimeout(OVER)
        except httpx.HTTPError as error:
            return error

    async def _send(self, step: Send) -> Reply:
        request = self._http.build_request(
            step.method,
            step.path,
            content=step.body,
            headers=step.headers,
            extensions={"timeout": TimeLeft(step.deadline)},
        )
        response = await self._http.send(request)
        return response.status_code, response.headers, response.content
