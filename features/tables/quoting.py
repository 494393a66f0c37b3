r"""Delimited text cut into blocks of whole rows, strict about quotes, so that no row is read as a part of another.

A cell is quoted when its first character is a double quote; then it ends with one, quotes inside are doubled, and it
may hold delimiters and line ends. A quote elsewhere is a character like any other. What breaks these rules:

- `"He said \"hi\""`: quotes escaped by backslashes. The row is read with them; `\"`, `\\` and `\` before a line end
  mean what follows the backslash. From the block in which such a row is met, all rows of the file are read so first.
- `"Star Wars" returns`, text after a quote: in tab-separated text, which mostly has no quoting, the line is
  taken literally; elsewhere its row is broken.
- `"Star Wars`, a quote that is never closed, or closed in a later row: the line of the opening quote is a broken row,
  and reading goes on with the next line.
- A cell whose further lines look like rows, by their number of cells: each of the lines is a broken row.

Blocks that break no rule are found so by array operations; the others are walked row by row.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from features.arrays import Bool, Int64

UNCLOSED, AFTER_QUOTE, SWALLOWED = "unclosed_quote", "text_after_quote", "rows_in_a_cell"
_BLOCK_BYTES = 8 << 20
_LONGEST_ROW = 4 << 20
_FEWEST_DELIMITERS = 4
"""With this many delimiters in the further lines of a cell, and as many in each as in a row, the lines are rows."""
_QUOTE, _LINE_END, _RETURN = b'"'[0], b"\n"[0], b"\r"[0]


@dataclass(frozen=True)
class Broken:
    """A row that cannot be read, as one line of text."""

    reason: str
    line: bytes


@dataclass(frozen=True)
class Block:
    """Some rows of a file. text: readable ones, each with its line end. broken: the rows that follow them. escaped: how
    many cells of the text had quotes escaped by backslashes; they are doubled now."""

    text: bytes
    broken: tuple[Broken, ...] = ()
    escaped: int = 0


@dataclass(frozen=True)
class _Form:
    """One way to write quoted cells, as regular expressions. lines: rows of one line each, as many as there are. row:
    one row, possibly of several lines. beginning: the start of a row that ends within a quoted cell. cell: a quoted
    cell."""

    lines: re.Pattern[bytes]
    row: re.Pattern[bytes]
    beginning: re.Pattern[bytes]
    cell: re.Pattern[bytes]


def _form(delimiter: bytes, inside: bytes, inside_line: bytes) -> _Form:
    """inside, inside_line: what may stand between the quotes of a cell, and of one on a single line."""
    d = re.escape(delimiter)
    cell = b'(?:"%s"|[^"%s\r\n][^%s\r\n]*+|)' % (inside, d, d)
    line = b'(?:"%s"|[^"%s\r\n][^%s\r\n]*+|)' % (inside_line, d, d)
    expressions = (
        b"(?:" + line + b"(?:" + d + line + b")*+(?:\r\n|\n|\r))++",
        cell + b"(?:" + d + cell + b")*+(?:\r\n|\n|\r|\\Z)",
        b"(?:" + cell + d + b')*+"' + inside + b'["\\\\]?\\Z',
        b'"(?<![^' + d + b'\r\n]")' + inside + b'"',
    )
    return _Form(*(re.compile(expression, re.DOTALL) for expression in expressions))


_DOUBLED = (rb'[^"]*+(?:""[^"]*+)*+', rb'[^"\r\n]*+(?:""[^"\r\n]*+)*+')
_ESCAPED = (rb'[^"\\]*+(?:(?:\\.|"")[^"\\]*+)*+', rb'[^"\\\r\n]*+(?:(?:\\[^\r\n]|"")[^"\\\r\n]*+)*+')
_ESCAPE = re.compile(rb'\\(["\\\n]|\r\n?)')
_LINE = re.compile(rb"[^\r\n]*+(?:\r\n|\n|\r|\Z)")


class _Layout:
    """Delimited text of one table. width: cells of a row, 0 where it is not known."""

    def __init__(self, delimiter: str) -> None:
        self.delimiter = delimiter.encode()
        self.doubled = _form(self.delimiter, *_DOUBLED)
        self.escaped = _form(self.delimiter, *_ESCAPED)
        self.width = 0


class WholeRows:
    """Iterates over a stream of UTF-8 text in blocks of whole rows; the first one is without the header row.

    header: the first row that is not blank, with its line end, where the stream has one.
    """

    def __init__(self, stream: BinaryIO, delimiter: str, *, quoted: bool, has_header: bool) -> None:
        self._stream = stream
        self._layout = _Layout(delimiter)
        self._quoted = quoted
        self._escaped = False
        self._rest = stream.read(_BLOCK_BYTES).removeprefix(b"\xef\xbb\xbf")
        self.header = self._take_header() if has_header else b""
        self._layout.width = self._count_cells(self.header) if has_header else 0

    def __iter__(self) -> Iterator[Block]:
        data, self._rest = self._rest, b""
        while True:
            more = self._stream.read(_BLOCK_BYTES)
            blocks, rest = self._cut(data, at_end=not more)
            yield from (block for block in blocks if block.text or block.broken)
            if not more:
                return
            data = rest + more

    def _take_header(self) -> bytes:
        text = self._rest.lstrip(b"\r\n")
        match = (self._layout.doubled.row if self._quoted else _LINE).match(text) or _LINE.match(text)
        header = match[0] if match else b""
        self._rest = text[len(header) :]
        return header

    def _count_cells(self, row: bytes) -> int:
        unquoted = re.sub(rb'"[^"]*"', b"", row) if self._quoted else row
        return unquoted.count(self._layout.delimiter) + 1

    def _cut(self, data: bytes, *, at_end: bool) -> tuple[list[Block], bytes]:
        """The whole rows at the start of `data`, and what is left."""
        if not self._quoted or b'"' not in data:
            end = len(data) if at_end else (data.rfind(b"\n") + 1 or data.rfind(b"\r") + 1)
            return [Block(data[:end])], data[end:]
        if not (self._escaped and b"\\" in data):
            end = self._plain_end(data, at_end=at_end)
            if end:
                return [Block(data[:end])], data[end:]
        return self._walked(data, at_end=at_end)

    def _plain_end(self, data: bytes, *, at_end: bool) -> int:
        """Where the last whole row of `data` ends, 0 where a row before that may be broken."""
        text = np.frombuffer(data, np.uint8)
        quotes = np.flatnonzero(text == _QUOTE)
        lines = np.flatnonzero(text == _LINE_END)
        inside = np.searchsorted(quotes, lines) % 2 == 1
        outside = lines[~inside]
        end = len(data) if at_end else int(outside[-1]) + 1 if len(outside) else 0
        quotes = quotes[quotes < end]
        if end == 0 or len(quotes) % 2 or not _well_placed(text[:end], quotes, self._layout.delimiter[0]):
            return 0
        return 0 if inside.any() and self._like_rows(text, lines, inside) else end

    def _like_rows(self, text: np.ndarray, lines: Int64, inside: Bool) -> bool:
        """Whether a line after an `inside` line end has as many cells as a row, quotes ignored."""
        delimiters = np.flatnonzero(text == self._layout.delimiter[0])
        delimiters_before = np.searchsorted(delimiters, np.append(lines, len(text)))
        return self._layout.width > 1 and bool(np.any(np.diff(delimiters_before)[inside] == self._layout.width - 1))

    def _walked(self, data: bytes, *, at_end: bool) -> tuple[list[Block], bytes]:
        """As `_cut`, row by row; repeated where a row has escaped quotes, since all rows of the file may have them."""
        walk = _Walk(data, self._layout, escaped_first=self._escaped)
        rest = walk.run(at_end=at_end)
        if walk.n_escaped and not self._escaped:
            self._escaped = True
            walk = _Walk(data, self._layout, escaped_first=True)
            rest = walk.run(at_end=at_end)
        return walk.blocks, rest


class _Walk:
    """One pass over the rows of a part of a file. blocks: what it found. n_escaped: cells with escaped quotes."""

    def __init__(self, data: bytes, layout: _Layout, *, escaped_first: bool) -> None:
        self.blocks: list[Block] = []
        self.n_escaped = 0
        self._data = data
        self._layout = layout
        self._forms = (layout.escaped, layout.doubled) if escaped_first else (layout.doubled, layout.escaped)
        self._text: list[bytes] = []
        self._broken: list[Broken] = []
        self._counted = 0

    def run(self, *, at_end: bool) -> bytes:
        """Walk over all rows; returns the start of a row whose end is not read yet."""
        position = 0
        while position < len(self._data):
            if lines := self._forms[0].lines.match(self._data, position):
                self._keep(lines[0], self._forms[0])
                position = lines.end()
                continue
            taken = self._take_row(position, at_end=at_end)
            if not taken:
                break
            position += taken
        self._close_block()
        return self._data[position:]

    def _take_row(self, position: int, *, at_end: bool) -> int:
        """The length of the row at `position`, broken or not; 0 where its end is not read yet."""
        for form in self._forms:
            row = form.row.match(self._data, position)
            if row and (at_end or row[0].endswith((b"\n", b"\r"))):
                lines = row[0].rstrip(b"\r\n").split(b"\n")
                if self._swallowed(lines[0], lines[1:]):
                    self._broken += [Broken(SWALLOWED, line) for line in lines]
                else:
                    self._keep(row[0], form)
                return len(row[0])
            begins = row or form.beginning.match(self._data, position)
            if begins and not at_end and len(self._data) - position < _LONGEST_ROW:
                return 0
        line = _LINE.match(self._data, position)
        return self._take_broken(line[0] if line else b"")

    def _take_broken(self, line: bytes) -> int:
        content, delimiter = line.rstrip(b"\r\n"), self._layout.delimiter
        closed = content.count(b'"') % 2 == 0
        if closed and delimiter == b"\t" and content.count(delimiter) == self._layout.width - 1:
            self._keep(_literal(content, delimiter) + line[len(content) :], self._layout.doubled)
        else:
            self._broken.append(Broken(AFTER_QUOTE if closed else UNCLOSED, content))
        return len(line)

    def _swallowed(self, first: bytes, further: list[bytes]) -> bool:
        """Whether the lines after the first one of a row are rows themselves: they have as many cells, and those are so
        many in all, or their first cells, ids mostly, are of such letters and digits, that it is no accident."""
        delimiter, each = self._layout.delimiter, self._layout.width - 1
        if each < 1 or not further or any(line.count(delimiter) != each for line in further):
            return False
        like = _shape(first.partition(delimiter)[0])
        return each * len(further) >= _FEWEST_DELIMITERS or all(
            _shape(line.partition(delimiter)[0]) == like for line in further
        )

    def _keep(self, rows: bytes, form: _Form) -> None:
        if self._broken:
            self._close_block()
        if form is self._layout.escaped and b"\\" in rows:
            rows = form.cell.sub(self._doubled, rows)
        self._text.append(rows)

    def _doubled(self, cell: re.Match[bytes]) -> bytes:
        """A quoted cell with doubled quotes in place of escaped ones."""
        text = cell[0]
        if b"\\" not in text:
            return text
        inside = text[1:-1]
        self.n_escaped += b'\\"' in inside
        if b"\\\\" not in inside and b"\\\n" not in inside and b"\\\r" not in inside:
            return b'"' + inside.replace(b'\\"', b'""') + b'"'
        return b'"' + _ESCAPE.sub(lambda escape: b'""' if escape[1] == b'"' else escape[1], inside) + b'"'

    def _close_block(self) -> None:
        self.blocks.append(Block(b"".join(self._text), tuple(self._broken), self.n_escaped - self._counted))
        self._text, self._broken, self._counted = [], [], self.n_escaped


def _shape(cell: bytes) -> bytes:
    """A cell with one 9 for digits in a row and one a for letters in a row: `a9-9` for `item7-12`."""
    return re.sub(rb"[A-Za-z\x80-\xff]+", b"a", re.sub(rb"\d+", b"9", cell.strip(b'" ')))


def _literal(line: bytes, delimiter: bytes) -> bytes:
    """A line of literal quotes, with its cells quoted accordingly."""
    cells = line.split(delimiter)
    return delimiter.join(b'"' + cell.replace(b'"', b'""') + b'"' if b'"' in cell else cell for cell in cells)


def _well_placed(text: np.ndarray, quotes: Int64, delimiter: int) -> bool:
    """Whether the quotes alternate between the begin and the end of a cell, or are doubled inside it."""
    is_boundary = np.zeros(256, np.bool_)
    is_boundary[[delimiter, _LINE_END, _RETURN, _QUOTE]] = True
    opening, closing = quotes[::2], quotes[1::2]
    begins = is_boundary[text[opening - 1]] | (opening == 0)
    ends = is_boundary[text[np.minimum(closing + 1, len(text) - 1)]] | (closing == len(text) - 1)
    return bool(begins.all() and ends.all())
