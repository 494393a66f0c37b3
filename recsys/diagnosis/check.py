"""One check of a machine."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

OK: Literal["ok"] = "ok"
NOTE: Literal["note"] = "note"
BROKEN: Literal["broken"] = "broken"


@dataclass(frozen=True)
class Check:
    """status: `note` where something is missing that not everybody needs, `broken` where commands cannot work. found:
    what there is. advice: what to do, "" for nothing."""

    name: str
    status: Literal["ok", "note", "broken"]
    found: str
    advice: str = ""

    def as_dict(self) -> dict[str, str]:
        """For JSON."""
        return asdict(self)

    def line(self) -> str:
        """For a person."""
        advice = f"; {self.advice}" if self.advice else ""
        return f"{self.status:6}  {self.name:20}  {self.found}{advice}"
