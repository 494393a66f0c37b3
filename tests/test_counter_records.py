"""Counters of fixed size against a plain loop over the events they have seen."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from features.arrays import NO_TIME
from features.definitions.aggregates import CLICK, ITEM, Count, First, Last, hours
from features.online.counter_answers import CounterAnswers
from features.online.counter_deltas import NO_DELTAS, CounterDelta, DeltaArrays, delta_arrays
from features.online.counter_records import NEVER_FIRST, CounterLayout, Records, counter_layouts

CELL = hours(1) // 24
LAYOUT = counter_layouts((Count(CLICK, ITEM, hours(1)), Count(CLICK, ITEM), Last(CLICK, ITEM)))[0]
COUNTED = np.array([[True], [False], [True], [False]])
TIMED = np.array([True, True, False, False])
"""Event types: clicks and others, then the same without a time."""


READ = CounterAnswers(LAYOUT, COUNTED, TIMED)
READS = (Count(CLICK, ITEM), Count(CLICK, ITEM, hours(1)), First(CLICK, ITEM), Last(CLICK, ITEM))


def deltas_of(events: list[tuple[int, int, bool]]) -> DeltaArrays:
    """Deltas of one record, of (event type, time, whether the time is known)."""
    rows = [(0, CounterDelta(time, kind if timed else kind + 2, None, "a"), 1) for kind, time, timed in events]
    return delta_arrays(rows)


def answers(records: Records, moment: int, deltas: DeltaArrays = NO_DELTAS) -> list[int]:
    """The answers to `READS` from one record and what is not in it yet."""
    of_keys = READ.of_keys(LAYOUT.encode(records), deltas, moment)
    return [int(of_keys[READ.row(read), 0]) for read in READS]


def records_of(batches: list[list[tuple[int, int, bool]]], layout: CounterLayout = LAYOUT) -> Records:
    """One record after batches of (event type, time, whether the time is known)."""
    records = layout.decode([None])
    for batch in batches:
        records = layout.decode(layout.encode(records))
        layout.add(records, deltas_of(batch), COUNTED, TIMED)
    return records


def test_an_event_25_cells_late_does_not_count_as_one_of_the_newest_cell() -> None:
    old, new = (0, 0, True), (0, 25 * CELL, True)
    for batches in ([[old], [new]], [[new], [old]], [[new, old]]):
        records = records_of(batches)
        assert answers(records, 25 * CELL + 1)[:2] == [2, 1]


arrivals = st.lists(st.tuples(st.integers(0, 1), st.integers(-60 * CELL, 60 * CELL), st.booleans()), max_size=30)


@settings(deadline=None)
@given(st.lists(arrivals, max_size=4), st.integers(0, 3 * CELL), st.randoms(use_true_random=False))
def test_a_record_equals_a_plain_loop_in_any_order(
    batches: list[list[tuple[int, int, bool]]], later: int, random: object
) -> None:
    events = [event for batch in batches for event in batch]
    moment = max([time for _, time, _ in events], default=0) + 1 + later
    clicks = [(time, timed) for kind, time, timed in events if kind == 0]
    inside = [time for time, timed in clicks if timed and time // CELL >= moment // CELL - 24]
    random.shuffle(events)  # type: ignore[attr-defined]
    for records in (records_of(batches), records_of([[event] for event in events])):
        timed_times = [time for time, timed in clicks if timed]
        times = [min(timed_times, default=NEVER_FIRST), max(timed_times, default=NO_TIME)]
        assert answers(records, moment) == [len(clicks), len(inside), *times]
    part = len(events) // 2
    assert answers(records_of([events[:part]]), moment, deltas_of(events[part:])) == [len(clicks), len(inside), *times]


@settings(deadline=None)
@given(arrivals, arrivals)
def test_summed_records_are_those_of_all_their_events(
    left: list[tuple[int, int, bool]], right: list[tuple[int, int, bool]]
) -> None:
    together = LAYOUT.sum_records(np.concatenate([records_of([left]), records_of([right])]))
    assert together.tobytes() == records_of([left + right]).tobytes()


def test_a_layout_that_counts_nothing_has_no_answers() -> None:
    nothing = CounterAnswers(CounterLayout(ITEM, ()), np.zeros((4, 0), bool), TIMED)
    assert nothing.of_keys([None, None], NO_DELTAS, 5).shape == (0, 2)
