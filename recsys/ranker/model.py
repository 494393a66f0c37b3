"""The ranking model: a ranker, the encoder and the lexical model whose scores it was trained on, and its settings.

A registered ranker version is one. Its folder holds `unit.json` (settings), `ranker.txt` (LightGBM), `weights.json` (a
weighted sum) or both `ranker.txt` and `ensemble.json`, `lexical.json` and, where the user has custom features, the
source of their file as `features.py`. The folder `fallback` holds the trees of the same training that read no text,
for requests that have no time for it. The encoder, where it reads one, is a version of its own that the settings name
and whose fingerprint must match.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from features.definitions.column_names import column_names
from features.definitions.custom_file import CustomFeatures, load_custom_features
from features.definitions.event_measures import Feature
from features.definitions.settings import FeatureSettings
from features.log import Catalog
from features.tables.data_settings import DataSettings, Format1, settings_from_json, settings_to_json
from features.tables.items import CatalogColumns
from recsys.collaborative.snapshot import TableSettings, collaborative_columns
from recsys.encoder.text_model import NoEncoder
from recsys.errors import EncoderMismatch, ModelError
from recsys.ranker.column_docs import column_groups
from recsys.ranker.column_names import model_columns
from recsys.ranker.ensemble_ranker import ENSEMBLE_FILE, load_ensemble_ranker
from recsys.ranker.features import catalog_columns, feature_set
from recsys.ranker.lightgbm_ranker import RANKER_FILE, load_tree_ranker
from recsys.ranker.linear_ranker import WEIGHTS_FILE, load_linear_ranker
from recsys.ranker.matrix import ItemRepresentations, encode_items
from recsys.ranker.ranker import Ranker
from recsys.ranker.tfidf import Lexical, load_lexical

if TYPE_CHECKING:
    from recsys.encoder.model import Encoder

SETTINGS_FILE, LEXICAL_FILE = "unit.json", "lexical.json"
FEATURES_FILE, FALLBACK = "features.py", "fallback"
_RENAMED = {"own_features": "custom_features", "encoder_learnt_until": "encoder_trained_until"}


class Settings(BaseModel):
    """What a ranker version records, so that whoever loads it feeds it as its training did.

    The format number that they are stored with is that of the whole folder, the user's features file among it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    columns: tuple[str, ...]
    """Columns of the ranker's matrix, in order."""
    fallback_columns: tuple[str, ...] = ()
    """Those of the ranker without text that is stored beside it; empty for none, as in older versions."""
    categories: dict[str, tuple[str, ...]]
    """Categorical item columns with the vocabulary of their code; other values are missing."""
    inputs: FeatureSettings
    """What the training declared of the features of the catalogue."""
    history_length: int
    template: str
    """Text of an item."""
    data: DataSettings
    """How times and events are understood."""
    collaborative: TableSettings | None = None
    """How and when the tables of the collaborative columns are made; None where there are no such columns."""
    encoder: str | None
    """The registered version whose scores the ranker was trained on, as models:/NAME/VERSION; None for a ranker that
    reads no column of an encoder."""
    encoder_fingerprint: str
    encoder_trained_until: int | None = None
    """Time of the newest label that trained the encoder, microseconds; None where none did. An audit examines later
    lists, since the encoder may have learnt the others."""
    training_scores: str
    """Where the text scores of the training rows came from."""
    list_sizes: dict[str, int]
    """Smallest, median and largest list of the training rows."""
    data_fingerprint: str
    final_training: bool = False
    """True where encoder and ranker learnt test too after the evaluation; the figures are of both before."""
    trained_until: int
    """Time of the newest label that training, early stopping or a choice used; microseconds since the epoch."""
    custom_features: str | None = None
    """SHA-256 of the source of the user's features file, where there is one."""
    custom_source: str | None = Field(None, exclude=True)
    """That source, which is stored in a separate file."""

    @property
    def custom(self) -> CustomFeatures | None:
        """The features of the user's file. This executes its source."""
        return None if self.custom_source is None else load_custom_features(self.custom_source, FEATURES_FILE)

    @property
    def item_columns(self) -> CatalogColumns:
        """The columns of the items table that features and the text template read."""
        return catalog_columns(self.inputs, tuple(self.categories), self.template, self.custom)

    def features(self) -> tuple[Feature, ...]:
        """The features that the matrix begins with: those of the training but for what it dropped."""
        return self._features_of(self.columns)

    def fallback_features(self) -> tuple[Feature, ...]:
        """The same of the ranker without text."""
        return self._features_of(self.fallback_columns)

    def all_features(self) -> tuple[Feature, ...]:
        """Those of both rankers."""
        return self._features_of((*self.columns, *self.fallback_columns))

    def _features_of(self, columns: Collection[str]) -> tuple[Feature, ...]:
        reserved = model_columns(collaborative_columns(self.collaborative))
        features = feature_set(self.categories, self.inputs, self.custom, reserved=reserved)
        return tuple(feature for feature in features if not set(column_names((feature,))).isdisjoint(columns))


class _Format1(Format1):
    """As the fields were before format 2."""

    def current(self) -> dict[str, Any]:
        fields = super().current()
        inputs = {name: fields.pop(name) for name in FeatureSettings.model_fields if name in fields}
        renamed = {_RENAMED.get(name, name): value for name, value in fields.items()}
        return renamed | {"inputs": inputs}


@dataclass(frozen=True)
class RankingModel:
    """A ranker with everything that its matrix is made of. fallback: the ranker without text of the same training, with
    the settings' `fallback_columns`; None where there are none."""

    settings: Settings
    ranker: Ranker
    encoder: Encoder | NoEncoder
    lexical: Lexical
    fallback: Ranker | None = None

    @cached_property
    def features(self) -> tuple[Feature, ...]:
        """The features that the matrix begins with."""
        return self.settings.features()

    @cached_property
    def column_groups(self) -> tuple[str, ...]:
        """The group of each of the ranker's columns, which explanations add up."""
        return column_groups(self.features, self.ranker.columns)

    def texts(self, catalog: Catalog) -> ItemRepresentations:
        """The representations of a catalog's items."""
        return encode_items(self.encoder, self.lexical, catalog, self.settings.template)

    def save(self, folder: Path) -> None:
        """Write settings, rankers and lexical model; the encoder is saved as a version of its own."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / SETTINGS_FILE).write_text(settings_to_json(self.settings), encoding="utf-8")
        self.ranker.save(folder)
        if self.fallback is not None:
            (folder / FALLBACK).mkdir(exist_ok=True)
            self.fallback.save(folder / FALLBACK)
        self.lexical.save(folder / LEXICAL_FILE)
        if self.settings.custom_source is not None:
            (folder / FEATURES_FILE).write_text(self.settings.custom_source, encoding="utf-8")


def read_settings(folder: Path) -> Settings:
    """The settings in a model's folder. Raises ModelError where the file is absent or not such settings."""
    path = folder / SETTINGS_FILE
    try:
        settings = settings_from_json(Settings, path.read_text(encoding="utf-8"), _Format1)
        if settings.custom_features is None:
            return settings
        source = (folder / FEATURES_FILE).read_bytes()
    except OSError as error:
        raise ModelError(f"{str(path)!r}: expected the settings of a ranker version, {error.strerror}") from error
    except ValueError as error:
        raise ModelError(
            f"{str(path)!r}: settings of a ranker version: {error}; train it again with `recsys train`"
        ) from error
    if sha256(source).hexdigest() != settings.custom_features:
        raise ModelError(
            f"{str(folder / FEATURES_FILE)!r} is not the file that the ranker was trained with (SHA-256 "
            f"{settings.custom_features}); register the model again"
        )
    return settings.model_copy(update={"custom_source": source.decode()})


def load_ranking_model(folder: Path, encoder: Encoder | NoEncoder) -> RankingModel:
    """A model from its folder and its encoder. Raises EncoderMismatch where its settings name another encoder."""
    settings = read_settings(folder)
    if encoder.fingerprint != settings.encoder_fingerprint:
        raise EncoderMismatch(
            f"the ranker in {str(folder)!r} was trained on scores of encoder {settings.encoder} "
            f"({settings.encoder_fingerprint!r}), but {encoder.fingerprint!r} is loaded; load the ranker by its alias, "
            "or train it again"
        )
    ranker = load_ranker(folder, settings.columns)
    fallback = load_ranker(folder / FALLBACK, settings.fallback_columns) if settings.fallback_columns else None
    return RankingModel(settings, ranker, encoder, load_lexical(folder / LEXICAL_FILE), fallback)


def load_ranker(folder: Path, columns: Sequence[str]) -> Ranker:
    """The ranker in a model's folder. Raises ModelError where it is damaged or does not read the columns."""
    if (folder / ENSEMBLE_FILE).exists():
        return load_ensemble_ranker(folder, tuple(columns))
    if (folder / WEIGHTS_FILE).exists():
        return load_linear_ranker(folder / WEIGHTS_FILE, columns)
    return load_tree_ranker(folder / RANKER_FILE, columns)
