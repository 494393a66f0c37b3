"""Arguments that are checked as they are parsed, before a table or a model is opened.

An argument of the wrong form ends in exit code 2; an unusable path in exit code 1.
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
from recsys.registry.names import is_version, name_problem, parse_uri, run_names

Command = TypeVar("Command", bound=Callable[..., Any])
_LONGEST_RUN_NAME = 250
_CHECKS = "recsys.checks"
_AGREE = "agree"


class CheckedCommand(click.Command):
    """A command that first checks that its arguments agree and that their paths can be used."""

    def invoke(self, ctx: click.Context) -> Any:
        """Raises UsageError where arguments contradict each other, RecsysError for an unusable path."""
        getattr(self.callback, _AGREE, _nothing)(ctx)
        for check, value in ctx.meta.pop(_CHECKS, ()):
            check(value)
        return super().invoke(ctx)


class CheckedGroup(click.Group):
    """A group of such commands."""

    command_class = CheckedCommand


def agreeing(check: Callable[[click.Context], None]) -> Callable[[Command], Command]:
    """Let a command call `check`, which raises UsageError, with its arguments before anything else."""

    def marked(command: Command) -> Command:
        setattr(command, _AGREE, check)
        return command

    return marked


def _nothing(context: click.Context) -> None:
    """The check of a command whose arguments cannot contradict each other."""


class Argument(click.ParamType):  # type: ignore[type-arg]  # generic in the newest click only
    """An argument that is checked before its command runs.

    read: turns its text into its value; raises ValueError or RecsysError for a text of the wrong form. check: called
    with the value once all arguments are parsed; raises RecsysError for an unusable path.
    """

    def __init__(self, name: str, read: Callable[[str], Any], check: Callable[[Any], None] | None = None) -> None:
        self.name = name
        self._read, self._check = read, check

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """What click calls for a value from the command line or a default."""
        try:
            read = self._read(os.fspath(value))
        except (ValueError, RecsysError) as error:
            self.fail(str(error), param, ctx)
        if ctx is not None and self._check is not None:
            ctx.meta.setdefault(_CHECKS, []).append((self._check, read))
        return read


def _require_there(path: Path) -> None:
    if not path.exists():
        raise InputError(f"{str(path)!r} does not exist; expected a file or folder to read")


def _require_folder(path: Path) -> None:
    if not path.is_dir():
        got = "a file" if path.exists() else "nothing"
        raise InputError(f"data directory {str(path)!r}: expected a folder of tables, found {got}")


def _place(text: str) -> Path | str:
    """A path of this machine, or a URL of an object store."""
    if text.startswith("file://"):
        return Path(text.removeprefix("file://"))
    if "://" not in text:
        return Path(text)
    scheme, _, name = text.rstrip("/").partition("://")
    if not scheme or not name:
        raise ValueError(f"expected a path, or a URL such as s3://bucket/folder, got {text!r}")
    return f"{scheme}://{name}"


def _require_data_or_store(place: str) -> None:
    if "://" not in place and not Path(place).is_dir():
        raise InputError(
            f"{place!r}: expected a data directory, the folder of an online store or a redis:// URL, found "
            + ("a file" if Path(place).exists() else "nothing")
        )


def _on_this_machine(check: Callable[[Path], None]) -> Callable[[Path | str | None], None]:
    """A check of paths only: what is at a URL is seen when it is opened."""

    def checked(place: Path | str | None) -> None:
        if isinstance(place, Path):
            check(place)

    return checked


def _users_file(text: str) -> Path | str | None:
    return None if text == "all" else _place(text)


def _file_path(text: str) -> Path:
    path = Path(text)
    if path.is_dir():
        raise ValueError(f"expected a file, but {text!r} is a folder; name a file in it")
    return path


def _require_no_file(store: str) -> None:
    if "://" not in store and Path(store).is_file():
        raise StoreError(f"online store {store!r}: expected a folder or a redis:// URL, found a file")


def _key_name(text: str) -> str:
    from recsys.serving.api_keys import check_key_name

    return check_key_name(text)


def _key_place(text: str) -> str:
    return text if "://" in text else str(_file_path(text))


def _model_name(text: str) -> str:
    if problem := name_problem(text):
        raise ValueError(problem)
    return text


def _run_name(text: str) -> str:
    if not text.strip() or len(text) > _LONGEST_RUN_NAME:
        raise ValueError(f"expected 1 to {_LONGEST_RUN_NAME} characters, got {text[:50]!r}")
    return text


def _uri(text: str) -> str:
    parse_uri(text)
    return text


def _version(text: str) -> str:
    if is_version(text):
        return _uri(text)
    if not re.fullmatch(r"\d+", text):
        raise ValueError(f"expected a version's number or models:/NAME/VERSION, got {text!r}")
    return text


def _run(text: str) -> str:
    if is_version(text):
        return _uri(text)
    if not re.fullmatch(r"[\w-]+", text):
        raise ValueError(f"expected a run's id or models:/NAME/VERSION, got {text!r}")
    return text


def _side(text: str) -> str:
    for name in filter(is_version, run_names(text)):
        _uri(name)
    return text


def _encoding(text: str) -> str:
    from features.tables.encodings import check_encoding

    return check_encoding(text)


def _timestamp(text: str) -> str:
    from features.tables.timestamps import EXPECTED, parse_time

    if parse_time(text, "UTC") is None:
        raise ValueError(f"expected {EXPECTED}, got {text!r}")
    return text


def _require_writable(folder: Path, output: str) -> None:
    """Raise where `folder`, or the nearest folder above that is there, cannot be written into."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir():
        raise InputError(f"{output}: expected a path in a folder, but {str(folder)!r} is a file")
    try:
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = error.strerror or str(error)
        raise RecsysError(
            f"{output} cannot be written: folder {str(folder)!r} takes no file ({reason}); name another folder"
        ) from error


FOLDER = Argument("folder", Path, _require_folder)
"""A data directory."""
INPUT = Argument("path", Path, _require_there)
"""A file or folder that is read."""
FOLDER_OR_URL = Argument("folder|url", _place, _on_this_machine(_require_folder))
"""A data directory, of this machine or an object store."""
INPUT_OR_URL = Argument("path|url", _place, _on_this_machine(_require_there))
"""A file or folder that is read, of this machine or an object store."""
USERS = Argument("path|url|all", _users_file, _on_this_machine(_require_there))
"""A file of users, or None for all."""
OUT_FILE = Argument(
    "file", _file_path, lambda path: _require_writable(path.resolve().parent, f"output file {str(path)!r}")
)
"""A file that is written at the end."""
OUT_FOLDER = Argument("folder", Path, lambda path: _require_writable(path.resolve(), f"output folder {str(path)!r}"))
"""A folder that is written into."""
OUT_FOLDER_OR_URL = Argument(
    "folder|url",
    _place,
    _on_this_machine(lambda path: _require_writable(path.resolve(), f"output folder {str(path)!r}")),
)
"""A folder that is written into, of this machine or an object store."""


DATA_OR_STORE = Argument("folder|url", str, _require_data_or_store)
"""A data directory, or an online store."""
STORE = Argument("store", str, _require_no_file)
"""An online store: a folder or a URL."""
KEYS = Argument("keys", _key_place)
"""Where API keys are kept: a file or a URL."""
KEY_NAME = Argument("name", _key_name)
"""The name of an API key."""
NEW_NAME = Argument("name", _model_name)
"""The NAME of models that are registered as NAME-encoder and NAME-ranker."""
RUN_NAME = Argument("name", _run_name)
"""The name of an MLflow run."""
MODEL = Argument("uri", _uri)
"""A registered version, as models:/NAME/VERSION or models:/NAME@ALIAS."""
VERSION = Argument("version", _version)
"""A version's number, or its URI."""
RUN_OR_VERSION = Argument("run", _run)
"""A run's id, or a version that it registered."""
SIDE = Argument("side", _side)
"""One side of a comparison: runs or versions with commas between."""
ENCODING = Argument("text", _encoding)
"""The name of an encoding that Python knows."""
MOMENT = Argument("time", _timestamp)
"""A time as people write it; in which zone one without a zone is, the data or the model says later."""
