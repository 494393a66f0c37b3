"""Metrics of the versions that are live, of those that were refused, and of the look at the registry."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge

from recsys.serving.served_model import ServedModel
from recsys.serving.shared_metrics import INFO, are_shared
from recsys.serving.traffic import Variant

_VARIANT = ("variant",)


class ModelMetrics:
    """Metrics of what a server serves, by variant: champion, or challenger where it has one."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._live = Gauge(
            INFO,
            "1 for a version that answers; model_from says whether the registry named it or the cache held it.",
            (*_VARIANT, "ranker", "encoder", "model_from"),
            registry=registry,
            multiprocess_mode="livemax",
        )
        self._named: dict[Variant, tuple[str, str, str, str]] = {}
        self.swaps = Counter(
            "recsys_model_swaps", "Versions that took the place of another one.", _VARIANT, registry=registry
        )
        self.refused = Counter(
            "recsys_model_refused", "Versions that were named and refused.", _VARIANT, registry=registry
        )
        self.refusal = Gauge(
            "recsys_model_refusal",
            "1 while a version is named that was refused.",
            _VARIANT,
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
        for metric in (self.swaps, self.refused, self.refusal):
            metric.labels("champion")  # every server has one

    def live(self, variant: Variant, served: ServedModel | None) -> None:
        """Name the version that answers from now on; None where there is none."""
        before = self._named.pop(variant, None)
        if before is not None and are_shared():
            self._live.labels(*before).set(0)  # files cannot drop a label
        elif before is not None:
            self._live.remove(*before)
        if served is not None:
            self._named[variant] = variant, served.ranker, served.names["encoder"] or "", served.source
            self._live.labels(*self._named[variant]).set(1)
