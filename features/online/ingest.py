"""Arrivals entered into the ledgers of the online state: what each makes of what its user and item had before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from features.online.aggregation import ANONYMOUS_PREFIX, CounterAggregation
from features.online.click_ledger import EVENT, SHOWN, Entry, dedup_key, pack, unpack
from features.online.events import EventRecord
from features.online.keys import Change, hash_id, ledger_key, seen_key
from features.stores.base import Transaction


def write_to_ledgers(
    transaction: Transaction, counting: CounterAggregation, arrivals: Sequence[EventRecord]
) -> Counter[Change]:
    """Write arrivals into the ledgers, repeats left out; what is then to be counted, negative for taken away."""
    changes: Counter[Change] = Counter()
    pairs: dict[tuple[str, str], list[Entry]] = {}
    numbers = {name: number for number, name in enumerate(counting.kinds)}
    for arrival in drop_duplicates(transaction, arrivals):
        kind = numbers[arrival.kind]
        if arrival.source == SHOWN and not counting.needs_impression_ledger:
            changes[Change(arrival.time, kind, arrival.user, arrival.item)] += 1
        elif kind in counting.counted_event_types:
            named = arrival.user is None or arrival.once is not None
            entry = Entry(arrival.time, hash_id(arrival.list_id), kind, arrival.source, int(named))
            pairs.setdefault((arrival.item, _ledger_user(arrival)), []).append(entry)
    _enter(transaction, counting, pairs, changes)
    return changes


def _enter(
    transaction: Transaction,
    counting: CounterAggregation,
    pairs: Mapping[tuple[str, str], list[Entry]],
    changes: Counter[Change],
) -> None:
    """Write arrivals into the ledgers of their (item, user), and add to `changes` what they make of them."""
    keys = [ledger_key(item, user) for item, user in pairs]
    written = []
    for key, value, ((item, user), arrived) in zip(keys, transaction.get_many(keys), pairs.items(), strict=True):
        name = None if user.startswith(ANONYMOUS_PREFIX) else user
        if value is None and len(arrived) == 1 and arrived[0].source == EVENT:
            written.append((key, pack(arrived)))
            changes[Change(arrived[0].time, arrived[0].kind, name, item)] += 1
            continue
        before = unpack(value)
        known = {dedup_key(entry) for entry in before}
        fresh = []
        for entry in arrived:
            mark = dedup_key(entry)
            if mark is None or mark not in known:
                known.add(mark)
                fresh.append(entry)
        if not fresh:
            continue
        written.append((key, pack((*before, *fresh))))
        happened = counting.rule.resolve((*before, *fresh))
        happened.subtract(counting.rule.resolve(before))
        for one, count in happened.items():
            changes[Change(one.time, one.kind, name, item)] += count
    transaction.put_many(written)


def drop_duplicates(transaction: Transaction, arrivals: Sequence[EventRecord]) -> list[EventRecord]:
    """The arrivals but those whose event or list came before; remembers the new ones."""
    groups: dict[bytes, int] = {}
    marks = [None if arrival.once is None else seen_key(arrival.once) for arrival in arrivals]
    for mark, arrival in zip(marks, arrivals, strict=True):
        if mark is not None:
            groups.setdefault(mark, arrival.group)
    names = list(groups)
    seen = {mark for mark, value in zip(names, transaction.get_many(names), strict=True) if value is not None}
    transaction.put_many((mark, b"1") for mark in names if mark not in seen)
    return [
        arrival
        for mark, arrival in zip(marks, arrivals, strict=True)
        if mark is None or (mark not in seen and groups[mark] == arrival.group)
    ]


def _ledger_user(arrival: EventRecord) -> str:
    """The user part of an arrival's ledger: strangers have one for each list, or else for each moment."""
    if arrival.user is not None:
        return arrival.user
    return (
        f"{ANONYMOUS_PREFIX}{hash_id(arrival.list_id):x}"
        if arrival.list_id is not None
        else f"{ANONYMOUS_PREFIX}at {arrival.time}"
    )
