"""The settings of a data set that training, registered version and online store share.

Settings that hold them are stored as JSON with a format number. Format 1 had their values among its own, times in
microseconds; it is still read.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from features.clock import CELLS_PER_WINDOW, DAY, SECOND
from features.tables.positive_rule import PositiveRule, canonical_rule, parse_rule

FORMAT = 2
"""The current format of stored settings that hold `DataSettings`."""


class DataSettings(BaseModel):
    """How times and events of a data set are understood.

    The configuration, a registered version and an online store all hold this one value. Where a model embeds it, a
    subclass with more settings is narrowed to these.
    """

    model_config = ConfigDict(frozen=True, revalidate_instances="subclass-instances")

    timezone: str = "UTC"
    """Zone of times without one, and of hour and weekday; an IANA name. docs/columns.md: times when clocks change."""
    positive_event_types: tuple[str, ...] | None = None
    """Event types that count as a click, compared without case and blanks; None is all but view and impression."""
    positive: Annotated[str, AfterValidator(canonical_rule)] | None = None
    """Which events of these types are clicks, by a number: COLUMN OP NUMBER, such as `value >= 4` for ratings. None is
    all of them. Type history always counts. docs/slates.md."""
    click_window_minutes: float = Field(30.0, gt=0)
    """How long after an impression an event can be the click of its item."""
    event_delay_seconds: float = Field(0.0, ge=0)
    """How old events are when they become known; every read at t counts events before t minus this."""
    horizon_days: float | None = Field(None, gt=0, le=36_500)
    """How many days back any read of behaviour looks, above 0; None is without limit. Counts of all time and of longer
    windows become those of a window as long, whose edge moves in steps of a 24th of it. docs/features.md."""

    @property
    def positive_rule(self) -> PositiveRule | None:
        """What `positive` says."""
        return None if self.positive is None else parse_rule(self.positive)

    @property
    def click_window(self) -> int:
        """Microseconds."""
        return round(self.click_window_minutes * 60 * SECOND)

    @property
    def event_delay(self) -> int:
        """Microseconds."""
        return round(self.event_delay_seconds * SECOND)

    @property
    def horizon(self) -> int | None:
        """Microseconds, a multiple of 24 as every window; None for no limit."""
        if self.horizon_days is None:
            return None
        return max(1, round(self.horizon_days * DAY / CELLS_PER_WINDOW)) * CELLS_PER_WINDOW


class _Stored(BaseModel):
    """Any format: its number, and everything else as extra fields."""

    model_config = ConfigDict(extra="allow")

    format: int = 1


class Format1(BaseModel):
    """The fields of format 1 that moved, and everything else as extra fields."""

    model_config = ConfigDict(extra="allow")

    timezone: str
    positive_event_types: tuple[str, ...] | None
    click_window: int
    event_delay: int

    def current(self) -> dict[str, Any]:
        """The fields as the current format has them."""
        data = DataSettings(
            timezone=self.timezone,
            positive_event_types=self.positive_event_types,
            click_window_minutes=self.click_window / (60 * SECOND),
            event_delay_seconds=self.event_delay / SECOND,
        )
        return {**(self.model_extra or {}), "data": data}


Model = TypeVar("Model", bound=BaseModel)


def settings_to_json(settings: BaseModel) -> str:
    """Settings as they are stored."""
    return json.dumps({"format": FORMAT, **settings.model_dump(mode="json")}, indent=1, ensure_ascii=False)


def settings_from_json(model: type[Model], text: str | bytes, format_1: type[Format1] = Format1) -> Model:
    """Settings as `settings_to_json` or format 1 stored them. Raises ValueError, in one line, for anything else."""
    try:
        stored = _Stored.model_validate_json(text)
        if stored.format not in (1, FORMAT):
            raise ValueError(f"expected format 1 or {FORMAT}, found {stored.format}")
        fields = stored.model_extra or {}
        return model.model_validate(format_1.model_validate(fields).current() if stored.format == 1 else fields)
    except ValidationError as error:
        problem = error.errors()[0]
        raise ValueError(f"field {'.'.join(map(str, problem['loc']))!r}: {problem['msg']}") from error
