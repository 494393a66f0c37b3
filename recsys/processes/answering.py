"""One process that answers HTTP over a registered ranker and an online store, alone or beside others on one socket."""

from __future__ import annotations

import logging
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext

import uvicorn
from fastapi import FastAPI

from recsys.config import ServingConfig
from recsys.processes.opened import opened, watching
from recsys.processes.options import ServerOptions
from recsys.processes.refreshing import refreshing
from recsys.registry.versions import LoadedModel
from recsys.rollout.shadow_runs import shadow_logged
from recsys.rollout.start import ready_service
from recsys.rollout.warm_up import remembering
from recsys.rollout.watcher import ModelWatcher
from recsys.serving.api_keys import open_keys
from recsys.serving.app import create_app
from recsys.serving.key_ring import KeyRing
from recsys.serving.ranking_log import open_ranking_log
from recsys.serving.service import RankService
from recsys.serving.tracing import tracer

log = logging.getLogger(__name__)


def answer(
    options: ServerOptions, listener: socket.socket, ready: Callable[[str], None], *, refreshes: bool = True
) -> None:
    """Answer on a socket until SIGTERM or SIGINT, then let open requests end; either ends a start too.

    ready: called with the name of the version once it answers. refreshes: build collaborative snapshots too, and log
    what a challenger in shadow shows, which otherwise another process does. Raises InputError or StoreError for the
    keys, ModelNotFound or ModelError for the model, RegistryUnreachable for MLflow, StoreError for the store.
    """
    with (
        _until_stopped(),
        key_ring(options.keys) as ring,
        opened(options) as (service, watchers),
        refreshing(service) if refreshes else nullcontext(),
        shadow_logged(service) if refreshes else nullcontext(),
    ):
        _answer(service, listener, watchers, ring, ready)


def answer_with(loaded: LoadedModel, store: str, listener: socket.socket, settings: ServingConfig) -> None:
    """As `answer`, with a model that is loaded."""
    with _until_stopped(), ready_service(loaded, store, settings) as service, refreshing(service):
        _answer(service, listener, (), None, lambda version: log.info("%s answers", version))


@contextmanager
def key_ring(place: str | None) -> Iterator[KeyRing | None]:
    """The API keys at a place, None for none."""
    if place is None:
        yield None
        return
    with open_keys(place) as source:
        yield KeyRing(source)


def _answer(
    service: RankService,
    listener: socket.socket,
    watchers: Sequence[ModelWatcher],
    keys: KeyRing | None,
    ready: Callable[[str], None],
) -> None:
    with (
        watching(watchers),
        remembering(service),
        tracer() as traces,
        open_ranking_log(service.settings, service.telemetry) as service.ranking_log,
    ):
        app = create_app(service, keys, traces)
        ready(service.served.ranker)
        _run(app, listener, round(service.settings.shutdown_seconds))


def _run(app: FastAPI, listener: socket.socket, shutdown_seconds: int) -> None:
    """Serve until a signal, then let open requests end."""
    options = uvicorn.Config(
        app,
        http="h11",  # httptools bounds no header, and takes the body from requests that ask for h2c, as some clients do
        log_config=None,  # its lines go where the others go
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=shutdown_seconds,
    )
    uvicorn.Server(options).run(sockets=[listener])


@contextmanager
def _until_stopped() -> Iterator[None]:
    """SIGTERM ends the block as SIGINT does, and what it has opened is closed. uvicorn passes on both, once done."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        log.info("stopped")
    finally:
        signal.signal(signal.SIGTERM, before)
