"""Metrics of the version that is live, of those that were refused, and of the look at the registry."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge

from recsys.serving.served_model import ServedModel
from recsys.serving.shared_metrics import INFO, are_shared


class ModelMetrics:
    """Metrics of what a server serves."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._live = Gauge(
            INFO,
            "1 for the version that answers; model_from says whether the registry named it or the cache held it.",
            ("ranker", "encoder", "model_from"),
            registry=registry,
            multiprocess_mode="livemax",
        )
        self._named: tuple[str, str, str] | None = None
        self.swaps = Counter("recsys_model_swaps", "Versions that took the place of another one.", registry=registry)
        self.refused = Counter("recsys_model_refused", "Versions that were named and refused.", registry=registry)
        self.refusal = Gauge(
            "recsys_model_refusal",
            "1 while the alias names a version that was refused.",
            registry=registry,
            multiprocess_mode="livemax",
        )
        self.checked = Gauge(
            "recsys_model_checked_timestamp_seconds",
            "When the registry last said which version to serve, seconds since 1970.",
            registry=registry,
            multiprocess_mode="livemin",
        )
        self.reachable = Gauge(
            "recsys_registry_reachable",
            "0 while the registry does not answer, else 1.",
            registry=registry,
            multiprocess_mode="livemin",
        )
        self.reachable.set(1)

    def live(self, served: ServedModel) -> None:
        """Name the version that answers from now on."""
        if self._named is not None:
            self._live.labels(*self._named).set(0)
        if not are_shared():  # files cannot drop a label: it stays in them, at 0
            self._live.clear()
        self._named = served.ranker, served.names["encoder"] or "", served.source
        self._live.labels(*self._named).set(1)
