"""Arguments that are checked as they are read, before a table or a model is opened.

An argument of the wrong form ends in exit code 2; one that names a place of no use in exit code 1, as it would later.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import click

from features.errors import InputError, RecsysError, StoreError
from recsys.errors import ModelNotFound
from recsys.registry.names import is_version, name_problem, parse_uri

_LONGEST_RUN_NAME = 250


class _Argument(click.ParamType):  # type: ignore[type-arg]  # generic in the newest click only
    """An argument whose text `read` turns into its value, or refuses with a ValueError."""

    def __init__(self, name: str) -> None:
        self.name = name

    def read(self, text: str) -> Any:
        """The value. Raises ValueError for a text of the wrong form, RecsysError for a place of no use."""
        raise NotImplementedError

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """What click calls for a value from the command line or a default."""
        try:
            return self.read(os.fspath(value))
        except RecsysError:
            raise
        except ValueError as error:
            self.fail(str(error), param, ctx)


class InputPath(_Argument):
    """A file or folder that is read."""

    def read(self, text: str) -> Path:
        """Raises InputError where there is none."""
        path = Path(text)
        if not path.exists():
            raise InputError(f"{text!r} does not exist; expected a file or folder to read")
        return path


class InputFolder(_Argument):
    """A data directory."""

    def read(self, text: str) -> Path:
        """Raises InputError where there is none."""
        path = Path(text)
        if not path.is_dir():
            what = "a file" if path.exists() else "nothing"
            raise InputError(f"data directory {text!r}: expected a folder of tables, found {what}")
        return path


class OutputFile(_Argument):
    """A file that is written at the end."""

    def read(self, text: str) -> Path:
        """Raises ValueError for a folder, InputError or RecsysError where it could not be written."""
        path = Path(text)
        if path.is_dir():
            raise ValueError(f"expected a file, but {text!r} is a folder; name a file in it")
        _require_writable(path.resolve().parent, f"output file {text!r}")
        return path


class OutputFolder(_Argument):
    """A folder that is written into."""

    def read(self, text: str) -> Path:
        """Raises InputError or RecsysError where it could not be written."""
        path = Path(text)
        _require_writable(path.resolve(), f"output folder {text!r}")
        return path


class Store(_Argument):
    """The place of an online store: a folder or a URL."""

    def read(self, text: str) -> str:
        """Raises StoreError where a folder is a file."""
        if "://" not in text and Path(text).is_file():
            raise StoreError(f"online store {text!r}: expected a folder or a redis:// URL, found a file")
        return text


class NewName(_Argument):
    """The NAME of models that are registered as NAME-encoder and NAME-ranker."""

    def read(self, text: str) -> str:
        """Raises ValueError for a name that MLflow would not take, or no URI could hold."""
        if problem := name_problem(text):
            raise ValueError(problem)
        return text


class RunName(_Argument):
    """The name of an MLflow run."""

    def read(self, text: str) -> str:
        """Raises ValueError for a blank or a very long one."""
        if not text.strip() or len(text) > _LONGEST_RUN_NAME:
            raise ValueError(f"expected 1 to {_LONGEST_RUN_NAME} characters, got {text[:50]!r}")
        return text


class ModelUri(_Argument):
    """A registered version, as models:/NAME/VERSION or models:/NAME@ALIAS."""

    def read(self, text: str) -> str:
        """Raises ValueError for another form."""
        _require_uri(text)
        return text


class VersionOrUri(_Argument):
    """A version's number, or its URI."""

    def read(self, text: str) -> str:
        """Raises ValueError for another form."""
        if is_version(text):
            _require_uri(text)
        elif not re.fullmatch(r"\d+", text):
            raise ValueError(f"expected a version's number or models:/NAME/VERSION, got {text!r}")
        return text


class Side(_Argument):
    """One side of a comparison: runs or versions with commas between."""

    def read(self, text: str) -> str:
        """Raises ValueError where a version is of another form, or nothing is named."""
        names = [part.strip() for part in text.split(",") if part.strip()]
        if not names:
            raise ValueError(f"expected a run's id, models:/NAME/VERSION, or several with commas between, got {text!r}")
        for name in names:
            if is_version(name):
                _require_uri(name)
        return text


class Moment(_Argument):
    """A time as people write it; in which zone one without a zone is, the data or the model says later."""

    def read(self, text: str) -> str:
        """Raises ValueError where it is no time in any zone."""
        from features.times import moment_of

        if moment_of(text, "UTC") is None:
            raise ValueError(f"expected ISO 8601 or epoch s, ms or us, got {text!r}")
        return text


def _require_uri(text: str) -> None:
    try:
        parse_uri(text)
    except ModelNotFound as error:
        raise ValueError(str(error)) from error


def _require_writable(folder: Path, what: str) -> None:
    """Raise where `folder`, or the nearest folder above that is there, cannot be written into."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir():
        raise InputError(f"{what}: expected a place in a folder, but {str(folder)!r} is a file")
    try:
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = error.strerror or str(error)
        raise RecsysError(
            f"{what} cannot be written: folder {str(folder)!r} takes no file ({reason}); name another place"
        ) from error
