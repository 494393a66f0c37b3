"""Fixtures that every test may use; in CI a test that is skipped has failed, but for a few reasons."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from redis_server import RedisServer
    from trained_site import TrainedSite

MAY_BE_MISSING = re.compile(r"\bGPUs?\b|\bAVX-?512|\bbf16\b|\bbfloat16\b|\breal data sets\b|\bother than Linux\b")
"""Reasons for which a test may be skipped in CI: what no installation gives a machine. All else is installed there."""

COLLECTED: pytest.StashKey[tuple[pytest.Item, ...]] = pytest.StashKey()
"""All tests that were collected, those too that `-m` leaves out."""

os.environ["RECSYS_CACHE"] = ""
"""No test reads what another run encoded."""

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _fail_if_skipped_in_ci(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _fail_if_skipped_in_ci(report)
    return report


def _fail_if_skipped_in_ci(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Make a failure of a skipped test, or module of tests, whose reason is none of those allowed."""
    if os.environ.get("CI") != "true" or report.outcome != "skipped" or hasattr(report, "wasxfail"):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    if MAY_BE_MISSING.search(reason) is None:
        report.outcome = "failed"
        report.longrepr = (
            f"expected no skipped test in CI, got {reason!r} from {report.nodeid}: install what is missing in .ci/run, "
            "or allow the reason in tests/conftest.py"
        )


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Files with most slow tests come first, then those that train: processes that take a file each end together."""
    config.stash[COLLECTED] = tuple(items)
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    training = {item.path for item in items if "trained_once" in getattr(item, "fixturenames", ())}
    items.sort(key=lambda item: (-slow[item.path], item.path not in training))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets that lies beside the project; the test is skipped where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no real data sets at {SHARED_DATA}: their licences forbid copying them into the project")
    return SHARED_DATA


@pytest.fixture(scope="session")
def trained_once(tmp_path_factory: pytest.TempPathFactory) -> TrainedSite:
    """Both models of a tiny encoder on a simulated site, trained once for all tests by the real pipeline."""
    from trained_site import train_site

    return train_site(tmp_path_factory.mktemp("trained-site"))


@pytest.fixture
def trained(trained_once: TrainedSite, monkeypatch: pytest.MonkeyPatch) -> TrainedSite:
    """The same, with its folder as the working folder, as a person in the project has it."""
    from recsys.registry import tracking

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(trained_once.home)
    tracking.connect()
    return trained_once


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A real Redis server for all tests; the test is skipped where none is installed."""
    from redis_server import redis_running

    with redis_running(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="module", params=["lmdb", "redis"])
def new_place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], str]:
    """Names places of empty online stores, as `--store` takes them: the test runs over every kind of store."""
    if request.param == "lmdb":
        return lambda: str(tmp_path_factory.mktemp("lmdb") / "store")
    server: RedisServer = request.getfixturevalue("redis_server")
    return server.place
