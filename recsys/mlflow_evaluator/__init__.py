"""The evaluator `recsys` of `mlflow.models.evaluate(..., model_type="ranker")`, for any scoring model."""
