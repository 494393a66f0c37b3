"""Checkpoints of the encoder's training: what another process needs to go on where this one was killed.

A folder without pickle. `place.safetensors`: where the training stands, in plain facts (JSON in the file's header), and
the weights and the optimizer's memory there; replaced as a whole, so that a crash while it is written leaves the one
before. `state-N.safetensors`, `head/`, `full/`: past states of the encoder, which do not change any more, written once.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import save_file
from torch import Tensor

from recsys.encoder.model import Encoder, load_encoder
from recsys.encoder.scoring import HeadWeights
from recsys.encoder.snapshots import EncoderSnapshot, copy_or_spill
from recsys.encoder.vector_table import Keys, VectorTable
from recsys.errors import ModelError

logger = logging.getLogger(__name__)

FORMAT = "1"
PLACE = "place.safetensors"


@dataclass(frozen=True)
class StateDict:
    """What an object keeps of itself. facts: whatever JSON holds. tensors: by name."""

    facts: dict[str, Any]
    tensors: dict[str, Tensor] = field(default_factory=dict)

    def part(self, name: str) -> StateDict:
        """What was joined under a name."""
        prefix = f"{name}/"
        chosen = {key.removeprefix(prefix): one for key, one in self.tensors.items() if key.startswith(prefix)}
        return StateDict(self.facts[name], chosen)


def merge_states(facts: Mapping[str, Any], parts: Mapping[str, StateDict]) -> StateDict:
    """Facts of an object's own, and what its parts keep under a name each."""
    tensors = {f"{name}/{key}": one for name, part in parts.items() for key, one in part.tensors.items()}
    return StateDict({**facts, **{name: part.facts for name, part in parts.items()}}, tensors)


class Checkpoints:
    """The checkpoints of one training in a folder of their own, which is made with the first of them.

    minutes: between two of them within a stretch of the log.
    """

    def __init__(self, folder: Path, *, minutes: float) -> None:
        self.folder = folder
        self._seconds = 60 * minutes
        self._last = time.monotonic()
        self._written: set[str] = set()

    def is_due(self) -> bool:
        """Whether the last one is old enough for another."""
        return time.monotonic() - self._last >= self._seconds

    def save(
        self, kept: StateDict, snapshots: Sequence[EncoderSnapshot], reported: tuple[Encoder, Encoder] | None
    ) -> None:
        """Write a checkpoint. Where the disk does not take it, a warning says so, and the one before stays.

        snapshots: every state set aside so far. reported: head and full, once they are made; may be the same.
        """
        started = time.monotonic()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for number, snapshot in enumerate(snapshots):
                self._save_snapshot(f"state-{number}.safetensors", snapshot)
            for name, encoder in zip(("head", "full"), reported or (), strict=False):
                self._save_encoder(name, encoder)
            tensors = {name: one.detach().cpu().contiguous() for name, one in kept.tensors.items()}
            partial = self._partial(PLACE)
            save_file(tensors, partial, metadata={"format": FORMAT, "facts": json.dumps(kept.facts)})
            self._put(partial)
            logger.debug("checkpoint: %.2f s", time.monotonic() - started)
        except (OSError, SafetensorError) as error:
            for left in self.folder.glob(".*.partial"):
                left.unlink(missing_ok=True)
            logger.warning("no checkpoint could be written, training goes on without: %s", " ".join(str(error).split()))
        self._last = time.monotonic()

    def load(self) -> StateDict | None:
        """The last checkpoint; None where there is none yet. Raises ModelError where it cannot be read."""
        path = self.folder / PLACE
        if not path.exists():
            return None
        try:
            with safe_open(path, framework="pt") as file:
                header = file.metadata() or {}
                if header.get("format") != FORMAT:
                    raise ModelError(
                        f"checkpoint {str(path)!r}: expected format {FORMAT}, got {header.get('format')!r}"
                    )
                names = file.keys()
                return StateDict(json.loads(header["facts"]), {name: file.get_tensor(name) for name in names})
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            raise unreadable(path, error) from error

    def load_snapshot(self, number: int, history_length: int, keys: Keys) -> EncoderSnapshot:
        """A state that was set aside. keys: of its table. Raises ModelError where it cannot be read."""
        path = self.folder / f"state-{number}.safetensors"
        try:
            with safe_open(path, framework="numpy") as file:
                arrays = dict(zip(file.keys(), map(file.get_tensor, file.keys()), strict=True))
            vectors = arrays.pop("vectors")
            weights = HeadWeights(**arrays)
        except (OSError, KeyError, TypeError, SafetensorError) as error:
            raise unreadable(path, error) from error
        if len(vectors) != len(keys):
            raise ModelError(f"checkpoint {str(path)!r}: expected vectors of {len(keys)} texts, got {len(vectors)}")
        self._written.add(path.name)
        return EncoderSnapshot(history_length, weights, VectorTable(keys, copy_or_spill(vectors)))

    def load_reported(self) -> tuple[Encoder, Encoder]:
        """Head and full as they were saved. Raises ModelError where they cannot be read."""
        head, full = (load_encoder(self.folder / name) for name in ("head", "full"))
        self._written |= {"head", "full"}
        return (full if head.fingerprint == full.fingerprint else head), full

    def _save_snapshot(self, name: str, snapshot: EncoderSnapshot) -> None:
        if name in self._written:
            return
        partial = self._partial(name)
        vectors = np.ascontiguousarray(snapshot.table.vectors)
        save_arrays({"vectors": vectors, **snapshot.weights.arrays()}, partial)
        self._put(partial)
        self._written.add(name)

    def _save_encoder(self, name: str, encoder: Encoder) -> None:
        if name in self._written:
            return
        shutil.rmtree(self.folder / name, ignore_errors=True)
        encoder.save(self.folder / name)
        self._written.add(name)

    def _partial(self, name: str) -> Path:
        return self.folder / f".{name}.partial"

    def _put(self, partial: Path) -> None:
        """Give a file that is written its name, once it is on the disk."""
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(partial.with_name(partial.name.removeprefix(".").removesuffix(".partial")))


def random_state() -> dict[str, Tensor]:
    """The state of torch's generators: of the CPU and of each GPU."""
    gpus = {f"cuda{number}": state for number, state in enumerate(torch.cuda.get_rng_state_all())}
    return {"cpu": torch.get_rng_state(), **gpus}


def set_random_state(state: Mapping[str, Tensor]) -> None:
    """Put torch's generators into a state that `random_state` told."""
    torch.set_rng_state(state["cpu"].clone())
    for number in range(torch.cuda.device_count()):
        torch.cuda.set_rng_state(state[f"cuda{number}"].clone(), number)


def unreadable(path: Path, error: Exception) -> ModelError:
    """The error of a checkpoint that is damaged or of another version of this project."""
    reason = " ".join(str(error).split())[:200]
    return ModelError(
        f"checkpoint {str(path)!r} cannot be read: {type(error).__name__}: {reason}; expected one that this version "
        "wrote, whole: train anew without --resume"
    )
