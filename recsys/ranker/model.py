"""The locked unit: a ranker, the encoder and the lexical model whose scores it was trained on, and how to feed them.

A unit is what a registered ranker version stands for. Its folder holds `unit.json` (settings), `ranker.txt` (LightGBM),
`lexical.json` and, where the user has features of their own, the source of their file as `features.py`; the encoder is
a version of its own that the settings name and whose fingerprint must match.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from scipy.sparse import csr_matrix

from features.definitions.aggregates import Reader
from features.definitions.custom_file import OwnFeatures, run_own
from features.definitions.event_measures import Feature
from features.log import Catalog, Float32, Float64
from features.matrix.columns import column_names, feature_matrix
from features.matrix.within_list import places
from recsys.collaborative.columns import TableSource, collaborative_matrix
from recsys.collaborative.snapshot import TableSettings
from recsys.encoder.model import Encoder
from recsys.encoder.scoring import HeadWeights, text_matrix
from recsys.encoder.snapshots import TextModel
from recsys.encoder.text import clean_text, item_texts
from recsys.errors import EncoderMismatch, ModelError
from recsys.ranker.column_names import fitted_columns
from recsys.ranker.features import feature_set
from recsys.ranker.lightgbm_ranker import Column, Ranker, load_ranker
from recsys.ranker.tfidf import Lexical, lexical_column, load_lexical

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
    def own(self) -> OwnFeatures | None:
        """The features of the user's file. This executes its source."""
        return None if self.own_source is None else run_own(self.own_source, FEATURES_FILE)

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
            reserved=fitted_columns(collaborative=True),
        )


@dataclass(frozen=True)
class ItemTexts:
    """What the text models know of a catalog's items, by item code; the last row is the item without text.

    vectors: (n_items + 1, d) float32, NaN rows without text. terms: (n_items + 1, n_terms) TF-IDF rows, empty ones
    without text.
    """

    vectors: Float32
    terms: csr_matrix


def read_texts(encoder: Encoder, lexical: Lexical, catalog: Catalog) -> ItemTexts:
    """Encode every item of a catalog, each distinct text once."""
    texts = item_texts(catalog, encoder.settings.template)
    return ItemTexts(encoder.encode_texts(texts), lexical.transform(texts))


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

    def matrix(self, reader: Reader, texts: ItemTexts, tables: TableSource | None) -> Float32:
        """The ranker's columns for every candidate row of the reader's requests, (n_rows, n_columns).

        tables: the collaborative ones, for a unit that reads them.
        """
        queries = query_vectors(self.encoder, reader.requests.query)
        delay = self.settings.event_delay
        return candidate_matrix(self.features, self.encoder.weights, reader, texts, queries, tables, delay=delay)[1]

    def scores(self, reader: Reader, texts: ItemTexts, tables: TableSource | None, *, threads: int = 0) -> Float64:
        """The one scoring function of evaluation, batch and online: (n_rows,), higher is better.

        A candidate's score depends on its own request alone. reader: offline or online, over the same events.
        """
        return self.ranker.scores(self.matrix(reader, texts, tables), threads=threads)

    def save(self, folder: Path) -> None:
        """Write settings, ranker and lexical model; the encoder is saved as a version of its own."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / SETTINGS_FILE).write_text(self.settings.model_dump_json(indent=1), encoding="utf-8")
        self.ranker.save(folder / RANKER_FILE)
        self.lexical.save(folder / LEXICAL_FILE)
        if self.settings.own_source is not None:
            (folder / FEATURES_FILE).write_text(self.settings.own_source, encoding="utf-8")


def candidate_matrix(
    features: Sequence[Feature],
    head: HeadWeights,
    reader: Reader,
    texts: ItemTexts,
    queries: Float32 | None,
    tables: TableSource | None,
    *,
    delay: int,
) -> tuple[tuple[str, ...], Float32]:
    """Names and values of all columns: behaviour, lexical, text, collaborative; (n_rows, n_columns) float32, NaN is
    missing. tables: None leaves the collaborative columns out. delay: microseconds that an event needs to become known.
    """
    names, behaviour = feature_matrix(features, reader)
    requests, offsets = reader.requests, reader.requests.offsets
    lexical = lexical_column(texts.terms, requests, reader.histories)
    text = text_matrix(head, texts.vectors, requests, reader.histories, queries)
    percentile, z_score = places(np.stack([lexical, text[:, 0]]), offsets)
    blocks = [behaviour, lexical, percentile[0], z_score[0], text, percentile[1], z_score[1]]
    if tables is not None:
        blocks.append(collaborative_matrix(tables, requests, reader.histories, texts.vectors, delay=delay))
    return (*names, *fitted_columns(collaborative=tables is not None)), np.column_stack(blocks)


def ranker_columns(features: Sequence[Feature], *, collaborative: bool) -> tuple[Column, ...]:
    """The columns of `candidate_matrix` as the ranker's training wants them."""
    declared = {name: feature for feature in features for name in column_names((feature,))}
    behaviour = []
    for name in column_names(features):
        feature = declared.get(name)
        categorical = feature is not None and feature.measure.categorical
        behaviour.append(Column(name, categorical, feature.monotone if feature is not None else 0))
    return (*behaviour, *(Column(name) for name in fitted_columns(collaborative=collaborative)))


def query_vectors(encoder: TextModel, queries: np.ndarray | None) -> Float32 | None:
    """Vectors of query texts, (n, d) with NaN rows where there is none; None where no request has one."""
    if queries is None:
        return None
    cleaned = np.array([clean_text(query or "") for query in queries], object)
    given = cleaned != ""
    if not given.any():
        return None
    distinct, inverse = np.unique(cleaned[given].astype(str), return_inverse=True)
    vectors = np.full((len(queries), encoder.dim), np.nan, np.float32)
    vectors[given] = encoder.encode_texts(list(distinct))[inverse]
    return vectors


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
