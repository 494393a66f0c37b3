"""Checkpoints of the encoder's training: another process can resume from them.

A folder without pickle. `place.safetensors`: the position of the training, as JSON in the file's header, with the
weights and the optimizers' state; replaced as a whole, so that a crash while it is written leaves the one before.
`state-N.safetensors`, `head/`, `full/`: past encoders, which do not change any more, written once.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import save_file
from torch import Tensor

from features.atomic_files import replaced_file
from features.errors import RecsysError
from recsys.encoder.model import Encoder, load_encoder
from recsys.encoder.scoring import HeadWeights
from recsys.encoder.snapshots import EncoderSnapshot, copy_or_spill
from recsys.encoder.vector_table import Keys, VectorTable
from recsys.errors import ModelError

logger = logging.getLogger(__name__)

State = dict[str, Any]
"""A nested dictionary of JSON values and tensors, as torch's `state_dict` gives."""
FORMAT = "2"
CHECKPOINT_FILE = "place.safetensors"
_TENSOR = "tensor"
_AGAIN = "run `recsys train` again without --resume"


class Checkpoints:
    """The checkpoints of one training in a folder of their own, which is made with the first of them.

    minutes: between two of them within a chunk of the log.
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
        self, state: State, snapshots: Sequence[EncoderSnapshot], evaluated: tuple[Encoder, Encoder] | None
    ) -> None:
        """Write a checkpoint. If it cannot be written, a warning is logged and the previous one stays.

        snapshots: all so far. evaluated: head-only and full encoder, once they are made; may be the same.
        """
        started = time.monotonic()
        try:
            for number, snapshot in enumerate(snapshots):
                self._save_snapshot(f"state-{number}.safetensors", snapshot)
            for name, encoder in zip(("head", "full"), evaluated or (), strict=False):
                self._save_encoder(name, encoder)
            tensors: dict[str, Tensor] = {}
            metadata = {"format": FORMAT, "state": json.dumps(_extract_tensors(state, "", tensors))}
            with self._replaced(CHECKPOINT_FILE) as partial:
                save_file(tensors, partial, metadata=metadata)
            logger.debug("checkpoint: %.2f s", time.monotonic() - started)
        except (OSError, RecsysError, SafetensorError) as error:
            logger.warning("no checkpoint could be written, training goes on without: %s", " ".join(str(error).split()))
        self._last = time.monotonic()

    def load(self) -> State | None:
        """The last checkpoint; None where there is none yet. Raises ModelError where it cannot be read."""
        path = self.folder / CHECKPOINT_FILE
        if not path.exists():
            return None
        try:
            with safe_open(path, framework="pt") as file:
                header = file.metadata() or {}
                if header.get("format") != FORMAT:
                    raise ModelError(
                        f"checkpoint {str(path)!r}: expected format {FORMAT}, got {header.get('format')!r}, which "
                        f"another release of recsys wrote; {_AGAIN}"
                    )
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            state: State = _insert_tensors(json.loads(header["state"]), tensors)
            return state
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            raise unreadable(path, error) from error

    def load_snapshot(self, number: int, history_length: int, keys: Keys) -> EncoderSnapshot:
        """A past encoder. keys: of its table. Raises ModelError where it cannot be read."""
        path = self.folder / f"state-{number}.safetensors"
        try:
            with safe_open(path, framework="numpy") as file:
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            vectors = arrays.pop("vectors")
            weights = HeadWeights(**arrays)
        except (OSError, KeyError, TypeError, SafetensorError) as error:
            raise unreadable(path, error) from error
        if len(vectors) != len(keys):
            raise ModelError(f"checkpoint {str(path)!r}: expected vectors of {len(keys)} texts, got {len(vectors)}")
        self._written.add(path.name)
        return EncoderSnapshot(history_length, weights, VectorTable(keys, copy_or_spill(vectors)))

    def load_evaluated(self) -> tuple[Encoder, Encoder]:
        """Head-only and full encoder as they were saved. Raises ModelError where they cannot be read."""
        head, full = (load_encoder(self.folder / name) for name in ("head", "full"))
        self._written |= {"head", "full"}
        return (full if head.fingerprint == full.fingerprint else head), full

    def _save_snapshot(self, name: str, snapshot: EncoderSnapshot) -> None:
        if name not in self._written:
            vectors = np.ascontiguousarray(snapshot.table.vectors)
            with self._replaced(name) as partial:
                save_arrays({"vectors": vectors, **snapshot.weights.arrays()}, partial)
            self._written.add(name)

    def _save_encoder(self, name: str, encoder: Encoder) -> None:
        if name not in self._written:
            shutil.rmtree(self.folder / name, ignore_errors=True)
            encoder.save(self.folder / name)
            self._written.add(name)

    @contextmanager
    def _replaced(self, name: str) -> Iterator[Path]:
        """A file to write, which gets its name once it is on the disk."""
        with replaced_file(self.folder / name) as partial:
            yield partial
            with partial.open("rb") as file:
                os.fsync(file.fileno())


def _extract_tensors(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """`value` as JSON, each tensor replaced by the name under which it is added to `tensors`."""
    if isinstance(value, Tensor):
        tensors[name] = value.detach().cpu().contiguous()
        return {_TENSOR: name}
    if isinstance(value, dict):
        return {str(key): _extract_tensors(child, f"{name}/{key}", tensors) for key, child in value.items()}
    return value


def _insert_tensors(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    """The reverse of `_extract_tensors`; keys are strings then."""
    if not isinstance(value, dict):
        return value
    if _TENSOR in value:
        return tensors[value[_TENSOR]]
    return {key: _insert_tensors(child, tensors) for key, child in value.items()}


def random_state() -> dict[str, Tensor]:
    """The state of torch's generators: of the CPU and of each GPU."""
    gpus = {f"cuda{number}": state for number, state in enumerate(torch.cuda.get_rng_state_all())}
    return {"cpu": torch.get_rng_state(), **gpus}


def set_random_state(state: Mapping[str, Tensor]) -> None:
    """Restore torch's generators from `random_state`."""
    torch.set_rng_state(state["cpu"])
    for number in range(torch.cuda.device_count()):
        torch.cuda.set_rng_state(state[f"cuda{number}"], number)


def unreadable(path: Path, error: Exception) -> ModelError:
    """The error of a checkpoint that is damaged or does not fit the training."""
    reason = " ".join(str(error).split())[:200]
    return ModelError(f"checkpoint {str(path)!r} cannot be read: {type(error).__name__}: {reason}; {_AGAIN}")
