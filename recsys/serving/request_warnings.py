"""The `warnings` of an answer: doubtful values in accepted rows, one sentence for each kind."""

from __future__ import annotations

from features.tables.event_types import doubt_of
from features.tables.observed import clock, doubt_of_date, doubt_of_time, is_nothing
from recsys.serving import schemas

_DOUBTS = {
    "negative": "reads like the opposite of a click but counts as one; see data.positive_event_types",
    "seen": "reads like a mere view but counts as a click; see data.positive_event_types",
    "number": "is a bare number and counts as a click; see data.positive_event_types",
}
_IDS = ("user_id", "item_id", "impression_id", "event_id")


class RequestWarnings:
    """Counts doubtful values by kind, with the first of each. path: begins the paths of fields."""

    def __init__(self, path: str = "") -> None:
        self._path = path
        self._now = clock()
        self._counts: dict[str, tuple[int, str]] = {}

    def within(self, path: str) -> RequestWarnings:
        """The same for the fields of one row; counts into this one."""
        inner = RequestWarnings(self._path + path)
        inner._counts = self._counts
        return inner

    def copy(self) -> RequestWarnings:
        """The same so far; what is added to one is not in the other."""
        other = RequestWarnings(self._path)
        other._counts = dict(self._counts)
        return other

    def add(self, problem: str, where: str, value: object) -> None:
        """Count a doubtful value. problem: what is doubtful. where: path of its field."""
        count, example = self._counts.get(problem, (0, f"{self._path}{where}: {value!r}"[:120]))
        self._counts[problem] = (count + 1, example)

    def check_time(self, micros: int, where: str, value: object) -> None:
        """Of an event or a request."""
        if doubt := doubt_of_time(micros, self._now):
            self.add(doubt.partition(" ")[2] + ", is its unit meant", where, value)

    def is_doubtful(self, micros: int, *ids: str | None) -> bool:
        """Whether `check_time` or `check_id` would warn of a time, or of one of some ids."""
        return doubt_of_time(micros, self._now) is not None or any(map(is_nothing, filter(None, ids)))

    def check_date(self, micros: int, where: str, value: object) -> None:
        """Of a publication."""
        if doubt := doubt_of_date(micros, value, self._now):
            self.add(doubt, where, value)

    def check_ids(self, row: schemas.Event) -> None:
        """The ids of an event, for words for nothing."""
        for name in _IDS:
            if (value := getattr(row, name)) is not None:
                self.check_id(value, name)

    def check_id(self, value: str, where: str) -> None:
        """An id, for a word for nothing."""
        if is_nothing(value):
            self.add("is a word for nothing, read as an id; leave it out or send null", where, value)

    def check_type(self, event_type: str, *, click: bool) -> None:
        """click: whether the type counts as one."""
        if click and (doubt := doubt_of(event_type)):
            self.add(_DOUBTS[doubt], "event_type", event_type)

    def add_to(self, answer: dict[str, object]) -> dict[str, object]:
        """An answer with its `warnings`, where there are any: each kind with its count and its first value."""
        sentences = [f"{n:,} x {problem}; the first is {example}" for problem, (n, example) in self._counts.items()]
        return {**answer, "warnings": sentences} if sentences else answer
