"""The evaluator that MLflow finds by the entry point `recsys` in the group `mlflow.model_evaluator`.

    mlflow.models.evaluate(model, data, targets="clicked", model_type="ranker")

Reads a data frame of candidate rows and a model that scores them, or their scores. Writes metrics, the metrics of
every list, a table of slices, plots and a report to the run.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.models.evaluation import EvaluationResult, ModelEvaluator

from features.arrays import Float64
from features.errors import InputError
from recsys.mlflow_evaluator.artifacts import log_artifacts, log_metrics
from recsys.mlflow_evaluator.candidate_rows import read_rows
from recsys.mlflow_evaluator.html_report import evaluation_html
from recsys.mlflow_evaluator.measure import measure
from recsys.mlflow_evaluator.predictions import parse_predictions
from recsys.mlflow_evaluator.settings import EvaluatorSettings, read_settings

MODEL_TYPE = "ranker"

logger = logging.getLogger(__name__)


class RankerEvaluator(ModelEvaluator):  # type: ignore[misc]
    """Evaluates rankers: models that give each candidate row of a list a score."""

    @classmethod
    def can_evaluate(cls, *, model_type: str | None, evaluator_config: Mapping[str, Any], **_later: Any) -> bool:
        """True for the model type `ranker`."""
        return model_type == MODEL_TYPE

    def evaluate(
        self,
        *,
        model_type: str,
        dataset: Any,
        run_id: str,
        evaluator_config: Mapping[str, Any] | None,
        model: Any = None,
        extra_metrics: Any = None,
        custom_artifacts: Any = None,
        predictions: str | None = None,
        model_id: str | None = None,
        **_later: Any,
    ) -> EvaluationResult:
        """Measure the model on the data set and log everything to the run.

        Raises ConfigError for a wrong `evaluator_config`, InputError where the data or the model's output do not fit.
        """
        if extra_metrics or custom_artifacts:
            logger.warning("extra_metrics and custom_artifacts are not computed by the evaluator 'recsys'")
        settings = read_settings(evaluator_config)
        frame = _frame(dataset)
        rows = read_rows(frame, dataset.labels_data, settings)
        scores = _scores(model, frame, dataset, settings, predictions)
        measurement = measure(frame, rows, scores, settings)
        prefix = settings.metric_prefix
        metrics = {f"{prefix}{name}": value for name, value in measurement.metrics().items()}
        log_metrics(metrics, run_id=run_id, dataset=dataset, model_id=model_id)
        with tempfile.TemporaryDirectory() as folder:
            html = evaluation_html(measurement, settings, run_id=run_id, data=dataset.name)
            artifacts = log_artifacts(measurement, html, Path(folder), run_id=run_id, prefix=prefix)
        return EvaluationResult(metrics=metrics, artifacts=artifacts, run_id=run_id)


def _frame(dataset: Any) -> pd.DataFrame:
    """The rows without the target. Raises InputError where there is no table with a target."""
    frame = dataset.features_data
    if not isinstance(frame, pd.DataFrame):
        raise InputError(f"data: expected a pandas data frame of candidate rows, got {type(frame).__name__}")
    if not dataset.has_targets:
        raise InputError("targets: expected the name of the data's column of labels, 0 for no click, got none")
    return frame


def _scores(
    model: Any, frame: pd.DataFrame, dataset: Any, settings: EvaluatorSettings, predictions: str | None
) -> Float64:
    """Scores of the rows: the model's, or where there is no model, the data's own column of predictions."""
    if model is not None:
        inputs = frame if settings.features is None else frame[list(settings.features)]
        return parse_predictions(model.predict(inputs.copy()), n_rows=len(frame), column=predictions)
    if not dataset.has_predictions:
        raise InputError("model is None: expected predictions to name the data's column of scores, got none")
    return parse_predictions(dataset.predictions_data, n_rows=len(frame))
