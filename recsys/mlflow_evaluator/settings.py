"""The keys of `evaluator_config` of the MLflow evaluator, with defaults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field, ValidationError

from recsys.config import EvaluationConfig
from recsys.errors import ConfigError

COLUMNS = ("user_id", "time", "category", "position", "item_id", "history_length", "item_clicks", "user_clicks")
"""Fields that name a column which may be absent, unless the configuration names it."""


class EvaluatorSettings(EvaluationConfig):
    """Names of the data's columns, beside the settings of metrics and intervals; a column not named may be absent."""

    impression_id: str = "impression_id"
    """Which list a row belongs to; always needed."""
    user_id: str = "user_id"
    """Whose list it is: the cluster of the bootstrap. Null or absent: every list is a cluster of its own."""
    time: str = "time"
    """When the list was shown, for slices by hour: timestamps, ISO 8601 text or epoch s, ms or us."""
    category: str = "category"
    """The item's category, several joined by `|`; slices are by that of the clicked items."""
    position: str = "position"
    """Place where the item was shown, from 1; slices are by that of the first clicked item."""
    item_id: str = "item_id"
    """The candidate: gives the coverage of the catalogue, and lets repeats within a list be refused."""
    history_length: str = "history_length"
    """Items in the user's history when the list was shown."""
    item_clicks: str = "item_clicks"
    """Clicks on the item before the list, for the slice of cold items and the baseline `popularity`."""
    user_clicks: str = "user_clicks"
    """Clicks of the user before the list, for the slice of cold users."""
    features: tuple[str, ...] | None = None
    """Columns that the model is given; None gives it all but the target."""
    baselines: tuple[str, ...] = ()
    """Columns that hold scores to compare the model with, list by list."""
    timezone: str = "UTC"
    """IANA name; of hours, and of times without a zone."""
    seed: int = Field(0, ge=0)
    """Of the resamples and of the method `random`."""
    metric_prefix: str = ""
    """Put before every metric's and file's name, for several evaluations in one run."""


def read_settings(config: Mapping[str, Any] | None) -> EvaluatorSettings:
    """The settings of an `evaluator_config`. Raises ConfigError for an unknown key or a value out of range."""
    try:
        return EvaluatorSettings.model_validate(dict(config or {}))
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(map(str, problem["loc"]))
        keys = sorted(EvaluatorSettings.model_fields)
        raise ConfigError(
            f"evaluator_config key {key!r}: {problem['msg']}, got {problem['input']!r}; known keys: {keys}"
        ) from error
