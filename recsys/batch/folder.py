"""A batch that is being written: what is done of it stays, whatever stops a run.

A kill, a full disk, Ctrl-C, a file that cannot be read: the partitions that the manifest lists stay for the next run of
the same batch. Where none is done, nothing stays. Where the files are is the business of a `BatchStorage`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from features.atomic_files import NO_SPACE, unwritable
from features.errors import InputError, RecsysError
from recsys.batch.local_storage import local_storage, require_local_place, temporary_file
from recsys.batch.manifest import COMPLETE, BatchManifest, Partition, file_of, require_same, resumed
from recsys.batch.object_storage import object_storage
from recsys.batch.storage import REJECTS, BatchStorage, PartitionWriter, Written
from recsys.evaluation.report import count

logger = logging.getLogger(__name__)


class BatchFolder:
    """A batch that is being written. finished: the manifest of a batch that was complete before; such a one is left as
    it is."""

    def __init__(self, storage: BatchStorage) -> None:
        self._storage = storage
        self.finished = storage.complete_manifest()
        self._earlier = self.finished or storage.unfinished_manifest()
        self._manifest: BatchManifest | None = None

    @property
    def name(self) -> str:
        """Its place."""
        return self._storage.name

    @property
    def manifest(self) -> BatchManifest:
        """What is done. Raises ValueError before `begin`."""
        if self._manifest is None:
            raise ValueError("expected a batch that has begun")
        return self._manifest

    @property
    def rejects(self) -> Path:
        """Folder of this machine for the rejected rows, which become part of the batch."""
        return self._storage.workspace / REJECTS

    @property
    def n_done(self) -> int:
        """Partitions that stay when this run ends: none of a batch that has not begun, which may be another one."""
        return 0 if self._manifest is None else len(self._manifest.partitions)

    def earlier(self, name: str) -> Any:
        """A value of the manifest of an earlier attempt; None where there was none."""
        return None if self._earlier is None or not self._earlier["partitions"] else self._earlier.get(name)

    def begin(self, inputs: dict[str, Any], *, started: str) -> None:
        """Go on with what an earlier attempt has done, or begin. inputs: all that the bytes depend on, as JSON. Raises
        InputError, which names what differs, where the earlier attempt had others."""
        if self.finished is not None:
            require_same(self.finished, inputs, self.name)
            return
        if self._earlier is not None and self._earlier["partitions"]:
            self._manifest = resumed(self._earlier, inputs, self._storage.unfinished)
            self._forget_missing()
            logger.info("%s done already", count(len(self._manifest.partitions), "partition"))
        else:
            self._manifest = BatchManifest(inputs, started)
            self._storage.write_manifest(self._manifest.as_dict())
        self._clear()

    def temporary(self) -> Path:
        """A new name for a file of this machine that is no part of the batch."""
        return temporary_file(self._storage.workspace)

    def writer(self) -> PartitionWriter:
        """What writes the partitions, in any process."""
        return self._storage.writer()

    def add(self, number: int, written: Written, counts: Mapping[str, int]) -> None:
        """Make what was written the partition of this number: once this returns, it is done."""
        name = file_of(number)
        self._storage.keep(written, name)
        self.manifest.partitions[number] = Partition(name, written.size, counts)
        self._storage.write_manifest(self.manifest.as_dict())

    def publish(self, more: Mapping[str, Any]) -> dict[str, Any]:
        """Give the complete batch its place. more: what the manifest says beside inputs, times and partitions."""
        self._clear()
        values = self.manifest.as_dict(COMPLETE, more)
        self._storage.publish(values)
        return values

    def publish_rejects(self) -> str | None:
        """Where the rejected rows of a run that failed are; None where there are none, or a complete batch or one of
        other inputs keeps its own."""
        resumes = self._earlier is not None and self._earlier["partitions"]
        if self.finished is not None or (resumes and self._manifest is None):
            return None
        return self._storage.publish_rejects()

    def _forget_missing(self) -> None:
        """Do partitions again whose file is gone or has another size than the manifest says."""
        listed, sizes = dict(self.manifest.partitions), self._storage.sizes()
        for number, partition in listed.items():
            if sizes.get(partition.file) != partition.size:
                del self.manifest.partitions[number]
        if self.manifest.partitions != listed:
            self._storage.write_manifest(self.manifest.as_dict())

    def _clear(self) -> None:
        self._storage.clear(partition.file for partition in self.manifest.partitions.values())


def require_place(out: Path | str, *, resume: bool) -> None:
    """Raise InputError where something at `out` is in the way that can be seen at once: on this machine only."""
    if isinstance(out, Path):
        require_local_place(out, resume=resume)


@contextmanager
def batch_folder(out: Path | str, *, resume: bool) -> Iterator[BatchFolder]:
    """A batch to write, alone: the block calls `begin`, `add` for each partition and `publish`. out: a folder, or the
    URL of one in an object store.

    Where the block fails, the partitions that are done stay for a later run, and the error says so, unless it is an
    InputError: corrected inputs are another batch. Raises InputError where anything else is at `out`, where another
    command writes the same batch, and without `resume` where an unfinished one is there; RecsysError where the disk is
    full.
    """
    opened = local_storage(out, resume=resume) if isinstance(out, Path) else object_storage(out, resume=resume)
    with opened as storage:
        earlier = storage.unfinished_manifest()
        done = 0 if earlier is None else len(earlier["partitions"])
        if done and not resume:
            raise InputError(
                f"output folder {storage.name!r}: an earlier run left {count(done, 'partition')} of it in "
                f"{storage.unfinished!r}; go on from there by --resume, or remove that folder and begin anew"
            )
        folder = BatchFolder(storage)
        try:
            storage.tidy()
            storage.workspace.mkdir(exist_ok=True)
            yield folder
        except OSError as error:
            if error.errno not in NO_SPACE:
                raise
            full = out if isinstance(out, Path) else storage.workspace
            raise _resumable(unwritable(full, error), folder) from error
        except InputError:
            raise
        except RecsysError as error:
            raise _resumable(error, folder) from error
        except KeyboardInterrupt as stopped:
            raise KeyboardInterrupt(_note(folder)) from stopped
        finally:
            storage.tidy()


def _resumable(error: RecsysError, folder: BatchFolder) -> RecsysError:
    note = _note(folder)
    return type(error)(f"{error}; {note}") if note else error


def _note(folder: BatchFolder) -> str:
    return f"--resume goes on after {count(folder.n_done, 'partition')}" if folder.n_done else ""
