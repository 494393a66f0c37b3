"""Names of models and their versions. It uses no MLflow: a wrong name is reported before anything is read.

`recsys train --name NAME` registers NAME-encoder and NAME-ranker. A version is models:/NAME-ranker/3, or
models:/NAME-ranker@champion by its alias.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from recsys.errors import ComparisonError, ModelNotFound

CHAMPION = "champion"
CHALLENGER = "challenger"

LONGEST_NAME = 200
"""Characters; MLflow's database takes 256, and -encoder or -ranker is appended to the name."""

_SCHEME = "models:/"
_NAME = re.compile(r"\w(?:[\w. -]*[\w.-])?")
_URI = re.compile(r"models:/(?P<name>[^/@]+)(?:/(?P<number>\d+)|@(?P<alias>[\w-]+))")


@dataclass(frozen=True)
class Version:
    """A registered model version."""

    name: str
    number: str

    @property
    def uri(self) -> str:
        """models:/NAME/VERSION."""
        return f"{_SCHEME}{self.name}/{self.number}"

    @property
    def is_ranker(self) -> bool:
        """Whether it is a version of a ranker, else of an encoder."""
        return self.name.endswith(ranker_name(""))

    def __str__(self) -> str:
        return f"{self.name}/{self.number}"


@dataclass(frozen=True)
class ModelReference:
    """A version by its number or by an alias; the field that is not used is None."""

    name: str
    number: str | None
    alias: str | None


def parse_uri(uri: str) -> ModelReference:
    """The parts of models:/NAME/VERSION or models:/NAME@ALIAS. Raises ModelNotFound for a text of another form."""
    match = _URI.fullmatch(uri)
    if match is None:
        raise ModelNotFound(
            f"model {uri!r}: expected models:/NAME/VERSION or models:/NAME@ALIAS, as in models:/recsys-ranker@champion"
        )
    return ModelReference(match["name"], match["number"], match["alias"])


def run_names(side: str) -> tuple[str, ...]:
    """The names in one side of a comparison, separated by commas. Raises ComparisonError where there is none."""
    names = tuple(name.strip() for name in side.split(",") if name.strip())
    if not names:
        raise ComparisonError(
            f"expected a run's id, models:/NAME/VERSION, or several with commas between, got {side!r}"
        )
    return names


def is_version(name: str) -> bool:
    """Whether a name is that of a model version and not of a run."""
    return name.startswith(_SCHEME)


def name_problem(name: str) -> str:
    """What is wrong with a NAME that models are to be registered under, "" for nothing."""
    if len(name) > LONGEST_NAME:
        return f"expected at most {LONGEST_NAME} characters, got {len(name)}"
    if not _NAME.fullmatch(name):
        return (
            "expected letters, digits and _ . - or spaces between, beginning with a letter, a digit or _, "
            f"as in 'news' or 'shop-de'; got {name!r}"
        )
    return ""


def encoder_name(name: str) -> str:
    """Registered name of the encoder that belongs to NAME."""
    return f"{name}-encoder"


def ranker_name(name: str) -> str:
    """Registered name of the ranker that belongs to NAME."""
    return f"{name}-ranker"
