"""The verdict on a training: its table, its three sentences, and the baselines that refuse an alias."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from features.arrays import Float64
from features.log import Impressions, Requests
from recsys.config import EvaluationConfig
from recsys.evaluation.evaluate import evaluate
from recsys.evaluation.verdict import DataFacts, Registered, Verdict, better_baselines, lifts_of

LISTS, SIZE = 600, 10
SETTINGS = EvaluationConfig(resamples=200)
SOUND = DataFacts(0.0, 0.1, 0.0, 0.0, True, 90, "", 700)


def verdict(quality: dict[str, float], method: str = "ranker", alias: str | None = "champion") -> Verdict:
    """Of methods that see the click through noise; quality: 0 is a random order."""
    random = np.random.default_rng(0)
    label = np.zeros((LISTS, SIZE), np.int8)
    label[np.arange(LISTS), random.integers(0, SIZE, LISTS)] = 1
    n_rows = LISTS * SIZE
    users = np.array([f"u{i}" for i in range(100)], object)
    requests = Requests(
        (np.arange(LISTS) % 100).astype(np.int32),
        np.arange(LISTS, dtype=np.int64),
        np.arange(0, n_rows + 1, SIZE, dtype=np.int64),
        np.arange(n_rows, dtype=np.int32),
    )
    ids = np.array([f"l{i}" for i in range(LISTS)], object)
    impressions = Impressions(requests, ids, np.zeros(LISTS, bool), label.ravel(), np.zeros(n_rows, np.int32))
    scores: dict[str, Float64] = {
        name: level * label.ravel() + random.normal(size=n_rows) for name, level in quality.items()
    }
    evaluation = evaluate(
        scores,
        impressions,
        users,
        item_clicks_before=np.zeros(n_rows),
        user_clicks_before=np.full(LISTS, 9),
        settings=SETTINGS,
        seed=0,
    )
    lifts = lifts_of(evaluation, method, SETTINGS, 0)
    return Verdict(
        "news-ranker/1", Registered(method, alias, "no simpler model is better"), lifts, evaluation, SOUND, SETTINGS, 0
    )


GOOD = {"random": 0.0, "popularity": 0.3, "tfidf": 0.5, "behaviour": 1.5, "behaviour_lexical": 1.6, "ranker": 2.0}


def test_the_first_sentence_compares_what_was_registered_with_its_interval() -> None:
    better, _, _ = verdict(GOOD).sentences
    assert better.startswith("news-ranker/1 is 'ranker' and is the champion: no simpler model is better.")
    assert "On 600 lists of 100 users it is better than popularity (+." in better
    assert "better than TF-IDF" in better
    assert "better than behaviour alone" in better


def test_a_loss_is_said_as_one_and_refuses_the_alias() -> None:
    lost = verdict({**GOOD, "popularity": 3.0}, alias=None)
    better, _, _ = lost.sentences
    assert "is not the champion" in better
    assert "worse than popularity (-." in better
    assert better_baselines(lost.lifts) == ("popularity",)
    assert better_baselines(verdict(GOOD).lifts) == ()
    assert better_baselines(verdict({**GOOD, "behaviour": 3.0}).lifts) == (), "a part is no baseline"


def test_the_second_sentence_gives_what_columns_are_worth() -> None:
    _, worth, _ = verdict({**GOOD, "no_collaborative": 1.0}).sentences
    assert worth.startswith("What columns add to the ranker here: text columns +.")
    assert "collaborative columns +." in worth
    assert "collaborative" not in verdict(GOOD).sentences[1]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sampled": 1.0}, "100% of the test lists are sampled"),
        ({"unknown_tokens": 0.4, "reads_text": False}, "seems not to read the language"),
        ({"cold": 0.9}, "90% of the test lists have only cold clicked items"),
        ({"trees": 1}, "it has 1 tree only"),
        ({"tied": 0.2}, "20% of the test lists get one score for all candidates"),
        ({"encoder_problem": "too few impressions"}, "the encoder was not trained: too few impressions"),
        ({"n_valid": 30}, "only 30 validation lists to choose the model by"),
    ],
)
def test_the_third_sentence_names_what_is_doubtful(changes: dict[str, float | str], said: str) -> None:
    sound = verdict(GOOD)
    assert sound.sentences[2] == "Nothing about these figures is doubtful."
    found = replace(sound, facts=replace(SOUND, **changes))
    (doubt,) = found.doubts()
    assert said in doubt
    assert found.sentences[2] == f"Doubtful: {doubt}."


def test_the_table_has_every_method_and_the_difference_to_it() -> None:
    table = verdict(GOOD).table()
    rows = {line.split()[0]: line for line in table.splitlines()[2:]}
    assert set(GOOD) <= set(rows)
    assert rows["popularity"].rstrip().endswith("better")
    assert rows["ranker"].rstrip().endswith("registered")
