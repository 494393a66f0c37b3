"""The units of the times of a table's columns, detected for each file on its own: the files of a folder may differ."""

from __future__ import annotations

from pathlib import Path

from features.tables.timestamps import Times, Unit

_SHOWN = 3
_WORDS = {"calendar": "calendar numbers", "s": "epoch s", "ms": "epoch ms", "us": "epoch us"}


class TimeUnits:
    """The units of each column in each file, as far as they are read."""

    def __init__(self) -> None:
        self._units: dict[tuple[str, Path], Unit] = {}
        self._written: dict[str, dict[Path, str]] = {}

    def of(self, file: Path, column: str) -> Unit | None:
        """The unit of a file's numbers, None while none was seen."""
        return self._units.get((column, file))

    def add(self, file: Path, column: str, times: Times, *, text: bool) -> None:
        """Remember what a batch of a file was read as. text: whether the column came as text."""
        if times.unit is not None:
            self._units[column, file] = times.unit
        if times.values.null_count < len(times.values):
            self._written.setdefault(column, {}).setdefault(file, "ISO 8601" if text else "timestamps")

    def numeric(self, file: Path) -> set[str]:
        """Columns that a file writes as numbers since 1970."""
        return {column for (column, where), unit in self._units.items() if where == file and unit != "calendar"}

    def descriptions(self) -> dict[str, str]:
        """The unit or format of each column, for people; by file where files differ."""
        return {column: _joined(self._of_files(column)) for column in self._written}

    def _of_files(self, column: str) -> dict[str, list[Path]]:
        files_by_unit: dict[str, list[Path]] = {}
        for file, how in self._written[column].items():
            unit = self._units.get((column, file))
            files_by_unit.setdefault(how if unit is None else _WORDS[unit], []).append(file)
        return files_by_unit


def _joined(files: dict[str, list[Path]]) -> str:
    if len(files) == 1:
        return next(iter(files))
    return ", ".join(f"{how} in {_names(where)}" for how, where in files.items())


def _names(files: list[Path]) -> str:
    names = ", ".join(file.name for file in files[:_SHOWN])
    return names if len(files) <= _SHOWN else f"{names} and {len(files) - _SHOWN} more files"
