"""Vocabularies of categorical columns: the values whose codes a ranker learns, most frequent first."""

from __future__ import annotations

import numpy as np

from features.log import Catalog, Int32


def category_vocabularies(catalog: Catalog, shown: Int32, *, most: int) -> dict[str, tuple[str, ...]]:
    """Of each categorical column the values of the items in `shown`, most frequent first, at most `most` of them.

    shown: (n,) item codes, an item as often as it was a candidate of the lists that train.
    """
    times_shown = np.bincount(shown[shown >= 0], minlength=len(catalog))
    vocabularies = {}
    for name, column in catalog.categories.items():
        weight = np.repeat(np.append(times_shown, 0), column.codes.lengths())
        frequency = np.bincount(column.codes.codes, weights=weight, minlength=len(column.values))
        order = np.lexsort((np.arange(len(frequency)), -frequency))[:most]
        vocabularies[name] = tuple(column.values[i] for i in order if frequency[i] > 0)
    return vocabularies
