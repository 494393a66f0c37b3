"""Markup made of elements: whatever is not markup already is escaped on its way in, so that data cannot become it."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping


class Html(str):
    """Text that is markup. Only this module makes it out of other text."""

    __slots__ = ()


def element(name: str, attributes: Mapping[str, str] | None = None, *parts: str) -> Html:
    """An element of HTML or SVG with its attributes and content; parts that are not `Html` are escaped."""
    written = "".join(f' {key}="{html.escape(value)}"' for key, value in (attributes or {}).items())
    return Html(f"<{name}{written}>{join(parts)}</{name}>")


def join(parts: Iterable[str]) -> Html:
    """Parts one after the other; those that are not `Html` are escaped."""
    return Html("".join(part if isinstance(part, Html) else html.escape(part) for part in parts))


def paragraph(*parts: str) -> Html:
    """A paragraph."""
    return element("p", None, *parts)


def words(text: str) -> Html:
    """Words from the data, in whatever script: the browser finds the direction, and takes no language for granted."""
    return element("bdi", {"dir": "auto", "lang": ""}, text)


def breakable(name: str) -> Html:
    """A name that may be broken behind its underscores, where it has to be. Its parts keep their order beside a part
    that is written from right to left."""
    if isinstance(name, Html):
        return name
    return Html("_<wbr>".join(html.escape(part) if part.isascii() else words(part) for part in name.split("_")))


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> Html:
    """A table whose first column names the rows; on a narrow screen each row stands as a block, cells with their
    column's name."""
    names = list(head)
    header = element("tr", None, *(element("th", {"scope": "col"}, name) for name in names))
    body = []
    for row in rows:
        first, *others = row
        cells = [element("th", {"scope": "row"}, first)]
        cells += [element("td", {"data-label": name}, cell) for name, cell in zip(names[1:], others, strict=True)]
        body.append(element("tr", None, *cells))
    return element("table", None, element("thead", None, header), element("tbody", None, *body))


def facts(pairs: Iterable[tuple[str, str]]) -> Html:
    """A list of names and values."""
    return element(
        "dl", None, *(element("div", None, element("dt", None, name), element("dd", None, v)) for name, v in pairs)
    )
