"""The words of a features file: everything that one needs, in one place to import from.

from features.definitions.custom import ITEM, Count, CountOf, Feature, Rate, days, of_category

FEATURES = (
    Feature(
        "brand_like_rate_7d",
        "Likes per view of items of the same brand in the last 7 days.",
        Rate(Count("like", of_category("brand"), days(7)), Count("view", of_category("brand"), days(7)), 20.0),
        within_list=True,
    ),
)
"""

from features.definitions.aggregates import *  # noqa: F403
from features.definitions.attribute_measures import *  # noqa: F403
from features.definitions.event_measures import *  # noqa: F403
