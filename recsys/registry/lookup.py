"""From models:/ URIs to registered versions. Loads no model and imports no model library."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

import mlflow
from mlflow.entities.model_registry import RegisteredModel
from mlflow.exceptions import MlflowException

from recsys.errors import ModelNotFound
from recsys.registry.names import ModelReference, Version, parse_uri

ABSENT = "RESOURCE_DOES_NOT_EXIST"
"""MLflow's error code for a model or version that does not exist; another code is a failure of MLflow itself."""

_SHOWN = 20


def resolve(uri: str) -> Version:
    """The version that models:/NAME/VERSION or models:/NAME@ALIAS names.

    Raises ModelNotFound where the text has another form, and where the model, its version or its alias is not
    registered: the message says which of these it is, and what there is instead.
    """
    reference = parse_uri(uri)
    model = registered_model(reference.name, uri=uri)
    number = reference.number
    if reference.alias is not None:
        number = dict(model.aliases).get(reference.alias)
        if number is None:
            raise ModelNotFound(_no_alias(uri, reference, model))
    client = mlflow.MlflowClient()
    try:
        return Version(reference.name, str(client.get_model_version(reference.name, str(number)).version))
    except MlflowException as error:
        if error.error_code != ABSENT:
            raise
        raise ModelNotFound(
            f"model {uri!r}: {reference.name} is registered, but has no version {number}; it has "
            f"{_listed(_numbers(reference.name), 'versions', 'no version')}"
        ) from error


def registered_model(name: str, *, uri: str | None = None) -> RegisteredModel:
    """A registered model by its name. uri: what the user gave, if not the name.

    Raises ModelNotFound, which names those that are registered.
    """
    client = mlflow.MlflowClient()
    try:
        return client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code != ABSENT:
            raise
        names = sorted(model.name for model in client.search_registered_models(max_results=1000))
        near = get_close_matches(name, names, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ModelNotFound(
            f"model {uri or name!r} is not registered at {mlflow.get_tracking_uri()}; {hint}registered models: "
            f"{names[:_SHOWN] or 'none'}; train one with `recsys train`, or set MLFLOW_TRACKING_URI"
        ) from error


def _no_alias(uri: str, reference: ModelReference, model: RegisteredModel) -> str:
    aliases = [f"{alias} (version {number})" for alias, number in sorted(dict(model.aliases).items())]
    numbers = _numbers(reference.name)
    hint = f"; name a version, as in {Version(reference.name, numbers[-1]).uri}, or set the alias in MLflow"
    return (
        f"model {uri!r}: {reference.name} is registered, but has no alias {reference.alias!r}; it has "
        f"{_listed(aliases, 'aliases', 'no alias')} and {_listed(numbers, 'versions', 'no version')}"
        f"{hint if numbers else '; train one with `recsys train`'}"
    )


def _numbers(name: str) -> list[str]:
    """Numbers of a model's versions, ascending."""
    quote = '"' if "'" in name else "'"
    versions = mlflow.MlflowClient().search_model_versions(f"name = {quote}{name}{quote}", max_results=1000)
    return [str(number) for number in sorted(int(version.version) for version in versions)]


def _listed(values: Sequence[str], many: str, none: str) -> str:
    more = f" and {len(values) - _SHOWN} more" if len(values) > _SHOWN else ""
    return f"the {many} {', '.join(values[-_SHOWN:])}{more}" if values else none
