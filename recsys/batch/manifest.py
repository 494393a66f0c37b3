"""`_manifest.json`: what a batch is made of and which of its partitions are done.

It is replaced as a whole after every partition, so that a partition counts from the moment in which the manifest lists
it. `state` is `unfinished` until everything is written, then `complete`.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from features.errors import InputError

MANIFEST = "_manifest.json"
FORMAT = 1
"""Raised when the same inputs would give other bytes; a batch of another number is not resumed."""
UNFINISHED, COMPLETE = "unfinished", "complete"


@dataclass(frozen=True)
class Partition:
    """A file of ranked rows that is done. size: bytes. counts: what its rows add to the numbers of the batch."""

    file: str
    size: int
    counts: Mapping[str, int]

    def as_dict(self) -> dict[str, Any]:
        """As the manifest lists it."""
        return {"file": self.file, "bytes": self.size, **self.counts}


@dataclass
class BatchManifest:
    """A batch that is being written. inputs: everything that its bytes depend on, as JSON. started: when the first
    attempt was. partitions: those done, by number."""

    inputs: dict[str, Any]
    started: str
    attempts: int = 1
    partitions: dict[int, Partition] = field(default_factory=dict)

    def totals(self) -> Counter[str]:
        """The counts of all partitions, added up."""
        totals = Counter[str]()
        for partition in self.partitions.values():
            totals.update(partition.counts)
        return totals

    def as_dict(self, state: str = UNFINISHED, more: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """What the file holds. more: what is known at the end only."""
        done = [self.partitions[number].as_dict() for number in sorted(self.partitions)]
        times = {"started": self.started, "attempts": self.attempts}
        return {"state": state, "format": FORMAT, **self.inputs, **(more or {}), **times, "partitions": done}


def file_of(number: int) -> str:
    """The name of a partition's file."""
    return f"part-{number:05d}.parquet"


def is_partition(file: str) -> bool:
    """Whether a partition has such a name."""
    return re.fullmatch(r"part-\d{5,}\.parquet", file) is not None


def as_json(values: Mapping[str, Any]) -> str:
    """The text of a manifest."""
    return json.dumps(values, indent=1) + "\n"


def parse_manifest(text: bytes, place: str) -> dict[str, Any]:
    """The manifest in a file. place: of that file, for a person. Raises InputError where it is none."""
    try:
        found = json.loads(text)
    except ValueError as error:
        raise InputError(
            f"{place!r}: expected the manifest of a batch, got: {' '.join(str(error).split())}; remove the folder and "
            "begin anew"
        ) from error
    if not isinstance(found, dict) or not {"state", "format", "partitions"} <= found.keys():
        raise InputError(f"{place!r}: expected the manifest of a batch, got other JSON; remove it and begin anew")
    return found


def resumed(found: Mapping[str, Any], inputs: dict[str, Any], folder: str) -> BatchManifest:
    """The manifest of an earlier attempt, for another one. Raises InputError where any of the inputs is another."""
    require_same(found, inputs, folder)
    partitions = {}
    for listed in found["partitions"]:
        counts = {name: value for name, value in listed.items() if name not in ("file", "bytes")}
        number = int(listed["file"].removeprefix("part-").removesuffix(".parquet"))
        partitions[number] = Partition(listed["file"], listed["bytes"], counts)
    return BatchManifest(inputs, found["started"], found["attempts"] + 1, partitions)


def require_same(found: Mapping[str, Any], inputs: Mapping[str, Any], folder: str) -> None:
    """Raise InputError, which names what differs, unless a batch was made of these inputs."""
    expected = json.loads(json.dumps({"format": FORMAT, **inputs}))
    differences = [
        f"{name} was {json.dumps(found.get(name), ensure_ascii=False)} and is {json.dumps(value, ensure_ascii=False)}"
        for name, value in expected.items()
        if found.get(name) != value
    ]
    if differences:
        or_remove = "" if found.get("state") == COMPLETE else ", or remove that folder"
        raise InputError(
            f"the batch in {folder!r} cannot be resumed: {'; '.join(differences)}; expected the same as before: "
            f"give that, or name another place for a new batch{or_remove}"
        )
