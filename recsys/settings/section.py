"""What every section of the configuration is."""

from __future__ import annotations

from pydantic import BaseModel


class ConfigSection(BaseModel, frozen=True, extra="forbid"):
    """A part of the configuration: frozen, and strict about the names of its keys."""
