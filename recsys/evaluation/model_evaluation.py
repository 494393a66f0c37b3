"""The evaluation of a trained unit on lists of a log, as its training evaluated it on test.

Methods: the ranker, the text score, co-click and TF-IDF that it reads, popularity and random. Rankers that a training
only compared with are not kept, so they are absent.
"""

from __future__ import annotations

import numpy as np

from features.arrays import Float32, Float64
from features.definitions.aggregates import CLICK, ITEM, USER, Count
from features.log import Impressions
from features.offline.reader import LogIndex
from recsys.collaborative.column_names import CO_CLICK_COLUMNS
from recsys.config import EvaluationConfig as Settings
from recsys.evaluation.evaluate import MethodComparison, evaluate, random_scores
from recsys.evaluation.report import Evaluation
from recsys.metrics.beyond_accuracy import beyond_accuracy
from recsys.metrics.list_facts import list_facts
from recsys.ranker.column_names import LEXICAL_COLUMN, TEXT_SCORE
from recsys.ranker.matrix import ItemTexts
from recsys.ranker.model import Unit
from recsys.ranker.offline_matrix import OfflineScorer

LIFTS = (
    MethodComparison("ranker", "text"),
    MethodComparison("ranker", "tfidf"),
    MethodComparison("ranker", "popularity"),
)


def evaluate_unit(
    unit: Unit,
    index: LogIndex,
    impressions: Impressions,
    texts: ItemTexts,
    *,
    settings: Settings,
    seed: int,
    threads: int,
) -> Evaluation:
    """Every method that a unit holds on `impressions`, which are in the codes of the index's log.

    texts: of the log's items. threads: of LightGBM, 0 is one for each core. Raises ValueError without an impression.
    """
    log, requests = index.log, impressions.requests
    options = unit.settings
    scorer = OfflineScorer(unit, index, texts, threads)
    matrix, reader = scorer.matrix(requests), scorer.reader(requests)
    item_clicks = reader.count(Count(CLICK, ITEM))
    methods: dict[str, Float32 | Float64] = {
        "random": random_scores(requests.n_rows, seed=seed),
        "popularity": item_clicks.astype(np.float64),
        "tfidf": matrix[:, options.columns.index(LEXICAL_COLUMN)],
        "text": matrix[:, options.columns.index(TEXT_SCORE)],
        "ranker": unit.ranker.scores(matrix, threads=threads),
    }
    if CO_CLICK_COLUMNS[0] in options.columns:
        methods["item_knn"] = matrix[:, options.columns.index(CO_CLICK_COLUMNS[0])]
    return evaluate(
        methods,
        impressions,
        log.users,
        item_clicks_before=item_clicks,
        user_clicks_before=reader.count(Count(CLICK, USER))[requests.offsets[:-1]],
        settings=settings,
        seed=seed,
        lifts=LIFTS,
        facts=list_facts(reader, impressions),
        beyond=beyond_accuracy(methods, reader, texts.vectors, resamples=settings.resamples, seed=seed),
    )
