"""Where a server takes its versions from: the registry, and while that does not answer the copies on disk."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from features.errors import InputError, RecsysError
from recsys.registry import tracking
from recsys.registry.lookup import resolve
from recsys.registry.model_cache import ModelCache
from recsys.registry.names import Version, parse_uri
from recsys.registry.versions import LoadedModel, load

logger = logging.getLogger(__name__)
BESIDE = ".models"
"""What follows the name of a store's folder in that of its copies."""


class ModelSource:
    """The versions that a URI names. cache: their copies on disk, None to keep none. follows_alias: whether the URI can
    name another version later. custom_code: as for `versions.load`."""

    def __init__(self, uri: str, cache: ModelCache | None, *, custom_code: bool = True) -> None:
        self.uri = uri
        self._custom_code = custom_code
        self.cache = cache
        self.follows_alias = parse_uri(uri).alias is not None
        self._connected = False

    def named(self) -> Version:
        """The version that the registry says the URI names now. Raises RegistryUnreachable, or ModelNotFound where the
        registry knows no such model, version or alias."""
        with tracking.answering():
            if not self._connected:
                tracking.fail_fast()
                tracking.connect()
                self._connected = True
            return resolve(self.uri)

    @contextmanager
    def fetched(self, version: Version) -> Iterator[LoadedModel]:
        """A version loaded from a copy of its files, which is there for the block. Raises as `versions.load` and
        RegistryUnreachable."""
        with tempfile.TemporaryDirectory(prefix="recsys-model-", ignore_cleanup_errors=True) as folder:
            with tracking.answering():
                loaded = load(version.uri, into=Path(folder), custom_code=self._custom_code)
            yield loaded

    def keep(self, loaded: LoadedModel) -> None:
        """Copy a version that is good; a copy that cannot be written is logged."""
        if self.cache is None:
            return
        try:
            self.cache.keep(loaded, self.uri)
        except InputError as error:
            logger.info("another process keeps the copy of %s: %s", loaded.ranker, error)
        except (RecsysError, OSError) as error:
            logger.warning("no copy of %s is kept: %s", loaded.ranker, error)

    def last_good(self) -> LoadedModel | None:
        """The version of the URI that served last, from its copy; None where there is none."""
        if self.cache is None:
            return None
        return self.cache.load_last(self.uri, custom_code=self._custom_code)


def cache_of(store: str, setting: str | None) -> ModelCache | None:
    """The cache of a server. setting: its folder, "" for none; None is beside the store, where that is a folder."""
    if setting is not None:
        return ModelCache(Path(setting)) if setting else None
    return None if "://" in store else ModelCache(Path(f"{Path(store)}{BESIDE}"))
