"""`recsys serve`: the HTTP server over a registered ranker and an online store.

Reads the model registry and the store; writes events and items to the store as they are posted, and copies of the last
good versions beside it. Follows the alias that names its model; SIGHUP makes it look at once. Stops on Ctrl-C or
SIGTERM once open requests have ended.
"""

from __future__ import annotations

import errno
import logging
import signal
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from threading import Event, Thread

import uvicorn
from fastapi import FastAPI

from features.errors import StoreError, StoreMissing
from recsys.config import Config, ServingConfig
from recsys.errors import ServerError
from recsys.online.open_state import open_existing_state
from recsys.registry.versions import LoadedModel
from recsys.rollout.source import ModelSource, cache_of
from recsys.rollout.start import opened_service, ready_service
from recsys.rollout.watcher import ModelWatcher
from recsys.serving.api_keys import open_keys
from recsys.serving.app import create_app
from recsys.serving.exposure import require_keys_beyond_loopback
from recsys.serving.key_ring import KeyRing
from recsys.serving.service import RankService

log = logging.getLogger(__name__)


def serve(
    model_uri: str,
    host: str,
    port: int,
    store: str,
    config: Config | None = None,
    *,
    create: bool = False,
    keys: str | None = None,
    for_everybody: bool = False,
    custom_code: bool = True,
) -> None:
    """Answer HTTP on host and port until interrupted; port 0 takes a free one.

    store: folder or `redis://` URL of the online store. create: begin with an empty one where there is none. keys: file
    or URL of the API keys that requests have to bring, None for none. for_everybody: listen beyond loopback without
    keys. custom_code: execute a version's file of custom features; otherwise such a version is refused. Raises
    ServerError where the port cannot be had or keys are missing, InputError or StoreError for the keys, ModelNotFound
    or ModelError for the model, RegistryUnreachable for MLflow, StoreError for the store.
    """
    settings = (config or Config()).serving
    with closing(listen(host, port)) as listener, key_ring(keys) as ring:
        require_keys_beyond_loopback(listener.getsockname()[0], has_keys=ring is not None or for_everybody)
        if not create:
            require_filled(store)
        source = ModelSource(model_uri, cache_of(store, settings.model_cache), custom_code=custom_code)
        with opened_service(source, store, settings) as service:
            watcher = ModelWatcher(service, source, seconds=settings.watch_seconds) if source.follows_alias else None
            _answer(service, listener, watcher, ring)


@contextmanager
def key_ring(place: str | None) -> Iterator[KeyRing | None]:
    """The API keys at a place, None for none."""
    if place is None:
        yield None
        return
    with open_keys(place) as source:
        yield KeyRing(source)


def require_filled(store: str) -> None:
    """Raise StoreMissing where there is no online store, or an empty one."""
    try:
        with open_existing_state(store):
            pass
    except StoreMissing as error:
        raise StoreMissing(f"{error}; `recsys serve --create` begins with an empty one") from error


def serve_model(loaded: LoadedModel, store: str, listener: socket.socket, settings: ServingConfig) -> None:
    """`serve` with the model loaded and the port had."""
    with ready_service(loaded, store, settings) as service:
        _answer(service, listener, None, None)


def _answer(service: RankService, listener: socket.socket, watcher: ModelWatcher | None, keys: KeyRing | None) -> None:
    """Serve until interrupted. watcher: of another version, None for a model that is named by its number. keys: that
    requests have to bring, None for none."""
    host, port = listener.getsockname()[:2]
    log.info("%s answers at http://%s:%d (playground at /, API at /docs)", service.served.ranker, host, port)
    watching = nullcontext() if watcher is None else watcher.running()
    with _refreshing(service), watching, _looking_on_hangup(watcher):
        _run(create_app(service, keys), listener, round(service.settings.shutdown_seconds))


@contextmanager
def _looking_on_hangup(watcher: ModelWatcher | None) -> Iterator[None]:
    """Let SIGHUP make the watcher look, where the system has that signal."""
    if watcher is None or not hasattr(signal, "SIGHUP"):
        yield
        return
    before = signal.signal(signal.SIGHUP, lambda *_: watcher.look_soon())
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


@contextmanager
def _refreshing(service: RankService) -> Iterator[None]:
    """Build the collaborative snapshots of the version that answers when they are due, checked every so many seconds; 0
    never checks."""
    seconds = service.settings.rebuild_seconds
    stopped = Event()

    def refresh() -> None:
        while not stopped.wait(seconds):
            try:
                built = service.served.online.refresh()
            except StoreError as error:
                log.warning("collaborative snapshots are not refreshed: %s", error)
                continue
            if built is not None:
                log.info("collaborative snapshot of %d items built in %.1f s", built.items, built.seconds)

    thread = Thread(target=refresh, name="refresh", daemon=True)
    if seconds:
        thread.start()
    try:
        yield
    finally:
        stopped.set()
        if seconds:
            thread.join()


def listen(host: str, port: int) -> socket.socket:
    """A listening socket, had before anything slow is loaded. Raises ServerError where the port cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns Nagle's algorithm off, which costs 40 ms an answer, only where the protocol is given
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(128)
    except (OSError, OverflowError) as error:
        listener.close()
        in_use = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
        reason = "it is in use" if in_use else str(error)
        raise ServerError(
            f"port {port} on {host!r}: expected a free port, {reason}; choose another with --port, or stop what listens"
        ) from error
    return listener


def _run(app: FastAPI, listener: socket.socket, shutdown_seconds: int) -> None:
    """Serve until a signal, then let open requests end."""
    options = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=shutdown_seconds,
    )
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        uvicorn.Server(options).run(sockets=[listener])
    except KeyboardInterrupt:
        log.info("stopped")
    finally:
        signal.signal(signal.SIGTERM, before)
