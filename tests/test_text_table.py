"""Widths in a terminal, and tables that line up in every script."""

import pytest

from recsys.evaluation.text_table import text_table


@pytest.mark.parametrize(
    ("text", "width"),
    [
        ("", 0),
        ("abc", 3),
        ("体育", 4),
        ("ｶﾞ", 2),
        ("ガ", 2),
        ("한국", 4),
        ("e\u0301", 1),
        ("שָׁלוֹם", 4),
        ("\u200fשלום", 4),
        ("บ้าน", 3),
    ],
)
def test_a_wide_character_takes_two_cells_and_a_mark_none(text: str, width: int) -> None:
    assert text_table([["12345", "|"], [text, "|"]]).splitlines()[1] == "  " + text + " " * (5 - width) + "  |"


def test_columns_line_up_beside_chinese_and_hebrew() -> None:
    lines = text_table([["slice", "n"], ["category 体育", "1"], ["category ספורט", "22"]]).splitlines()
    assert lines == ["  slice           n", "  category 体育   1", "  category ספורט  22"]
