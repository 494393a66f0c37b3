"""The Chinese of the simulated news site: simplified characters without a space, and the punctuation of print.

Every list is as long as its English counterpart, and each sentence has the same places, so that one seed draws the same
site in both languages: the same topics, lists and clicks, told in other words.
"""

from __future__ import annotations

from pipelines.simulation.texts import Language, topics_of


def chinese() -> Language:
    """The Chinese of a newspaper: 12 categories of 6 topics, those of `english` one by one."""
    return Language(topics_of("chinese"), _TITLES, _DESCRIPTIONS, _WHERE, _WHEN, _SOURCE)


_TITLES = (
    "{when}，{who}{does}",
    "{who}在{where}{does}",
    "{what}将至，{who}{does}",
    "{what}引发热议，{who}{does}",
    "{where}{who}{does}",
    "{what}之后，{who}为何{does}",
    "从{where}走向全国：{who}如何{does}",
    "在{where}，{who}眼里不只有{what}",
    "{what}对{who}意味着什么",
    "{what}：{source}从{who}身上学到的事",
    "{who}{does}，下一步是{what}吗？",
    "{what}走进{where}的那一周",
    "{source}：{who}{does}",
    "走近{who}：他们怎样{does}",
)

_DESCRIPTIONS = (
    "{when}，{who}{does}之际，{where}的{source}表示，{what}的分量可能超出所有人的预料。",
    "近看{what}，也看{who}{does}时会发生什么。本报记者在{where}走访了一个月。",
    "很少有人料到：{who}{does}。{source}认为，{what}或许再也回不到从前。",
    "{when}，{source}讲解关于{what}要知道的事，以及为什么这么多{who}都在留意。",
    "多年来这只是一个设想。如今{where}的{who}{does}，{when}，{what}成了关键。",
    "事情从{what}说起。{when}，{where}传来消息：{who}要{does}。",
    "{who}怎样{does}？亲历者讲述经过，{source}也谈到{what}给人的启示。",
    "{where}的读者问起{what}。我们把其中五个问题带给了{who}和{source}。",
    "{when}，{who}预计将{does}。这件事说明了{what}怎样，也说明了{where}怎样。",
    "看待{what}不止一种角度，{source}说。从{where}到各地，{who}正在{does}。",
)

_WHERE = (
    "北京", "上海", "广州", "深圳", "成都", "重庆", "武汉", "西安", "南京", "杭州",
    "天津", "苏州", "长沙", "青岛", "厦门", "昆明", "大连", "沈阳", "郑州", "济南",
    "福州", "合肥", "南昌", "贵阳", "兰州", "哈尔滨", "乌鲁木齐", "海口", "拉萨",
)  # fmt: skip

_WHEN = (
    "本周", "今年", "又一次", "入夏之前", "久等之后", "头一回", "这个周末", "人数创新高", "不顾质疑", "前所未有",
    "月底以前", "一年之后",
)  # fmt: skip

_SOURCE = (
    "专家", "内部人士", "当地负责人", "三位老将", "长期观察者", "最新报告", "批评者", "当事人", "本报专栏作家",
    "初步数据", "街坊邻居", "两项研究", "怀疑者", "老行家",
)  # fmt: skip
