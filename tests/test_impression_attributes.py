"""What is known of each list, on a log whose facts can be read off."""

from __future__ import annotations

import numpy as np
import pytest

from features.arrays import CsrLists
from features.clock import HOUR
from features.history import Histories
from features.log import Catalog, Categorical, Impressions, Requests
from recsys.metrics.impression_attributes import impression_attributes


class FourLists:
    """A reader of four lists: ann at 23:30 UTC with two items behind her, then strangers an hour apart each."""

    timezone = "Europe/Berlin"
    # items 0 to 4; the last row is the item nobody described. Item 3 has no category.
    catalog = Catalog(
        np.array(list("abcde"), object),
        *(np.full(6, "", object) for _ in range(2)),
        np.zeros(6, np.int64),
        categories={
            "category": Categorical(
                ("art", "film", "sport"),
                CsrLists(np.array([0, 1, 3, 4, 4, 5, 5]), np.array([2, 0, 1, 2, 1], np.int32)),
            )
        },
    )
    requests = Requests(
        np.array([0, -1, -1, -1], np.int32),
        np.arange(4) * HOUR + 47 * HOUR // 2,
        np.array([0, 3, 5, 8, 10]),
        np.array([0, 1, 2, 3, 0, -1, 4, 1, 2, 3], np.int32),
    )
    histories = Histories(CsrLists(np.array([0, 2, 2, 2, 2]), np.array([3, 4], np.int32)), np.zeros(2, np.int64))


LABEL = np.array([1, 2, 0, 1, 0, 1, 1, 0, 0, 0], np.int8)
POSITION = np.array([3, 2, 1, 1, 2, 0, 0, 1, 1, 2], np.int32)
SAMPLED = np.array([False, True, False, False])


@pytest.fixture
def impressions() -> Impressions:
    return Impressions(FourLists.requests, np.array(list("wxyz"), object), SAMPLED, LABEL, POSITION)


def test_a_history_and_an_hour_stand_beside_each_list(impressions: Impressions) -> None:
    attributes = impression_attributes(FourLists(), impressions)  # type: ignore[arg-type]
    assert list(attributes.history_length) == [2, 0, 0, 0]
    # 23:30 in UTC is half past midnight in Berlin
    assert list(attributes.hour) == [0, 1, 2, 3]


def test_the_categories_of_all_clicked_items_are_joined(impressions: Impressions) -> None:
    attributes = impression_attributes(FourLists(), impressions)  # type: ignore[arg-type]
    # w clicks a (sport) and b (art and film); x clicks d, which has none; y an unknown item and e; z nothing
    assert attributes.category is not None
    assert list(attributes.category) == ["art|film|sport", "", "film", ""]


def test_the_position_is_the_first_clicks_and_missing_where_none_was_logged(impressions: Impressions) -> None:
    attributes = impression_attributes(FourLists(), impressions)  # type: ignore[arg-type]
    # x is a sampled list: where its items stood says nothing; y logged no position of its clicks
    np.testing.assert_array_equal(attributes.position, [2, np.nan, np.nan, np.nan])


def test_items_without_a_category_column_have_no_categories(impressions: Impressions) -> None:
    reader = FourLists()
    reader.catalog = Catalog(reader.catalog.ids, *(np.full(6, "", object) for _ in range(2)), np.zeros(6, np.int64))
    assert impression_attributes(reader, impressions).category is None  # type: ignore[arg-type]
