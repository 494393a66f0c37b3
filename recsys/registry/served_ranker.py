"""Executed by MLflow when a registered ranker is loaded."""

from mlflow.models import set_model

from recsys.registry.pyfuncs import RankerModel

set_model(RankerModel())
