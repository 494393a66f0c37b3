"""What one process of a server opens: its model, the store, and the watch over the aliases."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from features.errors import StoreMissing
from recsys.online.open_state import open_existing_state
from recsys.processes.options import ServerOptions
from recsys.rollout.source import ModelSource, cache_of
from recsys.rollout.start import opened_service
from recsys.rollout.watcher import ModelWatcher
from recsys.serving.service import RankService


@contextmanager
def opened(options: ServerOptions) -> Iterator[tuple[RankService, Sequence[ModelWatcher]]]:
    """The service of a model that is ready, and what watches its alias and that of the challenger. A model that is
    named by its number is not watched; a challenger is in any case, since its watcher is what loads it."""
    settings = options.settings
    if not options.create:
        require_filled(options.store)
    cache = cache_of(options.store, settings.model_cache)
    source = ModelSource(options.model_uri, cache, custom_code=options.custom_code)
    with opened_service(source, options.store, settings, options.challenger) as service:
        watched = [(service.champion, source)] if source.follows_alias else []
        if service.challenger is not None:
            uri = service.challenger.options.uri
            watched.append((service.challenger.slot, ModelSource(uri, cache, custom_code=options.custom_code)))
        yield service, [ModelWatcher(service, *one, seconds=settings.watch_seconds) for one in watched]


def require_filled(store: str) -> None:
    """Raise StoreMissing where there is no online store, or an empty one."""
    try:
        with open_existing_state(store):
            pass
    except StoreMissing as error:
        raise StoreMissing(f"{error}; `recsys serve --create` begins with an empty one") from error


@contextmanager
def watching(watchers: Sequence[ModelWatcher]) -> Iterator[None]:
    """Let watchers look while the block runs, and at once on SIGHUP, where the system has that signal."""
    if not watchers:
        yield
        return

    def look_soon(*_: object) -> None:
        for watcher in watchers:
            watcher.look_soon()

    has_signal = hasattr(signal, "SIGHUP")
    before = signal.signal(signal.SIGHUP, look_soon) if has_signal else None
    try:
        with ExitStack() as running:
            for watcher in watchers:
                running.enter_context(watcher.running())
            yield
    finally:
        if has_signal:
            signal.signal(signal.SIGHUP, before)
