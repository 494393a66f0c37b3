"""Validation while a phase trains: its records, its best weights, and when to stop."""

from __future__ import annotations

import logging
import math
import time
from dataclasses import asdict, dataclass
from typing import Protocol

from torch import nn

from recsys.encoder.training.checkpoint import State
from recsys.encoder.training.weights import Weights, clone_weights, copy_into

logger = logging.getLogger(__name__)

NDCG = "nDCG@10"
"""Name of the metric that validates an encoder: 0 to 1, of impressions not trained on so far."""
_TITLES = {
    "masked": "encoder pre-training on masked words",
    "contrastive": "encoder contrastive pre-training",
    "head": "encoder head",
    "fine_tune": "encoder upper layers",
    "progressive": "encoder progressive training",
}


@dataclass(frozen=True)
class Validation:
    """The result of one validation. score: higher is better. metrics: what is reported, by name."""

    score: float
    metrics: dict[str, float]


@dataclass(frozen=True)
class EpochRecord:
    """One validation. phase: masked, contrastive, head, fine_tune, or progressive. epoch: passes of the phase so far;
    in progressive training chunks. loss: mean since the last record, NaN before the first step. metrics: of the
    validation. seconds: since the phase began. learning_rate: of the phase's own weights. is_best: True where these
    weights are used.
    """

    phase: str
    epoch: int
    loss: float
    metrics: dict[str, float]
    seconds: float
    learning_rate: float
    is_best: bool

    @property
    def validation_ndcg(self) -> float:
        """nDCG@10 on the validation impressions, 0 to 1."""
        return self.metrics[NDCG]


class ValidatedPhase(Protocol):
    """A phase of training."""

    @property
    def name(self) -> str:
        """Its name in records."""

    @property
    def module(self) -> nn.Module:
        """Its trained weights: all parameters of it that require a gradient."""

    def validate(self) -> Validation:
        """Validate the weights as they are."""


class EarlyStopping:
    """Validates a phase, stores its best weights, and counts the validations since: `stale`."""

    def __init__(self, phase: ValidatedPhase) -> None:
        self.records: list[EpochRecord] = []
        self.stale = 0
        self._phase = phase
        self._started = time.monotonic()
        self._best = -math.inf
        self._weights: Weights = {}

    def validate(self, epoch: int, loss: float, rate: float, *, epochs: int) -> None:
        """Validate the weights as they are, after `epoch` of at most `epochs` passes."""
        validation = self._phase.validate()
        is_best = validation.score > self._best
        self.stale += 1
        if is_best:
            self._best, self.stale = validation.score, 0
            self._weights = clone_weights(self._phase.module)
        seconds = time.monotonic() - self._started
        record = EpochRecord(self._phase.name, epoch, loss, validation.metrics, seconds, rate, is_best)
        step_seconds = seconds - (self.records[-1].seconds if self.records else 0.0)
        self.records.append(record)
        progress = f"epoch {epoch}/{epochs}" if epoch else "before training"
        log_record(record, progress, step_seconds, left=(epochs - epoch) * seconds / epoch if epoch else 0.0)

    def restore_best(self) -> None:
        """Give the phase the weights that validated best."""
        copy_into(self._phase.module, self._weights)

    def state_dict(self) -> State:
        """What `load_state_dict` needs."""
        return {
            "records": [asdict(record) for record in self.records],
            "stale": self.stale,
            "best": self._best,
            "seconds": time.monotonic() - self._started,
            "weights": self._weights,
        }

    def load_state_dict(self, state: State) -> None:
        """Resume from `state_dict`."""
        self.records = [EpochRecord(**record) for record in state["records"]]
        self.stale, self._best = state["stale"], state["best"]
        self._started = time.monotonic() - state["seconds"]
        self._weights = state["weights"]


def log_record(record: EpochRecord, progress: str, seconds: float, *, left: float) -> None:
    """Log a record. progress: such as `epoch 1/8`. seconds: of this step. left: estimated seconds of those to come."""
    values = {} if math.isnan(record.loss) else {"loss": record.loss}
    values |= {f"validation {name}": value for name, value in record.metrics.items()}
    figures = [f"{name} {value:.4f}" for name, value in values.items()]
    times = [f"{seconds:.0f} s"] + [f"about {left:.0f} s left"] * (left > 0)
    logger.info("%s: %s", _TITLES[record.phase], ", ".join([progress, *figures, *times]))
