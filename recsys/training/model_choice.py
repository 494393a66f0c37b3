"""Which model of a training is registered: the richest one, unless valid shows that another one is better.

The contenders are nested in what they read: popularity, words, a fixed blend, then rankers that are trained on more and
more columns. They are compared on valid, impression by impression, with intervals over users; test is not looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from features.arrays import Float64, Int32
from recsys.config import Config
from recsys.errors import TrainingError
from recsys.evaluation.report import count, format_interval
from recsys.metrics.bootstrap import Interval, count_clusters, mean_interval
from recsys.metrics.jsonable import jsonable
from recsys.ranker.column_names import LEXICAL_COLUMNS, TEXT_Z_SCORE
from recsys.ranker.linear_ranker import LinearRanker
from recsys.ranker.ranker import Ranker

POPULARITY, TFIDF, BLEND, TEXT = "popularity", "tfidf", "blend", "text"
BEHAVIOUR, BEHAVIOUR_LEXICAL, RANKER = "behaviour", "behaviour_lexical", "ranker"
NO_COLLABORATIVE, FROZEN_TEXT, ENSEMBLE = "no_collaborative", "frozen_text", "ensemble"
CONTENDERS = (
    POPULARITY,
    TFIDF,
    BLEND,
    BEHAVIOUR,
    BEHAVIOUR_LEXICAL,
    TEXT,
    NO_COLLABORATIVE,
    FROZEN_TEXT,
    ENSEMBLE,
    RANKER,
)
"""The models of a training that may go live, the simplest first."""

_CLICKS, _WORDS = "item_clicks_all_zscore", LEXICAL_COLUMNS[2]
LINEAR_RANKERS: dict[str, Ranker] = {
    POPULARITY: LinearRanker({_CLICKS: 1.0}),
    TFIDF: LinearRanker({_WORDS: 1.0}),
    BLEND: LinearRanker({_CLICKS: 1.0, _WORDS: 1.0}),
    TEXT: LinearRanker({TEXT_Z_SCORE: 1.0}),
}
"""The contenders that nothing is trained for but what their columns are made of."""

_SIMPLE_LISTS, _MOST_WEIGHT = 100, 0.5
FEWEST_USERS = 50
"""Of valid, for a choice to leave the contender that it begins with: intervals over fewer users are too narrow."""

FIRST = {
    RANKER: "",
    ENSEMBLE: "with few impressions trees are averaged with simple methods, and ",
    BEHAVIOUR_LEXICAL: "the base model does not read the texts, and ",
}
"""The contenders that a choice may begin with, and why it does, in words."""


def simple_part(n_lists: int) -> LinearRanker:
    """What the ensemble adds to the ranker's score: popularity, TF-IDF and the text score. Each weighs 100 / n_lists of
    what the trees weigh, half at most. n_lists: that trained the trees."""
    weight = min(_MOST_WEIGHT, _SIMPLE_LISTS / max(1, n_lists))
    return LinearRanker(dict.fromkeys((_CLICKS, _WORDS, TEXT_Z_SCORE), weight))


@dataclass(frozen=True)
class ChoiceStep:
    """One comparison. difference: nDCG@10 on valid of `method` less that of `over`, paired. accepted: `method` is the
    choice from here on."""

    method: str
    over: str
    difference: Interval
    accepted: bool


@dataclass(frozen=True)
class ModelChoice:
    """The model to register. steps: the comparisons that led to it, none where it was given. n_lists, n_users: of
    valid. first: the contender that it began with."""

    method: str
    steps: tuple[ChoiceStep, ...]
    n_lists: int
    n_users: int
    first: str = RANKER

    @property
    def reason(self) -> str:
        """One clause."""
        if not self.steps:
            return "the configuration names it"
        on = f"on {count(self.n_lists, 'validation list')} of {count(self.n_users, 'user')}"
        taken = next((step for step in reversed(self.steps) if step.accepted), None)
        if taken is None:
            if self.n_users < FEWEST_USERS:
                return f"{FIRST[self.first]}no other model can be shown to be better {on}"
            return f"{FIRST[self.first]}no {'simpler' if self.first == RANKER else 'other'} model is better {on}"
        return f"it is better than {taken.over} by {format_interval(taken.difference, signed=True)} nDCG@10 {on}"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        steps = [
            {"method": step.method, "over": step.over, "ndcg_at_10": jsonable(step.difference), "chosen": step.accepted}
            for step in self.steps
        ]
        return {"method": self.method, "reason": self.reason, "steps": steps}


def choose_model(ndcg: Mapping[str, Float64], users: Int32, config: Config, *, first: str = RANKER) -> ModelChoice:
    """The model to register among the contenders that are present: the first one, unless another one is better by an
    interval above 0; then that one, unless one that comes after it is better, from the richest to the simplest. With
    fewer than 50 users no interval is trusted.

    ndcg: nDCG@10 of each valid list, (n_lists,), by contender. users: (n_lists,) codes, negative for unknown ones.
    first: one of `FIRST`; where it is not present, the richest one. Raises TrainingError where the configuration names
    one that is not present.
    """
    registered = config.registered
    present = [method for method in CONTENDERS if method in ndcg]
    n_users = count_clusters(users)
    if registered != "auto":
        if registered not in present:
            raise TrainingError(f"registered={registered!r}: this training has {present} only; name one of these")
        return ModelChoice(registered, (), len(users), n_users)
    chosen, steps = first if first in present else present[-1], []
    for method in [other for other in reversed(present) if other != chosen]:
        difference = mean_interval(
            ndcg[method] - ndcg[chosen], users, resamples=config.evaluation.resamples, seed=config.seed
        )
        accepted = difference.low > 0 and n_users >= FEWEST_USERS
        steps.append(ChoiceStep(method, chosen, difference, accepted))
        if accepted:
            chosen = method
    return ModelChoice(chosen, tuple(steps), len(users), n_users, first if first in present else RANKER)
