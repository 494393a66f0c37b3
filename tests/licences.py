"""`python tests/licences.py`: lists the licence of every package that recsys needs at run time; fails on a new kind.

The packages are those that pyproject.toml names, with the extras of RUNTIME_EXTRAS, and those that they need in turn,
as they are installed here. Which ones that are depends on the machine (a GPU build of torch brings others, so does
another Python), so the list is printed and checked, and none is committed.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

RUNTIME_EXTRAS = ("redis", "postgres", "int8", "tracing")
"""Of recsys; the others are for development."""

PERMISSIVE = frozenset(
    (
        "0BSD",
        "Apache-2.0",
        "Apache-2.0 WITH LLVM-exception",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "BSL-1.0",
        "CC0-1.0",
        "CNRI-Python",
        "ISC",
        "MIT",
        "MIT-0",
        "MIT-CMU",
        "OLDAP-2.8",
        "PSF-2.0",
        "Zlib",
    )
)
"""SPDX identifiers of licences that ask for no more than their text and the copyright line beside a copy."""

SPDX = {
    "apache 2.0": "Apache-2.0",
    "apache 2.0 license": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "osi approved :: apache software license": "Apache-2.0",
    "bsd": "BSD-3-Clause",
    "bsd license": "BSD-3-Clause",
    "3-clause bsd license": "BSD-3-Clause",
    "isc license": "ISC",
    "isc license (iscl)": "ISC",
    "mit license": "MIT",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "python software foundation license": "PSF-2.0",
}
"""What older metadata writes, in lower case."""

_UNCHANGED = "weak copyleft on its own files alone, which recsys uses unchanged and copies nowhere"
EXCEPTIONS = {
    "certifi": ("MPL-2.0", _UNCHANGED),
    "orjson": ("MPL-2.0 AND (Apache-2.0 OR MIT)", _UNCHANGED),
    "tqdm": ("MPL-2.0 AND MIT", _UNCHANGED),
    "psycopg": ("LGPL-3.0-only", f"{_UNCHANGED}; only who installs the extra postgres gets it"),
    "psycopg-binary": ("LGPL-3.0-only", f"{_UNCHANGED}; only who installs the extra postgres gets it"),
    "huey": ("", "MIT, as its file LICENSE says; its metadata names none"),
    "skops": ("", "MIT, as its file LICENSE says; its metadata names none"),
}
"""Packages with another licence, the words for it in their metadata, and why they are taken all the same."""

PROPRIETARY_OF_GPU_BUILDS = ("nvidia-", "cuda-")
"""Beginnings of the names of packages that a GPU build of torch brings. Whoever installs one takes NVIDIA's terms; what
recsys installs is the CPU build."""


@dataclass(frozen=True)
class Licensed:
    """An installed package. licence: SPDX where its metadata can be read so, else its words, "" for none."""

    name: str
    version: str
    licence: str

    @property
    def reason(self) -> str | None:
        """Why it is taken; None where it is not."""
        if is_permissive(self.licence):
            return "permissive"
        if self.name.startswith(PROPRIETARY_OF_GPU_BUILDS):
            return "comes with a GPU build of torch only"
        licence, reason = EXCEPTIONS.get(self.name, (None, None))
        return reason if licence == self.licence else None


def is_permissive(licence: str) -> bool:
    """Whether every part of an SPDX expression is, or one of the choices that it leaves."""
    parts = licence.replace("(", "").replace(")", "").split(" AND ")
    return all(any(choice.strip() in PERMISSIVE for choice in part.split(" OR ")) for part in parts)


def licence_of(package: Distribution) -> str:
    """SPDX expression, or the field License where that is a name and not a text, or else the classifiers."""
    metadata = package.metadata
    if expression := metadata.get("License-Expression"):
        return expression
    name = " ".join((metadata.get("License") or "").split())
    known = SPDX.get(name.lower(), name)
    if is_permissive(known) or (name and len(name) <= 40 and "dual" not in name.lower()):
        return known
    classifiers = metadata.get_all("Classifier") or []
    found = [line.rpartition(" :: ")[2] for line in classifiers if line.startswith("License :: OSI Approved :: ")]
    return " AND ".join(SPDX.get(word.lower(), word) for word in found)


def runtime_packages(requirements: Iterable[str]) -> Iterator[Distribution]:
    """Every installed package that these requirements lead to, each once; those for other machines are left out."""
    waiting = [(Requirement(text), frozenset[str]()) for text in requirements]
    seen: set[tuple[str, frozenset[str]]] = set()
    given: set[str] = set()
    while waiting:
        requirement, extras_of_parent = waiting.pop()
        marker = requirement.marker
        if marker is not None and not any(marker.evaluate({"extra": extra}) for extra in ("", *extras_of_parent)):
            continue
        name, extras = canonicalize_name(requirement.name), frozenset(requirement.extras)
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        try:
            package = distribution(name)
        except PackageNotFoundError:
            sys.exit(f"{requirement}: expected it to be installed; run `make setup`")
        if name not in given:
            given.add(name)
            yield package
        waiting += [(Requirement(text), extras) for text in package.requires or ()]


def main() -> int:
    """Print the list; 1 where a licence is of a new kind."""
    project = tomllib.loads((Path(__file__).resolve().parents[1] / "pyproject.toml").read_text("utf-8"))["project"]
    requirements = list(project["dependencies"])
    for extra in RUNTIME_EXTRAS:
        requirements += project["optional-dependencies"][extra]
    packages = [
        Licensed(canonicalize_name(package.name), package.version, licence_of(package))
        for package in runtime_packages(requirements)
    ]
    for package in sorted(packages, key=lambda package: package.name):
        note = "" if package.reason in (None, "permissive") else f"  [{package.reason}]"
        print(f"{package.name} {package.version}: {package.licence or 'none named'}{note}")
    refused = sorted(package.name for package in packages if package.reason is None)
    for name in refused:
        print(
            f"{name}: expected one of the licences of PERMISSIVE or EXCEPTIONS in tests/licences.py; read its licence, "
            "then add it there or do without the package"
        )
    return bool(refused)


if __name__ == "__main__":
    sys.exit(main())
