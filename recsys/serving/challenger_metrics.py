"""Metrics of a server with a challenger: who answers, and what the shadow finds. All others count both versions."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram, Summary

from recsys.serving.model_slot import Answered
from recsys.serving.order_agreement import OrderAgreement

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
REQUESTS, SAME_FIRST = "recsys_shadow_requests", "recsys_shadow_same_first"
OVERLAP, IN_ORDER, SHADOW_SECONDS = "recsys_shadow_overlap", "recsys_shadow_pairs_in_order", "recsys_shadow_seconds"
OUTCOMES = COMPARED, DROPPED, FAILED = "compared", "dropped", "failed"
_PAIR = ("champion", "challenger")


class ChallengerMetrics:
    """Versions are labels, as NAME/VERSION, so that figures of one are never added to those of another."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.ranks = Counter(
            "recsys_variant_ranks",
            "Rankings of a server with a challenger, by who answered, its version and the rung.",
            ("variant", "ranker", "rung"),
            registry=registry,
        )
        self.seconds = Histogram(
            "recsys_variant_seconds",
            "Time spent on these rankings, queueing left out.",
            ("variant", "ranker"),
            buckets=SECONDS,
            registry=registry,
        )
        self.failures = Counter(
            "recsys_challenger_failures",
            "Requests that the challenger failed on and the champion answered.",
            ("ranker",),
            registry=registry,
        )
        self.shadow_requests = Counter(
            REQUESTS,
            "Answers of the champion for the shadow, by outcome: compared, dropped for a full queue, failed.",
            (*_PAIR, "outcome"),
            registry=registry,
        )
        self.same_first = Counter(
            SAME_FIRST, "Compared answers whose first item is the same.", _PAIR, registry=registry
        )
        self.overlap = Summary(OVERLAP, "Share of the first 10 items that both have there.", _PAIR, registry=registry)
        self.in_order = Summary(
            IN_ORDER,
            "Share of the pairs of items in the same order; Kendall's tau is twice this less 1.",
            _PAIR,
            registry=registry,
        )
        self.shadow_seconds = Histogram(
            SHADOW_SECONDS,
            "Time spent on the compared rankings, that of the challenger at low priority.",
            ("variant", *_PAIR),
            buckets=SECONDS,
            registry=registry,
        )

    def ranked(self, answered: Answered) -> None:
        """Count an answer."""
        self.ranks.labels(answered.variant, answered.served.ranker, answered.ranking.rung).inc()
        self.seconds.labels(answered.variant, answered.served.ranker).observe(answered.seconds)

    def compared(
        self, champion: str, challenger: str, agreement: OrderAgreement, *, seconds: tuple[float, float]
    ) -> None:
        """Count one comparison of two versions. seconds: of the champion's ranking and of the challenger's."""
        pair = champion, challenger
        self.same_first.labels(*pair).inc(agreement.same_first)
        self.overlap.labels(*pair).observe(agreement.overlap)
        self.in_order.labels(*pair).observe(agreement.in_order)
        for variant, spent in zip(("champion", "challenger"), seconds, strict=True):
            self.shadow_seconds.labels(variant, *pair).observe(spent)
        self.shadow_requests.labels(*pair, COMPARED).inc()  # last: whoever reads it finds the others counted
