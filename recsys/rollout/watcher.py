"""Follows an alias of the registry: a server answers with the version that it names, without a restart.

    watcher = ModelWatcher(service, source, seconds=5)
    with watcher.running():
        ...                          # serve; watcher.look_soon() looks at once

A version that is named anew is loaded, checked and warmed beside the one that answers, which it then replaces. One that
fails is refused and the other goes on: see `_is_final` for when it is tried again.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from queue import Empty, SimpleQueue
from threading import Event, Thread

from features.errors import RecsysError, StoreError, StoreMismatch
from recsys.errors import ArtifactsUnavailable, ModelError, ModelNotFound, RegistryUnreachable
from recsys.registry.names import Version
from recsys.registry.versions import LoadedModel
from recsys.rollout.source import ModelSource
from recsys.rollout.warm_up import WarmUpStopped, at_low_priority, encode_catalogue, warm_up
from recsys.serving.served_model import RefusedVersion
from recsys.serving.service import RankService

logger = logging.getLogger(__name__)
FIRST_RETRY, LAST_RETRY = 30.0, 3600.0
"""Seconds until a version is tried again whose failure may pass: the first time, and at most."""


class ModelWatcher:
    """Watches for a service. seconds: between two looks; 0 looks only when `look_soon` is called."""

    def __init__(self, service: RankService, source: ModelSource, *, seconds: float) -> None:
        self._service = service
        self._source = source
        self._seconds = seconds
        self._wake: SimpleQueue[None] = SimpleQueue()
        self._stopped = Event()
        self._unanswered: type[RecsysError] | None = None
        self._retry_at, self._retry_after = time.monotonic() + FIRST_RETRY, FIRST_RETRY

    @contextmanager
    def running(self) -> Iterator[None]:
        """Watch in a thread of its own while the block runs."""
        thread = Thread(target=self._run, name="model-watcher", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stopped.set()
            self._wake.put(None)
            thread.join()

    def look_soon(self) -> None:
        """Let the thread look now, and try a refused version again. May be called in a signal handler."""
        self._wake.put(None)

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                self._wake.get(timeout=self._seconds or None)
                asked = True
            except Empty:
                asked = False
            if self._stopped.is_set():
                return
            try:
                self.look(again=asked)
            except Exception:
                logger.exception("the look for another version failed; the next one is in %g s", self._seconds)

    def look(self, *, again: bool = False) -> None:
        """Ask the registry once, and change to the version that it names. again: try a refused one again."""
        try:
            version = self._source.named()
        except (RegistryUnreachable, ModelNotFound) as error:
            self._no_answer(error)
            return
        self._answered()
        service, refused = self._service, self._service.refused
        if refused is not None and refused.version != str(version):
            service.refuse(None)
            self._retry_after = FIRST_RETRY
        elif refused is not None and not again and time.monotonic() < self._retry_at:
            return
        if service.served.ranker == str(version):
            if service.served.source != "registry":
                service.replace(replace(service.served, source="registry"))
            return
        self._change_to(version, said=again)

    def _change_to(self, version: Version, *, said: bool) -> None:
        """Answer with a version, or refuse it. said: report a refusal that has been reported."""
        started = time.monotonic()
        logger.info("%s now names %s, which is being loaded", self._source.uri, version)
        try:
            with self._source.fetched(version) as loaded:
                changed = self._replace(loaded)
        except WarmUpStopped:
            return
        except Exception as error:  # whatever is wrong with a new version, the old one goes on
            self._refuse(version, error, said=said)
            return
        if changed:
            self._service.refuse(None)
            self._retry_after = FIRST_RETRY
            logger.info("%s answers, after %.1f s", version, time.monotonic() - started)

    def _replace(self, loaded: LoadedModel) -> bool:
        service = self._service
        served = service.prepare(loaded.ranking_model, ranker=str(loaded.ranker), encoder=loaded.encoder_name)
        items = warm_up(service, served, self._stopped.is_set)
        if self._names_another(loaded.ranker):
            logger.info("%s is dropped: %s names another version meanwhile", loaded.ranker, self._source.uri)
            return False
        service.replace(served)
        try:
            with service.state.snapshot() as view:
                late = view.meta.items != items  # items that came while the old encoder encoded what was posted
            if late:
                at_low_priority(lambda: encode_catalogue(service, served, self._stopped.is_set))
        except StoreError as error:  # such items are encoded when they are ranked
            logger.warning("%s answers; vectors of the newest items are not ready: %s", loaded.ranker, error)
        self._source.keep(loaded)
        return True

    def _names_another(self, version: Version) -> bool:
        try:
            return self._source.named() != version
        except (RegistryUnreachable, ModelNotFound):
            return False

    def _refuse(self, version: Version, error: Exception, *, said: bool) -> None:
        final = _is_final(error)
        self._retry_at = math.inf if final else time.monotonic() + self._retry_after
        self._retry_after = min(2 * self._retry_after, LAST_RETRY)
        known = self._service.refused
        if known is not None and known.version == str(version) and not said:
            return
        refused = RefusedVersion(str(version), _reason(version, error))
        self._service.refuse(refused)
        logger.error(
            "%s is refused, %s goes on: %s (%s)",
            version,
            self._service.served.ranker,
            refused.reason,
            "tried again when the alias changes or on SIGHUP" if final else "tried again later, or on SIGHUP",
            exc_info=None if isinstance(error, (RecsysError, OSError)) else error,
        )

    def _no_answer(self, error: RecsysError) -> None:
        metrics = self._service.telemetry.models
        metrics.reachable.set(not isinstance(error, RegistryUnreachable))
        if self._unanswered is not type(error):
            logger.warning("%s goes on: %s", self._service.served.ranker, error)
        self._unanswered = type(error)

    def _answered(self) -> None:
        metrics = self._service.telemetry.models
        metrics.reachable.set(1)
        metrics.checked.set_to_current_time()
        if self._unanswered is not None:
            logger.info("the registry answers again what %s names", self._source.uri)
        self._unanswered = None


def _is_final(error: Exception) -> bool:
    """Whether a version fails in the same way however often it is tried: it is damaged, or the store does not keep what
    it reads. It is then tried again when the alias changes, or when the server is told to look. Anything else, such as
    files that cannot be fetched, may pass: that is tried again, each time after twice as long."""
    return isinstance(error, (ModelError, StoreMismatch)) and not isinstance(error, ArtifactsUnavailable)


def _reason(version: Version, error: Exception) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, StoreMismatch):
        options = f"--store NEW --model {version.uri}"
        return f"{text}: `recsys load-items FILE {options}`, `recsys load-events FILE {options}`, serve --store NEW"
    return text if isinstance(error, RecsysError) else f"{type(error).__name__}: {text}"
