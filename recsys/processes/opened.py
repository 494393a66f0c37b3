"""What one process of a server opens: its model, the store, and the watch over the alias."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from features.errors import StoreMissing
from recsys.online.open_state import open_existing_state
from recsys.processes.options import ServerOptions
from recsys.rollout.source import ModelSource, cache_of
from recsys.rollout.start import opened_service
from recsys.rollout.watcher import ModelWatcher
from recsys.serving.service import RankService


@contextmanager
def opened(options: ServerOptions) -> Iterator[tuple[RankService, ModelWatcher | None]]:
    """The service of a model that is ready, and what watches its alias; None for one that is named by its number."""
    settings = options.settings
    if not options.create:
        require_filled(options.store)
    cache = cache_of(options.store, settings.model_cache)
    source = ModelSource(options.model_uri, cache, custom_code=options.custom_code)
    with opened_service(source, options.store, settings) as service:
        yield service, ModelWatcher(service, source, seconds=settings.watch_seconds) if source.follows_alias else None


def require_filled(store: str) -> None:
    """Raise StoreMissing where there is no online store, or an empty one."""
    try:
        with open_existing_state(store):
            pass
    except StoreMissing as error:
        raise StoreMissing(f"{error}; `recsys serve --create` begins with an empty one") from error


@contextmanager
def watching(watcher: ModelWatcher | None) -> Iterator[None]:
    """Let a watcher look while the block runs, and at once on SIGHUP, where the system has that signal."""
    if watcher is None:
        yield
        return
    has_signal = hasattr(signal, "SIGHUP")
    before = signal.signal(signal.SIGHUP, lambda *_: watcher.look_soon()) if has_signal else None
    try:
        with watcher.running():
            yield
    finally:
        if has_signal:
            signal.signal(signal.SIGHUP, before)
