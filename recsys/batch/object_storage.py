"""A batch in an object store: any place that fsspec knows by its URL, such as `s3://bucket/nightly`.

Object stores cannot rename. A partition is uploaded under its own name and counts from the moment in which the manifest
lists it; the batch is complete when `state` in the manifest says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from features.errors import InputError
from recsys.batch.machine_folder import machine_folder
from recsys.batch.manifest import COMPLETE, MANIFEST, as_json, file_of, is_partition, parse_manifest
from recsys.batch.object_lock import ObjectLock
from recsys.batch.object_store import objects_below, open_place, reachable
from recsys.batch.partition_file import write_partition
from recsys.batch.storage import REJECTS, Written


@dataclass(frozen=True)
class _ObjectWriter:
    url: str

    def write(self, number: int, schema: pa.Schema, tables: Iterable[pa.Table]) -> Written:
        files, root = open_place(self.url)
        with machine_folder() as folder:
            path = folder / file_of(number)
            write_partition(path, schema, tables)
            with reachable(self.url):
                files.put_file(str(path), f"{root}/{path.name}")
            return Written(f"{self.url}/{path.name}", path.stat().st_size)


class ObjectStorage:
    """A `BatchStorage` of the folder `url`. workspace: for what is written on this machine."""

    def __init__(self, url: str, lock: ObjectLock, workspace: Path) -> None:
        self.name = url
        self.workspace = workspace
        self._lock = lock
        self._files, self._root = open_place(url)

    @property
    def unfinished(self) -> str:
        """The place itself."""
        return self.name

    def complete_manifest(self) -> dict[str, Any] | None:
        """The manifest, where it says that it is complete."""
        found = self._manifest()
        return found if found is not None and found["state"] == COMPLETE else None

    def unfinished_manifest(self) -> dict[str, Any] | None:
        """The manifest, where it does not."""
        found = self._manifest()
        return found if found is not None and found["state"] != COMPLETE else None

    def write_manifest(self, values: Mapping[str, Any]) -> None:
        """Replace the object. Raises RecsysError where the lock is lost."""
        with reachable(self.name):
            self._lock.check()
            self._files.pipe_file(f"{self._root}/{MANIFEST}", as_json(values).encode())

    def writer(self) -> _ObjectWriter:
        """What uploads files under their own names."""
        return _ObjectWriter(self.name)

    def keep(self, written: Written, file: str) -> None:
        """It has its name already."""

    def sizes(self) -> dict[str, int]:
        """Of the objects in the folder."""
        return {name: size for name, size in self._objects().items() if "/" not in name}

    def clear(self, listed: Iterable[str]) -> None:
        """Remove other partitions. Raises RecsysError where the lock is lost."""
        kept = set(listed)
        self._remove(name for name in self._objects() if is_partition(name) and name not in kept)

    def publish(self, values: Mapping[str, Any]) -> None:
        """Upload the rejected rows and the last manifest."""
        self._upload_rejects()
        self.write_manifest(values)

    def publish_rejects(self) -> str | None:
        """Upload them."""
        return f"{self.name}/{REJECTS}" if self._upload_rejects() else None

    def tidy(self) -> None:
        """Remove its manifest and the partitions that it does not list."""
        found = self.unfinished_manifest()
        if found is not None and not found["partitions"]:
            self.clear(())
            self._remove((MANIFEST,))

    def _upload_rejects(self) -> bool:
        self._remove([name for name in self._objects() if name.startswith(f"{REJECTS}/")])
        rejects = sorted((self.workspace / REJECTS).glob("*"))
        with reachable(self.name):
            for path in rejects:
                self._files.put_file(str(path), f"{self._root}/{REJECTS}/{path.name}")
        return bool(rejects)

    def _remove(self, names: Iterable[str]) -> None:
        with reachable(self.name):
            for name in names:
                self._lock.check()
                self._files.rm_file(f"{self._root}/{name}")

    def _objects(self) -> dict[str, int]:
        """Bytes of each object, by its name below the folder."""
        return objects_below(self._files, self._root, self.name)

    def _manifest(self) -> dict[str, Any] | None:
        with reachable(self.name):
            try:
                text = self._files.cat_file(f"{self._root}/{MANIFEST}")
            except FileNotFoundError:
                return None
        return parse_manifest(text, f"{self.name}/{MANIFEST}")


@contextmanager
def object_storage(url: str, *, resume: bool) -> Iterator[ObjectStorage]:
    """The folder `url`, for this run alone. Raises InputError where another command writes it or anything is in it but
    the rejects of a run that failed and what a resumed batch has; RecsysError where it cannot be reached."""
    files, root = open_place(url)
    parent, _, name = root.rpartition("/")
    if not parent or not name:
        raise InputError(f"output folder {url!r}: expected a folder in a bucket, got a bucket; add a name to it")
    lock = ObjectLock(files, f"{parent}/.{name}.lock", url)
    with reachable(url):
        lock.acquire()
    try:
        with machine_folder() as workspace:
            storage = ObjectStorage(url, lock, workspace)
            _require_place(storage, sorted(objects_below(files, root, url)), resume=resume)
            yield storage
    finally:
        with reachable(url):
            lock.release()


def _require_place(storage: ObjectStorage, names: Iterable[str], *, resume: bool) -> None:
    """Raise InputError where anything is in the folder but rejected rows and an unfinished batch, or with `resume` a
    complete one."""
    found = [name for name in names if not name.startswith(f"{REJECTS}/")]
    if not found or (MANIFEST in found and (resume or storage.complete_manifest() is None)):
        return
    raise InputError(
        f"output folder {storage.name!r}: expected a new or empty folder, got {found[0]!r}; name another one"
    )
