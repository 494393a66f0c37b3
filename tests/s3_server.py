"""An S3 server of the tests' own, and a bucket in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from s3fs import S3FileSystem

from recsys.batch.object_store import open_place


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """The address of an S3 server."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(s3: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """A new bucket `batches`; temporary folders of this machine are in `tmp_path`."""
    values = {"ENDPOINT_URL": s3, "ACCESS_KEY_ID": "any", "SECRET_ACCESS_KEY": "any", "DEFAULT_REGION": "us-east-1"}
    for name, value in values.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    S3FileSystem.clear_instance_cache()
    opened, _ = open_place("s3://batches")
    opened.mkdir("batches")
    yield opened
    opened.rm("batches", recursive=True)
    S3FileSystem.clear_instance_cache()
