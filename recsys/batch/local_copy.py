"""Inputs of an object store, copied to this machine for one run."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from features.errors import InputError
from recsys.batch.machine_folder import machine_folder
from recsys.batch.object_store import objects_below, open_place, reachable
from recsys.evaluation.report import count

log = logging.getLogger(__name__)


@contextmanager
def local_copy(place: Path | str) -> Iterator[Path]:
    """A path as it is, or a copy of what is at a URL, a file or a folder, which is gone when the block ends.

    The copy has the name of the original, which messages show. Raises InputError where nothing is there, RecsysError
    where the store cannot be reached.
    """
    if isinstance(place, Path):
        yield place
        return
    files, root = open_place(place)
    with machine_folder() as folder:
        target = folder / root.rpartition("/")[2]
        with reachable(place):
            is_file = files.isfile(root)
            wanted = {"": files.size(root)} if is_file else objects_below(files, root, place)
            wanted = {name: size for name, size in wanted.items() if not name.endswith("/")}
            if not wanted:
                raise InputError(f"{place!r} does not exist; expected a file or folder to read")
            log.info("%r: copying %s, %.1f MB", place, count(len(wanted), "file"), sum(wanted.values()) / 1e6)
            for name in wanted:
                path = target / name if name else target
                if not path.resolve().is_relative_to(folder.resolve()):
                    raise InputError(f"{place!r}: expected names below it, got {name!r}")
                path.parent.mkdir(parents=True, exist_ok=True)
                files.get_file(f"{root}/{name}" if name else root, str(path))
        yield target
