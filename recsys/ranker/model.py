"""The locked unit: a ranker, the encoder and the lexical model whose scores it was trained on, and how to feed them.

A unit is what a registered ranker version stands for. Its folder holds `unit.json` (settings), `ranker.txt` (LightGBM),
`lexical.json` and, where the user has features of their own, the source of their file as `features.py`; the encoder is
a version of its own that the settings name and whose fingerprint must match.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from features.definitions.custom_file import CustomFeatures, load_custom_features
from features.definitions.event_measures import Feature
from features.log import Catalog
from recsys.collaborative.snapshot import TableSettings
from recsys.encoder.model import Encoder
from recsys.errors import EncoderMismatch, ModelError
from recsys.ranker.column_names import model_columns
from recsys.ranker.features import feature_set
from recsys.ranker.lightgbm_ranker import Ranker, load_ranker
from recsys.ranker.matrix import ItemTexts, read_texts
from recsys.ranker.tfidf import Lexical, load_lexical

SETTINGS_FILE, RANKER_FILE, LEXICAL_FILE = "unit.json", "ranker.txt", "lexical.json"
FEATURES_FILE = "features.py"


class Settings(BaseModel):
    """What a ranker version records, so that whoever loads it feeds it as its training did."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    columns: tuple[str, ...]
    """Columns of the ranker's matrix, in order."""
    categories: dict[str, tuple[str, ...]]
    """Categorical item columns with the vocabulary of their code; other values are missing."""
    numbers: tuple[str, ...]
    vectors: tuple[str, ...]
    smoothing: float
    known_at: dict[str, Literal["publication", "request", "afterwards"]] = {}
    """What the training declared of when columns are known; the audit reads it, as the next one."""
    allow_known_after: tuple[str, ...] = ()
    history_length: int
    template: str
    """Text of an item."""
    timezone: str
    positive_event_types: tuple[str, ...] | None
    click_window: int
    """Microseconds."""
    event_delay: int
    """Microseconds."""
    collaborative: TableSettings | None = None
    """How and when the tables of the collaborative columns are made; None where there are no such columns."""
    encoder: str
    """The registered version whose scores the ranker was trained on, as models:/NAME/VERSION."""
    encoder_fingerprint: str
    encoder_learnt_until: int | None = None
    """Time of the newest label that trained the encoder, microseconds; None where none did. An audit looks at later
    lists, since the encoder may have learnt the others."""
    training_scores: str
    """Where the text scores of the training rows came from."""
    list_sizes: dict[str, int]
    """Smallest, median and largest list of the training rows."""
    data_fingerprint: str
    final_training: bool = False
    """True where encoder and ranker learnt valid and test too after the evaluation; its figures are of both before."""
    trained_until: int
    """Time of the newest label that training, early stopping or a choice used; microseconds since the epoch."""
    own_features: str | None = None
    """SHA-256 of the source of the user's features file, where there is one."""
    own_source: str | None = Field(None, exclude=True)
    """That source, which stands in a file of its own."""

    @property
    def own(self) -> CustomFeatures | None:
        """The features of the user's file. This executes its source."""
        return None if self.own_source is None else load_custom_features(self.own_source, FEATURES_FILE)

    @property
    def item_categories(self) -> tuple[str, ...]:
        """Categorical item columns that features read, sorted."""
        return tuple(sorted({*self.categories, *(self.own.categories() if self.own else ())}))

    @property
    def item_numbers(self) -> tuple[str, ...]:
        """Numeric item columns that features read."""
        return tuple(dict.fromkeys((*self.numbers, *(self.own.numbers() if self.own else ()))))

    @property
    def item_vectors(self) -> tuple[str, ...]:
        """Vector columns of the items that features read."""
        return tuple(dict.fromkeys((*self.vectors, *(self.own.vectors() if self.own else ()))))

    def features(self) -> tuple[Feature, ...]:
        """The features that the matrix begins with: those of the training but for what it dropped."""
        return tuple(feature for feature in self._all_features() if feature.name in self.columns)

    def _all_features(self) -> tuple[Feature, ...]:
        return feature_set(
            categories=self.categories,
            numbers=self.numbers,
            vectors=self.vectors,
            smoothing=self.smoothing,
            own=self.own,
            reserved=model_columns(collaborative=True),
        )


@dataclass(frozen=True)
class Unit:
    """A ranker with everything that its matrix is made of."""

    settings: Settings
    ranker: Ranker
    encoder: Encoder
    lexical: Lexical

    @cached_property
    def features(self) -> tuple[Feature, ...]:
        """The features that the matrix begins with."""
        return self.settings.features()

    def texts(self, catalog: Catalog) -> ItemTexts:
        """What the unit's text models know of a catalog's items."""
        return read_texts(self.encoder, self.lexical, catalog)

    def save(self, folder: Path) -> None:
        """Write settings, ranker and lexical model; the encoder is saved as a version of its own."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / SETTINGS_FILE).write_text(self.settings.model_dump_json(indent=1), encoding="utf-8")
        self.ranker.save(folder / RANKER_FILE)
        self.lexical.save(folder / LEXICAL_FILE)
        if self.settings.own_source is not None:
            (folder / FEATURES_FILE).write_text(self.settings.own_source, encoding="utf-8")


def read_settings(folder: Path) -> Settings:
    """The settings in a unit's folder. Raises ModelError where the file is absent or not such settings."""
    path = folder / SETTINGS_FILE
    try:
        settings = Settings.model_validate_json(path.read_text(encoding="utf-8"))
        if settings.own_features is None:
            return settings
        source = (folder / FEATURES_FILE).read_bytes()
    except OSError as error:
        raise ModelError(f"{str(path)!r}: expected the settings of a ranker version, {error.strerror}") from error
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(str(part) for part in problem["loc"])
        raise ModelError(f"{str(path)!r}: field {key!r}: {problem['msg']}") from error
    if sha256(source).hexdigest() != settings.own_features:
        raise ModelError(
            f"{str(folder / FEATURES_FILE)!r} is not the file that the ranker was trained with (SHA-256 "
            f"{settings.own_features}); register the model again"
        )
    return settings.model_copy(update={"own_source": source.decode()})


def load_unit(folder: Path, encoder: Encoder) -> Unit:
    """A unit from its folder and its encoder. Raises EncoderMismatch where the encoder is another one."""
    settings = read_settings(folder)
    if encoder.fingerprint != settings.encoder_fingerprint:
        raise EncoderMismatch(
            f"the ranker in {str(folder)!r} was trained on scores of encoder {settings.encoder} "
            f"({settings.encoder_fingerprint!r}), but {encoder.fingerprint!r} is loaded; load the ranker by its alias, "
            "or train it again"
        )
    ranker = load_ranker(folder / RANKER_FILE, settings.columns)
    return Unit(settings, ranker, encoder, load_lexical(folder / LEXICAL_FILE))
