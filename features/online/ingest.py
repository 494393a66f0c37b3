"""Events written into the ledgers of the online state, and the counter deltas that follow from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from struct import Struct

from features.online.aggregation import ANONYMOUS_PREFIX, CounterAggregation
from features.online.click_ledger import EVENT, SHOWN, LedgerEntry, dedup_key, pack, unpack
from features.online.counter_deltas import CounterDelta
from features.online.events import EventRecord
from features.online.id_hash import hash_id
from features.online.keys import ledger_key, seen_key
from features.stores.base import Transaction

_TIME = Struct("<q")
_UNDATED = b"1"


def write_to_ledgers(
    transaction: Transaction, counting: CounterAggregation, records: Sequence[EventRecord]
) -> dict[CounterDelta, int]:
    """Write records into the ledgers, repeats left out; the deltas to be counted, negative for those taken away."""
    deltas: dict[CounterDelta, int] = {}
    entries: dict[tuple[str, str], list[LedgerEntry]] = {}
    numbers, counted = counting.numbers, counting.counted_event_types
    for record in drop_duplicates(transaction, records, dated=counting.settings.data.horizon is not None):
        event_type = numbers[record.event_type]
        if record.source == SHOWN and not counting.needs_impression_ledger:
            if event_type in counted:
                delta = CounterDelta(record.time, event_type, record.user, record.item)
                deltas[delta] = deltas.get(delta, 0) + 1
        elif event_type in counted:
            has_id = record.user is None or record.once is not None
            entry = LedgerEntry(record.time, hash_id(record.impression), event_type, record.source, int(has_id))
            entries.setdefault((record.item, _ledger_user(record)), []).append(entry)
    _append(transaction, counting, entries, deltas)
    return deltas


def _append(
    transaction: Transaction,
    counting: CounterAggregation,
    entries: Mapping[tuple[str, str], list[LedgerEntry]],
    deltas: dict[CounterDelta, int],
) -> None:
    """Append entries to the ledgers of their (item, user), and add to `deltas` what they change."""
    keys = [ledger_key(item, user) for item, user in entries]
    written = []
    for key, value, ((item, user), arrived) in zip(keys, transaction.get_many(keys), entries.items(), strict=True):
        owner = None if user.startswith(ANONYMOUS_PREFIX) else user
        if value is None and len(arrived) == 1 and arrived[0].source == EVENT:
            written.append((key, pack(arrived)))
            delta = CounterDelta(arrived[0].time, arrived[0].event_type, owner, item)
            deltas[delta] = deltas.get(delta, 0) + 1
            continue
        before = unpack(value)
        seen = {dedup_key(entry) for entry in before}
        fresh = []
        for entry in arrived:
            mark = dedup_key(entry)
            if mark is None or mark not in seen:
                seen.add(mark)
                fresh.append(entry)
        if not fresh:
            continue
        written.append((key, pack((*before, *fresh))))
        counted = counting.matching.resolve((*before, *fresh))
        counted.subtract(counting.matching.resolve(before))
        for event, count in counted.items():
            delta = CounterDelta(event.time, event.event_type, owner, item)
            deltas[delta] = deltas.get(delta, 0) + count
    transaction.put_many(written)


def drop_duplicates(
    transaction: Transaction, records: Sequence[EventRecord], *, dated: bool = False
) -> Sequence[EventRecord]:
    """The records but those whose event or impression came before; marks the new ones as seen. dated: whether a mark
    holds the record's time, so that it can expire."""
    groups: dict[str, int] = {}
    marks: dict[str, bytes] = {}
    for record in records:
        if record.once is not None and groups.setdefault(record.once, record.group) == record.group:
            marks[record.once] = _TIME.pack(record.time) if dated else _UNDATED
    if not groups:
        return records
    names = [seen_key(once) for once in groups]
    values = transaction.get_many(names)
    transaction.put_many(
        (name, mark) for name, mark, value in zip(names, marks.values(), values, strict=True) if value is None
    )
    fresh = {once for once, value in zip(groups, values, strict=True) if value is None}
    return [
        record
        for record in records
        if record.once is None or (record.once in fresh and groups[record.once] == record.group)
    ]


def mark_time(mark: bytes) -> int:
    """The time in a mark of `drop_duplicates` that is dated."""
    return int(_TIME.unpack(mark)[0])


def _ledger_user(record: EventRecord) -> str:
    """The user part of a record's ledger: anonymous users have one for each impression, or else for each time."""
    if record.user is not None:
        return record.user
    if record.impression is not None:
        return f"{ANONYMOUS_PREFIX}{hash_id(record.impression):x}"
    return f"{ANONYMOUS_PREFIX}at {record.time}"
