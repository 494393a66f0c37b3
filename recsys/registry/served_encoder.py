"""Executed by MLflow when a registered encoder is loaded."""

from mlflow.models import set_model

from recsys.registry.pyfuncs import EncoderModel

set_model(EncoderModel())
