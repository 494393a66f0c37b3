"""Copies of the last good versions on disk, from which a server starts while the registry does not answer.

A folder holds a folder for each version: the files that loading reads, and `manifest.json` with the URI that named it,
both versions, the time, and the SHA-256 of every file. Of each URI the two versions that were kept last stay. A copy
is written beside its place and renamed.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from features.atomic_files import atomic_folder, replaced_file
from recsys.errors import ModelError
from recsys.registry.names import Version
from recsys.registry.versions import EVALUATED, LoadedModel, load_folders

logger = logging.getLogger(__name__)
MANIFEST = "manifest.json"
FORMAT, KEPT_VERSIONS = 1, 2


class Manifest(BaseModel):
    """What a copy is of. uri: that named the version. ranker, encoder: (name, number). kept: when it was last found
    good, microseconds. files: SHA-256 by path."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = FORMAT
    uri: str
    ranker: tuple[str, str]
    encoder: tuple[str, str] | None
    kept: int
    files: dict[str, str]


class ModelCache:
    """The copies in a folder, which is made when the first one is kept."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def keep(self, loaded: LoadedModel, uri: str) -> None:
        """Copy a version that loaded, or note that it is good again. uri: that named it.

        Raises RecsysError where the copy cannot be written, InputError where another process is writing it.
        """
        files = {
            f"{artifact}/{path.relative_to(folder).as_posix()}": path
            for artifact, folder in loaded.folders.items()
            for path in _files(folder)
        }
        manifest = Manifest(
            uri=uri,
            ranker=(loaded.ranker.name, loaded.ranker.number),
            encoder=None if loaded.encoder is None else (loaded.encoder.name, loaded.encoder.number),
            kept=time.time_ns() // 1000,
            files={name: _sha256(path) for name, path in sorted(files.items())},
        )
        place = self.folder / _name(uri, loaded.ranker)
        if _damage(place, manifest.files) is None:
            with replaced_file(place / MANIFEST) as partial:
                partial.write_text(manifest.model_dump_json(indent=1), encoding="utf-8")
        else:
            if place.exists():
                shutil.rmtree(place)
            with atomic_folder(place) as copy:
                for name, path in files.items():
                    (copy / name).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(path, copy / name)
                (copy / MANIFEST).write_text(manifest.model_dump_json(indent=1), encoding="utf-8")
        for old, _ in self._copies(uri)[KEPT_VERSIONS:]:
            shutil.rmtree(old, ignore_errors=True)

    def load_last(self, uri: str, *, custom_code: bool = True) -> LoadedModel | None:
        """The version of a URI that was kept last and is whole; None where there is none. What is damaged or does not
        load is logged and passed over. custom_code: as for `versions.load`."""
        for place, manifest in self._copies(uri):
            try:
                if damage := _damage(place, manifest.files):
                    raise ModelError(damage)
                encoder = None if manifest.encoder is None else Version(*manifest.encoder)
                folders = {artifact: place / artifact for artifact in _artifacts(manifest.files)}
                return load_folders(folders, Version(*manifest.ranker), encoder, custom_code=custom_code)
            except ModelError as error:
                logger.warning("the copy of %s in %r is not used: %s", "/".join(manifest.ranker), str(place), error)
        return None

    def _copies(self, uri: str) -> list[tuple[Path, Manifest]]:
        """The copies of a URI's versions, the one that was kept last first."""
        found = []
        for path in self.folder.glob(f"*/{MANIFEST}"):
            try:
                manifest = Manifest.model_validate_json(path.read_bytes())
            except (OSError, ValidationError):
                continue  # another format, or being removed
            if manifest.format == FORMAT and manifest.uri == uri and not path.parent.name.startswith("."):
                found.append((path.parent, manifest))
        return sorted(found, key=lambda copy: copy[1].kept, reverse=True)


def _name(uri: str, ranker: Version) -> str:
    """The folder of a copy: readable, and distinct for every URI and version."""
    return f"{ranker.number}-{hashlib.sha256(json.dumps([uri, ranker.name]).encode()).hexdigest()[:12]}"


def _files(folder: Path) -> Iterator[Path]:
    """What loading a version reads of its folder: not the version as it was evaluated."""
    return (path for path in folder.rglob("*") if path.is_file() and folder / EVALUATED not in path.parents)


def _artifacts(files: Mapping[str, str]) -> list[str]:
    return sorted({name.partition("/")[0] for name in files})


def _damage(place: Path, files: Mapping[str, str]) -> str | None:
    """How a copy differs from the files that it has to hold; None where it does not."""
    try:
        changed = [name for name, expected in files.items() if _sha256(place / name) != expected]
        found = {
            path.relative_to(place).as_posix() for artifact in _artifacts(files) for path in _files(place / artifact)
        }
    except OSError as error:
        return f"file {error.filename!r} cannot be read: {error.strerror}"
    changed += sorted(found - set(files))
    return f"file {changed[0]!r} has been altered" if changed else None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
