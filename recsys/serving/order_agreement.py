"""How far two orders of the same items agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

TOP = 10


@dataclass(frozen=True)
class OrderAgreement:
    """same_first: whether both begin with the same item. overlap: the share of the first 10, or of all where there are
    fewer, that both have there. in_order: the share of all pairs of items that both put in the same order, which is
    (1 + Kendall's tau) / 2; 1 for equal orders, 0.5 for unrelated ones, 0 for reversed ones."""

    same_first: bool
    overlap: float
    in_order: float


def compare_orders(first: Sequence[str], second: Sequence[str]) -> OrderAgreement:
    """The agreement of two orders of the same distinct items, at least two."""
    n, top = len(first), min(TOP, len(first))
    place = {item: position for position, item in enumerate(second)}
    places = np.array([place[item] for item in first], np.int32)
    n_in_order = int(np.count_nonzero(np.triu(places[None, :] > places[:, None], 1)))
    return OrderAgreement(
        first[0] == second[0],
        int(np.count_nonzero(places[:top] < top)) / top,
        n_in_order / (n * (n - 1) / 2),
    )
