"""Validation while a phase trains: its records, the weights that validated best, how many validations ago that was."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Protocol

from torch import nn

from recsys.encoder.training.checkpoint import StateDict
from recsys.encoder.training.weights import Weights, clone_weights, copy_into

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EpochRecord:
    """One validation. phase: head, fine_tune, or progressive. epoch: passes of the phase so far. loss: mean since the
    last record, NaN before the first step. validation_ndcg: nDCG@10, 0 to 1, of lists that have taught nothing so far.
    seconds: since the phase began. learning_rate: of the phase's own weights. kept: True where these weights are used.
    """

    phase: str
    epoch: float
    loss: float
    validation_ndcg: float
    seconds: float
    learning_rate: float
    kept: bool


Progress = Callable[[EpochRecord], None]


class Validated(Protocol):
    """What is watched: a phase of training."""

    name: str
    module: nn.Module

    def validate(self) -> float:
        """nDCG@10 on the validation lists."""


class EarlyStopping:
    """Validates a phase, keeps its best weights, and counts the validations since. kept: of a watch to go on from."""

    def __init__(self, phase: Validated, kept: StateDict | None = None) -> None:
        self.records: list[EpochRecord] = []
        self.stale = 0
        self._phase = phase
        self._started = time.monotonic()
        self._best = -math.inf
        self._weights: Weights = {}
        if kept is not None:
            self.records = [EpochRecord(**record) for record in kept.facts["records"]]
            self.stale, self._best = kept.facts["stale"], kept.facts["best"]
            self._started -= kept.facts["seconds"]
            self._weights = {name: weight.clone() for name, weight in kept.tensors.items()}

    def validate(self, epoch: float, loss: float, rate: float, on_record: Progress | None) -> None:
        """Validate the weights as they are and tell the record."""
        ndcg = self._phase.validate()
        better = ndcg > self._best
        if better:
            self._best, self.stale = ndcg, 0
            self._weights = clone_weights(self._phase.module)
        else:
            self.stale += 1
        record = EpochRecord(self._phase.name, epoch, loss, ndcg, time.monotonic() - self._started, rate, better)
        before = self.records[-1] if self.records else None
        self.records.append(record)
        log_record(record, before, on_record)

    def restore(self) -> None:
        """Give the phase the weights that validated best."""
        copy_into(self._phase.module, self._weights)

    def kept(self) -> StateDict:
        """What another watch needs to go on from here."""
        facts = {
            "records": [asdict(record) for record in self.records],
            "stale": self.stale,
            "best": self._best,
            "seconds": time.monotonic() - self._started,
        }
        return StateDict(facts, self._weights)


def log_record(record: EpochRecord, before: EpochRecord | None, on_record: Progress | None) -> None:
    """Log a record and hand it on. before: the last one of the phase, None for the first: time is told since then."""
    what = "epoch" if record.phase in ("head", "fine_tune") else "chunk"
    loss = "" if math.isnan(record.loss) else f"loss {record.loss:.4f}, "
    seconds = record.seconds - (0.0 if before is None else before.seconds)
    logger.info(
        "encoder %s, %s %g: %svalidation nDCG@10 %.4f, %.0f s",
        record.phase, what, record.epoch, loss, record.validation_ndcg, seconds,
    )  # fmt: skip
    if on_record is not None:
        on_record(record)
