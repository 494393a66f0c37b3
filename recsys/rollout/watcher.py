"""Follows an alias of the registry: a server answers with the version that it names, without a restart.

    watcher = ModelWatcher(service, service.champion, source, seconds=5)
    with watcher.running():
        ...                          # serve; watcher.look_soon() looks at once

A version that is named anew is loaded, checked and warmed beside the one that answers, which it then replaces. One that
fails is refused and the other goes on: see `_is_final` for when it is tried again.

The place of the challenger is filled by its watcher alone: it may be empty, and is while the registry knows no version
of that name, or the champion is that version.
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
from recsys.serving.model_slot import ModelSlot
from recsys.serving.served_model import RefusedVersion
from recsys.serving.service import RankService

logger = logging.getLogger(__name__)
FIRST_RETRY, LAST_RETRY = 30.0, 3600.0
"""Seconds until a version is tried again whose failure may pass: the first time, and at most."""


class ModelWatcher:
    """Watches for one place of a service. seconds: between two looks; 0 looks only when `look_soon` is called, and at
    the beginning where the place is empty."""

    def __init__(self, service: RankService, slot: ModelSlot, source: ModelSource, *, seconds: float) -> None:
        self._service = service
        self._slot = slot
        self._source = source
        self._seconds = seconds
        self._wake: SimpleQueue[None] = SimpleQueue()
        self._stopped = Event()
        self._unanswered: type[RecsysError] | None = None
        self._has_answered = False
        self._empty_for: str | None = None
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
        if self._slot.served is None:
            self._try_to_look(again=False)
        while not self._stopped.is_set():
            try:
                self._wake.get(timeout=self._seconds or None)
                asked = True
            except Empty:
                asked = False
            if self._stopped.is_set():
                return
            self._try_to_look(again=asked)

    def _try_to_look(self, *, again: bool) -> None:
        try:
            self.look(again=again)
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
        slot, served, refused = self._slot, self._slot.served, self._slot.refused
        if refused is not None and refused.version != str(version):
            slot.refuse(None)
            self._retry_after = FIRST_RETRY
        elif refused is not None and not again and time.monotonic() < self._retry_at:
            return
        if slot.variant == "challenger" and self._service.served.ranker == str(version):
            self._empty(f"{version} is the champion itself")
        elif served is None or served.ranker != str(version):
            self._change_to(version, said=again)
        elif served.source != "registry":
            slot.fill(replace(served, source="registry"))

    def _empty(self, reason: str) -> None:
        """Leave the place of the challenger empty."""
        if self._slot.served is not None or self._empty_for != reason:
            logger.warning("there is no challenger: %s", reason)
        self._empty_for = reason
        self._slot.empty()

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
            self._slot.refuse(None)
            self._retry_after = FIRST_RETRY
            self._say_ready(version, started)

    def _say_ready(self, version: Version, started: float) -> None:
        what = "answers" if self._slot.variant == "champion" else "is the challenger"
        logger.info("%s %s, after %.1f s", version, what, time.monotonic() - started)

    def _replace(self, loaded: LoadedModel) -> bool:
        service = self._service
        served = service.prepare(loaded.ranking_model, ranker=str(loaded.ranker), encoder=loaded.encoder_name)
        items = warm_up(service, served, self._stopped.is_set)
        if self._names_another(loaded.ranker):
            logger.info("%s is dropped: %s names another version meanwhile", loaded.ranker, self._source.uri)
            return False
        self._slot.fill(served)
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
        known = self._slot.refused
        if known is not None and known.version == str(version) and not said:
            return
        refused = RefusedVersion(str(version), _reason(version, error))
        self._slot.refuse(refused)
        logger.error(
            "%s is refused, %s: %s (%s)",
            version,
            self._what_goes_on(),
            refused.reason,
            "tried again when the alias changes or on SIGHUP" if final else "tried again later, or on SIGHUP",
            exc_info=None if isinstance(error, (RecsysError, OSError)) else error,
        )

    def _what_goes_on(self) -> str:
        served = self._slot.served
        return "there is no challenger" if served is None else f"{served.ranker} goes on"

    def _no_answer(self, error: RecsysError) -> None:
        """The registry says nothing, or that no version has that name: then there is no challenger any more, while a
        champion goes on."""
        is_away = isinstance(error, RegistryUnreachable)
        self._service.telemetry.models.reachable.set(not is_away)
        if self._slot.variant == "challenger" and not is_away:
            self._answered()
            self._slot.refuse(None)
            self._empty(str(error))
            return
        if self._unanswered is not type(error):
            logger.warning("%s: %s", self._what_goes_on(), error)
            if self._slot.served is None and not self._has_answered:
                self._take_last_good()  # else the registry has said itself that the place is to be empty
        self._unanswered = type(error)

    def _take_last_good(self) -> None:
        """Fill an empty place from the copy of the version that had it last."""
        started, loaded = time.monotonic(), self._source.last_good()
        if loaded is None or str(loaded.ranker) == self._service.served.ranker:
            return
        try:
            served = self._service.prepare(
                loaded.ranking_model, ranker=str(loaded.ranker), encoder=loaded.encoder_name, source="cache"
            )
            warm_up(self._service, served, self._stopped.is_set)
        except WarmUpStopped:
            return
        except Exception as error:
            self._refuse(loaded.ranker, error, said=False)
            return
        self._slot.fill(served)
        self._say_ready(loaded.ranker, started)

    def _answered(self) -> None:
        metrics = self._service.telemetry.models
        metrics.reachable.set(1)
        metrics.checked.set_to_current_time()
        if self._unanswered is not None:
            logger.info("the registry answers again what %s names", self._source.uri)
        self._unanswered, self._has_answered = None, True


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
