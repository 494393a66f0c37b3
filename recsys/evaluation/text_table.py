"""How wide a text stands in a terminal, so that columns line up in every script."""

from __future__ import annotations

import unicodedata


def display_width(text: str) -> int:
    """Cells that a terminal gives the text: two for a wide character (Unicode Annex 11: Chinese, Japanese, Korean),
    none for a mark over another character or one that only directs the display.

    >>> display_width("体育"), display_width("e\\u0301")
    (4, 1)
    """
    if text.isascii():
        return len(text)
    return sum(map(_cells, text))


def padded(text: str, width: int) -> str:
    """The text with spaces behind it up to `width` cells."""
    return text + " " * (width - display_width(text))


def _cells(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
