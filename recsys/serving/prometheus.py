"""The server's Prometheus metrics; each server has its own registry, so two in one process do not conflict."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric

from features.arrays import NO_TIME
from features.clock import SECOND
from recsys.serving.challenger_metrics import SECONDS, ChallengerMetrics
from recsys.serving.model_metrics import ModelMetrics
from recsys.serving.model_slot import Answered
from recsys.serving.shared_metrics import collected, exposition

_SIZES = (1, 10, 25, 50, 100, 200, 300, 500, 750, 1000)


class Telemetry:
    """Counters and histograms of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.models = ModelMetrics(self.registry)
        self.challengers = ChallengerMetrics(self.registry)
        self.requests = Counter(
            "recsys_requests", "Answers by endpoint and status.", ("endpoint", "status"), registry=self.registry
        )
        self.refused = Counter(
            "recsys_refused_requests",
            "Requests refused for their API key: no_key, unknown_key, small_scope; or for their origin: cross_site.",
            ("reason",),
            registry=self.registry,
        )
        self.seconds = Histogram(
            "recsys_request_seconds",
            "Time from the request's arrival to its answer.",
            ("endpoint",),
            buckets=SECONDS,
            registry=self.registry,
        )
        self.ranks = Counter("recsys_ranks", "Rankings by rung.", ("rung",), registry=self.registry)
        self.lower_ranks = Counter(
            "recsys_lower_ranks",
            "Rankings below the rung full, by rung and reason: deadline, store, error.",
            ("rung", "reason"),
            registry=self.registry,
        )
        self.rank_seconds = Histogram(
            "recsys_rank_seconds", "Time spent ranking, queueing left out.", buckets=SECONDS, registry=self.registry
        )
        self.candidates = Histogram(
            "recsys_candidates", "Distinct candidates of a ranking.", buckets=_SIZES, registry=self.registry
        )
        self.users_without_history = Counter(
            "recsys_users_without_history", "Rankings for a null or unknown user.", registry=self.registry
        )
        self.items_without_text = Counter(
            "recsys_items_without_text", "Candidates that have no text.", registry=self.registry
        )
        self.tables_age = Gauge(
            "recsys_tables_age_seconds",
            "From the build of the collaborative snapshot that the latest ranking read to its time.",
            registry=self.registry,
            multiprocess_mode="livemostrecent",
        )
        self.without_tables = Counter(
            "recsys_without_tables",
            "Rankings before the first collaborative snapshot.",
            registry=self.registry,
        )
        self.texts_encoded = Counter(
            "recsys_texts_encoded", "Texts encoded while a request waited.", registry=self.registry
        )
        self.events = Counter("recsys_events", "Events by outcome.", ("outcome",), registry=self.registry)
        self.items = Counter("recsys_items", "Upserted items by outcome.", ("outcome",), registry=self.registry)
        self.users = Counter("recsys_users", "Upserted users by outcome.", ("outcome",), registry=self.registry)
        self.logged_rows = _logged_rows(self.registry)
        self.forgotten = Counter("recsys_forgotten_users", "Erasures of users.", registry=self.registry)

    def ranked(self, answered: Answered) -> None:
        """Count a ranking."""
        ranking = answered.ranking
        self.ranks.labels(ranking.rung).inc()
        if ranking.reason is not None:
            self.lower_ranks.labels(ranking.rung, ranking.reason).inc()
        self.rank_seconds.observe(answered.seconds)
        self.candidates.observe(answered.n_candidates)
        reader, matrix = ranking.reader, ranking.matrix
        if reader is None or matrix is None:
            return
        self.users_without_history.inc(len(reader.histories.times) == 0)
        if ranking.rung != "no_text":
            self.items_without_text.inc(int(np.count_nonzero(~matrix.has_text[reader.requests.item])))
        if matrix.tables is not None:
            built, as_of = matrix.tables.as_of, reader.time - reader.delay
            self._read_tables(None if built == NO_TIME else (as_of - built) / SECOND)

    def _read_tables(self, age: float | None) -> None:
        """Count a ranking that read a collaborative snapshot of this age, seconds; None where there is none."""
        if age is None:
            self.without_tables.inc()
        else:
            self.tables_age.set(age)

    def collected(self) -> Iterable[Metric]:
        """All of it as it is now; of all processes where a server has several."""
        return collected(self.registry)

    def exposition(self) -> bytes:
        """All of it in Prometheus' text format; that of all processes where a server has several."""
        return exposition(self.registry)


def _logged_rows(registry: CollectorRegistry) -> Counter:
    return Counter(
        "recsys_logged_rows",
        "Candidates of rankings to be logged: written; dropped, since too many waited; failed, since their file could "
        "not be written.",
        ("outcome",),
        registry=registry,
    )
