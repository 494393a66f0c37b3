"""Event types as people write them: compared without case and blanks, and which of them count as a click.

"View", " VIEW " and "view" are one type. Every way in makes types canonical with `canonical_type`: tables when they are
read, events that arrive at the online state, the configuration, and the features that count events of a type.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Literal

import pyarrow as pa

from features.log import HISTORY_TYPE

NOT_POSITIVE = ("view", "impression")
"""Types that are no click unless `positive_event_types` names them."""


def _words(*lines: str) -> frozenset[str]:
    return frozenset(word for line in lines for word in line.split())


_NEGATIVE = _words(
    "dislike disliked unlike unliked hate downvote downvoted thumbsdown thumbdown negative notinterested uninterested ",
    "hide hidden skip skipped report reported block blocked mute muted dismiss dismissed reject rejected decline ",
    "unfollow unfollowed unsubscribe unsubscribed unsave unfavorite unfavourite unbookmark remove removed delete ",
    "deleted cancel cancelled canceled return returned refund refunded bounce bounced spam ignore ignored bad poor ",
    "notclicked noclick nonclick unclicked",
    "不喜欢 点踩 踩 屏蔽 拉黑 举报 不感兴趣 负反馈 取消 删除 退货 退款 跳过",
)
_SEEN = _words(
    "view views viewed viewing pageview pageviews pv itemview productview impression impressions imp imps shown show ",
    "shows showed display displayed displays exposure exposures expose exposed seen render rendered served scroll ",
    "scrolled 曝光 浏览 展示 展现 查看",
)
Doubt = Literal["negative", "seen", "number"]


def canonical_type(text: str) -> str:
    """A type as it is compared: without case, outer blanks, and more than one blank within; "" for blanks alone."""
    return " ".join(text.split()).casefold()


def canonical_types(array: pa.Array) -> pa.Array:
    """`canonical_type` of a column of large_string; blanks alone are null, as an empty cell is."""
    coded = array if pa.types.is_dictionary(array.type) else array.dictionary_encode()
    names = [None if text is None else canonical_type(text) or None for text in coded.dictionary.to_pylist()]
    return pa.array(names, pa.large_string()).take(coded.indices)


RULE_NOT_MET = " RULE NOT MET"
"""Ends the type under which the online store counts an event that does not meet `data.positive`: in capitals, which no
canonical type has."""


def is_click(event_type: str, positive: Collection[str] | None) -> bool:
    """Whether events of a type count as a click. positive: the types configured so, None for all but view and
    impression. Type `history` always counts: it has no other use."""
    name = canonical_type(event_type)
    if name == HISTORY_TYPE:
        return True
    if positive is None:
        return name not in NOT_POSITIVE
    return name in map(canonical_type, positive)


def doubt_of(event_type: str) -> Doubt | None:
    """Why a type that counts as a click may not be meant so, None for no reason: its words say the opposite
    ("dislike"), or that something was only seen ("page_view"), or it is a bare number."""
    name = canonical_type(event_type)
    words = {*re.split(r"[\W_]+", name), re.sub(r"[\W_]+", "", name)}
    if re.fullmatch(r"[+-]?\d+(\.\d+)?", name):
        return "number"
    if words & _NEGATIVE or name.startswith("not "):
        return "negative"
    return "seen" if words & _SEEN else None
