"""Places in an object store: any that fsspec knows by its URL, such as `s3://bucket/nightly`.

The client's own settings say how the store is reached: environment variables and files of AWS, Google or Azure.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from features.errors import InputError, RecsysError

_PACKAGES = {
    "s3": "s3fs",
    "s3a": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "abfs": "adlfs",
    "abfss": "adlfs",
    "az": "adlfs",
}
_CLIENTS = ("botocore", "aiobotocore", "aiohttp", "s3fs", "gcsfs", "google", "adlfs", "azure", "fsspec", "asyncio")


def open_place(url: str) -> tuple[Any, str]:
    """The file system of a URL, without a memory of listings, and the path in it. Raises RecsysError where the package
    for it is missing, InputError for a URL that nothing can open."""
    from fsspec.core import url_to_fs

    scheme = url.partition("://")[0]
    try:
        files, path = url_to_fs(url, use_listings_cache=False)
    except ImportError as error:
        package = _PACKAGES.get(scheme)
        advice = f"pip install {package}" if package else "install the package of fsspec for it"
        raise RecsysError(f"{url!r}: no package for {scheme}:// is installed; {advice}") from error
    except ValueError as error:
        raise InputError(f"{url!r}: expected a path, or a URL such as s3://bucket/folder: {error}") from error
    return files, path.rstrip("/")


def objects_below(files: Any, root: str, url: str) -> dict[str, int]:
    """Bytes of each object of a folder, by its name below it."""
    with reachable(url):
        try:
            found = files.find(root, detail=True)
        except FileNotFoundError:
            return {}
    return {path.removeprefix(f"{root}/"): int(entry["size"]) for path, entry in found.items() if path != root}


@contextmanager
def reachable(url: str) -> Iterator[None]:
    """Errors of the store's client become one line that names the place."""
    try:
        yield
    except RecsysError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"{url!r}: no such file, folder or bucket: {_line(error)}") from error
    except PermissionError as error:
        raise RecsysError(f"{url!r}: the store refuses access: {_line(error)}; check its credentials") from error
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in _CLIENTS and not isinstance(error, OSError):
            raise
        raise RecsysError(f"{url!r}: the store cannot be used: {type(error).__name__}: {_line(error)}") from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
