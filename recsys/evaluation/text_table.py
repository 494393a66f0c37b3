"""Plain-text tables with aligned columns in every script."""

from __future__ import annotations

from wcwidth import ljust, width


def text_table(rows: list[list[str]]) -> str:
    """Rows of cells as text with columns of equal width, two spaces in."""
    widths = [max(map(width, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(ljust(cell, size) for cell, size in zip(row, widths, strict=True)).rstrip() for row in rows)
    return "\n".join(f"  {line}" for line in lines)
