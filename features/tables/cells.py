"""Cells of one kind from columns of any Arrow type: each function returns the canonical array and, for each cell that
cannot be read, the reason.

A cell that cannot be read becomes null and carries a reason; a column whose type can hold nothing of the kind
(ids as floats in Parquet) raises InputError, since every row would be the same mistake.
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from features.arrays import Bool, Float64
from features.errors import InputError
from features.tables.event_types import canonical_types
from features.tables.schema import CANONICAL, WORDS, ColumnSpec, Kind

_FLOAT_ID = r"^[+-]?\d+\.\d*([eE][+-]?\d+)?$|^[+-]?\d+[eE][+-]\d+$"
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
_MISSING_NUMBER = pa.array(["nan", "na", "n/a", "null", "none"], pa.large_string())
_TRUE = pa.array(["true", "t", "yes", "1"], pa.large_string())
_FALSE = pa.array(["false", "f", "no", "0"], pa.large_string())
_LARGEST: dict[Kind, int] = {"label": 30, "count": np.iinfo(np.int32).max}
_LISTS = (pa.ListType, pa.LargeListType, pa.FixedSizeListType, pa.ListViewType, pa.LargeListViewType)
_TEXT_TYPES = (
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_large_binary,
    pa.types.is_string_view,
    pa.types.is_binary,
    pa.types.is_binary_view,
    pa.types.is_fixed_size_binary,
)


Problem = tuple[Bool, str]
"""(n,) mask of the cells that cannot be read, and why."""


@dataclass(frozen=True)
class ParsedCells:
    """values: (n,) canonical array. problems: of the cells that cannot be read."""

    values: pa.Array
    problems: tuple[Problem, ...] = ()


def occurring(*problems: Problem) -> tuple[Problem, ...]:
    """The problems that some cell has."""
    return tuple((bad, why) for bad, why in problems if bad.any())


def read_text(array: pa.Array) -> ParsedCells:
    """`array` as UTF-8 text where it is text or bytes, and as it is otherwise; dictionaries are resolved."""
    if pa.types.is_dictionary(array.type):
        array = array.cast(array.type.value_type)
    if is_text(array.type):
        array = array.cast(pa.large_binary())
    if not pa.types.is_large_binary(array.type):
        return ParsedCells(array)
    try:
        return ParsedCells(array.cast(pa.large_string()))
    except pa.ArrowInvalid:
        texts = [None if value is None else _decoded(value) for value in array.to_pylist()]
        values = pa.array(texts, pa.large_string())
        bad = np.array([text is None for text in texts]) & ~mask_of(array.is_null())
        return ParsedCells(values, ((bad, "invalid_utf8"),))


def is_text(arrow_type: pa.DataType) -> bool:
    """Whether a type is text or bytes."""
    return any(test(arrow_type) for test in _TEXT_TYPES)


def _decoded(value: bytes) -> str | None:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return None


def mask_of(array: pa.Array | pa.BooleanScalar) -> Bool:
    """A boolean array as NumPy, null being False."""
    mask: Bool = pc.fill_null(array, False).to_numpy(zero_copy_only=False)
    return mask


def read_ids(array: pa.Array, column: ColumnSpec, *, textual: bool) -> ParsedCells:
    """Ids as text; whole numbers, decimals among them, become decimal text, an empty one is null. Floats raise
    InputError, or are rejected one by one where the format writes everything as text; there an id that goes on over
    several lines is rejected too, since it is the work of a quote that was not closed."""
    arrow_type = array.type
    if pa.types.is_null(arrow_type) or pa.types.is_integer(arrow_type):
        return ParsedCells(array.cast(pa.large_string()))
    if pa.types.is_decimal(arrow_type):
        return _decimal_ids(array)
    if not pa.types.is_large_string(arrow_type):
        raise _wrong_type(column, "text, whole numbers or 16-byte UUIDs", arrow_type, "write ids as text")
    values = pc.if_else(pc.equal(array, ""), pa.scalar(None, array.type), array)
    if not textual:
        return ParsedCells(values)
    floats = mask_of(pc.match_substring_regex(values, _FLOAT_ID))
    lines = mask_of(pc.match_substring_regex(values, r"[\r\n]"))
    return ParsedCells(values, occurring((floats, "float_id"), (lines, "line_break_in_id")))


def _decimal_ids(array: pa.Array) -> ParsedCells:
    coded = array.dictionary_encode()
    distinct = coded.dictionary.to_pylist()
    texts = [f"{value:.0f}" if value == value.to_integral_value() else None for value in distinct]
    values = pa.array(texts, pa.large_string()).take(coded.indices)
    fraction = mask_of(values.is_null()) & ~mask_of(array.is_null())
    return ParsedCells(values, occurring((fraction, "float_id")))


def uuids_as_text(array: pa.Array) -> pa.Array:
    """UUIDs of 16 bytes in their usual form, other arrays as they are.

    A column holds UUIDs where its type says so, and where every value has 16 bytes and some is no text: in a column of
    fixed size, printable ASCII; in another one, UTF-8.
    """
    if isinstance(array.type, pa.BaseExtensionType):
        array = array.storage
    arrow_type = array.type
    fixed = pa.types.is_fixed_size_binary(arrow_type)
    if not (fixed and arrow_type.byte_width == 16) and not (
        pa.types.is_binary(arrow_type) or pa.types.is_large_binary(arrow_type)
    ):
        return array
    if not fixed and not pc.all(pc.equal(pc.binary_length(array), 16)).as_py():
        return array
    coded = array.dictionary_encode()
    distinct = coded.dictionary.to_pylist()
    texts = [_decoded(value) for value in distinct]
    if all(text is not None and (not fixed or (text.isascii() and text.isprintable())) for text in texts):
        return array
    return pa.array([str(UUID(bytes=value)) for value in distinct], pa.large_string()).take(coded.indices)


def parse_text(array: pa.Array, column: ColumnSpec) -> ParsedCells:
    """Text; numbers and flags are written out, and the values of a list are joined by the column's joiner, those that
    are null left out."""
    arrow_type = array.type
    if pa.types.is_large_string(arrow_type):
        return ParsedCells(array)
    if isinstance(arrow_type, _LISTS):
        try:
            return ParsedCells(_joined(array.cast(pa.large_list(pa.large_string())), column.joiner))
        except pa.ArrowException:
            pass
    if isinstance(arrow_type, _LISTS) or pa.types.is_nested(arrow_type) or pa.types.is_temporal(arrow_type):
        raise _wrong_type(column, "text or lists of text", arrow_type, "write it as text")
    return ParsedCells(array.cast(pa.large_string()))


def _joined(lists: pa.Array, joiner: str) -> pa.Array:
    """The present values of each list as one text, null where the list is null."""
    lengths = pc.list_value_length(lists).fill_null(0).to_numpy(zero_copy_only=False)
    flat, rows = lists.flatten(), np.repeat(np.arange(len(lists)), lengths)
    present = mask_of(flat.is_valid())
    offsets = np.zeros(len(lists) + 1, np.int64)
    np.cumsum(np.bincount(rows[present], minlength=len(lists)), out=offsets[1:])
    values = pa.LargeListArray.from_arrays(pa.array(offsets), flat.filter(pa.array(present)))
    joined = pc.binary_join(values, pa.scalar(joiner, pa.large_string()))
    return pc.if_else(lists.is_null(), pa.scalar(None, joined.type), joined)


def read_numbers(array: pa.Array, column: ColumnSpec) -> ParsedCells:
    """Finite doubles; NaN, an empty cell and the usual null words are null, infinity is unreadable."""
    arrow_type = array.type
    bad = np.zeros(len(array), np.bool_)
    if pa.types.is_large_string(arrow_type):
        array = pc.utf8_trim_whitespace(array)
        numeric = mask_of(pc.match_substring_regex(array, _NUMBER))
        nothing = mask_of(pc.or_(pc.is_in(pc.utf8_lower(array), _MISSING_NUMBER), pc.equal(array, "")))
        bad = ~numeric & ~nothing & ~mask_of(array.is_null())
        array = pc.if_else(pa.array(numeric), array, None)
    elif not (pa.types.is_integer(arrow_type) or pa.types.is_floating(arrow_type) or pa.types.is_decimal(arrow_type)):
        if not (pa.types.is_boolean(arrow_type) or pa.types.is_null(arrow_type)):
            raise _wrong_type(column, "numbers", arrow_type, "write it as numbers")
        array = array.cast(pa.int8())
    numbers: Float64 = pc.cast(array, pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return ParsedCells(
        pa.array(numbers, mask=~np.isfinite(numbers)), occurring((bad | np.isinf(numbers), "wrong_type"))
    )


def parse_integers(array: pa.Array, column: ColumnSpec, largest: int) -> ParsedCells:
    """Whole numbers from 0 to `largest` in the column's canonical type; flags are 0 and 1."""
    if pa.types.is_large_string(array.type):
        flags = read_flags(array, column)
        array = pc.if_else(flags.values.is_valid(), pc.if_else(flags.values, "1", "0").cast(array.type), array)
    cells = read_numbers(array, column)
    numbers: Float64 = cells.values.to_numpy(zero_copy_only=False)
    present = ~np.isnan(numbers)
    fraction = present & (numbers != np.floor(numbers))
    outside = present & ~fraction & ((numbers < 0) | (numbers > largest))
    usable = present & ~fraction & ~outside
    whole = pa.array(np.where(usable, numbers, 0).astype(np.int64), mask=~usable).cast(CANONICAL[column.kind])
    return ParsedCells(whole, occurring(*cells.problems, (fraction, "wrong_type"), (outside, "out_of_range")))


def read_flags(array: pa.Array, column: ColumnSpec) -> ParsedCells:
    """True and False, of booleans, of 0 and 1, and of the usual words."""
    if pa.types.is_boolean(array.type) or pa.types.is_null(array.type):
        return ParsedCells(array.cast(pa.bool_()))
    if pa.types.is_large_string(array.type):
        lower = pc.utf8_lower(pc.utf8_trim_whitespace(array))
        yes, no = pc.is_in(lower, _TRUE), pc.is_in(lower, _FALSE)
        values = pc.if_else(yes, True, pc.if_else(no, False, pa.scalar(None, pa.bool_())))
        bad = ~mask_of(values.is_valid()) & ~mask_of(pc.equal(lower, "")) & mask_of(array.is_valid())
    else:
        numbers: Float64 = read_numbers(array, column).values.to_numpy(zero_copy_only=False)
        values = pa.array(numbers == 1.0, mask=~np.isin(numbers, (0.0, 1.0)))
        bad = ~np.isnan(numbers) & ~np.isin(numbers, (0.0, 1.0))
    return ParsedCells(values, occurring((bad, "wrong_type")))


def read_vectors(array: pa.Array, column: ColumnSpec) -> ParsedCells:
    """Lists of finite float32; text such as `[0.5, 1]` is read too. Their length is for the caller to compare."""
    arrow_type = array.type
    bad = np.zeros(len(array), np.bool_)
    if pa.types.is_null(arrow_type):
        return ParsedCells(array.cast(pa.list_(pa.float32())))
    if pa.types.is_large_string(arrow_type):
        texts = array.to_pylist()
        read = [None if text is None else _vector_of(text) for text in texts]
        bad = np.array([a is not None and b is None for a, b in zip(texts, read, strict=True)], np.bool_)
        array = pa.array(read, pa.list_(pa.float64()))
    try:
        values = array.cast(pa.list_(pa.float32()), safe=False)
    except pa.ArrowException as error:
        raise _wrong_type(column, "lists of numbers", arrow_type, "write vectors as lists of numbers") from error
    flat = values.flatten().to_numpy(zero_copy_only=False)
    if not np.isfinite(flat).all():
        rows = pc.list_parent_indices(values).to_numpy()
        bad[np.unique(rows[~np.isfinite(flat)])] = True
        values = pc.if_else(pa.array(bad), pa.scalar(None, values.type), values)
    return ParsedCells(values, occurring((bad, "wrong_type")))


def _vector_of(text: str) -> list[float] | None:
    try:
        parts = (
            orjson.loads(text) if text.lstrip().startswith("[") else text.replace(",", " ").replace("|", " ").split()
        )
        return [float(part) for part in parts]
    except (ValueError, TypeError):
        return None


def _wrong_type(column: ColumnSpec, expected: str, actual: pa.DataType, advice: str) -> InputError:
    return InputError(f"column {column.field!r}: expected {expected}, got {actual}; {advice}")


def parse_cells(array: pa.Array, column: ColumnSpec, *, textual: bool) -> ParsedCells:
    """The canonical cells of a column of any kind but time; `array` has been through `read_text`."""
    kind: Kind = column.kind
    if kind == "id":
        return read_ids(array, column, textual=textual)
    if kind in WORDS:
        words = parse_text(array, column)
        return ParsedCells(canonical_types(words.values), words.problems) if kind == "type" else words
    if kind == "number":
        return read_numbers(array, column)
    if kind in _LARGEST:
        return parse_integers(array, column, _LARGEST[kind])
    if kind == "flag":
        return read_flags(array, column)
    if kind == "vector":
        return read_vectors(array, column)
    return ParsedCells(array)
