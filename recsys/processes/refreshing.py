"""Work on the store that no request waits for: the collaborative snapshots of the versions that answer are built when
they are due, in one process at a time, and state beyond the horizon is removed."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from threading import Event, Thread

from features.clock import SECOND, cell_width
from features.errors import StoreError
from features.online.expiry import drop_expired
from recsys.processes.opened import opened, watching
from recsys.processes.options import ServerOptions
from recsys.rollout.shadow_runs import shadow_logged
from recsys.serving.background_work import NICENESS
from recsys.serving.served_model import ServedModel
from recsys.serving.service import RankService

log = logging.getLogger(__name__)


def refresh_when_due(service: RankService, stopped: Event) -> None:
    """Look every `serving.rebuild_seconds` for a snapshot that is due, and every 24th of the horizon for state beyond
    it, until `stopped`; 0 never looks."""
    seconds, horizon = service.settings.rebuild_seconds, service.state.settings.data.horizon
    next_expiry = time.monotonic()
    while not stopped.wait(seconds or None):
        for served in service.versions():
            failure = f"collaborative snapshots of {served.ranker} are not refreshed"
            _attempt(failure, partial(_refresh, served, stopped))
        if horizon is None or time.monotonic() < next_expiry:
            continue
        if _attempt("state beyond the horizon is not removed", partial(_expire, service, stopped)):
            next_expiry = time.monotonic() + cell_width(horizon) / SECOND


def _attempt(failure: str, work: Callable[[], None]) -> bool:
    """Do some work; say where it fails, for a later attempt. Whether it is done."""
    try:
        work()
        return True
    except StoreError as error:
        log.warning("%s: %s", failure, error)
    except Exception:
        log.exception("%s; it is tried again", failure)
    return False


def _refresh(served: ServedModel, stopped: Event) -> None:
    built = served.online.refresh(wait=False, stopping=stopped.is_set)
    if built is not None:
        log.info("collaborative snapshot of %d items built in %.1f s", built.items, built.seconds)


def _expire(service: RankService, stopped: Event) -> None:
    dropped = drop_expired(service.state, stopping=stopped.is_set)
    if dropped:
        records = ", ".join(f"{count} {kind}" for kind, count in dropped.items())
        log.info("state beyond the horizon removed from %s", records)


@contextmanager
def refreshing(service: RankService) -> Iterator[None]:
    """Refresh in a thread while the block runs."""
    stopped = Event()
    thread = Thread(target=refresh_when_due, args=(service, stopped), name="refresh", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


def refresh_for_others(options: ServerOptions, ready: Callable[[str], None]) -> None:
    """Refresh what the processes that answer read, with a lower priority than theirs, until SIGTERM, and log what their
    challenger in shadow shows. Parameters as of `answer`."""
    os.nice(NICENESS)  # first, since threads begin as the one that starts them is
    with opened(options) as (service, watchers), shadow_logged(service), watching(watchers):
        ready(service.served.ranker)
        refresh_when_due(service, Event())
