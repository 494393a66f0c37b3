"""The suite itself: what CI makes of a skipped test, and how many tests are left out of the daily run."""

from __future__ import annotations

from pathlib import Path

import conftest
import pytest
from lowest_versions import PROJECT, lowest, requirements
from packaging.utils import canonicalize_name
from packaging.version import Version

pytest_plugins = ("pytester",)

CONSTRAINTS = PROJECT.with_name("constraints.txt")
TESTS = """
import pytest

def test_that_runs(): pass

@pytest.mark.skipif(True, reason={reason!r})
def test_with_a_mark(): pass

def test_that_stops(): pytest.skip({reason!r})

@pytest.fixture
def missing(): pytest.skip({reason!r})

def test_of_a_fixture(missing): pass

@pytest.mark.xfail(reason="known")
def test_known_to_fail(): raise ValueError
"""
MODULE = "import pytest\npytest.skip({reason!r}, allow_module_level=True)\ndef test_never(): pass"


@pytest.fixture
def suite(pytester: pytest.Pytester) -> pytest.Pytester:
    """An empty suite under the rules of this one."""
    pytester.makeconftest(Path(conftest.__file__).read_text(encoding="utf-8"))
    return pytester


def test_in_ci_a_skipped_test_fails_wherever_it_stops(suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    suite.makepyfile(TESTS.format(reason="no redis-server on PATH"))
    suite.makepyfile(test_other=TESTS.format(reason="no package gpustat is installed"))
    found = suite.runpytest_inprocess()
    assert found.ret == pytest.ExitCode.TESTS_FAILED
    assert found.parseoutcomes() == {"passed": 2, "failed": 2, "errors": 4, "xfailed": 2}
    found.stdout.fnmatch_lines(
        ["*expected no skipped test in CI, got 'Skipped: no redis-server on PATH' from *::test_that_stops:*"]
    )


def test_in_ci_a_skipped_module_fails(suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    suite.makepyfile(MODULE.format(reason="no package redis"))
    found = suite.runpytest_inprocess()
    assert found.ret == pytest.ExitCode.INTERRUPTED
    assert found.parseoutcomes() == {"errors": 1}
    found.stdout.fnmatch_lines(["*expected no skipped test in CI, got 'Skipped: no package redis' from *"])


def test_in_ci_what_no_installation_gives_a_machine_may_be_missing(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", "true")
    reasons = ("no GPU here", "the CPU has no AVX-512", "no AVX512 kernels", "no real data sets at x")
    for place, reason in enumerate(reasons):
        suite.makepyfile(**{f"test_{place}": TESTS.format(reason=reason)})
    suite.makepyfile(test_module=MODULE.format(reason="no GPU"))
    assert suite.runpytest_inprocess().parseoutcomes() == {"passed": 4, "skipped": 13, "xfailed": 4}


@pytest.mark.parametrize("ci", [None, "false"])
def test_elsewhere_a_skipped_test_is_skipped(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, ci: str | None
) -> None:
    monkeypatch.delenv("CI", raising=False)
    if ci is not None:
        monkeypatch.setenv("CI", ci)
    suite.makepyfile(TESTS.format(reason="no redis-server on PATH"))
    assert suite.runpytest_inprocess().parseoutcomes() == {"passed": 1, "skipped": 3, "xfailed": 1}


def test_at_most_one_test_in_twenty_is_slow(request: pytest.FixtureRequest) -> None:
    collected = request.config.stash[conftest.COLLECTED]
    if {item.path for item in collected} >= set(Path(__file__).parent.glob("test_*.py")):  # else it is a part of them
        assert sum(item.get_closest_marker("slow") is not None for item in collected) <= len(collected) / 20


@pytest.mark.parametrize(
    ("requirement", "expected"),
    [
        ("numpy>=2.0", "numpy==2.0"),
        ("redis[hiredis]>=8", "redis==8"),
        ("psutil>=6; sys_platform == 'win32'", "psutil==6"),
        ("model==0.1.0", "model==0.1.0"),
    ],
)
def test_the_lowest_version_of_a_requirement_is_its_floor(requirement: str, expected: str) -> None:
    assert lowest(requirement) == expected


def test_every_dependency_has_a_floor_and_the_versions_tested_together_are_not_below_it() -> None:
    pinned = dict(line.split("==") for line in CONSTRAINTS.read_text(encoding="utf-8").splitlines() if "==" in line)
    tested = {canonicalize_name(name): Version(version) for name, version in pinned.items()}
    for requirement in requirements():
        name, floor = lowest(requirement).split("==")
        assert tested[canonicalize_name(name)] >= Version(floor), requirement
    with pytest.raises(ValueError, match=r"requirement 'scipy' of pyproject.toml: expected NAME>=VERSION"):
        lowest("scipy")
