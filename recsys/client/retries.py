"""When a call is sent again: what is safe to repeat, how long to wait, and a budget over all calls.

The budget is that of gRPC and Finagle: without it, clients that each retry twice turn an overload into three times the
load. Waits grow exponentially and are drawn at random from 0 on ("full jitter"), so that clients that failed together
do not come back together.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from threading import Lock

from recsys.client.errors import NOT_READY, ClientError, NoAnswer, ServerOverloaded, ServerUnavailable


class RetryBudget:
    """At most `share` retries for each request, beside `reserve` at the beginning; safe for threads. One budget may be
    shared by several clients."""

    def __init__(self, share: float = 0.1, reserve: float = 10.0) -> None:
        if not 0 <= share <= 1 or reserve < 0:
            raise ValueError(f"expected a share of 0 to 1 and a reserve of 0 or more, got {share!r} and {reserve!r}")
        self._share, self._reserve = share, reserve
        self._tokens = float(reserve)
        self._lock = Lock()

    def sent(self) -> None:
        """Count a request that is no retry."""
        with self._lock:
            self._tokens = min(self._tokens + self._share, max(self._reserve, 1.0))

    def take(self) -> bool:
        """Whether one retry more may be sent; it is counted."""
        with self._lock:
            if self._tokens < 1 - 1e-9:  # ten tenths are one
                return False
            self._tokens -= 1
            return True


@dataclass(frozen=True)
class RetryPolicy:
    """most: retries of one call. first_wait, longest_wait: bounds of the first wait and of any, seconds."""

    most: int = 2
    first_wait: float = 0.1
    longest_wait: float = 5.0
    budget: RetryBudget = field(default_factory=RetryBudget)

    def __post_init__(self) -> None:
        if self.most < 0:
            raise ValueError(f"expected retries of 0 or more, got {self.most!r}")

    def wait(self, error: ClientError, retried: int) -> float:
        """Seconds to wait before the next attempt. retried: how many retries were sent already. A Retry-After is the
        least."""
        bound = min(self.first_wait * 2**retried, self.longest_wait)
        return (error.retry_after or 0.0) + random.uniform(0, bound)


def may_repeat(error: ClientError, *, is_repeatable: bool, was_sent: bool) -> bool:
    """Whether a call may be sent again. is_repeatable: two of them do what one does. was_sent: the server may have
    begun to work on it."""
    if isinstance(error, ServerOverloaded):
        return True
    if isinstance(error, ServerUnavailable):
        return is_repeatable or error.code == NOT_READY
    return isinstance(error, NoAnswer) and (is_repeatable or not was_sent)


def counts_once(event: Mapping[str, object]) -> bool:
    """Whether the server recognises a repeat of this event: by its `event_id`, or by user, item, type and time; a shown
    list by its id or its items. An anonymous event without an id is counted again."""
    is_list = event.get("event_type") == "impression"
    return is_list or event.get("user_id") is not None or event.get("event_id") is not None
