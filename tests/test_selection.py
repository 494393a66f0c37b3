"""Features that a ranker can do without: planted noise goes, a planted signal stays, and what is left still fits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from small_ranking_model import always, small_site

from features.arrays import Int32
from features.definitions.attribute_measures import Age, Hour
from features.definitions.event_measures import Feature
from features.offline.reader import LogIndex
from recsys.config import RankerConfig as Settings
from recsys.ranker.feature_selection import FeatureSelection, select_features
from recsys.ranker.lightgbm_ranker import MatrixColumn, RankingDataset, TreeRanker, train_ranker
from recsys.ranker.model import RankingModel
from recsys.ranker.offline_matrix import OfflineScorer
from recsys.training.model_choice import RANKER
from recsys.training.ranker_data import RankerData
from recsys.training.stages import ranker_stage

NAMES = ("signal", "weaker", "noise", "more_noise")
FEATURES = tuple(
    Feature(name, "It.", Age() if name == "noise" else Hour(), within_list=name == "noise") for name in NAMES
)
COLUMNS = tuple(MatrixColumn(name) for name in (*NAMES, "noise_percentile", "noise_zscore", "text_score"))


def lists(n: int, seed: int) -> RankingDataset:
    """Ten candidates a list, the click on the best by signal and half of weaker; all other columns are noise."""
    random = np.random.default_rng(seed)
    matrix = random.normal(size=(n, 10, len(COLUMNS))).astype(np.float32)
    worth = matrix[:, :, 0] + 0.5 * matrix[:, :, 1]
    label = (worth == worth.max(axis=1, keepdims=True)).astype(np.int8)
    return RankingDataset(matrix.reshape(-1, len(COLUMNS)), label.ravel(), np.arange(n + 1, dtype=np.int64) * 10)


def users(n: int) -> Int32:
    return np.arange(n, dtype=np.int32) % 40


@pytest.fixture(scope="module")
def full() -> TreeRanker:
    return train_ranker(lists(500, 0), lists(200, 1), COLUMNS, Settings(max_trees=60), seed=0, threads=1)


def selected(full: TreeRanker, margin: float) -> FeatureSelection:
    settings = Settings(max_trees=60, select_margin=margin)
    return select_features(
        full, FEATURES, COLUMNS, lists(500, 0), lists(200, 1), users(200), settings, seed=0, threads=1
    )


def test_noise_goes_with_its_places_and_the_signal_stays(full: TreeRanker) -> None:
    found = selected(full, 0.005)
    assert set(found.dropped) == {"noise", "more_noise"}
    assert found.ranker.columns == ("signal", "weaker", "text_score")
    assert [step.accepted for step in found.steps] == [True, False]
    refused = found.steps[-1]
    assert refused.without == ("weaker",)
    assert refused.difference.high < 0


def test_all_that_goes_may_cost_no_more_than_the_margin(full: TreeRanker) -> None:
    assert "signal" not in selected(full, 0.0).dropped
    assert all(step.difference.mean >= 0.0 for step in selected(full, 0.0).steps if step.accepted)
    assert all(step.difference.high >= 0.0 for step in selected(full, 1.0).steps if step.accepted)


def test_a_selection_says_what_it_did(full: TreeRanker) -> None:
    found = selected(full, 0.005)
    assert found.lines()[-1] == "2 features dropped, 3 columns left"
    assert "without 1 more features: -0." in found.lines()[1]
    assert found.as_dict()["steps"][0]["without"] == list(found.dropped)


def test_a_ranker_reads_no_column_that_has_one_value_in_all_training_rows() -> None:
    def with_constants(data: RankingDataset) -> RankingDataset:
        constants = np.tile(np.float32([3, np.nan]), (len(data.label), 1))
        return RankingDataset(np.hstack([data.matrix, constants]), data.label, data.offsets)

    site = small_site()
    slices = (with_constants(lists(300, 0)), with_constants(lists(100, 1)), with_constants(lists(50, 2)))
    columns = (*COLUMNS, MatrixColumn("three"), MatrixColumn("nothing"))
    shown = site.chain.usable(site.chain.sliced.valid)
    ranker, _ = RankerData(site.chain, columns, (shown, shown, shown), slices).train(RANKER)
    assert ranker.columns == tuple(column.name for column in COLUMNS)


def test_a_version_computes_the_features_that_are_left() -> None:
    site = small_site()
    settings = site.config.ranker.model_copy(update={"select_features": True, "select_margin": 1.0})
    config = site.config.model_copy(update={"ranker": settings})
    ranked = ranker_stage(
        replace(site.chain, config=config), always(site.ranking_model.encoder), site.ranking_model.lexical
    )
    ranker = ranked.rankers["ranker"]
    assert ranked.selection is not None
    assert ranked.selection.dropped
    ranking_model = RankingModel(
        site.ranking_model.settings.model_copy(update={"columns": ranker.columns}),
        ranker,
        site.ranking_model.encoder,
        site.ranking_model.lexical,
    )
    left = {feature.name for feature in ranking_model.features}
    assert left == {feature.name for feature in site.ranking_model.features} - set(ranked.selection.dropped)
    scores = OfflineScorer(ranking_model, LogIndex(site.log), ranked.texts.latest, threads=1).scores(
        ranked.test.requests
    )
    np.testing.assert_array_equal(scores, ranked.scores("ranker", threads=1))
