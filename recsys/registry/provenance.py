"""Where a training comes from: a hash of its settings, the commit of the code, the libraries and the processor."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

from recsys.config import Config
from recsys.registry.run_tags import CONFIG_HASH, ENVIRONMENT, GIT_COMMIT

PACKAGES = (
    "recsys",
    "torch",
    "transformers",
    "tokenizers",
    "lightgbm",
    "numpy",
    "scipy",
    "numba",
    "pandas",
    "scikit-learn",
    "openvino",
    "mlflow",
)
"""Libraries that compute something in a training, and MLflow, which keeps it."""

_HASHED = 12


def origin_tags(config: Config) -> dict[str, str]:
    """All of it as tags of a run."""
    commit = git_commit(Path(__file__).parent)
    commits = {} if commit is None else {GIT_COMMIT: commit}
    return {CONFIG_HASH: config_hash(config), **commits, **environment(config)}


def config_hash(config: Config) -> str:
    """12 hexadecimal digits; the same for settings that differ in the seed at most."""
    settings = config.model_dump(mode="json", exclude={"seed"})
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:_HASHED]


def git_commit(folder: Path) -> str | None:
    """Commit of the code in a folder, with `+` where tracked files have changed since; None where the folder is not in
    a repository, is ignored by it, or there is no git."""
    if _git(folder, "ls-files", "--error-unmatch", "__init__.py") is None:
        return None
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return None
    changed = _git(folder, "status", "--porcelain", "--untracked-files=no", ":/")
    return f"{commit}+" if changed else commit


def environment(config: Config) -> dict[str, str]:
    """Versions of the libraries, the processor and its cores, and the encoder's arithmetic here, by tag."""
    import torch

    from recsys.encoder.dtype import resolve_dtype
    from recsys.encoder.model import encoding_device

    device = encoding_device()
    found = {name: installed_version(name) for name in PACKAGES}
    values = {
        "python": platform.python_version(),
        **{name: version for name, version in found.items() if version is not None},
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": cpu_name(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": str(os.cpu_count()),
        "device": device.type,
        "dtype": str(resolve_dtype(config.encoder.dtype, device)),
    }
    return {f"{ENVIRONMENT}{name}": value for name, value in values.items()}


def installed_version(package: str) -> str | None:
    """Version of an installed package, None for one that is not."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def cpu_name() -> str:
    """Name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _git(folder: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
