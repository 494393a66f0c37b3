"""The folder that a batch is written into: beside its place until it is complete, with all that is done already.

While a batch OUT is written, its partitions and manifest stand in `.OUT.unfinished` beside it, which becomes OUT when
the last one is there: OUT is complete, or absent. Whatever stops a run (a kill, a full disk, Ctrl-C, a file that cannot
be read), its partitions stay for the next run of the same batch; where none was done, nothing stays. The lock
`.OUT.lock` keeps a second run out, and ends with its process.
"""

from __future__ import annotations

import logging
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from features.atomic_files import NO_SPACE, exclusive_output, require_fresh_folder, sync_to_disk, unwritable
from features.errors import InputError, RecsysError
from recsys.batch.manifest import (
    COMPLETE,
    MANIFEST,
    BatchManifest,
    Partition,
    as_json,
    file_of,
    read_manifest,
    require_same,
    resumed,
)
from recsys.evaluation.report import count

logger = logging.getLogger(__name__)

REJECTS = "rejects"


class BatchFolder:
    """A batch that is being written. out: its place. path: where its files stand until it is complete. finished: the
    manifest of a batch that was complete before; such a one is left as it is."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.path = unfinished_folder(out)
        self.finished = read_manifest(out) if is_complete(out) else None
        self._earlier = self.finished or read_manifest(self.path)
        self._manifest: BatchManifest | None = None

    @property
    def manifest(self) -> BatchManifest:
        """What is done. Raises ValueError before `begin`."""
        if self._manifest is None:
            raise ValueError("expected a batch that has begun")
        return self._manifest

    @property
    def has_begun(self) -> bool:
        """Whether the inputs are known, and the same as those of an earlier attempt."""
        return self._manifest is not None

    def earlier(self, name: str) -> Any:
        """A value of the manifest of an earlier attempt; None where there was none."""
        return None if self._earlier is None or not self._earlier["partitions"] else self._earlier.get(name)

    def begin(self, inputs: dict[str, Any], *, started: str) -> None:
        """Go on with what an earlier attempt has done, or begin. inputs: all that the bytes depend on, as JSON. Raises
        InputError, which names what differs, where the earlier attempt had others."""
        if self.finished is not None:
            require_same(self.finished, inputs, self.out)
            return
        if self._earlier is not None and self._earlier["partitions"]:
            self._manifest = resumed(self._earlier, inputs, self.path)
            self._forget_missing()
            logger.info("%s done already", count(len(self._manifest.partitions), "partition"))
        else:
            self._manifest = BatchManifest(inputs, started)
        self._clear()

    def temporary(self) -> Path:
        """A new name for a file that is being written."""
        return self.path / f".{uuid.uuid4().hex[:8]}.partial"

    def add(self, number: int, written: Path, counts: Mapping[str, int]) -> None:
        """Make a file, which is on the disk, the partition of this number: once this returns, it is done."""
        name = file_of(number)
        size = written.stat().st_size
        written.replace(self.path / name)
        sync_to_disk(self.path)
        self.manifest.partitions[number] = Partition(name, size, counts)
        self._write_manifest(self.manifest.as_dict())

    def publish(self, more: Mapping[str, Any]) -> dict[str, Any]:
        """Give the complete batch its place. more: what the manifest says beside inputs, times and partitions."""
        self._clear()
        values = self.manifest.as_dict(COMPLETE, more)
        self._write_manifest(values)
        shutil.rmtree(self.out / REJECTS, ignore_errors=True)
        self.path.replace(self.out.resolve())  # a link to a folder stays a link
        sync_to_disk(self.out.resolve().parent)
        return values

    def publish_rejects(self) -> Path | None:
        """Where the rejected rows of a run that failed are: in its place, alone, where no partition is done; None where
        there are none, or a complete batch keeps its own."""
        if self.finished is not None:
            return None
        rejects, done = self.path / REJECTS, n_done(self.path)
        if not rejects.is_dir() or (done and not self.has_begun):
            return None
        if done:
            return rejects
        self.out.mkdir(exist_ok=True)
        shutil.rmtree(self.out / REJECTS, ignore_errors=True)
        return rejects.replace(self.out / REJECTS)

    def _write_manifest(self, values: Mapping[str, Any]) -> None:
        partial = self.temporary()
        with partial.open("w", encoding="utf-8") as file:
            file.write(as_json(values))
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self.path / MANIFEST)
        sync_to_disk(self.path)

    def _forget_missing(self) -> None:
        """Do partitions again whose file is gone or has another size than the manifest says."""
        listed = dict(self.manifest.partitions)
        for number, partition in listed.items():
            path = self.path / partition.file
            if not path.is_file() or path.stat().st_size != partition.size:
                del self.manifest.partitions[number]
        if self.manifest.partitions != listed:
            self._write_manifest(self.manifest.as_dict())

    def _clear(self) -> None:
        """Remove what the manifest does not list: an earlier attempt left it, or a worker that outlived one."""
        listed = {MANIFEST, REJECTS, *(partition.file for partition in self.manifest.partitions.values())}
        for path in self.path.iterdir():
            if path.name not in listed:
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def unfinished_folder(out: Path) -> Path:
    """Where a batch stands until it is complete."""
    target = out.resolve()
    return target.with_name(f".{target.name}.unfinished")


def is_complete(out: Path) -> bool:
    """Whether a folder is a complete batch."""
    try:
        found = read_manifest(out)
    except InputError:  # the manifest of something else
        return False
    return found is not None and found["state"] == COMPLETE


def n_done(folder: Path) -> int:
    """How many partitions an unfinished batch has."""
    found = read_manifest(folder)
    return 0 if found is None else len(found["partitions"])


def require_place(out: Path, *, resume: bool) -> None:
    """Raise InputError where anything is at `out` but the rejects of a run that failed, or with `resume` a complete
    batch."""
    if not (resume and is_complete(out)):
        require_fresh_folder(out, replaceable=(REJECTS,))


def _require_none_unfinished(out: Path) -> None:
    """Raise InputError where an earlier run left partitions. Read with the lock held: another run may be writing."""
    unfinished = unfinished_folder(out)
    if done := n_done(unfinished):
        raise InputError(
            f"output folder {str(out)!r}: an earlier run left {count(done, 'partition')} of it in {str(unfinished)!r}; "
            "go on from there by --resume, or remove that folder and begin anew"
        )


@contextmanager
def batch_folder(out: Path, *, resume: bool) -> Iterator[BatchFolder]:
    """A batch to write, alone: the block calls `begin`, `add` for each partition and `publish`.

    Where the block fails, the partitions that are done stay for a later run, and the error says so, unless it is an
    InputError: corrected inputs are another batch. Raises InputError as `require_place`, where another command writes
    the same batch, and without `resume` where an unfinished one is there; RecsysError where the disk is full.
    """
    with exclusive_output(out):
        require_place(out, resume=resume)
        if not resume:
            _require_none_unfinished(out)
        folder = BatchFolder(out)
        try:
            if not n_done(folder.path):
                shutil.rmtree(folder.path, ignore_errors=True)
            folder.path.mkdir(exist_ok=True)
            yield folder
        except OSError as error:
            if error.errno not in NO_SPACE:
                raise
            raise _resumable(unwritable(out, error), folder) from error
        except InputError:
            raise
        except RecsysError as error:
            raise _resumable(error, folder) from error
        except KeyboardInterrupt as stopped:
            raise KeyboardInterrupt(_note(folder)) from stopped
        finally:
            if not n_done(folder.path):
                shutil.rmtree(folder.path, ignore_errors=True)


def _resumable(error: RecsysError, folder: BatchFolder) -> RecsysError:
    note = _note(folder)
    return type(error)(f"{error}; {note}") if note else error


def _note(folder: BatchFolder) -> str:
    done = n_done(folder.path) if folder.has_begun else 0
    return f"--resume goes on after {count(done, 'partition')}" if done else ""
