"""The stages of a training between tables and report: encoder and lexical model, rankers, evaluation.

Labels flow one way: text models learn from what is older than the lists they score, rankers from those scores,
early stopping reads valid, and nothing but the evaluation reads test. Nothing here writes a file or knows MLflow.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from features.arrays import Float32, Float64, Int32
from features.clock import moment_text
from features.definitions.aggregates import CLICK, ITEM, USER, Count
from features.definitions.event_measures import Feature
from features.log import Impressions
from features.seen_items import items_before
from recsys.collaborative.column_names import CO_CLICK_COLUMNS
from recsys.collaborative.snapshot import TableSettings
from recsys.config import Config
from recsys.encoder.model import Encoder
from recsys.encoder.scoring import text_features
from recsys.encoder.snapshots import ScheduledEncoder
from recsys.encoder.text import item_texts
from recsys.encoder.training.schedule import TrainingSchedule
from recsys.errors import TrainingError
from recsys.evaluation.evaluate import evaluate, random_scores
from recsys.evaluation.report import Evaluation
from recsys.metrics.beyond_accuracy import beyond_accuracy
from recsys.metrics.list_facts import list_facts
from recsys.ranker.column_names import ENCODER_COLUMNS, LEXICAL_COLUMN, LEXICAL_COLUMNS, TEXT_SCORE, model_columns
from recsys.ranker.feature_selection import FeatureSelection, select_features
from recsys.ranker.features import catalogue_categories, category_vocabularies, feature_set, own_features
from recsys.ranker.lightgbm_ranker import MatrixColumn, Ranker, RankingDataset, retrain_ranker, train_ranker
from recsys.ranker.matrix import ranker_columns
from recsys.ranker.offline_matrix import matrix_over_states
from recsys.ranker.text_snapshots import RepresentationSchedule
from recsys.ranker.tfidf import Lexical, fit_lexical
from recsys.training.context import TrainingContext
from recsys.training.time_split import TimeSplit, chunk_starts

RANKERS = ("behaviour", "behaviour_lexical", "ranker")
"""The rankers that a training compares, on the same rows and settings: no text, TF-IDF only, everything."""


@dataclass(frozen=True)
class RankerResult:
    """What the ranker stage made.

    rankers: by their names in `RANKERS`. matrix, columns: of the test lists, (n_rows, n_columns). best_trees and
    valid_ndcg: of the full ranker's training, one value a tree. list_sizes: of the training lists. selection: what the
    full ranker does without, where that was asked. live: the full ranker after it learnt valid and test too, where that
    was asked; no score here is its.
    """

    features: tuple[Feature, ...]
    vocabularies: Mapping[str, tuple[str, ...]]
    texts: RepresentationSchedule
    rankers: Mapping[str, Ranker]
    valid_ndcg: tuple[float, ...]
    n_train: int
    n_train_rows: int
    n_valid: int
    list_sizes: Mapping[str, int]
    test: Impressions
    matrix: Float32
    columns: tuple[str, ...]
    selection: FeatureSelection | None = None
    live: Ranker | None = None

    def scores(self, method: str, *, threads: int) -> Float64:
        """Scores of one of the rankers for the test rows, (n_rows,)."""
        return self.rankers[method].scores(self.matrix_for(method), threads=threads)

    def matrix_for(self, method: str) -> Float32:
        """The columns of the test matrix that one of the rankers reads, (n_rows, its columns)."""
        return _columns_of(self.matrix, self.columns, self.rankers[method].columns)

    def column(self, name: str) -> Float32:
        """A column of the test matrix, (n_rows,)."""
        return self.matrix[:, self.columns.index(name)]


def lexical_stage(chain: TrainingContext) -> Lexical:
    """TF-IDF fitted on the texts of items that were shown or acted on up to the end of the encoder slice."""
    until = int(chain.log.impressions.requests.time[chain.sliced.encoder[-1]])
    texts = item_texts(chain.log.catalog, chain.config.encoder.template)
    seen = items_before(chain.log, until + 1)
    return fit_lexical([texts[i] for i in np.flatnonzero(seen)], chain.config.lexical)


def ranker_stage(
    chain: TrainingContext,
    states: tuple[ScheduledEncoder, ...],
    lexical: Lexical,
    *,
    methods: Collection[str] = RANKERS,
    on_tree: Callable[[int, float], None] | None = None,
) -> RankerResult:
    """The matrices of the later slices with the text models' scores, and the rankers on them.

    states: of the encoder; each scores the lists of its time. Raises TrainingError where one learnt what it scores.
    methods: which of `RANKERS` to train. on_tree: called for the full ranker with each tree's number and valid's
    nDCG@10.
    """
    config, catalog = chain.config, chain.log.catalog
    parts = [chain.usable(part) for part in (chain.sliced.ranker, chain.sliced.valid, chain.sliced.test)]
    check_no_label_leak(states, int(parts[0].requests.time[0]))
    features, vocabularies = resolve_features(chain, parts[0].requests.item)
    item_text = item_texts(catalog, config.encoder.template)
    texts = RepresentationSchedule(states, item_text, lexical.transform(item_text), table_settings(chain))
    lists = []
    names: tuple[str, ...] = ()
    for part in parts:
        names, matrix = matrix_over_states(
            features,
            texts,
            chain.index,
            part.requests,
            delay=chain.delay,
            timezone=config.data.timezone,
            threads=chain.threads,
        )
        lists.append(RankingDataset(matrix, part.label, part.requests.offsets))
    valid_ndcg: list[float] = []

    def on_iteration(tree: int, ndcg: float) -> None:
        valid_ndcg.append(ndcg)
        if on_tree is not None:
            on_tree(tree, ndcg)

    columns = ranker_columns(features, collaborative=texts.collaborative is not None)
    rankers = {}
    for method in methods:
        chosen = tuple(column for column in columns if column.name not in _without(method))
        rankers[method] = train_ranker(
            _narrowed(lists[0], names, chosen),
            _narrowed(lists[1], names, chosen),
            chosen,
            config.ranker,
            seed=config.seed,
            threads=chain.threads,
            on_iteration=on_iteration if method == RANKERS[-1] else None,
        )
    selection = None
    if config.ranker.select_features and RANKERS[-1] in rankers:
        selection = select_features(
            rankers[RANKERS[-1]],
            features,
            columns,
            lists[0],
            lists[1],
            parts[1].requests.user,
            config.ranker,
            seed=config.seed,
            threads=chain.threads,
        )
        rankers[RANKERS[-1]] = selection.ranker
    sizes = parts[0].requests.lengths()
    return RankerResult(
        features=features,
        vocabularies=vocabularies,
        texts=texts,
        rankers=rankers,
        valid_ndcg=tuple(valid_ndcg),
        n_train=len(parts[0]),
        n_train_rows=parts[0].requests.n_rows,
        n_valid=len(parts[1]),
        list_sizes={"smallest": int(sizes.min()), "median": int(np.median(sizes)), "largest": int(sizes.max())},
        test=parts[2],
        matrix=lists[2].matrix,
        columns=names,
        selection=selection,
        live=_live_ranker(chain, rankers[RANKERS[-1]], lists, names, columns) if config.final_training else None,
    )


def evaluation_stage(chain: TrainingContext, ranked: RankerResult, encoders: Mapping[str, Encoder]) -> Evaluation:
    """Every method on the test lists. encoders: those to score by themselves, by the method's name; `text` is the one
    that the ranker reads."""
    config, test = chain.config, ranked.test
    requests = test.requests
    histories = chain.index.histories(requests, length=config.encoder.history_length, delay=chain.delay)
    reader = chain.index.reader(requests, histories, delay=chain.delay, timezone=config.data.timezone)
    item_clicks = reader.count(Count(CLICK, ITEM))
    user_clicks = reader.count(Count(CLICK, USER))[requests.offsets[:-1]]
    methods: dict[str, Float32 | Float64] = {
        "random": random_scores(requests.n_rows, seed=config.seed),
        "popularity": item_clicks.astype(np.float64),
        "tfidf": ranked.column(LEXICAL_COLUMN),
        "text": ranked.column(TEXT_SCORE),
    }
    if ranked.texts.collaborative is not None:
        methods["item_knn"] = ranked.column(CO_CLICK_COLUMNS[0])
    item_text = item_texts(chain.log.catalog, config.encoder.template)
    for method, encoder in encoders.items():
        vectors = encoder.encode_texts(item_text)
        methods[method] = text_features(encoder.weights, vectors, requests, histories)[:, 0]
    for method in RANKERS:
        methods[method] = ranked.scores(method, threads=chain.threads)
    return evaluate(
        methods,
        test,
        chain.log.users,
        item_clicks_before=item_clicks,
        user_clicks_before=user_clicks,
        settings=config.evaluation,
        seed=config.seed,
        facts=list_facts(reader, test),
        beyond=beyond_accuracy(
            methods, reader, ranked.texts.latest.vectors, resamples=config.evaluation.resamples, seed=config.seed
        ),
    )


def resolve_features(chain: TrainingContext, shown: Int32) -> tuple[tuple[Feature, ...], dict[str, tuple[str, ...]]]:
    """The features of a training, the user's own among them, and the vocabularies of the categorical item columns.

    shown: (n,) item codes of the candidates that train the ranker.
    """
    config, catalog = chain.config.features, chain.log.catalog
    own = own_features(chain.config)
    if own is not None:
        own.check_events(chain.log.events.types)
    vocabularies = category_vocabularies(catalog, shown, most=config.max_category_values)
    kept = catalogue_categories(catalog, config.categories, own)
    vocabularies = {name: values for name, values in vocabularies.items() if name in kept}
    features = feature_set(
        categories=vocabularies,
        numbers=config.numbers,
        vectors=config.vectors,
        smoothing=config.smoothing,
        own=own,
        reserved=model_columns(collaborative=True),
    )
    return features, vocabularies


def table_settings(chain: TrainingContext) -> TableSettings | None:
    """When collaborative tables are made: as often as configured from the ranker's first row to valid's last, and with
    the same period before and after."""
    settings = chain.config.collaborative
    if settings.tables == 0:
        return None
    time = chain.log.impressions.requests.time
    start, end = (int(time[part[place]]) for part, place in ((chain.sliced.ranker, 0), (chain.sliced.valid, -1)))
    return TableSettings(
        origin=start - chain.delay,
        period=max(1, -(-(end + 1 - start) // settings.tables)),
        **settings.model_dump(exclude={"tables"}),
    )


def encoder_schedule(impressions: Impressions, sliced: TimeSplit, config: Config) -> TrainingSchedule:
    """The encoder slice, the chunks of the ranker slice and, where the registered version is to learn them too, valid
    and test."""
    n_chunks = config.encoder.progressive_chunks
    slices = [sliced.encoder]
    chunks: list[int] = []
    if n_chunks:
        chunks += (chunk_starts(impressions, sliced.ranker, n_chunks) + len(sliced.encoder)).tolist()
        slices.append(sliced.ranker)
    evaluated_after = len(chunks)
    if config.final_training:
        for later in [sliced.valid, sliced.test] if n_chunks else [sliced.ranker, sliced.valid, sliced.test]:
            chunks.append(sum(len(positions) for positions in slices))
            slices.append(later)
    return TrainingSchedule(impressions.take(np.concatenate(slices)), tuple(chunks), evaluated_after)


def check_no_label_leak(states: Sequence[ScheduledEncoder], oldest: int) -> None:
    """Raise TrainingError where a state of the encoder learnt a label that is not older than all that it scores.

    oldest: time of the first list that is scored, microseconds.
    """
    for state in states:
        start = max(state.start, oldest)
        if state.trained_until is not None and not state.trained_until < start:
            raise TrainingError(
                f"the encoder was trained on labels up to {moment_text(state.trained_until)}, expected all of "
                f"them before the lists that it scores, which begin at {moment_text(start)}: its scores would leak the "
                "labels; score a part of the log before it is learnt from"
            )


def _live_ranker(
    chain: TrainingContext,
    reported: Ranker,
    lists: Sequence[RankingDataset],
    names: tuple[str, ...],
    columns: Sequence[MatrixColumn],
) -> Ranker:
    """The reported ranker trained again on the lists of all slices, with as many trees.

    Its rows of valid and test have the scores that were evaluated, of an encoder that had not learnt them.
    """
    chosen = tuple(column for column in columns if column.name in reported.columns)
    return retrain_ranker(
        [_narrowed(one, names, chosen) for one in lists],
        chosen,
        chain.config.ranker,
        trees=reported.booster.num_trees(),
        seed=chain.config.seed,
        threads=chain.threads,
    )


def _without(method: str) -> frozenset[str]:
    """Columns that a ranker does not read."""
    left_out = {"behaviour": (*LEXICAL_COLUMNS, *ENCODER_COLUMNS), "behaviour_lexical": ENCODER_COLUMNS, "ranker": ()}
    return frozenset(left_out[method])


def _narrowed(lists: RankingDataset, names: tuple[str, ...], columns: tuple[MatrixColumn, ...]) -> RankingDataset:
    chosen = tuple(column.name for column in columns)
    return RankingDataset(_columns_of(lists.matrix, names, chosen), lists.label, lists.offsets)


def _columns_of(matrix: Float32, names: tuple[str, ...], chosen: tuple[str, ...]) -> Float32:
    if chosen == names:
        return matrix
    return np.ascontiguousarray(matrix[:, [names.index(name) for name in chosen]])
