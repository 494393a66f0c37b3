"""The words of a features file: everything that one needs, in one place to import from.

from features.definitions.custom import ITEM, Count, CountOf, Feature, Rate, days, of_category

FEATURES = (
    Feature(
        "brand_like_rate_7d",
        "Likes per view of items of the same brand in the last 7 days.",
        Rate(Count("like", of_category("brand"), days(7)), Count("view", of_category("brand"), days(7)), 20.0),
        place=True,
    ),
)
"""

from features.definitions.aggregates import (
    CATALOGUE,
    CLICK,
    DATED_CLICK,
    IMPRESSION,
    ITEM,
    USER,
    USER_ITEM,
    Count,
    First,
    Last,
    days,
    hours,
    of_category,
    user_of_category,
)
from features.definitions.attribute_measures import (
    Age,
    HistoryLength,
    Hour,
    ItemCategory,
    ItemNumber,
    VectorSimilarity,
    Weekday,
)
from features.definitions.event_measures import CountOf, Feature, FeatureFunction, Lift, Rate, Recency, Share, Weighted

MEASURES: tuple[type[FeatureFunction], ...] = (
    Age,
    CountOf,
    HistoryLength,
    Hour,
    ItemCategory,
    ItemNumber,
    Lift,
    Rate,
    Recency,
    Share,
    VectorSimilarity,
    Weekday,
    Weighted,
)
"""What a feature of a file may measure: what both readers compute alike, from the past alone."""

__all__ = [
    "CATALOGUE",
    "CLICK",
    "DATED_CLICK",
    "IMPRESSION",
    "ITEM",
    "MEASURES",
    "USER",
    "USER_ITEM",
    "Age",
    "Count",
    "CountOf",
    "Feature",
    "First",
    "HistoryLength",
    "Hour",
    "ItemCategory",
    "ItemNumber",
    "Last",
    "Lift",
    "Rate",
    "Recency",
    "Share",
    "VectorSimilarity",
    "Weekday",
    "Weighted",
    "days",
    "hours",
    "of_category",
    "user_of_category",
]
