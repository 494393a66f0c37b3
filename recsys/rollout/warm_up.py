"""Makes a version ready beside the one that answers: vectors of the stored items, collaborative tables, a ranking.

The long work has a thread of its own with a low priority, and comes in small batches: rankings go first.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from threading import Event, Thread
from typing import TypeVar

from features.errors import RecsysError
from features.stores.one_at_a_time import one_at_a_time
from recsys.encoder.text_model import NoEncoder
from recsys.serving.background_work import lower_priority
from recsys.serving.served_model import ServedModel
from recsys.serving.service import RankService

logger = logging.getLogger(__name__)
Result = TypeVar("Result")
_AT_ONCE = 256
_REMEMBERED_AT_ONCE = 64
_LOG_SECONDS, _LOOK_SECONDS = 10.0, 1.0


class WarmUpStopped(Exception):
    """The server ends, so that nothing is warmed any more."""


def warm_up(service: RankService, served: ServedModel, stopping: Callable[[], bool]) -> int:
    """Make a version ready to answer as fast as one that has answered for long.

    stopping: whether to give up; then WarmUpStopped is raised. Returns how often the stored items had changed when
    their vectors were complete.
    """
    # The first ranking comes before the thread of low priority: threads that libraries start in it would inherit that.
    service.warm_up(served)
    items = at_low_priority(lambda: encode_catalogue(service, served, stopping))
    if stopping():
        raise WarmUpStopped
    built = at_low_priority(lambda: served.online.refresh(stopping=stopping))
    if built is not None:
        logger.info("%s: collaborative snapshot of %d items built in %.1f s", served.ranker, built.items, built.seconds)
    service.warm_up(served)
    return items


def encode_catalogue(service: RankService, served: ServedModel, stopping: Callable[[], bool]) -> int:
    """Give every stored item a vector of the version's encoder, where it has none yet; as `warm_up`. One process at a
    time, so that the others find the vectors in the store."""
    with service.state.snapshot() as view:
        version = view.meta.items
    if not isinstance(served.online.encoder, NoEncoder):
        with one_at_a_time(service.state.store, "catalogue", giving_up=stopping) as mine:
            if not mine:
                raise WarmUpStopped
            _encode_catalogue(service, served, stopping)
    return version


def _encode_catalogue(service: RankService, served: ServedModel, stopping: Callable[[], bool]) -> None:
    started = logged = time.monotonic()
    last, n_items = None, 0
    while True:
        with service.state.snapshot() as view:  # one for each batch: one that is open for long keeps a store from reuse
            batch = view.first_items(_AT_ONCE, after=last)
        if not batch:
            break
        if stopping():
            raise WarmUpStopped
        served.online.encode({item.item_id: item for item in batch})
        last, n_items = batch[-1].item_id, n_items + len(batch)
        if time.monotonic() - logged >= _LOG_SECONDS:
            logged = time.monotonic()
            logger.info("%s: vectors of %d stored items are ready", served.ranker, n_items)
    logger.info(
        "%s: vectors of all %d stored items are ready after %.1f s", served.ranker, n_items, time.monotonic() - started
    )


def remember_catalogue(service: RankService, served: ServedModel, stopping: Callable[[], bool]) -> None:
    """Keep in memory what requests read of stored items, as many as texts stay there. Rests as long as it works, so
    that rankings go on meanwhile."""
    last, left = None, service.settings.cached_texts
    while left > 0 and not stopping():
        started = time.monotonic()
        with service.state.snapshot() as view:
            batch = view.first_items(min(_REMEMBERED_AT_ONCE, left), after=last)
            if not batch:
                return
            served.online.remember(view, sorted(item.item_id for item in batch))
        last, left = batch[-1].item_id, left - len(batch)
        time.sleep(time.monotonic() - started)


@contextmanager
def remembering(service: RankService) -> Iterator[None]:
    """`remember_catalogue` of the version that answers, and of each that replaces it, in the background while the block
    runs. For processes that answer requests."""
    stopped = Event()

    def remember() -> str:
        """Of the version that answers now; its name."""
        served = service.served
        remember_catalogue(service, served, lambda: stopped.is_set() or service.served is not served)
        return served.ranker

    def run() -> None:
        lower_priority()
        remembered, seconds = "", 0.0
        while not stopped.wait(seconds):
            seconds = _LOOK_SECONDS
            if service.served.ranker == remembered:
                continue
            try:
                remembered = remember()
            except (RecsysError, OSError) as error:  # what is not in memory is read when it is asked for
                remembered = service.served.ranker
                logger.warning("the stored items are not all in memory: %s", error)

    thread = Thread(target=run, name="remember", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


def at_low_priority(work: Callable[[], Result]) -> Result:
    """What `work` returns or raises in a thread that other threads go before, where the system has such threads."""
    future: Future[Result] = Future()

    def run() -> None:
        lower_priority()
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    Thread(target=run, name="warm-up", daemon=True).start()
    return future.result()
