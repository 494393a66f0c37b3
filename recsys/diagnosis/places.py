"""The places that commands read and write: MLflow's store, the cache of vectors, the online store."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from recsys.diagnosis.check import BROKEN, NOTE, OK, Check
from recsys.diagnosis.machine import is_writable
from recsys.encoder.vector_cache import MOST_BYTES, cache_folder
from recsys.errors import RegistryUnreachable
from recsys.registry import tracking

LITTLE = MOST_BYTES
"""Bytes free below which a place gets a note: a full cache of vectors takes as much."""

VERY_LITTLE = 200 * 10**6
"""Bytes free below which a training cannot write its models."""


def place_checks() -> Iterator[Check]:
    """MLflow's answer, and the room in each folder."""
    yield _mlflow()
    cache = cache_folder()
    if cache is None:
        yield Check("cache of vectors", NOTE, "switched off by RECSYS_CACHE", "unset it to encode each text once")
    else:
        yield _folder("cache of vectors", cache)
    yield _folder("runs and checkpoints", Path("mlruns"))
    yield _folder("online store", Path("store"))


def _mlflow() -> Check:
    uri = tracking.tracking_uri()
    tracking.fail_fast()
    if not tracking.has_database(uri):
        return Check("MLflow", NOTE, f"{uri}: no database yet", "the first training makes it")
    try:
        found = tracking.count_registered_models()
    except RegistryUnreachable as error:
        return Check("MLflow", BROKEN, str(error), "start the server, or set MLFLOW_TRACKING_URI")
    return Check("MLflow", OK, f"{uri} answers, registered models: {found}")


def _folder(name: str, folder: Path) -> Check:
    folder = folder.resolve()
    if not is_writable(folder):
        return Check(name, BROKEN, f"{folder} cannot be written", "change its permissions, or work in another folder")
    there = folder
    while not there.exists():
        there = there.parent
    free = shutil.disk_usage(there).free
    found = f"{folder}, {free / 1e9:.1f} GB free"
    if free < VERY_LITTLE:
        return Check(name, BROKEN, found, "make room")
    return Check(name, NOTE, found, "make room for large sites") if free < LITTLE else Check(name, OK, found)
