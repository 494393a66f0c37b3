"""Parses the scores that a model returns: one number per candidate row."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from features.arrays import Float64
from features.errors import InputError

SCORE = "score"


def parse_predictions(output: Any, *, n_rows: int, column: str | None = None) -> Float64:
    """Scores, (n_rows,), higher is better, NaN where a row has none.

    output: a data frame, a dict of columns, a list of dicts, or a series, array or list of numbers. column: which of
    several columns holds the scores; None takes `score`, or else the only numeric one.

    Raises InputError where no such column can be determined, or there are not n_rows numbers.
    """
    values = _column(output, column)
    try:
        scores = np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"the model's output: expected a number for each row, got {type(output).__name__}") from error
    if scores.ndim == 2 and scores.shape[1] == 1:
        scores = scores[:, 0]
    if scores.shape != (n_rows,):
        raise InputError(
            f"the model's output: expected one score for each of {n_rows} candidate rows, got shape {scores.shape}"
        )
    return scores


def _column(output: Any, column: str | None) -> Any:
    if isinstance(output, dict) or (isinstance(output, list) and output and isinstance(output[0], dict)):
        output = pd.DataFrame(output)
    if not isinstance(output, pd.DataFrame):
        return output
    names = list(output.columns)
    if column is not None:
        if column not in names:
            raise InputError(f"the model's output has no column {column!r} (predictions); it has {names!r}")
        return output[column]
    if SCORE in names:
        return output[SCORE]
    numeric = [name for name in names if pd.api.types.is_numeric_dtype(output[name])]
    if len(numeric) != 1:
        raise InputError(
            f"the model's output: expected a column {SCORE!r} or a single numeric one, got {names!r}; name it by "
            "mlflow.models.evaluate(..., predictions=COLUMN)"
        )
    return output[numeric[0]]
