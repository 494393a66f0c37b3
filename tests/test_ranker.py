"""The LightGBM re-ranker by its behaviour on planted signals."""

from pathlib import Path

import numpy as np
import pytest

from features.definitions.aggregates import ITEM, Count
from features.definitions.attribute_measures import ItemCategory
from features.definitions.column_names import column_names
from features.definitions.event_measures import CountOf, Feature
from recsys.config import RankerConfig as Settings
from recsys.config import load_config
from recsys.errors import ConfigError, ModelError, TrainingError
from recsys.ranker.column_names import model_columns
from recsys.ranker.lightgbm_ranker import (
    MatrixColumn,
    RankingDataset,
    TreeRanker,
    load_tree_ranker,
    retrain_ranker,
    shorten,
    train_ranker,
    varies,
)
from recsys.ranker.matrix import ranker_columns

COLUMNS = (MatrixColumn("signal"), MatrixColumn("noise"), MatrixColumn("shelf", categorical=True))


def lists(n: int, seed: int) -> RankingDataset:
    """Lists of ten candidates: the clicked one has the largest signal, and shelf 2 adds to it."""
    random = np.random.default_rng(seed)
    matrix = random.normal(size=(n * 10, 3)).astype(np.float32)
    matrix[:, 2] = random.integers(0, 4, n * 10)
    worth = (matrix[:, 0] + 3.0 * (matrix[:, 2] == 2)).reshape(n, 10)
    label = (worth == worth.max(axis=1, keepdims=True)).astype(np.int8).ravel()
    return RankingDataset(matrix, label, np.arange(n + 1, dtype=np.int64) * 10)


@pytest.fixture(scope="module")
def ranker() -> TreeRanker:
    return train_ranker(lists(400, 0), lists(100, 1), COLUMNS, Settings(max_trees=80), seed=0, threads=1)


def test_a_missing_value_is_one_that_a_column_varies_by() -> None:
    missing = np.nan
    rows = np.array([[1, missing, missing, 2, 0], [1, missing, 3, missing, 0], [1, missing, missing, 2, 4]], np.float32)
    assert varies(rows).tolist() == [False, False, True, True, True]
    assert varies(rows[:0]).tolist() == [False] * 5


def test_columns_of_one_value_change_no_score(ranker: TreeRanker) -> None:
    def with_constants(data: RankingDataset) -> RankingDataset:
        constants = np.tile(np.float32([3, np.nan]), (len(data.label), 1))
        return RankingDataset(np.hstack([constants, data.matrix]), data.label, data.offsets)

    columns = (MatrixColumn("three"), MatrixColumn("nothing"), *COLUMNS)
    train, valid = with_constants(lists(400, 0)), with_constants(lists(100, 1))
    wider = train_ranker(train, valid, columns, Settings(max_trees=80), seed=0, threads=1)
    np.testing.assert_array_equal(wider.scores(valid.matrix), ranker.scores(lists(100, 1).matrix))


def test_a_list_longer_than_the_library_takes_is_trained_on_and_evaluated() -> None:
    one = lists(1_200, 5)
    clicked = np.zeros(12_000, np.int8)
    clicked[[3, 11_999]] = 1, 2
    matrix = np.concatenate([one.matrix, lists(50, 6).matrix])
    long = RankingDataset(
        matrix, np.concatenate([clicked, lists(50, 6).label]), np.append(0, 12_000 + 10 * np.arange(51))
    )
    settings = Settings(max_trees=5, min_data_in_leaf=5)
    ranker = train_ranker(long, long, COLUMNS, settings, seed=0, threads=1)
    assert len(ranker.scores(long.matrix)) == 12_500
    assert retrain_ranker([long], COLUMNS, settings, trees=2, seed=0, threads=1).booster.num_trees() == 2


def test_a_shortened_list_keeps_its_clicks_and_others_from_all_over() -> None:
    label = np.zeros(30, np.int8)
    label[[2, 9, 19, 25]] = 1, 3, 1, 2
    matrix = np.arange(30, dtype=np.float32)[:, None]
    found = shorten(RankingDataset(matrix, label, np.array([0, 20, 24, 30])), 6)
    assert found.offsets.tolist() == [0, 6, 10, 16]
    assert found.matrix.ravel().tolist() == [0, 2, 6, 9, 13, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29]
    assert found.label.tolist() == [0, 1, 0, 3, 0, 1, *[0] * 5, 2, *[0] * 4]
    most_clicked = shorten(RankingDataset(matrix[:8], np.array([1, 1, 2, 1, 0, 3, 1, 0], np.int8), np.array([0, 8])), 3)
    assert most_clicked.matrix.ravel().tolist() == [2, 4, 5]
    short = RankingDataset(matrix, label, np.array([0, 30]))
    assert shorten(short, 30) is short


def test_a_planted_signal_is_ranked_first(ranker: TreeRanker) -> None:
    test = lists(200, 2)
    scores = ranker.scores(test.matrix, threads=1).reshape(200, 10)
    hit = scores.argmax(axis=1) == test.label.reshape(200, 10).argmax(axis=1)
    assert hit.mean() > 0.8


def test_the_columns_that_carry_the_signal_gain_most(ranker: TreeRanker) -> None:
    assert list(ranker.gains())[-1] == "noise"


def test_a_rows_score_does_not_depend_on_the_other_rows(ranker: TreeRanker) -> None:
    matrix = lists(20, 3).matrix
    order = np.random.default_rng(0).permutation(len(matrix))
    assert np.array_equal(ranker.scores(matrix)[order], ranker.scores(matrix[order]))
    assert ranker.scores(matrix[:1])[0] == ranker.scores(matrix)[0]


def test_a_saved_ranker_gives_the_same_bits(ranker: TreeRanker, tmp_path: Path) -> None:
    ranker.save(tmp_path)
    loaded = load_tree_ranker(tmp_path / "ranker.txt", ranker.columns)
    matrix = lists(20, 4).matrix
    assert np.array_equal(loaded.scores(matrix), ranker.scores(matrix))


def test_a_ranker_with_one_score_for_every_row_is_an_error() -> None:
    train, valid = lists(4, 0), lists(3, 1)
    with pytest.raises(TrainingError, match=r"same score after 4 training lists.*min_data_in_leaf"):
        train_ranker(train, valid, COLUMNS, Settings(min_data_in_leaf=1000), seed=0, threads=1)


def test_a_matrix_of_other_columns_is_refused(ranker: TreeRanker) -> None:
    with pytest.raises(ModelError, match=r"reads 3 columns, got a matrix of shape \(2, 2\)"):
        ranker.scores(np.zeros((2, 2), np.float32))


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ranker.txt").write_text("not a model")
    with pytest.raises(ModelError, match=r"ranker\.txt.*not a LightGBM model"):
        load_tree_ranker(tmp_path / "ranker.txt", ("a",))


def test_with_a_monotone_constraint_a_larger_value_never_lowers_the_score() -> None:
    columns = (MatrixColumn("signal", monotone=1), MatrixColumn("noise"), MatrixColumn("shelf"))
    trained = train_ranker(lists(300, 0), lists(80, 1), columns, Settings(max_trees=60), seed=0, threads=1)
    rows = np.zeros((50, 3), np.float32)
    rows[:, 0] = np.linspace(-3, 3, 50)
    assert (np.diff(trained.scores(rows)) >= 0).all()


def test_the_declared_constraints_and_categories_reach_the_model() -> None:
    columns = (
        MatrixColumn("signal", monotone=1),
        MatrixColumn("noise", monotone=-1),
        MatrixColumn("shelf", categorical=True),
    )
    trained = train_ranker(lists(300, 0), lists(80, 1), columns, Settings(max_trees=30), seed=0, threads=1)
    assert trained.booster.dump_model()["monotone_constraints"] == [1, -1, 0]
    splits = trained.booster.trees_to_dataframe().dropna(subset=["split_feature"])
    by_column = splits.groupby("split_feature")["decision_type"].unique()
    assert list(by_column["Column_2"]) == ["=="]
    assert list(by_column["Column_0"]) == ["<="]


def test_places_are_bound_as_their_feature_is() -> None:
    likes = Feature("item_likes", "Likes.", CountOf(Count("like", ITEM)), within_list=True, monotone=1)
    found = {column.name: column.monotone for column in ranker_columns((likes,), model_columns(()))}
    assert [found[name] for name in column_names((likes,))] == [1, 1, 1]
    assert found["text_score"] == 0


def test_a_category_cannot_be_monotone() -> None:
    with pytest.raises(ValueError, match="a category is never more or less; drop monotone=1"):
        Feature("item_shelf", "Shelf.", ItemCategory("shelf", ("a",)), monotone=1)


@pytest.mark.parametrize("offsets", [[0, 10, 19], [1, 20], [0, 15, 10, 20]])
def test_lists_that_do_not_add_up_are_refused(offsets: list[int]) -> None:
    with pytest.raises(ValueError, match="rise from 0 to their number, got 20 rows, 20 labels"):
        RankingDataset(np.zeros((20, 1), np.float32), np.zeros(20, np.int8), np.array(offsets))


def test_lists_of_a_heavier_label_are_heeded_more() -> None:
    # three lists of label 1, where the click follows the signal, to one of label 2, where it goes against it
    random = np.random.default_rng(5)
    kind = np.where(np.arange(400) % 4, 1, 2)
    matrix = random.normal(size=(400, 10, 2)).astype(np.float32)
    worth = matrix[:, :, 0] * np.where(kind == 2, -1, 1)[:, None]
    label = np.where(worth == worth.max(axis=1, keepdims=True), kind[:, None], 0).astype(np.int8)
    train = RankingDataset(matrix.reshape(-1, 2), label.ravel(), np.arange(401, dtype=np.int64) * 10)
    valid = RankingDataset(
        matrix[kind == 2].reshape(-1, 2), label[kind == 2].ravel(), np.arange(101, dtype=np.int64) * 10
    )
    columns, rows = (MatrixColumn("signal"), MatrixColumn("noise")), np.array([[-2, 0], [2, 0]], np.float32)
    for weight, follows in ((1.0, True), (20.0, False)):
        settings = Settings(max_trees=20, list_weights={2: weight})
        low, high = train_ranker(train, valid, columns, settings, seed=0, threads=1).scores(rows)
        assert (high > low) == follows


@pytest.mark.parametrize("key", ["ranker.list_weights", "encoder.click_weights"])
def test_a_weight_that_is_none_is_refused(key: str) -> None:
    with pytest.raises(ConfigError, match=f"'{key}.2': Input should be greater than 0, got 0"):
        load_config(None, (f"{key}={{2: 0}}",))


def test_few_lists_get_few_small_trees_and_valid_does_not_stop_them() -> None:
    train, valid = lists(300, 0), lists(80, 1)
    settings = Settings(small_data_lists=301, min_data_in_leaf=5)
    small = train_ranker(train, valid, COLUMNS, settings, seed=0, threads=1)
    assert small.n_trees == 60
    assert small.booster.dump_model()["tree_info"][0]["num_leaves"] <= 7
    leaves = [tree["leaf_count"] for tree in _leaves(small)]
    assert min(leaves) >= 0.02 * len(train.label) * 0.5, "bagging leaves a leaf some of its rows"
    again = retrain_ranker([train, valid], COLUMNS, settings, trees=small.n_trees, seed=0, threads=1)
    assert again.booster.dump_model()["tree_info"][0]["num_leaves"] <= 7
    enough = Settings(small_data_lists=300, min_data_in_leaf=5, num_leaves=31)
    large = train_ranker(train, valid, COLUMNS, enough, seed=0, threads=1)
    assert max(tree["num_leaves"] for tree in large.booster.dump_model()["tree_info"]) > 7


def test_few_valid_lists_that_disagree_leave_the_fewest_trees() -> None:
    train, valid = lists(300, 0), lists(30, 1)
    valid = RankingDataset(valid.matrix, np.random.default_rng(2).permutation(valid.label), valid.offsets)
    settings = Settings(small_data_lists=0, min_data_in_leaf=5, early_stopping_rounds=40, max_trees=100)
    by_luck = train_ranker(train, valid, COLUMNS, settings.model_copy(update={"min_trees": 1}), seed=0, threads=1)
    assert by_luck.n_trees < 30
    for fewest, kept in ((30, 30), (90, by_luck.n_trees + 40)):
        floored = settings.model_copy(update={"min_trees": fewest})
        assert train_ranker(train, valid, COLUMNS, floored, seed=0, threads=1).n_trees == kept


def _leaves(ranker: TreeRanker) -> list[dict[str, float]]:
    """The leaves of all trees."""
    found, nodes = [], [tree["tree_structure"] for tree in ranker.booster.dump_model()["tree_info"]]
    while nodes:
        node = nodes.pop()
        if "leaf_count" in node:
            found.append(node)
        nodes += [node[side] for side in ("left_child", "right_child") if side in node]
    return found
