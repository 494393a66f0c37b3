"""The ranker's matrix for the candidates of requests, and the item representations that it reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from features.arrays import Float32, Float64
from features.definitions.aggregates import FeatureReader
from features.definitions.column_names import column_names
from features.definitions.event_measures import Feature
from features.log import Catalog, Requests
from features.matrix.columns import FeaturePlan
from features.matrix.within_list import percentile_and_zscore
from recsys.collaborative.columns import TableSource, collaborative_matrix
from recsys.collaborative.snapshot import collaborative_columns
from recsys.encoder.scoring import HeadWeights, text_features
from recsys.encoder.text import clean_text, item_texts
from recsys.encoder.text_model import TextModel
from recsys.ranker.column_names import LEXICAL_COLUMN, TEXT_SCORE, model_columns
from recsys.ranker.lightgbm_ranker import MatrixColumn
from recsys.ranker.tfidf import Lexical, TermRows, lexical_column


@dataclass(frozen=True)
class ItemRepresentations:
    """What the text models read of a catalog's items, by item code; the last row is the unknown item.

    vectors: (n_items + 1, d) float32, NaN rows without text. terms: of n_items + 1 texts. logits:
    `recsys.encoder.scoring.item_logits` of the vectors, (n_items + 1,), where they are known.
    """

    vectors: Float32
    terms: TermRows
    logits: Float64 | None = None


def encode_items(encoder: TextModel, lexical: Lexical, catalog: Catalog, template: str) -> ItemRepresentations:
    """Encode every item of a catalog, each distinct text once. template: of an item's text."""
    texts = item_texts(catalog, template)
    return ItemRepresentations(encoder.encode_texts(texts), lexical.transform(texts))


def candidate_matrix(
    features: FeaturePlan,
    head: HeadWeights,
    reader: FeatureReader,
    texts: ItemRepresentations,
    queries: Float32 | None,
    tables: TableSource | None,
    *,
    read: tuple[str, ...] | None = None,
) -> tuple[tuple[str, ...], Float32]:
    """Names and values of all columns: behaviour, lexical, text, collaborative; (n_rows, n_columns) float32, NaN is
    missing. tables: None leaves the collaborative columns out.
    read: names of the columns that a ranker reads; fitted models of which it reads none are left out, and not run.
    None for all.
    """
    fitted = fitted_columns(read, tables)
    requests, histories = reader.requests, reader.histories
    blocks = [features.matrix(reader)]
    if LEXICAL_COLUMN in fitted:
        lexical = lexical_column(texts.terms, requests, histories)
        blocks += [lexical, *_within_list(lexical, requests)]
    if TEXT_SCORE in fitted:
        text = text_features(head, texts.vectors, requests, histories, queries, logits=texts.logits)
        blocks += [text, *_within_list(text[:, 0], requests)]
    if tables is not None:
        columns = [name for name in tables.settings.columns if name in fitted]
        blocks.append(collaborative_matrix(tables, reader, texts.vectors, columns))
    return (*features.names, *fitted), np.column_stack(blocks)


def fitted_columns(read: tuple[str, ...] | None, tables: TableSource | None) -> tuple[str, ...]:
    """Names of the columns of fitted models that `candidate_matrix` gives, in order; arguments as there."""
    return model_columns(collaborative_columns(None if tables is None else tables.settings), read)


def _within_list(scores: Float32, requests: Requests) -> tuple[Float32, Float32]:
    """Percentile and z-score of each score within its list, (n_rows,) each."""
    percentile, z_score = percentile_and_zscore(scores[None], requests.offsets)
    return percentile[0], z_score[0]


def ranker_columns(features: Sequence[Feature], fitted: Sequence[str]) -> tuple[MatrixColumn, ...]:
    """The columns of `candidate_matrix` in order, as the ranker's training reads them. fitted: those of fitted models,
    as `RepresentationSchedule.columns`."""
    declared = {name: feature for feature in features for name in column_names((feature,))}
    behaviour = [
        MatrixColumn(name, declared[name].measure.categorical, declared[name].monotone)
        for name in column_names(features)
    ]
    return (*behaviour, *(MatrixColumn(name) for name in fitted))


def encode_queries(encoder: TextModel, queries: np.ndarray | None) -> Float32 | None:
    """Vectors of query texts, (n, d) with NaN rows where there is none; None where no request has one."""
    if queries is None:
        return None
    cleaned = np.array([clean_text(query or "") for query in queries], object)
    has_text = cleaned != ""
    if not has_text.any():
        return None
    distinct, inverse = np.unique(cleaned[has_text].astype(str), return_inverse=True)
    vectors = np.full((len(queries), encoder.dim), np.nan, np.float32)
    vectors[has_text] = encoder.encode_texts(list(distinct))[inverse]
    return vectors
