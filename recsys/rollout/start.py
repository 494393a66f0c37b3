"""The version that a server begins with: what the registry names, else the last one that served, from its copy."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager

from features.errors import RecsysError, StoreMismatch
from recsys.config import ServingConfig
from recsys.errors import ModelError, ModelNotFound, RegistryUnreachable
from recsys.online.open_state import open_state
from recsys.registry.names import Version
from recsys.registry.versions import LoadedModel
from recsys.rollout.source import ModelSource
from recsys.serving.served_model import RefusedVersion, ServedFrom
from recsys.serving.service import RankService
from recsys.serving.traffic import ChallengerOptions

logger = logging.getLogger(__name__)


@contextmanager
def opened_service(
    source: ModelSource, store: str, settings: ServingConfig, challenger: ChallengerOptions | None = None
) -> Iterator[RankService]:
    """A service that is ready to answer, over a store that is closed at the end. challenger: as for `RankService`.

    Where the registry does not answer, or names a version that does not load or does not fit the store, the copy of the
    version that served last answers, and the service says so. Raises the error where there is no copy, and
    ModelNotFound where the registry answers that it has no such model.
    """
    with ExitStack() as stack:
        version: Version | None = None
        try:
            version = source.named()
            with source.fetched(version) as loaded:
                service = stack.enter_context(ready_service(loaded, store, settings, challenger=challenger))
                source.keep(loaded)
            del loaded  # this frame lives as long as the server, and the version only until it is replaced
        except (RegistryUnreachable, ModelError, StoreMismatch) as error:
            unknown = version is None and isinstance(error, ModelNotFound)
            last = None if unknown else source.last_good()
            if last is None:
                raise
            logger.warning("%s serves from its copy on disk: %s", last.ranker, error)
            service = stack.enter_context(ready_service(last, store, settings, "cache", challenger))
            service.telemetry.models.reachable.set(version is not None)
            if version is not None and version != last.ranker:
                service.champion.refuse(RefusedVersion(str(version), str(error)))
            del last
        yield service


@contextmanager
def ready_service(
    loaded: LoadedModel,
    store: str,
    settings: ServingConfig,
    source: ServedFrom = "registry",
    challenger: ChallengerOptions | None = None,
) -> Iterator[RankService]:
    """A service of one loaded version that is ready to answer, over a store that is closed at the end. challenger: as
    for `RankService`."""
    with open_state(store, loaded.ranking_model.settings, create=True) as state:
        ranker, encoder = str(loaded.ranker), loaded.encoder_name
        try:
            service = RankService(
                loaded.ranking_model,
                state,
                settings,
                ranker=ranker,
                encoder=encoder,
                source=source,
                challenger=challenger,
            )
            service.served.online.refresh(wait=False)
            service.warm_up()
        except (RecsysError, OSError):
            raise
        except Exception as error:  # a feature of the version's own, for example
            raise ModelError(f"{ranker} cannot rank: {type(error).__name__}: {error}") from error
        del loaded  # as above
        with service.popularity.kept_fresh(state, settings.popularity_seconds), closing(service):
            yield service
