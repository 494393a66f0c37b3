"""The report of `recsys data slates`: what was written, what was left out, and what simple orders score on it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from features.tables.list_baselines import BASELINES

_NEAR_CHANCE = 0.05
_GIVEN_AWAY = 0.02


@dataclass(frozen=True)
class SlateReport:
    """Figures of the written impressions.

    repeats: impressions of items that the user has touched before. lists_shorter: impressions for which too few
    negatives were left. never_seen_*: share of the clicked and of the other candidates without an earlier click.
    touched_*: the same of those that the user has an earlier event on. skipped_*: clicks that make no impression:
    first clicks on items touched before, later ones on an item, clicks without a user, and clicks beside which nothing
    else could be shown. Of the later ones, repeats_possible would make one if repeats were asked for, and
    repeats_not_hidden had too few negatives that the user has touched too. positive: the setting data.positive.
    baseline_auc: by name, over all impressions.
    """

    file: str
    impressions: int
    repeats: int
    rows: int
    lists_shorter: int
    never_seen_clicked: float
    never_seen_unclicked: float
    touched_clicked: float
    touched_unclicked: float
    skipped_touched_before: int
    skipped_repeats: int
    repeats_possible: int
    repeats_not_hidden: int
    skipped_unknown_user: int
    skipped_nothing_else: int
    positive: str | None
    baseline_auc: Mapping[str, float]

    def as_dict(self) -> dict[str, object]:
        """The figures by name, for JSON."""
        return asdict(self)

    def lines(self) -> list[str]:
        """The figures for a person, a line each."""
        of_repeats = f", {self.repeats:,} of them repeats," if self.repeats else ""
        lines = [
            f"made {self.impressions:,} lists{of_repeats} with {self.rows:,} candidates: {self.file}",
            f"never clicked before: {self.never_seen_clicked:.1%} of the clicked, "
            f"{self.never_seen_unclicked:.1%} of the other candidates; {self.lists_shorter:,} lists are shorter",
        ]
        if self.repeats:
            lines.append(
                f"touched before by the user: {self.touched_clicked:.1%} of the clicked, "
                f"{self.touched_unclicked:.1%} of the other candidates"
            )
        return [*lines, *self._left_out(), *self._baselines(), *self._next_step()]

    def _left_out(self) -> list[str]:
        lines = [
            f"no list for {self.skipped_touched_before:,} first clicks long after another event on the item, "
            f"{self.skipped_unknown_user:,} of unknown users, {self.skipped_nothing_else:,} with nothing else to show"
        ]
        if self.skipped_repeats:
            more = (
                f", since --no-repeats is given, for up to {self.repeats_possible:,} of them"
                if self.repeats_possible
                else ""
            )
            if self.repeats:
                more = f", {self.repeats_not_hidden:,} of them with too few other items that the user touched before"
            lines.append(f"no list for {self.skipped_repeats:,} repeat clicks of a user on an item{more}")
        return lines

    def _baselines(self) -> list[str]:
        """AUCs, and how to read them."""
        listed = ", ".join(f"{name} {auc:.3f}" for name, auc in self.baseline_auc.items())
        lines = [f"AUC of simple orders on these lists, 0.5 is chance: {listed}"]
        popularity, touched = (self.baseline_auc[name] - 0.5 for name in ("popularity", "touched_before"))
        if popularity > _NEAR_CHANCE:
            lines.append(
                "popularity is above chance: negatives are drawn more evenly than users click, so a ranker gains by "
                "counting clicks alone; read ranker_over_popularity"
            )
        else:
            lines.append(
                f"popularity is {'near' if popularity >= -_NEAR_CHANCE else 'below'} chance by construction, since "
                "negatives are drawn from clicks of the same time: ranker_over_popularity says little on these lists, "
                "read ranker_over_tfidf"
            )
        if abs(touched) > _GIVEN_AWAY:
            lines.append(
                f"warning: {BASELINES['touched_before']} gives the clicked item away; a ranker learns the drawing"
            )
        return lines

    def _next_step(self) -> list[str]:
        if self.positive is None:
            return []
        setting = shlex.quote(f"data.positive={self.positive}")
        return [f"train with the same rule, or else every event is a click in histories: --set {setting}"]
