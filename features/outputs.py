"""Output that appears whole or not at all: written under a temporary name beside its place, then renamed."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from features.errors import InputError, RecsysError


@contextmanager
def fresh_folder(out: Path) -> Iterator[Path]:
    """A folder to write into, which becomes `out` when the block ends; nothing stays when the block fails.

    Raises InputError where `out` is a file or holds anything, RecsysError where it cannot be written.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"output folder {str(out)!r}: expected a new or empty folder, got a file; name another one")
    if out.is_dir() and any(out.iterdir()):
        raise InputError(f"output folder {str(out)!r}: expected a new or empty folder, got files; name another one")
    partial = _beside(out)
    try:
        partial.mkdir(parents=True)
        yield partial
        partial.replace(out)
    except OSError as error:
        raise _unwritable(out, error) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def fresh_file(out: Path) -> Iterator[Path]:
    """A file name to write to, which becomes `out` when the block ends; nothing stays when the block fails.

    Raises InputError where `out` exists, RecsysError where it cannot be written.
    """
    if out.exists():
        raise InputError(f"output file {str(out)!r}: expected no such file yet; move it away or name another place")
    partial = _beside(out)
    try:
        partial.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        partial.replace(out)
    except OSError as error:
        raise _unwritable(out, error) from error
    finally:
        partial.unlink(missing_ok=True)


def _beside(out: Path) -> Path:
    place = out.resolve()
    return place.with_name(f".{place.name}.{uuid.uuid4().hex[:8]}.partial")


def _unwritable(out: Path, error: OSError) -> RecsysError:
    reason = error.strerror or " ".join(str(error).split())
    return RecsysError(f"output {str(out)!r} cannot be written: {reason}; free some space or name another place")
