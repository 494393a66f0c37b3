"""The choice of what is registered: by paired intervals on valid, from the richest contender to the simplest."""

from __future__ import annotations

import numpy as np
import pytest

from features.arrays import Float64
from recsys.config import load_config
from recsys.errors import TrainingError
from recsys.training.model_choice import CONTENDERS, ModelChoice, choose_model, simple_part

LISTS = 400
USERS = np.repeat(np.arange(100, dtype=np.int32), LISTS // 100)


def ndcg(seed: int, shift: float = 0.0) -> Float64:
    """nDCG@10 of each list: noise that all contenders share, and their own."""
    shared = np.random.default_rng(0).uniform(0.3, 0.6, LISTS)
    return shared + np.random.default_rng(seed).normal(0, 0.05, LISTS) + shift


def choice(values: dict[str, Float64], registered: str = "auto") -> ModelChoice:
    return choose_model(values, USERS, load_config(None, (f"registered={registered}",)))


def test_the_richest_contender_is_kept_where_no_simpler_one_is_better() -> None:
    found = choice({"popularity": ndcg(1, -0.1), "behaviour": ndcg(2, -0.001), "ranker": ndcg(3)})
    assert (found.method, len(found.steps)) == ("ranker", 2)
    assert "no simpler model is better on 400 validation lists of 100 users" in found.reason


def test_a_simpler_contender_that_is_better_is_taken_with_its_interval() -> None:
    found = choice({"popularity": ndcg(1, -0.1), "behaviour_lexical": ndcg(2, 0.03), "ranker": ndcg(3)})
    assert found.method == "behaviour_lexical"
    taken = next(step for step in found.steps if step.accepted)
    assert (taken.method, taken.over) == ("behaviour_lexical", "ranker")
    assert 0 < taken.difference.low < 0.03 < taken.difference.high
    assert "better than ranker by +.0" in found.reason
    assert found.as_dict()["steps"][0]["chosen"] is True


def test_each_is_compared_with_the_choice_so_far() -> None:
    found = choice({"popularity": ndcg(1, 0.06), "behaviour": ndcg(2, 0.03), "ranker": ndcg(3)})
    assert [(step.method, step.over, step.accepted) for step in found.steps] == [
        ("behaviour", "ranker", True),
        ("popularity", "behaviour", True),
    ]
    assert found.method == "popularity"


@pytest.mark.parametrize("n_users", [1, 49])
def test_lists_of_few_users_show_nothing(n_users: int) -> None:
    values = {"popularity": ndcg(1, 0.2), "ranker": ndcg(3)}
    found = choose_model(values, np.arange(LISTS, dtype=np.int32) % n_users, load_config())
    assert found.method == "ranker"
    assert "no other model can be shown to be better on 400 validation lists of" in found.reason
    assert choose_model(values, np.arange(LISTS, dtype=np.int32) % 50, load_config()).method == "popularity"


def test_an_encoder_that_does_not_read_the_texts_has_to_show_a_gain() -> None:
    values = {"behaviour": ndcg(1, -0.02), "behaviour_lexical": ndcg(2), "text": ndcg(3, -0.1), "ranker": ndcg(4)}
    unread = choose_model(values, USERS, load_config(), first="behaviour_lexical")
    assert unread.method == "behaviour_lexical"
    assert [step.method for step in unread.steps] == ["ranker", "text", "behaviour"]
    assert "the base model does not read the texts, and no other model is better on 400" in unread.reason
    assert choose_model(values, USERS, load_config()).method == "ranker"
    gained = choose_model(values | {"ranker": ndcg(4, 0.05)}, USERS, load_config(), first="behaviour_lexical")
    assert gained.method == "ranker"
    assert "better than behaviour_lexical by +.0" in gained.reason


def test_simple_methods_weigh_less_the_more_lists_train_the_trees() -> None:
    weights = [set(simple_part(n).weights.values()) for n in (0, 100, 200, 1000)]
    assert weights == [{0.5}, {0.5}, {0.5}, {0.1}]
    assert simple_part(1).columns == ("item_clicks_all_zscore", "lexical_similarity_zscore", "text_score_zscore")


def test_with_few_impressions_the_choice_begins_with_the_ensemble() -> None:
    values = {"behaviour_lexical": ndcg(1), "ensemble": ndcg(2), "ranker": ndcg(3, 0.001)}
    few = choose_model(values, USERS, load_config(), first="ensemble")
    assert few.method == "ensemble"
    assert [step.method for step in few.steps] == ["ranker", "behaviour_lexical"]
    assert "with few impressions trees are averaged with simple methods, and no other model is better" in few.reason
    assert choose_model(values, USERS, load_config()).method == "ranker"
    assert choose_model({"tfidf": ndcg(1)}, USERS, load_config(), first="ensemble").method == "tfidf"


def test_the_configuration_names_the_method_without_a_comparison() -> None:
    found = choice({"popularity": ndcg(1), "ranker": ndcg(3, 0.2)}, registered="popularity")
    assert (found.method, found.steps) == ("popularity", ())
    with pytest.raises(TrainingError, match=r"registered='text': this training has \['popularity', 'ranker'\] only"):
        choice({"popularity": ndcg(1), "ranker": ndcg(3)}, registered="text")


def test_contenders_run_from_the_simplest_to_the_richest() -> None:
    assert CONTENDERS[0] == "popularity"
    assert CONTENDERS[-1] == "ranker"
