"""Counters of fixed size against a plain loop over the events they have seen."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from features.arrays import NO_TIME
from features.definitions.aggregates import CLICK, ITEM, Count, Last, hours
from features.online.counter_records import NEVER_FIRST, CounterLayout, Records, tables_for
from features.online.delayed_changes import delta_arrays
from features.online.keys import Change

CELL = hours(1) // 24
TABLE = tables_for((Count(CLICK, ITEM, hours(1)), Count(CLICK, ITEM), Last(CLICK, ITEM)))[0]
COUNTED = np.array([[True], [False]])


def records_of(batches: list[list[tuple[int, int, bool]]], table: CounterLayout = TABLE) -> Records:
    """One record after batches of (kind, time, dated)."""
    records = table.decode([None])
    for batch in batches:
        records = table.decode(table.encode(records))
        rows = [(0, Change(time, kind, None, "a"), 1, dated) for kind, time, dated in batch]
        table.add(records, delta_arrays(rows), COUNTED)
    return records


def test_an_event_25_cells_late_does_not_count_as_one_of_the_newest_cell() -> None:
    old, new = (0, 0, True), (0, 25 * CELL, True)
    for batches in ([[old], [new]], [[new], [old]], [[new, old]]):
        records = records_of(batches)
        assert TABLE.window_counts(records, 25 * CELL + 1).tolist() == [[1]]
        assert TABLE.total(records, CLICK).tolist() == [2]


arrivals = st.lists(st.tuples(st.integers(0, 1), st.integers(-60 * CELL, 60 * CELL), st.booleans()), max_size=30)


@settings(deadline=None)
@given(st.lists(arrivals, max_size=4), st.integers(0, 3 * CELL), st.randoms(use_true_random=False))
def test_a_record_equals_a_plain_loop_in_any_order(
    batches: list[list[tuple[int, int, bool]]], later: int, random: object
) -> None:
    events = [event for batch in batches for event in batch]
    moment = max([time for _, time, _ in events], default=0) + 1 + later
    clicks = [(time, dated) for kind, time, dated in events if kind == 0]
    inside = [time for time, dated in clicks if dated and time // CELL >= moment // CELL - 24]
    random.shuffle(events)  # type: ignore[attr-defined]
    for records in (records_of(batches), records_of([[event] for event in events])):
        assert TABLE.window_counts(records, moment).tolist() == [[len(inside)]]
        assert TABLE.total(records, CLICK).tolist() == [len(clicks)]
        dated_times = [time for time, dated in clicks if dated]
        assert TABLE.last(records, CLICK).tolist() == [max(dated_times, default=NO_TIME)]
        assert TABLE.first(records, CLICK).tolist() == [min(dated_times, default=NEVER_FIRST)]


@settings(deadline=None)
@given(arrivals, arrivals)
def test_merged_records_are_those_of_all_their_events(
    left: list[tuple[int, int, bool]], right: list[tuple[int, int, bool]]
) -> None:
    merged = TABLE.merged(np.concatenate([records_of([left]), records_of([right])]))
    assert merged.tobytes() == records_of([left + right]).tobytes()
