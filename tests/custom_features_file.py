"""A features file for tests: every measure in the words of `features.definitions.custom`, on the columns of
`small_logs`."""

from features.definitions.custom import (
    GLOBAL,
    ITEM,
    USER,
    Age,
    Count,
    CountOf,
    Feature,
    First,
    Hour,
    ItemCategory,
    ItemNumber,
    Last,
    Lift,
    Rate,
    Recency,
    Share,
    VectorSimilarity,
    WeightedCount,
    days,
    hours,
    of_category,
    user_of_category,
)

BRAND, USER_BRAND = of_category("brand"), user_of_category("brand")

FEATURES = (
    Feature(
        "brand_like_rate_1d",
        "Likes per view of the same brand in the last day.",
        Rate(Count("like", BRAND, days(1)), Count("view", BRAND, days(1)), 2.0),
        within_list=True,
    ),
    Feature("user_brand_view_share_1h", "Share of views.", Share("view", "brand", hours(1)), within_list=True),
    Feature("user_brand_like_affinity", "Likes of the brand.", Lift("like", "brand", 3.0), monotone=1),
    Feature("item_worth_7d", "Graded.", WeightedCount({"view": 1, "like": 3}, ITEM, days(7)), within_list=True),
    Feature("brand_worth", "Graded.", WeightedCount({"click": 2, "like": 5, "history": 1}, BRAND)),
    Feature("all_views", "Views of everybody.", CountOf(Count("view", GLOBAL, hours(1)))),
    Feature("user_view_recency", "Since the latest view.", Recency(Last("view", USER))),
    Feature("user_brand_view_age", "Since the first view of the brand.", Recency(First("view", USER_BRAND))),
    Feature("own_price", "The price.", ItemNumber("price"), within_list=True),
    Feature("own_brand", "The brand.", ItemCategory("brand", ("bolt", "acme"))),
    Feature("own_image", "The image.", VectorSimilarity("image")),
    Feature("own_age", "The age.", Age()),
    Feature("own_hour", "The hour.", Hour()),
)
