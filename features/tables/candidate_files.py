"""The files of a candidates table: which can be read, and a fingerprint of what is in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path

from features.errors import InputError
from features.tables.encodings import UTF8
from features.tables.formats import columns_of, files_of, raw_batches
from features.tables.schema import Kind
from features.tables.sources import Source

REQUEST_IDS = ("impression_id", "request_id")
TIMES = ("timestamp", "time")
_BLOCK = 1 << 20
_KINDS: dict[str, set[Kind]] = {
    **{name: {"id"} for name in (*REQUEST_IDS, "user_id", "item_id")},
    **{name: {"time"} for name in TIMES},
    "query": {"text"},
}


@dataclass(frozen=True)
class CandidateFiles:
    """A table of candidates at `path`, a file or a folder. sources: the files that are read, in order. skipped: the
    others, by name within the folder, each with what is wrong with it."""

    path: Path
    sources: tuple[Source, ...]
    skipped: Mapping[str, str] = field(default_factory=dict)

    def fingerprint(self) -> str:
        """32 hexadecimal digits that change with the names or contents of the files that are read, or with the columns
        that their folders name."""
        digest = blake2b(digest_size=16)
        for source in self.sources:
            name = repr((str(source.path.relative_to(self.path)), sorted(source.partition.items()))).encode()
            for part in (len(name).to_bytes(8, "little"), name, source.path.stat().st_size.to_bytes(8, "little")):
                digest.update(part)
            for block in _blocks(source.path):
                digest.update(block)
        return digest.hexdigest()


def find_candidates(path: Path, encoding: str = UTF8, *, skip_unreadable: bool = False) -> CandidateFiles:
    """The files at `path`. Raises InputError where there is none.

    skip_unreadable: read every file to its end first, and leave out those for which that fails: no row of a damaged
    file is used. Raises InputError, for the first of them, where that leaves none.
    """
    sources = files_of(path, encoding)
    if not skip_unreadable:
        return CandidateFiles(path, tuple(sources))
    problems = {source.path: problem for source in sources if (problem := _problem_of(source))}
    kept = tuple(source for source in sources if source.path not in problems)
    if not kept:
        raise InputError(f"{next(iter(problems.values()))}; there is no other file of candidates that can be read")
    skipped = {str(file.relative_to(path)): problem for file, problem in problems.items()}
    return CandidateFiles(path, kept, skipped)


def _problem_of(source: Source) -> str | None:
    """What is wrong with a file, None where it can be read to its end."""
    try:
        columns_of(source)
        for _ in raw_batches(source, _KINDS):
            pass
    except InputError as error:
        return str(error)
    return None


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            yield block
