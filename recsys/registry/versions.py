"""Registered versions: logging both models, their aliases, and loading a ranker with exactly the encoder it names.

Only the ranker's aliases are ever read; the encoder follows the ranker's own settings.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema
from mlflow.types.schema import Array

from features.arrays import Float32
from recsys.encoder.dtype import Dtype
from recsys.encoder.model import Encoder, load_encoder
from recsys.errors import ModelNotFound
from recsys.ranker.model import Unit, load_unit, read_settings
from recsys.registry.golden_requests import GoldenRequests, check_encoder, check_ranker
from recsys.registry.lookup import resolve
from recsys.registry.names import CHALLENGER, CHAMPION, Version, encoder_name, ranker_name
from recsys.registry.pyfuncs import ENCODER_ARTIFACT, RANKER_ARTIFACT, template_columns

FINAL_TRAINING = "learnt valid and test too, after the evaluation: the reported figures are of the models before that"
_CODE = Path(__file__).parent
_REQUIREMENTS = ("mlflow", "torch", "transformers", "tokenizers", "safetensors", "lightgbm", "numpy", "pandas", "scipy")


@dataclass(frozen=True)
class LoadedModel:
    """A unit and the versions that it was loaded from."""

    unit: Unit
    ranker: Version
    encoder: Version


def log_encoder(encoder: Encoder, name: str, golden: GoldenRequests) -> Version:
    """Log the encoder to the open run and register it as a version of NAME-encoder."""
    names = template_columns(encoder.settings.template)
    columns = [
        ColSpec(Array(DataType.string), "history", required=False),
        *(ColSpec(DataType.string, name, required=False) for name in names),
    ]
    values = {name: [f"One {name}", f"Another {name}"] for name in names}
    example = pd.DataFrame({"history": [["A clicked title"], []], **values})
    signature = ModelSignature(Schema(columns), Schema([ColSpec(DataType.double, "score")]))
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / ENCODER_ARTIFACT
        encoder.save(folder)
        golden.save(folder)
        return _log(
            "encoder",
            _CODE / "served_encoder.py",
            {ENCODER_ARTIFACT: str(folder)},
            signature,
            example,
            encoder_name(name),
            encoder.settings.dtype,
        )


def log_ranker(unit: Unit, name: str, golden: GoldenRequests, example: Float32) -> Version:
    """Log the ranker to the open run and register it as a version of NAME-ranker.

    example: a few rows of its matrix, (n_rows, n_columns). The first version of a name becomes its champion,
    each later one its challenger.
    """
    columns = [ColSpec(DataType.double, column, required=True) for column in unit.settings.columns]
    columns.append(ColSpec(DataType.string, "impression_id", required=False))
    outputs = Schema([ColSpec(DataType.double, "score"), ColSpec(DataType.long, "rank")])
    rows = pd.DataFrame(example.astype("float64"), columns=list(unit.settings.columns))
    rows["impression_id"] = "example"
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / RANKER_ARTIFACT
        unit.save(folder)
        golden.save(folder)
        artifacts = {RANKER_ARTIFACT: str(folder)}
        signature = ModelSignature(Schema(columns), outputs)
        version = _log(
            "ranker",
            _CODE / "served_ranker.py",
            artifacts,
            signature,
            rows,
            ranker_name(name),
            unit.encoder.settings.dtype,
        )
    client = mlflow.MlflowClient()
    with delete_version_on_failure(version):
        client.set_model_version_tag(version.name, version.number, "encoder", unit.settings.encoder)
        if unit.settings.final_training:
            client.set_model_version_tag(version.name, version.number, "final_training", FINAL_TRAINING)
        first = CHAMPION not in client.get_registered_model(version.name).aliases
        client.set_registered_model_alias(version.name, CHAMPION if first else CHALLENGER, version.number)
    return version


@contextmanager
def delete_version_on_failure(version: Version) -> Iterator[None]:
    """Remove a version when the block fails, such as an encoder's whose ranker cannot be registered: a name then never
    has half a model. Where the registry cannot be written either, the version stays, which no ranker names.
    """
    try:
        yield
    except BaseException:
        with suppress(MlflowException):
            mlflow.MlflowClient().delete_model_version(version.name, version.number)
        raise


def load(uri: str) -> LoadedModel:
    """The ranker that `uri` names with the encoder that its settings name, both checked by their golden requests.

    Raises ModelNotFound, EncoderMismatch, or ModelError where an artifact is damaged or scores differ.
    """
    ranker = resolve(uri)
    folder = _artifact(ranker, RANKER_ARTIFACT)
    encoder_version = resolve(read_settings(folder).encoder)
    encoder_folder = _artifact(encoder_version, ENCODER_ARTIFACT)
    encoder = load_encoder(encoder_folder)
    unit = load_unit(folder, encoder)
    check_encoder(encoder, encoder_folder)
    check_ranker(unit.ranker, folder)
    return LoadedModel(unit, ranker, encoder_version)


def artifact_bytes(version: Version) -> int:
    """Size of everything that a version's loading reads; its input example is not counted."""
    kind = ENCODER_ARTIFACT if version.name.endswith(encoder_name("")) else RANKER_ARTIFACT
    return sum(path.stat().st_size for path in _artifact(version, kind).rglob("*") if path.is_file())


def _artifact(version: Version, artifact: str) -> Path:
    """Local folder of a version's artifact, downloaded where the store is not on this machine."""
    try:
        folder = Path(mlflow.artifacts.download_artifacts(f"{version.uri}"))
    except (MlflowException, OSError) as error:
        raise ModelNotFound(f"the artifacts of {version} cannot be fetched: {error}") from error
    found = folder / "artifacts" / artifact
    if not found.is_dir():
        raise ModelNotFound(f"{version} holds no {artifact!r}; expected a model that `recsys train` registered")
    return found


def _log(
    kind: str,
    code: Path,
    artifacts: dict[str, str],
    signature: ModelSignature,
    example: Any,
    registered: str,
    dtype: Dtype,
) -> Version:
    packages = (*_REQUIREMENTS, "openvino") if dtype.startswith("int8") else _REQUIREMENTS
    info = mlflow.pyfunc.log_model(
        name=kind,
        python_model=str(code),
        artifacts=artifacts,
        signature=signature,
        input_example=example,
        pip_requirements=[f"{package}=={metadata.version(package).split('+')[0]}" for package in packages],
        registered_model_name=registered,
    )
    return Version(registered, str(info.registered_model_version))
