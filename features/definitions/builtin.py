"""The built-in catalogue of features: a tuple; to add one, add a line.

Names are <entity>_<measure>[_<window>]. Position is never a feature: it is not known when a list is made.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial

from features.definitions.aggregates import (
    CLICK,
    DATED_CLICK,
    IMPRESSION,
    ITEM,
    USER,
    USER_ITEM,
    Aggregate,
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
from features.definitions.column_names import column_names
from features.definitions.event_measures import (
    CountOf,
    ElapsedIntervals,
    Feature,
    FeatureFunction,
    Lift,
    Rate,
    Recency,
    Share,
    UsualInterval,
)
from features.definitions.feature_names import Make, in_words, named_features

POPULARITY, FRESHNESS, AFFINITY = "popularity", "freshness", "affinity"
USER_GROUP, CONTEXT, ATTRIBUTES = "user", "context", "attributes"
"""Groups of features."""
ALL_TIME = "all"
WINDOWS: dict[str, tuple[int | None, str]] = {
    "1h": (hours(1), "in the last hour"),
    "1d": (days(1), "in the last day"),
    "7d": (days(7), "in the last 7 days"),
    "30d": (days(30), "in the last 30 days"),
    ALL_TIME: (None, "ever"),
}
"""Microseconds of each window, and its phrase in a feature's doc."""
AFFINITY_SMOOTHING = 5.0


def catalogue(
    *,
    categories: Mapping[str, tuple[str, ...]],
    numbers: Sequence[str] = (),
    vectors: Sequence[str] = (),
    smoothing: float = 20.0,
) -> tuple[Feature, ...]:
    """Every feature of the built-in catalogue for a data set's item columns.

    categories: categorical column to the vocabulary of its code. numbers, vectors: names of item columns, which may be
    anything; see `features.definitions.feature_names` for what they become. smoothing: impressions that the catalogue's
    rate counts for in a smoothed rate.
    """
    fixed = (*_item_features(smoothing), *_user_features())
    columns: list[tuple[str, Make]] = [
        *((column, partial(_category_features, column, vocabulary)) for column, vocabulary in categories.items()),
        *((column, partial(_number_features, column)) for column in numbers),
        *((column, partial(_vector_features, column)) for column in vectors),
    ]
    return (*fixed, *named_features(columns, column_names(fixed)))


def required_aggregates(features: Sequence[Feature]) -> tuple[Aggregate, ...]:
    """Every distinct aggregate of the features, in a fixed order: what a store has to count."""
    return tuple(dict.fromkeys(read for feature in features for read in feature.measure.reads()))


def _item_features(smoothing: float) -> tuple[Feature, ...]:
    return (
        *_by_window(
            "item_clicks", "Clicks on the item", lambda window: CountOf(Count(CLICK, ITEM, window)), POPULARITY
        ),
        *_by_window(
            "item_impressions",
            "Lists that showed the item",
            lambda window: CountOf(Count(IMPRESSION, ITEM, window)),
            POPULARITY,
        ),
        *_by_window(
            "item_click_rate",
            "Clicks per impression of the item",
            lambda window: Rate(Count(DATED_CLICK, ITEM, window), Count(IMPRESSION, ITEM, window), smoothing),
            POPULARITY,
            further=", smoothed towards the catalogue's rate",
        ),
        Feature("item_age", "Time since the item was published.", Age(), within_list=True, group=FRESHNESS),
        Feature(
            "item_click_recency",
            "Time since the item's latest click.",
            Recency(Last(CLICK, ITEM)),
            within_list=True,
            group=FRESHNESS,
        ),
        Feature(
            "item_click_age",
            "Time since the item's first click.",
            Recency(First(CLICK, ITEM)),
            within_list=True,
            group=FRESHNESS,
        ),
    )


def _user_features() -> tuple[Feature, ...]:
    return (
        *_by_window(
            "user_clicks",
            "Clicks of the user",
            lambda window: CountOf(Count(CLICK, USER, window)),
            USER_GROUP,
            windows=("1d", "7d", "30d", ALL_TIME),
            within_list=False,
        ),
        Feature(
            "user_click_recency", "Time since the user's latest click.", Recency(Last(CLICK, USER)), group=USER_GROUP
        ),
        Feature("user_history_length", "Distinct items in the user's history.", HistoryLength(), group=USER_GROUP),
        Feature(
            "user_item_clicks",
            "Clicks of the user on this item.",
            CountOf(Count(CLICK, USER_ITEM)),
            within_list=True,
            group=AFFINITY,
        ),
        Feature(
            "user_item_recency",
            "Time since the user's latest click on this item.",
            Recency(Last(CLICK, USER_ITEM)),
            within_list=True,
            group=AFFINITY,
        ),
        Feature(
            "user_item_interval",
            "The user's usual time between two clicks on this item.",
            UsualInterval(CLICK, USER_ITEM),
            within_list=True,
            group=AFFINITY,
        ),
        Feature(
            "user_item_elapsed_intervals",
            "Time since the user's latest click on this item, over the user's usual time between two.",
            ElapsedIntervals(CLICK, USER_ITEM),
            within_list=True,
            group=AFFINITY,
        ),
        Feature("request_hour", "Hour of the day.", Hour(), group=CONTEXT),
        Feature("request_weekday", "Day of the week.", Weekday(), group=CONTEXT),
    )


def _number_features(column: str, name: str) -> tuple[Feature, ...]:
    doc = f"The item's {in_words(column)}."
    return (Feature(f"item_{name}", doc, ItemNumber(column), within_list=True, group=ATTRIBUTES),)


def _vector_features(column: str, name: str) -> tuple[Feature, ...]:
    label = in_words(column)
    doc = f"Cosine of the item's {label} with the mean {label} of the history."
    measure = VectorSimilarity(column)
    return (Feature(f"item_{name}_similarity", doc, measure, within_list=True, group=AFFINITY),)


def _category_features(column: str, vocabulary: tuple[str, ...], name: str) -> tuple[Feature, ...]:
    user_key, label = user_of_category(column), in_words(column)
    of_user = (
        ("clicks", f"Clicks of the user on items of the same {label}.", CountOf(Count(CLICK, user_key))),
        ("share", f"Share of the user's clicks that went to the same {label}.", Share(CLICK, column)),
        (
            "affinity",
            f"The user's share of clicks on the same {label}, smoothed, over all users' share.",
            Lift(CLICK, column, AFFINITY_SMOOTHING),
        ),
        ("recency", f"Time since the user's latest click on the same {label}.", Recency(Last(CLICK, user_key))),
    )
    return (
        Feature(f"item_{name}", f"The item's {label}.", ItemCategory(column, vocabulary), group=ATTRIBUTES),
        *_by_window(
            f"{name}_clicks",
            f"Clicks on items of the same {label}",
            lambda window: CountOf(Count(CLICK, of_category(column), window)),
            POPULARITY,
            windows=("7d", ALL_TIME),
        ),
        *(
            Feature(f"user_{name}_{ending}", doc, measure, within_list=True, group=AFFINITY)
            for ending, doc, measure in of_user
        ),
    )


def _by_window(
    name: str,
    doc: str,
    measure: Callable[[int | None], FeatureFunction],
    group: str,
    *,
    windows: Collection[str] = tuple(WINDOWS),
    within_list: bool = True,
    further: str = "",
) -> Iterator[Feature]:
    """A feature for each window, named after it. doc, further: its sentence before and after the window's phrase."""
    for window in windows:
        length, phrase = WINDOWS[window]
        sentence = f"{doc}, {phrase}{further}."
        yield Feature(f"{name}_{window}", sentence, measure(length), within_list=within_list, group=group)
