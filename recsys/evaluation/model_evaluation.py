"""The evaluation of models on impressions of a log: what `recsys train`, `evaluate` and `ablate` report.

Every evaluation also has the methods `random` and `popularity`, and attributes of each impression from the log.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import numpy as np

from features.arrays import Float32, Float64
from features.definitions.aggregates import CLICK, ITEM, USER, Count
from features.log import Impressions
from features.offline.reader import LogIndex, OfflineReader
from recsys.collaborative.column_names import CO_CLICK_COLUMNS
from recsys.config import Config
from recsys.evaluation.evaluate import LIFTS, MethodComparison, evaluate, random_scores
from recsys.evaluation.report import Evaluation
from recsys.metrics.beyond_accuracy import beyond_accuracy
from recsys.metrics.impression_attributes import impression_attributes
from recsys.ranker.column_names import LEXICAL_COLUMN, TEXT_SCORE
from recsys.ranker.matrix import ItemRepresentations
from recsys.ranker.model import RankingModel
from recsys.ranker.offline_matrix import OfflineScorer
from recsys.ranker.tfidf import lexical_column

COLUMN_METHODS = {"tfidf": LEXICAL_COLUMN, "text": TEXT_SCORE, "item_knn": CO_CLICK_COLUMNS[0]}
"""Methods whose score is a column of the ranker's matrix."""

REGISTERED_LIFTS = tuple(MethodComparison("ranker", over) for over in ("text", "tfidf", "popularity"))
"""What a registered ranker is compared with: the rankers that its training only compared with are not kept."""


def evaluate_methods(
    scores: Mapping[str, Float32 | Float64],
    reader: OfflineReader,
    impressions: Impressions,
    config: Config,
    *,
    lifts: Sequence[MethodComparison] = LIFTS,
    vectors: Float32 | None = None,
) -> Evaluation:
    """Models by their scores, (n_rows,) by method, beside a random order and popularity.

    reader: of the past of `impressions`, whose requests are the reader's. vectors: (n_items + 1, d) text vectors by
    item code, for the figures beyond accuracy; None leaves these out.
    """
    requests, settings, seed = impressions.requests, config.evaluation, config.seed
    item_clicks = reader.count(Count(CLICK, ITEM))
    methods: dict[str, Float32 | Float64] = {
        "random": random_scores(requests.n_rows, seed=seed),
        "popularity": item_clicks.astype(np.float64),
        **scores,
    }
    beyond = None
    if vectors is not None:
        beyond = beyond_accuracy(methods, reader, vectors, resamples=settings.resamples, seed=seed)
    return evaluate(
        methods,
        impressions,
        reader.index.log.users,
        item_clicks_before=item_clicks,
        user_clicks_before=reader.count(Count(CLICK, USER))[requests.offsets[:-1]],
        settings=settings,
        seed=seed,
        lifts=lifts,
        attributes=impression_attributes(reader, impressions),
        beyond=beyond,
    )


def column_scores(matrix: Float32, columns: Sequence[str]) -> dict[str, Float32]:
    """The scores of `COLUMN_METHODS` as far as a matrix, (n_rows, n_columns), has their columns."""
    return {method: matrix[:, columns.index(name)] for method, name in COLUMN_METHODS.items() if name in columns}


def evaluate_model(
    ranking_model: RankingModel,
    index: LogIndex,
    impressions: Impressions,
    texts: ItemRepresentations,
    config: Config,
) -> Evaluation:
    """Every method that a ranking model holds on `impressions`, which are in the codes of the index's log.

    texts: of the log's items. config: evaluation, seed and threads count. Raises ValueError without an impression.
    """
    requests, options = impressions.requests, ranking_model.settings
    threads = config.threads or os.cpu_count() or 1
    scorer = OfflineScorer(ranking_model, index, texts, threads)
    matrix = scorer.matrix(requests)
    reader = scorer.reader(requests)
    return evaluate_methods(
        {
            "tfidf": lexical_column(texts.terms, requests, reader.histories),
            **column_scores(matrix, options.columns),
            "ranker": ranking_model.ranker.scores(matrix, threads=threads),
        },
        reader,
        impressions,
        config,
        lifts=REGISTERED_LIFTS,
        vectors=texts.vectors if texts.vectors.shape[1] else None,
    )
