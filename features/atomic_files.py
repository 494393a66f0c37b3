"""Output that appears whole or not at all: written under a temporary name beside it, then renamed.

While a command writes OUT it holds the lock `.OUT.lock` and writes `.OUT.XXXXXXXX.partial`. Both vanish when it ends.
A command that was killed leaves them. The next command for the same OUT removes them; one for another OUT in the same
folder logs a warning.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from features.errors import InputError, RecsysError

logger = logging.getLogger(__name__)

NO_SPACE = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
_TAKEN = (errno.ENOTEMPTY, errno.EEXIST)
_PARTIAL = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{8}\.partial(-\w+)?")
"""Also with the suffixes that a database appends to the names of its files."""


def require_fresh_folder(out: Path, *, replaceable: tuple[str, ...] = ()) -> None:
    """Raise InputError where `out` is a file, or a folder with anything in it but what is `replaceable`."""
    if out.exists() and not out.is_dir():
        raise InputError(f"output folder {str(out)!r}: expected a new or empty folder, got a file; name another one")
    if out.is_dir() and any(path.name not in replaceable for path in out.iterdir()):
        raise InputError(f"output folder {str(out)!r}: expected a new or empty folder, got files; name another one")


@contextmanager
def atomic_folder(out: Path, *, replaceable: tuple[str, ...] = ()) -> Iterator[Path]:
    """A folder to write into, which becomes `out` when the block ends; nothing stays when the block fails.

    replaceable: names in `out` that may be there and go when the block ends well. Raises InputError where `out` is a
    file, holds anything else or is being written by another command, RecsysError where it cannot be written.
    """
    require_fresh_folder(out, replaceable=replaceable)
    with exclusive_output(out), _partial_output(out, uuid.uuid4().hex[:8]) as partial:
        require_fresh_folder(out, replaceable=replaceable)
        try:
            partial.mkdir()
            yield partial
            for name in replaceable:
                shutil.rmtree(out / name, ignore_errors=True)
            partial.replace(out.resolve())  # a link to a folder stays a link
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def require_fresh_file(out: Path) -> None:
    """Raise InputError where `out` exists."""
    if out.exists():
        raise InputError(f"output file {str(out)!r}: expected no such file yet; move it away or name another place")


@contextmanager
def atomic_file(out: Path) -> Iterator[Path]:
    """A file name to write to, which becomes `out` when the block ends; nothing stays when the block fails.

    Raises InputError where `out` exists or is being written by another command, RecsysError where it cannot be written.
    """
    require_fresh_file(out)
    with exclusive_output(out), _partial_output(out, uuid.uuid4().hex[:8]) as partial:
        require_fresh_file(out)
        try:
            yield partial
            partial.replace(out)
        finally:
            partial.unlink(missing_ok=True)


@contextmanager
def replaced_file(out: Path) -> Iterator[Path]:
    """A file name to write to, which takes the place of `out` when the block ends; `out` stays when the block fails.

    Raises RecsysError where it cannot be written.
    """
    with _partial_output(out, "new") as partial:  # one name, so that what a killed command left is written over
        try:
            partial.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unwritable(out, error) from error
        try:
            yield partial
            partial.replace(out)
        finally:
            partial.unlink(missing_ok=True)


@contextmanager
def exclusive_output(out: Path) -> Iterator[None]:
    """Hold the lock of `out`, and remove what killed commands left of it. Raises InputError where another command holds
    it, RecsysError where its folder cannot be written."""
    target = out.resolve()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = _lock(target.parent, target.name)
        lock.acquire(blocking=False)
    except Timeout as error:
        raise InputError(
            f"output {str(out)!r}: another command is writing it at this moment; wait for that one, or name another "
            "place"
        ) from error
    except OSError as error:
        raise unwritable(out, error) from error
    try:
        _remove_leftovers(target)
        yield
    finally:
        _release(lock)


@contextmanager
def locked_output(out: Path) -> Iterator[None]:
    """Hold the lock of `out`, waiting for it where another command has it, and remove what killed commands left of it.
    The folder of `out` exists."""
    target = out.resolve()
    lock = _lock(target.parent, target.name)
    lock.acquire()
    try:
        _remove_leftovers(target)
        yield
    finally:
        _release(lock)


def _remove_leftovers(target: Path) -> None:
    """Remove what killed commands left of this output, and warn of what they left of others in its folder."""
    for path in sorted(target.parent.iterdir()):
        match = _PARTIAL.fullmatch(path.name)
        if match is None:
            continue
        if match["name"] == target.name:
            logger.info("removed %r, which a killed command had left", str(path))
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        elif _is_leftover(target.parent, match["name"]):
            logger.warning("warning: %r was left by a killed command; remove it", str(path))


def _is_leftover(folder: Path, name: str) -> bool:
    """Whether no command is writing the output of that name."""
    lock = _lock(folder, name)
    try:
        lock.acquire(blocking=False)
    except (Timeout, OSError):
        return False
    _release(lock)
    return True


def _lock(folder: Path, name: str) -> FileLock:
    return FileLock(folder / f".{name}.lock")


def _release(lock: FileLock) -> None:
    """Release a lock, and remove its file while it is still held, so that no other holder loses it."""
    with suppress(OSError):  # a system that does not remove open files keeps it
        Path(lock.lock_file).unlink()
    lock.release()


def sync_to_disk(path: Path) -> None:
    """Have a file, or the names in a folder, on the disk itself, so that they outlast a loss of power."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _partial_output(out: Path, tag: str) -> Iterator[Path]:
    """A temporary name beside `out`; errors of the system about it become one line that names `out`."""
    target = out.resolve()
    partial = target.with_name(f".{target.name}.{tag}.partial")
    try:
        yield partial
    except OSError as error:
        if error.errno in NO_SPACE or _is_about(error, partial):
            raise unwritable(out, error) from error
        raise


def _is_about(error: OSError, partial: Path) -> bool:
    named = [Path(str(name)) for name in (error.filename, error.filename2) if name is not None]
    return any(path == partial or partial in path.parents for path in named)


def unwritable(out: Path, error: OSError) -> RecsysError:
    """An error of the system about an output, as one line that names it."""
    reason = error.strerror or " ".join(str(error).split())
    if error.errno in _TAKEN:
        return InputError(
            f"output {str(out)!r}: something else was put there meanwhile, and stays as it is; name another place"
        )
    advice = "free some space or name another place" if error.errno in NO_SPACE else "name a place that can be written"
    return RecsysError(f"output {str(out)!r} cannot be written: {reason}; {advice}")
