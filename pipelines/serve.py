"""`recsys serve`: the HTTP server over a registered ranker and an online store.

Reads the model registry and the store; writes events and items to the store as they are posted, and copies of the last
good versions beside it. Follows the alias that names its model; SIGHUP makes it look at once. Stops on Ctrl-C or
SIGTERM once open requests have ended. With several workers, this process holds the socket and keeps the others running;
it loads no model itself.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
from collections.abc import Callable
from contextlib import closing
from functools import partial

from pipelines.process import log_to_stderr, one_line
from recsys.config import Config
from recsys.errors import ServerError
from recsys.processes.options import ServerOptions
from recsys.registry.names import CHALLENGER, parse_uri
from recsys.serving.exposure import require_keys_beyond_loopback
from recsys.serving.traffic import ChallengerOptions

log = logging.getLogger(__name__)
_KILL_SECONDS = 5.0
"""How much longer than its open requests a worker may take to end."""


def serve(
    model_uri: str,
    host: str,
    port: int,
    store: str,
    config: Config | None = None,
    *,
    workers: int = 1,
    create: bool = False,
    keys: str | None = None,
    for_everybody: bool = False,
    custom_code: bool = True,
    json_logs: bool = False,
    challenger: ChallengerOptions | None = None,
) -> None:
    """Answer HTTP on host and port until interrupted; port 0 takes a free one.

    store: folder or `redis://` URL of the online store. workers: processes that answer; 1 is this one. create: begin
    with an empty store where there is none. keys: file or URL of the API keys that requests have to bring, None for
    none. for_everybody: listen beyond loopback without keys. custom_code: execute a version's file of custom features;
    otherwise such a version is refused. challenger: a second version beside it, None for none. json_logs: log one JSON
    object a line.

    Raises ServerError where the port cannot be had, keys are missing or a worker cannot start, otherwise as
    `recsys.processes.answering.answer`.
    """
    if workers > 1 and os.name == "nt":
        raise ServerError(f"expected one worker on Windows, which shares no socket, got {workers}; leave out --workers")
    if json_logs:
        log_to_stderr(as_json=True)
    with closing(listen(host, port)) as listener:
        require_keys_beyond_loopback(listener.getsockname()[0], has_keys=keys is not None or for_everybody)
        settings = (config or Config()).serving
        options = ServerOptions(
            model_uri,
            store,
            settings,
            create=create,
            keys=keys,
            custom_code=custom_code,
            challenger=challenger,
            json_logs=json_logs,
        )
        if workers > 1:
            _supervise(options, listener, workers)
            return
        from recsys.processes.answering import answer

        answer(options, listener, partial(_say_where, listener))


def challenger_options(model_uri: str, uri: str | None, *, share: float, shadow: bool) -> ChallengerOptions | None:
    """The challenger that the options of the command ask for, None for none. uri: None is the alias `challenger` of the
    model that is served."""
    if uri is None and not shadow and not share:
        return None
    return ChallengerOptions(uri or f"models:/{parse_uri(model_uri).name}@{CHALLENGER}", share, shadow)


def _supervise(options: ServerOptions, listener: socket.socket, workers: int) -> None:
    """Keep workers on a socket, and the process that refreshes for them and logs what their shadow finds."""
    from recsys.processes.supervisor import Supervisor, Task

    tasks = [Task("worker", number, partial(_work, number, options, listener)) for number in range(1, workers + 1)]
    if options.settings.rebuild_seconds or (options.challenger is not None and options.challenger.shadow):
        tasks.append(Task("refresher", 1, partial(_refresh, options)))
    Supervisor(
        tasks,
        describe=one_line,
        stop_seconds=options.settings.shutdown_seconds + _KILL_SECONDS,
        on_ready=partial(_say_where, listener, f" with {workers} workers"),
        on_stop=listener.close,
    ).run()


def _work(number: int, options: ServerOptions, listener: socket.socket, ready: Callable[[str], None]) -> None:
    """What a worker does."""
    log_to_stderr(f"worker {number}", as_json=options.json_logs)
    from recsys.processes.answering import answer

    answer(options, listener, ready, refreshes=False)


def _refresh(options: ServerOptions, ready: Callable[[str], None]) -> None:
    """What the process does that refreshes."""
    log_to_stderr("refresher", as_json=options.json_logs)
    from recsys.processes.refreshing import refresh_for_others

    refresh_for_others(options, ready)


def _say_where(listener: socket.socket, *words: str) -> None:
    """words: how the server answers, and the name of its version."""
    *how, version = words
    host, port = listener.getsockname()[:2]
    log.info("%s answers at http://%s:%d%s (playground at /, API at /docs)", version, host, port, "".join(how))


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
