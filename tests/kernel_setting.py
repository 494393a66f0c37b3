"""Run by tests/test_kernels.py in a process of its own: asserts that what its environment asks for took effect."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
import torch
from numpy._core._multiarray_umath import __cpu_features__ as numpy_features
from threadpoolctl import threadpool_info

pytestmark = pytest.mark.kernels
ARCHITECTURES = {"Prescott": {"prescott", "katmai"}, "Sandybridge": {"sandybridge"}, "Haswell": {"haswell"}}
"""What OpenBLAS calls the kernels that OPENBLAS_CORETYPE names; Prescott is printed as Katmai."""


def test_openblas_runs_the_kernels_that_are_asked_for() -> None:
    asked = os.environ.get("OPENBLAS_CORETYPE")
    found = {info["architecture"].lower() for info in threadpool_info() if info["internal_api"] == "openblas"}
    assert found
    if asked is not None:
        assert found <= ARCHITECTURES.get(asked, {asked.lower()})


def test_numpy_does_without_the_features_that_are_disabled() -> None:
    disabled = set(os.environ.get("NPY_DISABLE_CPU_FEATURES", "").split())
    assert disabled <= {*numpy_features}
    assert [name for name in sorted(disabled) if numpy_features[name]] == []


def test_the_c_library_does_without_the_features_that_are_disabled() -> None:
    disabled = set(re.findall(r"-(\w+)", os.environ.get("GLIBC_TUNABLES", "")))
    assert disabled <= {"FMA", "AVX2"}
    assert disabled.isdisjoint(active_in_the_c_library())


def test_torch_has_the_capability_that_is_asked_for() -> None:
    asked = os.environ.get("ATEN_CPU_CAPABILITY")
    found = torch.backends.cpu.get_cpu_capability().lower()
    assert asked is None or found == asked


def active_in_the_c_library() -> set[str]:
    """FMA and AVX2, where the C library chooses routines with them, by the diagnostics of its loader."""
    loader = re.search(r"\S*/ld-linux\S*", Path("/proc/self/maps").read_text(encoding="utf-8"))
    assert loader is not None, "expected the GNU C library"
    text = subprocess.run([loader[0], "--list-diagnostics"], check=True, capture_output=True, text=True).stdout

    def word(leaf: int, register: int) -> int:
        name = rf"^x86\.cpu_features\.features\[{leaf:#x}\]\.active\[{register:#x}\]=(\S+)$"
        found = re.search(name, text, re.MULTILINE)
        assert found is not None, "expected the GNU C library, version 2.33 or newer"
        return int(found[1], 16)

    bits = {"FMA": word(0, 2) >> 12, "AVX2": word(1, 1) >> 5}
    return {name for name, bit in bits.items() if bit & 1}
