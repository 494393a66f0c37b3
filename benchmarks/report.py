"""What every benchmark prints and writes: results beside what they were measured against, in one run."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

_QUICK = click.option("--quick", is_flag=True, help="End within 6 minutes.")
_JSON = click.option(
    "--json", "json_path", type=click.Path(path_type=Path), help="Also write the results to this file."
)


@dataclass(frozen=True)
class Result:
    """One figure. reference: what it was measured against, in the same unit; ratio: value to reference, or None.
    low, high: 95% interval where there is one."""

    name: str
    value: float
    unit: str
    reference: float | None = None
    ratio: float | None = None
    low: float | None = None
    high: float | None = None


def command(measure: Callable[[bool], list[Result]]) -> None:
    """Run a benchmark as `python -m benchmarks.NAME [--quick] [--json FILE]`."""

    @click.command(help=measure.__doc__)
    @_QUICK
    @_JSON
    def run(quick: bool, json_path: Path | None) -> None:
        report(lambda: measure(quick), json_path)

    run()


def command_on_data(measure: Callable[[bool, Path], list[Result]], default: Path) -> click.Command:
    """The command of a benchmark that also takes `--data DIR`, a data directory. default: where it is looked for."""

    @click.command(help=measure.__doc__)
    @_QUICK
    @_JSON
    @click.option(
        "--data", type=click.Path(path_type=Path), default=default, show_default=True, help="A folder of input tables."
    )
    def run(quick: bool, json_path: Path | None, data: Path) -> None:
        if not data.is_dir():
            raise click.ClickException(
                f"data directory {str(data)!r}: expected a folder with items, events and impressions, found none; "
                "name one by --data DIR"
            )
        report(lambda: measure(quick, data), json_path)

    return run


def report(measure: Callable[[], list[Result]], json_path: Path | None) -> None:
    """Measure, print, write."""
    started = time.perf_counter()
    results = measure()
    print(_table(results))
    if json_path is not None:
        seconds = round(time.perf_counter() - started, 1)
        content = {"results": [asdict(one) for one in results], "machine": machine(), "seconds": seconds}
        json_path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def machine() -> dict[str, Any]:
    """Where this ran."""
    return {"cores": os.cpu_count(), "processor": platform.machine(), "python": platform.python_version()}


def _table(results: list[Result]) -> str:
    lines = [f"{'result':<44} {'value':>10} {'reference':>10} {'ratio':>7}  95% interval"]
    for one in results:
        reference = "" if one.reference is None else f"{one.reference:.4g}"
        ratio = "" if one.ratio is None else f"{one.ratio:.2f}"
        interval = "" if one.low is None or one.high is None else f"[{one.low:.4g}, {one.high:.4g}]"
        lines.append(f"{one.name:<44} {one.value:>10.4g} {reference:>10} {ratio:>7}  {interval}  {one.unit}".rstrip())
    return "\n".join(lines)
