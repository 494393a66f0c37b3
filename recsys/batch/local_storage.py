"""A batch in a folder of this machine: beside its place until it is complete, with all that is done already.

While a batch OUT is written, its partitions and manifest stand in `.OUT.unfinished` beside it, which becomes OUT when
the last one is there: OUT is complete, or absent. The lock `.OUT.lock` keeps a second run out, and ends with its
process.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from features.atomic_files import exclusive_output, require_fresh_folder, sync_to_disk
from features.errors import InputError, RecsysError
from recsys.batch.manifest import COMPLETE, MANIFEST, as_json, parse_manifest
from recsys.batch.partition_file import write_partition
from recsys.batch.storage import REJECTS, Written


@dataclass(frozen=True)
class _LocalWriter:
    folder: Path

    def write(self, number: int, schema: pa.Schema, tables: Iterable[pa.Table]) -> Written:
        path = temporary_file(self.folder)
        write_partition(path, schema, tables)
        return Written(str(path), path.stat().st_size)


class LocalStorage:
    """A `BatchStorage` of the folder `out`."""

    def __init__(self, out: Path) -> None:
        self.name = str(out)
        target = out.resolve()  # a link to a folder stays a link
        self._out = out
        self._target = target
        self.workspace = target.with_name(f".{target.name}.unfinished")

    @property
    def unfinished(self) -> str:
        """The hidden folder."""
        return str(self.workspace)

    def complete_manifest(self) -> dict[str, Any] | None:
        """Of the folder in its place."""
        try:
            found = _read_manifest(self._out)
        except InputError:  # the manifest of something else
            return None
        return found if found is not None and found["state"] == COMPLETE else None

    def unfinished_manifest(self) -> dict[str, Any] | None:
        """Of the hidden folder."""
        return _read_manifest(self.workspace)

    def write_manifest(self, values: Mapping[str, Any]) -> None:
        """By a rename."""
        partial = temporary_file(self.workspace)
        with partial.open("w", encoding="utf-8") as file:
            file.write(as_json(values))
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self.workspace / MANIFEST)
        sync_to_disk(self.workspace)

    def writer(self) -> _LocalWriter:
        """What writes files under temporary names."""
        return _LocalWriter(self.workspace)

    def keep(self, written: Written, file: str) -> None:
        """Rename a file. Raises RecsysError where it is not on a disk of this machine."""
        try:
            Path(written.place).replace(self.workspace / file)
        except FileNotFoundError as error:
            raise RecsysError(
                f"{written.place!r}: expected a partition that another process has written, found no file; name an "
                "--out that every machine sees, such as a shared folder or an object store"
            ) from error
        sync_to_disk(self.workspace)

    def sizes(self) -> dict[str, int]:
        """Of the files in the hidden folder."""
        return {path.name: path.stat().st_size for path in self.workspace.iterdir() if path.is_file()}

    def clear(self, listed: Iterable[str]) -> None:
        """Remove what an earlier attempt left, or a worker that outlived one."""
        kept = {MANIFEST, REJECTS, *listed}
        for path in self.workspace.iterdir():
            if path.name not in kept:
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)

    def publish(self, values: Mapping[str, Any]) -> None:
        """Give the hidden folder its place."""
        self.write_manifest(values)
        shutil.rmtree(self._out / REJECTS, ignore_errors=True)
        self.workspace.replace(self._target)
        sync_to_disk(self._target.parent)

    def publish_rejects(self) -> str | None:
        """In their place, alone, where no partition is done."""
        rejects = self.workspace / REJECTS
        if not rejects.is_dir():
            return None
        found = self.unfinished_manifest()
        if found is not None and found["partitions"]:
            return str(rejects)
        self._out.mkdir(exist_ok=True)
        shutil.rmtree(self._out / REJECTS, ignore_errors=True)
        return str(rejects.replace(self._out / REJECTS))

    def tidy(self) -> None:
        """Remove the hidden folder, unless its manifest lists a partition."""
        found = self.unfinished_manifest()
        if found is None or not found["partitions"]:
            shutil.rmtree(self.workspace, ignore_errors=True)


@contextmanager
def local_storage(out: Path, *, resume: bool) -> Iterator[LocalStorage]:
    """The folder `out`, for this run alone. Raises InputError where another command writes it or anything is in it but
    the rejects of a run that failed, or with `resume` a complete batch; RecsysError where it cannot be written."""
    with exclusive_output(out):
        require_local_place(out, resume=resume)
        yield LocalStorage(out)


def require_local_place(out: Path, *, resume: bool) -> None:
    """Raise InputError where anything is at `out` but the rejects of a run that failed, or with `resume` a complete
    batch."""
    if not (resume and LocalStorage(out).complete_manifest()):
        require_fresh_folder(out, replaceable=(REJECTS,))


def temporary_file(folder: Path) -> Path:
    """A new name for a file that is being written."""
    return folder / f".{uuid.uuid4().hex[:8]}.partial"


def _read_manifest(folder: Path) -> dict[str, Any] | None:
    path = folder / MANIFEST
    try:
        return parse_manifest(path.read_bytes(), str(path))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"{str(path)!r}: expected the manifest of a batch, got: {error.strerror}") from error
