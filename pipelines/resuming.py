"""How to go on with a training that is interrupted, told when it begins and when it stops."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recsys.encoder.training.checkpoint import CHECKPOINT_FILE
from recsys.errors import TrainingError

log = logging.getLogger(__name__)


def resuming(folder: Path, run_id: str) -> str:
    """The command that goes on with a run."""
    return f"recsys train {shlex.quote(str(folder))} --resume {run_id}"


@contextmanager
def resumption_told(folder: Path, run_id: str, checkpoints: Path) -> Iterator[None]:
    """Say how to go on where the block is interrupted, or fails for want of something that training has no part in."""
    try:
        yield
    except TrainingError:
        raise
    except BaseException as error:
        if not (checkpoints / CHECKPOINT_FILE).is_file():
            raise
        told = f"what is learnt so far is kept, go on with: {resuming(folder, run_id)}"
        if isinstance(error, KeyboardInterrupt):
            raise KeyboardInterrupt(told) from error
        log.info("%s", told)
        raise
