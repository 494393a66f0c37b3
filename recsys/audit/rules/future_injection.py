"""Rule `injection`: what happens at or after a request may not move any of its columns.

A sample of lists is asked for at a few moments t. What happened from t minus the event delay on is taken out of the
log, and in go, at every kind of time from there on (that moment itself, those between, t exactly, and later): events of
every type that the log has, by the list's user, by another and by nobody, on each candidate; and lists with the same
candidates, clicked. No bit may change. Catches a count that includes time t and a rate or a total over the whole log.
"""

from __future__ import annotations

import numpy as np

from features.arrays import Int64
from features.clock import DAY, HOUR
from features.log import Impressions, Log
from features.offline.reader import LogIndex
from recsys.audit.changed_columns import moved
from recsys.audit.context import AuditContext
from recsys.audit.finding import Finding, RuleResult
from recsys.audit.modified_logs import ExtraEvents, before, impressions_like, with_events, with_impressions

RULE = "injection"
ADVICE = "count only what happened strictly before the request's time minus the event delay"


def future_injection(context: AuditContext) -> RuleResult:
    """The rule; see the module."""
    findings: dict[str, Finding] = {}
    by = "after events and lists at or after the request time were replaced"
    for rows in context.asked:
        index = LogIndex(injected(context, rows.impressions), context.chain.index.settings)
        again = context.columns(rows.impressions.requests, index)
        for finding in moved(context, rows.impressions, rows.matrix, again, rule=RULE, by=by, advice=ADVICE):
            findings.setdefault(finding.feature, finding)
    n = sum(len(rows.impressions) for rows in context.asked)
    examined = f"{n:,} lists at {len(context.asked)} moments, events and lists injected at and after each"
    return RuleResult(RULE, examined, tuple(findings.values()))


def injected(context: AuditContext, asked: Impressions) -> Log:
    """The log up to what lists that are all asked for at one moment may know, and then events on each of their
    candidates, and lists of the same candidates, at every kind of forbidden time."""
    requests, delay = asked.requests, context.chain.delay
    moment = int(requests.time[0])
    log = before(context.log, moment - delay)
    times = forbidden_times(moment, delay)
    others = np.roll(np.unique(requests.user), 1)
    other = others[np.searchsorted(np.unique(requests.user), requests.user)]
    if len(others) == 1:
        other = np.full(len(requests), (requests.user[0] + 1) % max(1, len(log.users)), np.int32)
    owner = requests.request_of_row()
    item = requests.item
    kinds = np.arange(len(log.events.types), dtype=np.int8)
    who = [requests.user[owner], other[owner], np.full(len(item), -1, np.int32)]
    user = np.concatenate(who).astype(np.int32)
    shape = (len(times), len(kinds), len(user))
    happened = ExtraEvents(
        np.broadcast_to(user, shape).ravel(),
        np.broadcast_to(np.tile(item, len(who)), shape).ravel(),
        np.broadcast_to(times[:, None, None], shape).ravel(),
        np.broadcast_to(kinds[:, None], shape).ravel(),
    )
    known = happened.item >= 0
    happened = ExtraEvents(happened.user[known], happened.item[known], happened.time[known], happened.type[known])
    log = with_events(log, happened, positive_event_types=context.chain.config.data.positive_event_types)
    shown = requests.take(np.tile(np.arange(len(requests)), 2 * len(times)))
    viewer = np.tile(np.concatenate([requests.user, other]), len(times)).astype(np.int32)
    at = np.repeat(times, 2 * len(requests))
    clicked = np.ones(shown.n_rows, np.int8)
    return with_impressions(log, impressions_like(viewer, at, shown, sampled=False, label=clicked))


def forbidden_times(moment: int, delay: int) -> Int64:
    """Times of which a request at `moment` may know nothing, microseconds, ascending."""
    offsets = {-delay, -delay // 2, min(0, 1 - delay), 0, 1, HOUR, DAY}
    return moment + np.array(sorted(one for one in offsets if one >= -delay), np.int64)
