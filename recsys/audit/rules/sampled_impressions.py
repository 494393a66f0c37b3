"""Rule `sampled`: sampled lists are no impressions, so neither their number nor their items may change a column.

The unclicked items of every sampled list are replaced, and sampled lists with the candidates of a sample of
lists are added just before each of these. Detects an impression count over sampled lists, which would
reveal the sampling to the ranker: which items were drawn depends on their later clicks.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from features.clock import HOUR
from features.log import Log
from recsys.audit.changed_columns import changed_features
from recsys.audit.context import AuditContext
from recsys.audit.finding import RuleResult
from recsys.audit.modified_logs import impressions_like, with_impressions

RULE = "sampled"
ADVICE = "count impressions with `features.definitions.aggregates.IMPRESSION`, which leaves sampled lists out"


def sampled_impressions(context: AuditContext) -> RuleResult:
    """The rule; see the module."""
    sample = context.sample()
    requests = sample.requests
    log = _exchanged(context.log, seed=context.training.config.seed)
    for earlier in (1, HOUR):
        time = requests.time - context.training.delay - earlier
        log = with_impressions(log, impressions_like(requests.user, time, requests, sampled=True))
    cause = "after sampled lists were added and the unclicked items of others replaced"
    findings = changed_features(context, lambda _: log, rule=RULE, cause=cause, advice=ADVICE)
    n_sampled = int(context.log.impressions.sampled.sum())
    examined = f"{len(sample):,} lists, {n_sampled:,} sampled lists changed and {2 * len(sample):,} added"
    return RuleResult(RULE, examined, findings)


def _exchanged(log: Log, *, seed: int) -> Log:
    """The log with random items in place of the unclicked ones of its sampled lists."""
    impressions = log.impressions
    requests = impressions.requests
    unclicked = np.repeat(impressions.sampled, requests.lengths()) & (impressions.label == 0)
    item = requests.item.copy()
    drawn = np.random.default_rng(seed).integers(0, max(1, len(log.catalog)), len(item), dtype=np.int32)
    item[unclicked] = drawn[unclicked]
    return replace(log, impressions=replace(impressions, requests=replace(requests, item=item)))
