"""The alias `champion`, which scoring and serving follow: promotion and rollback.

The alias `champion` of NAME-ranker is moved by a single write, so that a reader gets the old version or the new
one. The numbers of former champions are kept in the registered model's tag `previous_champions`, newest last. A
promotion writes the tag before it moves the alias, a rollback after: cut off in between, the tag's newest number is the
champion itself, and is skipped.

MLflow has no compare-and-set. `promote` reads the alias again right before it writes and refuses where another
promotion has come between; what is left are the milliseconds from that look to the write.
"""

from __future__ import annotations

from collections.abc import Mapping

import mlflow
from mlflow.exceptions import MlflowException

from recsys.errors import PromotionError
from recsys.registry.lookup import registered_model
from recsys.registry.names import CHALLENGER, CHAMPION, Version

PREVIOUS = "previous_champions"
"""Tag of the registered model: former champions' numbers with spaces between."""

MOST_KEPT = 100
MOST_CHARACTERS = 5000
"""Longest value of a tag that MLflow's database takes."""


def champion_of(model: str) -> Version | None:
    """The champion of a registered ranker, None where the alias is not set. Raises ModelNotFound for another name."""
    number = dict(registered_model(model).aliases).get(CHAMPION)
    return None if number is None else Version(model, str(number))


def promote(version: Version, *, over: Version | None) -> None:
    """Make `version` the champion in place of `over`, which was the champion when it was compared with.

    Raises PromotionError where the champion has changed since; nothing is written then.
    """
    client = mlflow.MlflowClient()
    current = champion_of(version.name)
    if current != over:
        raise PromotionError(
            f"the champion of {version.name} was {over} when {version} was measured and is {current} "
            "now; nothing was changed: run the promotion again, against the new one"
        )
    if current is not None:
        _keep(client, version.name, [*_former(version.name, current), current.number])
    client.set_registered_model_alias(version.name, CHAMPION, version.number)
    if str(dict(registered_model(version.name).aliases).get(CHALLENGER)) == version.number:
        client.delete_registered_model_alias(version.name, CHALLENGER)


def protected_versions(model: str) -> set[str]:
    """Numbers of the versions that have an alias, or that a rollback could go back to."""
    registered = registered_model(model)
    return {*map(str, dict(registered.aliases).values()), *str(registered.tags.get(PREVIOUS, "")).split()}


def rollback(model: str) -> tuple[Version, Version]:
    """Give the alias back to the champion before this one: (the version that was it, the version that is it).

    Raises PromotionError where no promotion is left to undo.
    """
    client = mlflow.MlflowClient()
    champion = champion_of(model)
    if champion is None:
        raise PromotionError(f"{model} has no champion, so there is nothing to roll back; set that alias in MLflow")
    former = _former(model, champion)
    if not former:
        raise PromotionError(f"{champion} is the first champion of {model} that is known: nothing to roll back to")
    back = Version(model, former[-1])
    try:
        client.get_model_version(model, back.number)
    except MlflowException as error:
        raise PromotionError(f"the champion before {champion} was {back}, which has been deleted") from error
    client.set_registered_model_alias(model, CHAMPION, back.number)
    _keep(client, model, former[:-1])
    return champion, back


def set_version_tags(version: Version, tags: Mapping[str, object]) -> None:
    """Write tags to a version; long values are cut."""
    client = mlflow.MlflowClient()
    for name, value in tags.items():
        client.set_model_version_tag(version.name, version.number, name, str(value)[:MOST_CHARACTERS])


def describe(version: Version, text: str) -> None:
    """Write a version's description, which MLflow's page of it shows."""
    mlflow.MlflowClient().update_model_version(version.name, version.number, description=text)


def _former(model: str, champion: Version) -> list[str]:
    """Numbers of the champions before `champion`, the latest last."""
    numbers = str(registered_model(model).tags.get(PREVIOUS, "")).split()
    while numbers and numbers[-1] == champion.number:
        numbers.pop()
    return numbers


def _keep(client: mlflow.MlflowClient, model: str, numbers: list[str]) -> None:
    client.set_registered_model_tag(model, PREVIOUS, " ".join(numbers[-MOST_KEPT:]))
