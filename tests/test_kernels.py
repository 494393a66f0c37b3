"""The tests that hold with any kernel, run again under each setting that changes kernels, in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from numpy._core._multiarray_umath import __cpu_features__ as numpy_features

TESTS = Path(__file__).parent
NEWER = "X86_V4 AVX512_ICL AVX512_SPR"
WITHOUT_FMA = "glibc.cpu.hwcaps=-FMA,-AVX2"
OLDEST = {
    "OPENBLAS_CORETYPE": "Prescott",
    "NPY_DISABLE_CPU_FEATURES": f"X86_V3 {NEWER}",
    "GLIBC_TUNABLES": WITHOUT_FMA,
    "ATEN_CPU_CAPABILITY": "default",
}
SETTINGS: dict[str, dict[str, str]] = {
    "openblas-sandybridge, glibc-without-fma": {
        "OPENBLAS_CORETYPE": "Sandybridge",
        "GLIBC_TUNABLES": WITHOUT_FMA,
    },
    "openblas-haswell, torch-default": {"OPENBLAS_CORETYPE": "Haswell", "ATEN_CPU_CAPABILITY": "default"},
    "openblas-skylakex": {"OPENBLAS_CORETYPE": "SkylakeX"},
    "numpy-without-avx512": {"NPY_DISABLE_CPU_FEATURES": NEWER},
    "all-the-oldest": OLDEST,
}
"""Every setting at least once; the oldest of all stand together. Numbers of BLAS threads vary within the tests."""
NEEDS_AVX512 = {"openblas-skylakex", "numpy-without-avx512"}


@pytest.mark.slow
@pytest.mark.parametrize("name", SETTINGS)
def test_exactness_parity_audit_and_golden_tests_hold_under(name: str) -> None:
    if name in NEEDS_AVX512 and not numpy_features["AVX512F"]:
        pytest.skip("no AVX-512")
    known = {variable for setting in SETTINGS.values() for variable in setting}
    environment = {key: value for key, value in os.environ.items() if key not in known}
    marked = [path for path in sorted(TESTS.glob("test_*.py")) if "mark.kernels" in path.read_text(encoding="utf-8")]
    paths = [str(path) for path in (TESTS / "kernel_setting.py", *marked)]
    options = ["-q", "-m", "kernels", "-p", "no:cacheprovider", "-x", "--durations=0", "--durations-min=5"]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *paths],
        env=environment | SETTINGS[name],
        cwd=TESTS.parent,
        capture_output=True,
        text=True,
        timeout=550,
        check=False,
    )
    assert run.returncode == 0, f"{name}: {SETTINGS[name]}\n{run.stdout[-6000:]}\n{run.stderr[-2000:]}"
