"""The client for code that waits for its answers."""

from __future__ import annotations

import ssl
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

import httpx

from recsys.client import calls
from recsys.client.answers import Ready
from recsys.client.calls import Call, Content, Id, ItemLike, Time
from recsys.client.exchange import ClientSettings, Pause, Reply, Send, Step, TimeLeft, exchange
from recsys.client.retries import RetryBudget, RetryPolicy
from recsys.serving.schemas import BatchAnswer, DeletedItem, Event, ForgottenUser, Item, RankAnswer
from recsys.serving.traffic import Variant


class Client:
    """A server's methods, one call each; connections are kept, and threads may share it. Raises ClientError.

    base_url: `https://HOST[/PREFIX]`. key: an API key, where the server wants one. timeout: seconds of a whole call,
    retries and waits included. retries: most of one call; only what is safe to repeat is sent again. budget: of
    retries, to share with other clients. verify: False, or a context with certificates of your own.
    """

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
        self._http = httpx.Client(
            base_url=base_url, headers=self._settings.headers, limits=self._settings.limits, verify=verify
        )

    def rank(
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
        """The candidates in order for a user, None for one without history. A candidate is an id, or an item with its
        columns. history: clicked items, oldest first, in place of the stored ones. top_k: answer only so many. explain:
        add to the top items what columns gave to the score, and the nearest items of the history. variant: `champion`
        or `challenger`, who is to answer whatever the server's share says. budget_ms: what the server may take before
        it answers by less than the whole model, 0 for no limit, None for its setting."""
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
        return self._run(call, timeout)

    def add_events(self, events: Sequence[Event | Mapping[str, Any]], *, timeout: float | None = None) -> BatchAnswer:
        """Say what users did or were shown; what is accepted is on disk on return. The answer lists rejected rows.

        Give anonymous events an `event_id`: without it the server counts a repeat again, so that a batch which holds
        one is not sent again once the server may have seen it."""
        return self._run(calls.add_events(events), timeout)

    def add_items(self, items: Sequence[Item | Mapping[str, Any]], *, timeout: float | None = None) -> BatchAnswer:
        """Add items or replace them by id; the answer lists rejected rows."""
        return self._run(calls.add_items(items), timeout)

    def add_users(self, users: Sequence[Mapping[str, Any]], *, timeout: float | None = None) -> BatchAnswer:
        """Add users' attributes or replace them by id; the answer lists rejected rows."""
        return self._run(calls.add_users(users), timeout)

    def get_item(self, item_id: Id, *, timeout: float | None = None) -> Item:
        """The stored columns of an item. Raises NotFoundError where there is none."""
        return self._run(calls.get_item(item_id), timeout)

    def delete_item(self, item_id: Id, *, timeout: float | None = None) -> DeletedItem:
        """Remove an item. `deleted` is false too where the call was sent again and its first attempt removed it."""
        return self._run(calls.delete_item(item_id), timeout)

    def forget_user(self, user_id: Id, *, timeout: float | None = None) -> ForgottenUser:
        """Erase everything that is stored of a user."""
        return self._run(calls.forget_user(user_id), timeout)

    def ready(self, *, timeout: float | None = None) -> Ready:
        """The versions that answer. Raises ServerUnavailable where the server is not ready; asks once."""
        return self._run(calls.ready(), timeout)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, call: Call[Content], timeout: float | None) -> Content:
        steps = exchange(call, self._settings, timeout)
        reply: Reply = None
        while True:
            try:
                step = steps.send(reply)
            except StopIteration as done:
                answer: Content = done.value
                return answer
            reply = self._do(step)

    def _do(self, step: Step) -> Reply:
        if isinstance(step, Pause):
            time.sleep(step.seconds)
            return None
        try:
            return self._send(step)
        except httpx.HTTPError as error:
            return error

    def _send(self, step: Send) -> Reply:
        request = self._http.build_request(
            step.method,
            step.path,
            content=step.body,
            headers=step.headers,
            extensions={"timeout": TimeLeft(step.deadline)},
        )
        response = self._http.send(request, stream=True)
        try:
            body = bytearray()
            for piece in response.iter_bytes():
                body += piece
                step.check_time()
            return response.status_code, response.headers, bytes(body)
        finally:
            response.close()
