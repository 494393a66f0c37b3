"""Rule `injection`: nothing that happens at or after a request may change its columns.

A sample of lists is requested at a few times t. Everything from t minus the event delay on is removed from the log.
Then these are added at each kind of forbidden time (that limit itself, between it and t, t exactly, and later): events
of every type in the log, by the list's user, another user and an unknown one, on each candidate; and clicked lists with
the same candidates. No bit may change. Detects a count that includes time t and a rate or total over the whole log.
"""

from __future__ import annotations

import numpy as np

from features.arrays import Int32, Int64
from features.clock import DAY, HOUR
from features.log import Impressions, Log, Requests
from recsys.audit.changed_columns import changed_features
from recsys.audit.context import AuditContext
from recsys.audit.finding import RuleResult
from recsys.audit.modified_logs import ExtraEvents, impressions_like, truncate, with_events, with_impressions

RULE = "injection"
ADVICE = "count only what happened strictly before the request's time minus the event delay"


def future_injection(context: AuditContext) -> RuleResult:
    """The rule; see the module."""
    cause = "after events and lists at or after the request time were replaced"
    findings = changed_features(
        context, lambda impressions: injected(context, impressions), rule=RULE, cause=cause, advice=ADVICE
    )
    n = sum(len(rows.impressions) for rows in context.requests_at_fixed_times)
    examined = (
        f"{n:,} lists at {len(context.requests_at_fixed_times)} moments, events and lists injected at and after each"
    )
    return RuleResult(RULE, examined, findings)


def injected(context: AuditContext, impressions: Impressions) -> Log:
    """The log up to what impressions that are all requested at one time may know, and then events on each of their
    candidates, and lists of the same candidates, at every kind of forbidden time."""
    requests, delay = impressions.requests, context.training.delay
    request_time = int(requests.time[0])
    log = truncate(context.log, request_time - delay)
    times = forbidden_times(request_time, delay)
    other_user = _other_users(requests.user, len(log.users))
    events = _events_on_candidates(requests, other_user, times, n_types=len(log.events.types))
    log = with_events(log, events, positive_event_types=context.training.config.data.positive_event_types)
    repeated = requests.take(np.tile(np.arange(len(requests)), 2 * len(times)))
    viewer = np.tile(np.concatenate([requests.user, other_user]), len(times)).astype(np.int32)
    time = np.repeat(times, 2 * len(requests))
    clicked = np.ones(repeated.n_rows, np.int8)
    return with_impressions(log, impressions_like(viewer, time, repeated, sampled=False, label=clicked))


def _other_users(user: Int32, n_users: int) -> Int32:
    """Of each request a user of another one, (n,); where all are one user's, the next user of the log."""
    distinct = np.unique(user)
    if len(distinct) == 1:
        return np.full(len(user), (user[0] + 1) % max(1, n_users), np.int32)
    return np.roll(distinct, 1)[np.searchsorted(distinct, user)]


def _events_on_candidates(requests: Requests, other_user: Int32, times: Int64, *, n_types: int) -> ExtraEvents:
    """Events of every type at every time, by each request's user, by another and by an unknown one, on every candidate
    that the log knows."""
    owner = requests.request_of_row()
    users = [requests.user[owner], other_user[owner], np.full(requests.n_rows, -1, np.int32)]
    shape = (len(times), n_types, 3 * requests.n_rows)
    item = np.broadcast_to(np.tile(requests.item, 3), shape).ravel()
    in_log = item >= 0
    user = np.broadcast_to(np.concatenate(users).astype(np.int32), shape).ravel()
    time = np.broadcast_to(times[:, None, None], shape).ravel()
    event_type = np.broadcast_to(np.arange(n_types, dtype=np.int8)[:, None], shape).ravel()
    return ExtraEvents(user[in_log], item[in_log], time[in_log], event_type[in_log])


def forbidden_times(request_time: int, delay: int) -> Int64:
    """Times of which a request may know nothing, microseconds, ascending."""
    offsets = {-delay, -delay // 2, min(0, 1 - delay), 0, 1, HOUR, DAY}
    return request_time + np.array(sorted(offset for offset in offsets if offset >= -delay), np.int64)
