"""The one scoring function: worked-out values, independence of the batch to the last bit, missing values."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from features.arrays import CsrLists, Float32
from features.exact import to_grid
from features.history import Histories
from features.log import Requests
from recsys.encoder.head import Head
from recsys.encoder.scoring import HeadWeights, score_candidates, text_features, untrained_head
from recsys.errors import ModelError

pytestmark = pytest.mark.kernels

DIM = 384


def units(n: int, dim: int = DIM, seed: int = 0) -> Float32:
    drawn = np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32)
    return to_grid(drawn / np.linalg.norm(drawn, axis=1, keepdims=True))


def random_head(dim: int = DIM) -> Head:
    torch.manual_seed(3)
    head = Head(dim)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return head.eval()


@pytest.fixture(scope="module")
def weights() -> HeadWeights:
    return random_head().export()


def test_an_untrained_head_gives_the_mean_cosine_and_the_last_best_and_mean_similarity() -> None:
    history = np.array([[1, 0], [0, 1], [0.6, 0.8]], np.float32)
    found = score_candidates(untrained_head(2), history, np.array([[0, 1], [1, 0]], np.float32))
    mean = np.array([1.6, 1.8]) / np.hypot(1.6, 1.8)
    assert found == pytest.approx(np.array([[0.6, 0.8, 1.0, mean[1]], [1.6 / 3, 0.6, 1.0, mean[0]]]))


def test_recency_is_counted_from_the_latest_item() -> None:
    head = replace(untrained_head(2), recency=np.array([np.log(3), *[0.0] * 49], np.float32))
    found = score_candidates(head, np.eye(2, dtype=np.float32), np.eye(2, dtype=np.float32))
    assert found[:, 0] == pytest.approx([0.25, 0.75])


def test_what_resembles_the_candidate_counts_more() -> None:
    head = replace(untrained_head(2), similarity_weight=np.array(np.log(3), np.float32))
    found = score_candidates(head, np.eye(2, dtype=np.float32), np.array([[1, 0], [0.6, 0.8]], np.float32))
    shares = np.exp(np.log(3) * np.array([0.6, 0.8]))
    assert found[:, 0] == pytest.approx([0.75, shares @ [0.6, 0.8] / shares.sum()])


def test_the_prior_stands_beside_the_history_and_alone_without_one() -> None:
    head = replace(
        untrained_head(2),
        prior=np.array([0, 2], np.float32),
        prior_logit=np.array(0, np.float32),
        popularity=np.array([5, 0], np.float32),
    )
    axes = np.eye(2, dtype=np.float32)
    assert score_candidates(head, np.zeros((0, 2), np.float32), axes)[:, 0] == pytest.approx([5, 2])
    assert score_candidates(head, axes[:1], axes)[:, 0] == pytest.approx([5.5, 1])


@pytest.mark.parametrize("h", [0, 1, 7, 14, 15, 50])
def test_a_score_has_the_same_bits_whatever_else_is_ranked(weights: HeadWeights, h: int) -> None:
    history, candidates = units(h, seed=1), units(300, seed=2)
    generator = np.random.default_rng(h)
    whole = score_candidates(weights, history, candidates)
    for n in (1, 2, 3, 20, 31, 32, 33, 100, 300):
        some = generator.permutation(300)[:n]
        assert np.array_equal(score_candidates(weights, history, candidates[some]), whole[some], equal_nan=True)


@given(
    seed=st.integers(0, 2**32 - 1),
    n_history=st.integers(0, 60),
    n_candidates=st.integers(1, 80),
    threads=st.integers(1, 4),
    with_query=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_candidates_moved_about_split_and_joined_keep_their_bits_with_any_number_of_threads(
    weights: HeadWeights, seed: int, n_history: int, n_candidates: int, threads: int, with_query: bool
) -> None:
    generator = np.random.default_rng(seed)
    history, candidates = units(n_history, seed=seed), units(n_candidates, seed=seed + 1)
    query = units(1, seed=seed + 2)[0] if with_query else None
    with threadpool_limits(1, "blas"):
        whole = score_candidates(weights, history, candidates, query)
    order = generator.permutation(n_candidates)
    cuts = np.sort(generator.integers(0, n_candidates + 1, 3))
    with threadpool_limits(threads, "blas"):
        parts = [score_candidates(weights, history, candidates[part], query) for part in np.split(order, cuts)]
    assert np.concatenate(parts).tobytes() == whole[order].tobytes()


def test_products_are_exact(weights: HeadWeights) -> None:
    history, candidates = units(1, seed=4), units(3, seed=5)
    found = score_candidates(weights, history, candidates)[:, 1]
    exact = [
        sum(Fraction(float(a)) * Fraction(float(b)) for a, b in zip(history[0], c, strict=True)) for c in candidates
    ]
    assert found.tolist() == [float(np.float32(float(value))) for value in exact]


@pytest.mark.parametrize("name", ["attention_in", "prior", "popularity", "query_scale"])
@pytest.mark.parametrize("value", [np.nan, np.inf, 3000.0])
def test_a_head_that_diverged_is_refused(name: str, value: float) -> None:
    head = untrained_head(2)
    with pytest.raises(ModelError, match=f"'{name}': expected a norm of at most 2048.*the training diverged"):
        replace(head, **{name: np.full_like(getattr(head, name), value)})


@pytest.mark.parametrize("h", [0, 1, 5, 50])
@pytest.mark.parametrize("with_query", [False, True])
def test_the_numpy_score_is_the_trained_one(h: int, with_query: bool) -> None:
    head = random_head(48)
    history, candidates, query = units(h, 48, 1), units(9, 48, 2), units(1, 48, 3)
    items = torch.from_numpy(np.concatenate([candidates, history]))
    latest_first = torch.arange(9 + h - 1, 8, -1)[None]
    with torch.no_grad():
        asked = torch.from_numpy(query) if with_query else None
        expected = head.scores(items, latest_first, torch.arange(9)[None], asked)[0].numpy()
    found = score_candidates(head.export(), history, candidates, query[0] if with_query else None)
    assert found[:, 0] == pytest.approx(expected, abs=1e-4)


def test_only_the_latest_fifty_items_count(weights: HeadWeights) -> None:
    history, candidates = units(80, seed=1), units(5, seed=2)
    assert np.array_equal(
        score_candidates(weights, history, candidates), score_candidates(weights, history[-50:], candidates)
    )


def test_items_without_text_leave_no_trace_in_histories_and_are_nan_as_candidates(weights: HeadWeights) -> None:
    history, candidates = units(4, seed=1), units(3, seed=2)
    holes = np.insert(history, [0, 2, 4], np.nan, axis=0)
    candidates[1] = np.nan
    found = score_candidates(weights, holes, candidates)
    assert np.array_equal(found, score_candidates(weights, history, candidates), equal_nan=True)
    assert np.isnan(found).tolist() == [[False] * 4, [True] * 4, [False] * 4]


def test_without_a_history_the_score_stands_and_the_similarities_are_missing(weights: HeadWeights) -> None:
    found = score_candidates(weights, np.full((2, DIM), np.nan, np.float32), units(3))
    assert np.isnan(found).tolist() == [[False, True, True, True]] * 3


def test_a_query_ranks_without_a_history() -> None:
    candidates = units(6)
    found = score_candidates(untrained_head(DIM), np.zeros((0, DIM), np.float32), candidates, candidates[4])
    assert found[:, 0].argmax() == 4


def test_the_matrix_is_the_columns_of_each_request(weights: HeadWeights) -> None:
    vectors = np.concatenate([units(10), np.full((1, DIM), np.nan, np.float32)])
    offsets = np.array([0, 2, 5])
    requests = Requests(np.zeros(2, np.int32), np.zeros(2, np.int64), offsets, np.array([1, 2, 3, -1, 1], np.int32))
    past = Histories(CsrLists(np.array([0, 2, 2]), np.array([4, 5], np.int32)), np.zeros(2, np.int64))
    queries = np.concatenate([np.full((1, DIM), np.nan, np.float32), units(1, seed=9)])
    found = text_features(weights, vectors, requests, past, queries)
    assert np.array_equal(found[:2], score_candidates(weights, vectors[[4, 5]], vectors[[1, 2]]))
    alone = score_candidates(weights, vectors[:0], vectors[[3, 10, 1]], queries[1])
    assert np.array_equal(found[2:], alone, equal_nan=True)
    assert np.isnan(found[3]).all()
