"""kill -9 of `recsys score` at random moments, and its resume: the output is that of one run."""

from __future__ import annotations

import json
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.server_process import CommandLine, Process

_TIMES = ("started", "finished", "attempts")
_AT_MOST = 600


@dataclass(frozen=True)
class BatchKills:
    """What a campaign found. killed: runs that were killed before their end. resumed_partitions: those that the killed
    runs had done. different: outputs with another byte than that of one run. left: files that stayed beside them."""

    killed: int
    resumed_partitions: int
    different: int
    left: int


def kill_batches(
    arguments: list[str],
    folder: Path,
    kills: int,
    generator: random.Random,
    *,
    start: Callable[..., Process] = CommandLine,
) -> BatchKills:
    """Write a batch in one go, then again for each kill, every second one with two workers, before it and after.

    arguments: of `recsys score`, but for --out and --resume. folder: an empty one, for the outputs. start: starts
    `recsys`.
    """
    whole = folder / "whole"
    began, seconds = _run(start, arguments, whole), time.monotonic()
    seconds -= began
    expected = _files(whole)
    killed = partitions = different = 0
    for number in range(kills):
        out = folder / f"killed-{number}"
        more = ["--workers", "2"] if number % 2 else []
        process = start("score", *arguments, *more, "--out", str(out), "--resume")
        _wait_for_folder(process, out)
        time.sleep(generator.uniform(0, seconds))
        process.send_signal(signal.SIGKILL)
        process.wait(_AT_MOST)
        killed += not out.exists()
        partitions += _done(out)
        _run(start, arguments, out, *more, "--resume")
        different += _files(out) != expected
    left = {path.name for path in folder.iterdir()} - {"whole", *(f"killed-{number}" for number in range(kills))}
    return BatchKills(killed, partitions, different, len(left))


def _run(start: Callable[..., Process], arguments: list[str], out: Path, *more: str) -> float:
    """Write a batch; when its folder came up. Raises RuntimeError where that fails."""
    process = start("score", *arguments, "--out", str(out), *more)
    began = _wait_for_folder(process, out)
    if process.wait(_AT_MOST):
        raise RuntimeError(f"expected a batch in {str(out)!r}, got: {process.stderr()[-2000:]}")
    return began


def _wait_for_folder(process: Process, out: Path) -> float:
    while process.poll() is None and not _unfinished(out).exists() and not out.exists():
        time.sleep(0.01)
    return time.monotonic()


def _unfinished(out: Path) -> Path:
    return out.with_name(f".{out.name}.unfinished")


def _done(out: Path) -> int:
    manifest = _unfinished(out) / "_manifest.json"
    return len(json.loads(manifest.read_text())["partitions"]) if manifest.exists() else 0


def _files(out: Path) -> dict[str, object]:
    """Every file's bytes by name; of the manifest all but times and attempts."""
    files: dict[str, object] = {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}
    manifest = json.loads((out / "_manifest.json").read_text())
    return files | {"_manifest.json": {name: value for name, value in manifest.items() if name not in _TIMES}}
