"""Arguments that are checked as they are read, before a table or a model is opened.

An argument of the wrong form ends in exit code 2; one that names a place of no use in exit code 1, as it would later.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, TypeVar

import click

from features.errors import InputError, RecsysError, StoreError
from recsys.errors import ModelNotFound
from recsys.registry.names import is_version, name_problem, parse_uri

Command = TypeVar("Command", bound=Callable[..., Any])
_LONGEST_RUN_NAME = 250
_CHECKS = "recsys.checks"
_AGREE = "agree"


class CheckedCommand(click.Command):
    """A command that, once all arguments are read, sees whether they agree, looks at the places they name, and runs."""

    def invoke(self, ctx: click.Context) -> Any:
        """Raises UsageError where arguments contradict each other, RecsysError for a place of no use."""
        getattr(self.callback, _AGREE, _nothing)(ctx)
        for check, value in ctx.meta.pop(_CHECKS, ()):
            check(value)
        return super().invoke(ctx)


class CheckedGroup(click.Group):
    """A group of such commands."""

    command_class = CheckedCommand


def agreeing(check: Callable[[click.Context], None]) -> Callable[[Command], Command]:
    """Let a command call `check` with its arguments before it looks at anything; it raises UsageError."""

    def marked(command: Command) -> Command:
        setattr(command, _AGREE, check)
        return command

    return marked


def _nothing(context: click.Context) -> None:
    """The check of a command whose arguments cannot contradict each other."""


class _Argument(click.ParamType):  # type: ignore[type-arg]  # generic in the newest click only
    """An argument whose text `read` turns into its value, or refuses; what the value names is looked at by `check`."""

    def __init__(self, name: str) -> None:
        self.name = name

    def read(self, text: str) -> Any:
        """The value. Raises ValueError for a text of the wrong form."""
        raise NotImplementedError

    def check(self, value: Any) -> None:
        """Raise RecsysError where the value names a place of no use."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """What click calls for a value from the command line or a default."""
        try:
            read = self.read(os.fspath(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if ctx is not None:
            ctx.meta.setdefault(_CHECKS, []).append((self.check, read))
        return read


class _Place(_Argument):
    """A path."""

    def read(self, text: str) -> Path:
        """The path."""
        return Path(text)


class InputPath(_Place):
    """A file or folder that is read."""

    def check(self, value: Path) -> None:
        """Raise InputError where there is none."""
        if not value.exists():
            raise InputError(f"{str(value)!r} does not exist; expected a file or folder to read")


class InputFolder(_Place):
    """A data directory."""

    def check(self, value: Path) -> None:
        """Raise InputError where there is none."""
        if not value.is_dir():
            what = "a file" if value.exists() else "nothing"
            raise InputError(f"data directory {str(value)!r}: expected a folder of tables, found {what}")


class OutputFile(_Place):
    """A file that is written at the end."""

    def read(self, text: str) -> Path:
        """The path. Raises ValueError for a folder."""
        path = Path(text)
        if path.is_dir():
            raise ValueError(f"expected a file, but {text!r} is a folder; name a file in it")
        return path

    def check(self, value: Path) -> None:
        """Raise InputError or RecsysError where it could not be written."""
        _require_writable(value.resolve().parent, f"output file {str(value)!r}")


class OutputFolder(_Place):
    """A folder that is written into."""

    def check(self, value: Path) -> None:
        """Raise InputError or RecsysError where it could not be written."""
        _require_writable(value.resolve(), f"output folder {str(value)!r}")


class Store(_Argument):
    """The place of an online store: a folder or a URL."""

    def read(self, text: str) -> str:
        """The text."""
        return text

    def check(self, value: str) -> None:
        """Raise StoreError where a folder is a file."""
        if "://" not in value and Path(value).is_file():
            raise StoreError(f"online store {value!r}: expected a folder or a redis:// URL, found a file")


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
        from features.tables.timestamps import EXPECTED, moment_of

        if moment_of(text, "UTC") is None:
            raise ValueError(f"expected {EXPECTED}, got {text!r}")
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
