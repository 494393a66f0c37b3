"""Registered versions: logging both models, their aliases, and loading a ranker with the encoder that it names.

Only the ranker's aliases are ever read; the encoder follows the ranker's own settings.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema
from mlflow.types.schema import Array

from features.arrays import Float32
from recsys.encoder.text import Template
from recsys.encoder.text_model import NoEncoder
from recsys.errors import ArtifactsUnavailable, ModelError
from recsys.mlflow_internals.names import MODEL_VERSIONS
from recsys.ranker.model import FALLBACK, RankingModel, Settings, load_ranking_model, read_settings
from recsys.registry.golden_requests import GoldenRequests, check_encoder, check_ranker, golden_rows, golden_texts
from recsys.registry.lookup import resolve
from recsys.registry.names import CHALLENGER, CHAMPION, Version, encoder_name, ranker_name
from recsys.registry.pyfuncs import ENCODER_ARTIFACT, RANKER_ARTIFACT

if TYPE_CHECKING:
    from recsys.encoder.model import Encoder

FINAL_TRAINING = "learnt test too, after the evaluation: the reported figures are of the model before that"
EVALUATED = "evaluated"
"""Folder within a version's own: the model as it was evaluated, before it learnt test."""
_REQUIREMENTS = ("mlflow", "lightgbm", "numpy", "pandas", "scipy", "tokenizers")
_ENCODER_REQUIREMENTS = ("torch", "transformers", "safetensors")


@dataclass(frozen=True)
class LoadedModel:
    """A ranking model and the versions that it was loaded from. before_final: whether it is as it was evaluated, and
    what the versions serve has learnt later lists too. folders: with the files of both, by artifact."""

    ranking_model: RankingModel
    ranker: Version
    encoder: Version | None
    before_final: bool = False
    folders: Mapping[str, Path] = field(default_factory=dict)

    @property
    def encoder_name(self) -> str | None:
        """NAME/VERSION of the encoder; None for a ranker without one."""
        return None if self.encoder is None else str(self.encoder)

    def uris(self) -> dict[str, str | None]:
        """Of both, by their role."""
        return {"ranker": self.ranker.uri, "encoder": None if self.encoder is None else self.encoder.uri}


def log_encoder(
    encoder: Encoder, name: str, requests: Sequence[tuple[list[str], str]], *, evaluated: Encoder | None = None
) -> Version:
    """Log the encoder to the open run and register it as a version of NAME-encoder.

    requests: whose scores are its golden ones. evaluated: the encoder as it was evaluated, where that is another.
    """
    columns = Template.parse(encoder.settings.template).columns
    inputs = [
        ColSpec(Array(DataType.string), "history", required=False),
        *(ColSpec(DataType.string, column, required=False) for column in columns),
    ]
    values = {column: [f"One {column}", f"Another {column}"] for column in columns}
    example = pd.DataFrame({"history": [["A clicked title"], []], **values})
    signature = ModelSignature(Schema(inputs), Schema([ColSpec(DataType.double, "score")]))
    models = [({"": golden_texts(model, requests)}, model) for model in (encoder, evaluated) if model is not None]
    return _log(models, ENCODER_ARTIFACT, "encoder", encoder_name(name), signature, example)


def log_ranker(
    ranking_model: RankingModel,
    name: str,
    rows: Float32,
    *,
    fallback_rows: Float32 | None = None,
    evaluated: RankingModel | None = None,
    may_be_champion: bool = True,
) -> Version:
    """Log the ranker to the open run and register it as a version of NAME-ranker.

    rows: a few of its matrix, (n_rows, n_columns), whose scores are its golden ones. fallback_rows: the same of the
    ranker without text, where it has one. evaluated: the ranking model as it
    was evaluated, where that is another. Where a name has no champion, the version becomes it, unless it may not be;
    where it has one, the version is its challenger.
    """
    inputs = [ColSpec(DataType.double, column, required=True) for column in ranking_model.settings.columns]
    inputs.append(ColSpec(DataType.string, "impression_id", required=False))
    outputs = Schema([ColSpec(DataType.double, "score"), ColSpec(DataType.long, "rank")])
    example = pd.DataFrame(rows.astype("float64"), columns=list(ranking_model.settings.columns))
    example["impression_id"] = "example"
    signature = ModelSignature(Schema(inputs), outputs)
    models = [(_golden(model, rows, fallback_rows), model) for model in (ranking_model, evaluated) if model is not None]
    version = _log(models, RANKER_ARTIFACT, "ranker", ranker_name(name), signature, example)
    client = mlflow.MlflowClient()
    with delete_version_on_failure(version):
        client.set_model_version_tag(version.name, version.number, "encoder", ranking_model.settings.encoder or "none")
        if ranking_model.settings.final_training:
            client.set_model_version_tag(version.name, version.number, "final_training", FINAL_TRAINING)
        first = CHAMPION not in client.get_registered_model(version.name).aliases
        if may_be_champion or not first:
            client.set_registered_model_alias(version.name, CHAMPION if first else CHALLENGER, version.number)
    return version


@contextmanager
def delete_version_on_failure(version: Version | None) -> Iterator[None]:
    """Remove a version, if any, when the block fails, such as an encoder's whose ranker cannot be registered: a name
    then never has half a model. Where the registry cannot be written either, the version stays, which no ranker names.
    """
    try:
        yield
    except BaseException:
        with suppress(MlflowException):
            if version is not None:
                mlflow.MlflowClient().delete_model_version(version.name, version.number)
        raise


def load(uri: str, *, evaluated: bool = False, custom_code: bool = True, into: Path | None = None) -> LoadedModel:
    """The ranker that `uri` names with the encoder that its settings name, both checked by their golden requests. One
    without an encoder is loaded without torch.

    evaluated: both as they were evaluated, before they learnt test, where the version holds that. custom_code: allow a
    file of custom features, which is executed when the model is used. into: an empty folder that their files are copied
    to first; None reads them where they are, if that is on this machine. Raises ModelNotFound, EncoderMismatch, or
    ModelError where an artifact is damaged, scores differ, or there is such a file and it is not allowed.
    """
    ranker = resolve(uri)
    folders = {RANKER_ARTIFACT: _artifact(ranker, RANKER_ARTIFACT, evaluated=evaluated, into=into)}
    named = read_settings(folders[RANKER_ARTIFACT]).encoder
    encoder = None if named is None else resolve(named)
    if encoder is not None:
        folders[ENCODER_ARTIFACT] = _artifact(encoder, ENCODER_ARTIFACT, evaluated=evaluated, into=into)
    return load_folders(folders, ranker, encoder, custom_code=custom_code)


def served_until(loaded: LoadedModel) -> int:
    """Time of the newest label that what the version serves has learnt, also where it was loaded as it was evaluated;
    microseconds."""
    folder = loaded.folders[RANKER_ARTIFACT]
    return read_settings(folder.parent if loaded.before_final else folder).trained_until


def settings_of(version: Version) -> Settings:
    """The settings of a registered ranker, without loading it."""
    return read_settings(_artifact(version, RANKER_ARTIFACT))


def load_folders(
    folders: Mapping[str, Path], ranker: Version, encoder: Version | None, *, custom_code: bool = True
) -> LoadedModel:
    """`load` of versions whose files are on this machine. folders: with the files of each, by artifact."""
    folder = folders[RANKER_ARTIFACT]
    settings = read_settings(folder)
    if settings.custom_source is not None and not custom_code:
        raise ModelError(
            f"{ranker} carries a file of custom features, which would be executed; expected a version without one: "
            "train one without features.file, or leave out --no-custom-code"
        )
    if encoder is None:
        ranking_model = load_ranking_model(folder, NoEncoder(settings.history_length))
    else:
        from recsys.encoder.model import load_encoder
        from recsys.encoder.vector_cache import shared_cache

        loaded = load_encoder(folders[ENCODER_ARTIFACT])
        ranking_model = load_ranking_model(folder, loaded)
        check_encoder(loaded, folders[ENCODER_ARTIFACT])
        loaded.tower.cache = shared_cache()  # not before: what is checked is what this machine computes
    check_ranker(ranking_model.ranker, folder)
    if ranking_model.fallback is not None:
        check_ranker(ranking_model.fallback, folder / FALLBACK)
    return LoadedModel(ranking_model, ranker, encoder, before_final=folder.name == EVALUATED, folders=folders)


def artifact_bytes(version: Version) -> int:
    """Size of everything that serving a version reads; its input example is not counted."""
    folder = _artifact(version, RANKER_ARTIFACT if version.is_ranker else ENCODER_ARTIFACT)
    files = (path for path in folder.rglob("*") if path.is_file() and folder / EVALUATED not in path.parents)
    return sum(path.stat().st_size for path in files)


def _artifact(version: Version, artifact: str, *, evaluated: bool = False, into: Path | None = None) -> Path:
    """Local folder of a version's artifact, downloaded where the store is not on this machine. evaluated, into: as in
    `load`."""
    try:
        copied = None if into is None else str(into / artifact)
        folder = Path(mlflow.artifacts.download_artifacts(version.uri, dst_path=copied))
    except (MlflowException, OSError) as error:
        raise ArtifactsUnavailable(f"the artifacts of {version} cannot be fetched: {error}") from error
    folder = folder / "artifacts" / artifact
    if not folder.is_dir():
        raise ArtifactsUnavailable(f"{version} holds no {artifact!r}; expected a model that `recsys train` registered")
    as_evaluated = folder / EVALUATED
    return as_evaluated if evaluated and as_evaluated.is_dir() else folder


def _golden(model: RankingModel, rows: Float32, fallback_rows: Float32 | None) -> dict[str, GoldenRequests]:
    """The golden requests of a model's rankers, by folder within its own."""
    golden = {"": golden_rows(model.ranker, rows)}
    if model.fallback is not None:
        if fallback_rows is None:
            raise ValueError("expected golden rows of the ranker without text, got none")
        golden[FALLBACK] = golden_rows(model.fallback, fallback_rows)
    return golden


def _log(
    models: Sequence[tuple[Mapping[str, GoldenRequests], Encoder | RankingModel]],
    artifact: str,
    role: str,
    registered_name: str,
    signature: ModelSignature,
    example: pd.DataFrame,
) -> Version:
    """Log a model with its golden requests to the open run as `artifact`; register it under a name.

    models: the one to serve and, where that is another, the one that was evaluated, each with its golden requests by
    folder.
    """
    model = models[0][1]
    encoder = model.encoder if isinstance(model, RankingModel) else model
    packages = list(_REQUIREMENTS)
    if not isinstance(encoder, NoEncoder):
        packages += [*_ENCODER_REQUIREMENTS, *(["openvino"] if encoder.settings.dtype.startswith("int8") else [])]
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / artifact
        for (golden, one), target in zip(models, (folder, folder / EVALUATED), strict=False):
            one.save(target)
            for name, requests in golden.items():
                requests.save(target / name)
        info = mlflow.pyfunc.log_model(
            name=role,
            python_model=str(Path(__file__).parent / f"served_{role}.py"),
            artifacts={artifact: str(folder)},
            signature=signature,
            input_example=example,
            pip_requirements=[f"{package}=={metadata.version(package).split('+')[0]}" for package in packages],
        )
    return _register(registered_name, info.model_id)


def _register(name: str, model_id: str) -> Version:
    """Make a logged model the next version of a registered model. `mlflow.register_model` prints; its client does not.

    The logged model's tag is what `mlflow.register_model` writes too: MLflow's pages link to the version by it.
    """
    client = mlflow.MlflowClient()
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    number = str(client.create_model_version(name, f"models:/{model_id}", model_id=model_id).version)
    link = json.dumps([{"name": name, "version": number}])
    client.set_logged_model_tags(model_id, {MODEL_VERSIONS: link})
    return Version(name, number)
