"""Cores, memory, the processor's instructions, GPUs, and the arithmetic that the encoder gets here."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from recsys.config import Config
from recsys.diagnosis.check import BROKEN, NOTE, OK, Check
from recsys.errors import ModelError
from recsys.registry.provenance import cpu_name

ENOUGH_MEMORY = 2 * 2**30
"""Bytes that the demo fits into."""

_CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def machine_checks(config: Config) -> Iterator[Check]:
    """What this machine computes with. It imports torch."""
    yield _cores()
    yield _memory()
    yield _compiled_code()
    yield _compiler()
    try:
        import torch
    except (ImportError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        yield Check("torch", BROKEN, f"it cannot be imported: {reason}", "install a build for this system")
        return
    yield Check("torch", OK, f"{torch.__version__}, {torch.get_num_threads()} threads")
    yield from _arithmetic(config)


def _cores() -> Check:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Check("cores", OK, f"{usable} of {os.cpu_count()}, {cpu_name()}")


def _memory() -> Check:
    total, limit = _physical_memory(), _memory_limit()
    if total is None:
        return Check("memory", NOTE, "unknown on this system")
    usable = total if limit is None else min(total, limit)
    limited = "" if usable == total else f", limited to {_gigabytes(usable)} by the container"
    found = f"{_gigabytes(total)}{limited}"
    if usable < ENOUGH_MEMORY:
        return Check("memory", NOTE, found, f"the demo takes up to {_gigabytes(ENOUGH_MEMORY)}")
    return Check("memory", OK, found)


def _physical_memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None


def _memory_limit() -> int | None:
    for path in _CGROUP_LIMITS:
        try:
            text = path.read_text(encoding="ascii").strip()
        except OSError:
            continue
        return int(text) if text.isdigit() else None
    return None


def _compiled_code() -> Check:
    """Whether numba can keep what it compiles."""
    import features.kernels

    named = os.environ.get("NUMBA_CACHE_DIR")
    beside = Path(features.kernels.__file__).parent / "__pycache__"
    folders = [Path(named)] if named else [beside, Path.home() / ".cache" / "numba"]
    for folder in folders:
        if is_writable(folder):
            return Check("compiled code", OK, f"numba keeps it in {folder}")
    return Check(
        "compiled code",
        NOTE,
        f"none of {[str(folder) for folder in folders]} can be written: every process compiles again, for seconds",
        "set NUMBA_CACHE_DIR to a folder that can be",
    )


def _compiler() -> Check:
    found = next((path for name in ("cc", "gcc", "clang") if (path := shutil.which(name))), None)
    return Check("C compiler", OK, found) if found else Check("C compiler", OK, "none, and nothing here needs one")


def _arithmetic(config: Config) -> Iterator[Check]:
    import torch

    from recsys.encoder.dtype import has_bfloat16, resolve_dtype
    from recsys.encoder.model import encoding_device

    capability, cpu = torch.backends.cpu.get_cpu_capability(), torch.device("cpu")
    has_avx512 = capability.startswith("AVX512")
    facts = {
        "AVX-512": has_avx512,
        "bf16": has_bfloat16(cpu),
        "VNNI": has_avx512 and torch.cpu._is_vnni_supported(),
    }
    listed = ", ".join(f"{name} {'yes' if has else 'no'}" for name, has in facts.items())
    yield Check("instructions", OK, f"{capability}: {listed}")
    gpus = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    yield Check("GPU", OK, ", ".join(gpus) or "none, the processor encodes")
    openvino = importlib.util.find_spec("openvino") is not None
    yield Check("OpenVINO", OK, metadata.version("openvino") if openvino else "none, encoder.dtype int8 needs it")
    device, setting = encoding_device(), config.encoder.dtype
    try:
        dtype = resolve_dtype(setting, device)
    except ModelError as error:
        yield Check("encoder.dtype", BROKEN, str(error))
        return
    yield Check("encoder.dtype", OK, f"{setting} is {dtype} on {device.type}")


def is_writable(folder: Path) -> bool:
    """Whether files can be written into a folder, or into the nearest one above that is there."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)


def _gigabytes(n_bytes: int) -> str:
    return f"{n_bytes / 2**30:.1f} GiB"
