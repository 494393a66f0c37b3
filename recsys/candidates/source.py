"""What a source of candidates gets and gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from features.arrays import CsrLists
from recsys.candidates.best_items import ScoredLists


@dataclass(frozen=True)
class UserBlock:
    """n users. history: a row of clicked items a user, oldest first. banned: ascending codes of the items that a user
    may not get, a row a user."""

    history: CsrLists
    banned: CsrLists


class CandidateSource(Protocol):
    """Finds items for users. adds: whether the scores of an item that is found several times are added up; otherwise
    the highest counts."""

    @property
    def name(self) -> str:
        """As the column `sources` has it."""

    @property
    def adds(self) -> bool:
        """See above."""

    def find(self, users: UserBlock, *, most: int) -> ScoredLists:
        """Items with a score for each user, in any order, -1 for none; with all that are among the `most` best of those
        that the user may get."""


def last_of_each(history: CsrLists, most: int) -> CsrLists:
    """The last `most` codes of each row."""
    lengths = np.minimum(history.lengths(), most)
    offsets = np.append(0, np.cumsum(lengths))
    index = np.repeat(history.offsets[1:] - lengths - offsets[:-1], lengths) + np.arange(offsets[-1])
    return CsrLists(offsets, history.codes[index])
