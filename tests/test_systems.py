"""What only some systems have is imported where it is used, with a way for the others."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipelines.stopwatch import peak_rss_mb

ROOT = Path(__file__).resolve().parents[1]
ONLY_SOME = {"fcntl", "grp", "msvcrt", "pty", "pwd", "resource", "termios", "winreg"}


def test_no_module_needs_on_import_what_only_some_systems_have() -> None:
    paths = [path for package in ("features", "recsys", "pipelines") for path in (ROOT / package).rglob("*.py")]
    assert len(paths) > 100
    for path in paths:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = {alias.name for alias in node.names} if isinstance(node, ast.Import) else set()
            names |= {node.module or ""} if isinstance(node, ast.ImportFrom) else set()
            assert not names & ONLY_SOME, f"{path} imports {sorted(names & ONLY_SOME)}"


def test_the_most_memory_is_known_without_the_module_resource_too(monkeypatch: pytest.MonkeyPatch) -> None:
    assert peak_rss_mb() > 10
    memory = SimpleNamespace(peak_wset=3 * 2**20 + 5)
    process = SimpleNamespace(memory_info=lambda: memory)
    monkeypatch.setitem(sys.modules, "resource", None)
    monkeypatch.setitem(sys.modules, "psutil", SimpleNamespace(Process=lambda: process))
    assert peak_rss_mb() == 3
