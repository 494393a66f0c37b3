"""Builds the collaborative snapshots of the versions that answer when they are due, in one process at a time."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread

from features.errors import StoreError
from recsys.processes.opened import opened, watching
from recsys.processes.options import ServerOptions
from recsys.rollout.shadow_runs import shadow_logged
from recsys.serving.background_work import NICENESS
from recsys.serving.service import RankService

log = logging.getLogger(__name__)


def refresh_when_due(service: RankService, stopped: Event) -> None:
    """Look every `serving.rebuild_seconds` for a snapshot that is due, until `stopped`; 0 never looks."""
    seconds = service.settings.rebuild_seconds
    while not stopped.wait(seconds or None):
        for served in service.versions():
            try:
                built = served.online.refresh(wait=False, stopping=stopped.is_set)
            except StoreError as error:
                log.warning("collaborative snapshots of %s are not refreshed: %s", served.ranker, error)
                continue
            except Exception:
                what = "collaborative snapshots of %s are not refreshed; the next try is in %g s"
                log.exception(what, served.ranker, seconds)
                continue
            if built is not None:
                log.info("collaborative snapshot of %d items built in %.1f s", built.items, built.seconds)


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
