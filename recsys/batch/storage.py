"""What keeps a batch: a folder of this machine, or one of an object store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

REJECTS = "rejects"


@dataclass(frozen=True)
class Written:
    """A partition that is written and that no manifest lists yet. place: where its file is. size: bytes."""

    place: str
    size: int


class PartitionWriter(Protocol):
    """Writes partitions, in any process and on any machine: it is pickled for them."""

    def write(self, number: int, schema: pa.Schema, tables: Iterable[pa.Table]) -> Written:
        """Write the partition of this number; once this returns, it outlasts a loss of power."""


class BatchStorage(Protocol):
    """The files of one batch. name: as the user calls its place. workspace: a folder of this machine for what is not
    yet part of the batch; what is left in it goes."""

    name: str
    workspace: Path

    @property
    def unfinished(self) -> str:
        """Where the files are until the batch is complete, for a person."""

    def complete_manifest(self) -> dict[str, Any] | None:
        """The manifest of the complete batch; None where there is none."""

    def unfinished_manifest(self) -> dict[str, Any] | None:
        """The manifest of the batch that is being written; None where there is none."""

    def write_manifest(self, values: Mapping[str, Any]) -> None:
        """Replace the manifest as a whole; once this returns, it outlasts a loss of power."""

    def writer(self) -> PartitionWriter:
        """What writes the partitions."""

    def keep(self, written: Written, file: str) -> None:
        """Give a partition its name, before the manifest lists it."""

    def sizes(self) -> Mapping[str, int]:
        """Bytes of each partition that has its name."""

    def clear(self, listed: Iterable[str]) -> None:
        """Remove all but the manifest, rejected rows and the files that are listed."""

    def publish(self, values: Mapping[str, Any]) -> None:
        """Make the batch complete, with this manifest."""

    def publish_rejects(self) -> str | None:
        """Keep the rejected rows of a batch that has failed; where they are, None where there are none."""

    def tidy(self) -> None:
        """Remove what is there of an unfinished batch of which nothing is done."""
