"""`recsys data simulate OUT`: a realistic news site, with the true preferences of its users.

Writes OUT/items.parquet, events.parquet and impressions.parquet in the native layout, and OUT/truth/ with a README
that states the model. Rows go to disk as they are made, in the order of time; memory holds items, readers and one part
of the log. One seed gives the same bytes, and the same lists and clicks in every language. OUT appears when it is
complete, or not at all.
"""

from __future__ import annotations

import time as clock
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from features.arrays import Float64, Int32, Int64, Strings
from features.atomic_files import atomic_folder
from pipelines.simulation.pages import Pages, show
from pipelines.simulation.site import HOURS, SimulatedItems, Users, make_items, make_readers, sign_up, topic_shares
from pipelines.simulation.tables import TIME, SiteTables, ids, microseconds
from pipelines.simulation.texts import Language, read_language, write_texts
from pipelines.simulation.truth import write_truth

MIN_ITEMS = 60
"""Fewer leave too little on the site at a time to fill a list."""
LANGUAGES: Mapping[str, Callable[[], Language]] = {
    "en": partial(read_language, "english"),
    "zh": partial(read_language, "chinese"),
}
"""Languages that texts are written in."""
_UNKNOWN_READERS = 0.02
_PART = 20_000
_OTHER_DESK, _TWO_DESKS = 0.10, 0.12


@dataclass(frozen=True)
class SimulationReport:
    """What was written. rows: shown candidates. seconds: wall time."""

    folder: str
    seed: int
    users: int
    items: int
    impressions: int
    impressions_without_click: int
    rows: int
    clicks: int
    events: int
    seconds: float

    def as_dict(self) -> dict[str, object]:
        """The figures by name, for JSON."""
        return asdict(self)

    def lines(self) -> list[str]:
        """The same for a person, a line each."""
        return [
            f"simulated {self.impressions:,} impressions of {self.items:,} items to {self.users:,} users "
            f"in {self.seconds:.1f} s: {self.folder}",
            f"{self.rows:,} shown candidates, {self.clicks:,} clicks, {self.events:,} events, "
            f"{self.impressions_without_click:,} impressions without a click",
            f"the truth about every candidate is in {Path(self.folder) / 'truth'}",
        ]


def simulate(
    out: Path, *, users: int = 2_000, items: int = 1_000, impressions: int = 20_000, seed: int = 0, language: str = "en"
) -> SimulationReport:
    """Writes a data set to the folder `out`, which must be absent or empty.

    Raises ValueError for sizes out of range or an unknown language, InputError where `out` holds something already.
    """
    _check_sizes(users=users, items=items, impressions=impressions, seed=seed)
    if language not in LANGUAGES:
        raise ValueError(f"expected a language of {sorted(LANGUAGES)}, got {language!r}")
    words = LANGUAGES[language]()
    started = clock.perf_counter()
    rng = np.random.default_rng(seed)
    category_of = words.category_of()
    share = topic_shares(len(words.topics), rng)
    catalog = make_items(items, share, rng)
    readers = make_readers(users, share, category_of, rng)
    user_ids, item_ids = ids("u", users), ids("n", items)
    with atomic_folder(out) as folder:
        _write_items(folder, words, catalog, item_ids, rng)
        write_truth(folder / "truth", words, items=catalog, item_ids=item_ids, readers=readers, user_ids=user_ids)
        with SiteTables(folder, user_ids=user_ids, item_ids=item_ids, rng=rng) as tables:
            _run(tables, catalog, readers, category_of, impressions=impressions, rng=rng)
    return SimulationReport(
        folder=str(out),
        seed=seed,
        users=users,
        items=items,
        impressions=tables.impressions,
        impressions_without_click=tables.without_click,
        rows=tables.rows,
        clicks=tables.clicks,
        events=tables.events,
        seconds=clock.perf_counter() - started,
    )


def _check_sizes(*, users: int, items: int, impressions: int, seed: int) -> None:
    for name, value, least in (("users", users, 1), ("items", items, MIN_ITEMS), ("impressions", impressions, 1)):
        if value < least:
            raise ValueError(f"{name}: expected {least} or more, got {value}")
    if seed < 0:
        raise ValueError(f"seed: expected 0 or more, got {seed}")


def _run(
    tables: SiteTables,
    items: SimulatedItems,
    readers: Users,
    category_of: Int32,
    *,
    impressions: int,
    rng: np.random.Generator,
) -> None:
    """The log hour by hour: the site updates its popularity, then shows the lists of that hour."""
    tables.add_likes(*sign_up(items, readers, rng))
    pages = Pages(items, category_of, rng)
    cumulative = np.cumsum(readers.activity)
    for hour, count in enumerate(_visits_by_hour(impressions, rng)):
        pages.refresh(float(hour))
        times = np.sort(hour + rng.random(count))
        for start in range(0, count, _PART):
            time = times[start : start + _PART]
            reader = np.searchsorted(cumulative, rng.random(len(time)) * cumulative[-1], side="right").astype(np.int32)
            reader[rng.random(len(time)) < _UNKNOWN_READERS] = -1
            batch = show(pages, items, readers, category_of, reader=reader, time=time, rng=rng)
            tables.add(batch)
            row, column = np.nonzero(batch.clicked)
            pages.learn(reader[row], batch.item[row, column])


def _visits_by_hour(impressions: int, rng: np.random.Generator) -> Int64:
    """(HOURS,) impressions of each hour: quiet nights, quieter weekends; the sum is `impressions`."""
    hour = np.arange(HOURS)
    weight: Float64 = 1.0 + 0.8 * np.sin((hour % 24 - 8) / 24 * 2 * np.pi)
    weight[(hour // 24) % 7 >= 5] *= 0.7
    return np.asarray(rng.multinomial(impressions, weight / weight.sum()), np.int64)


def _write_items(
    folder: Path, language: Language, items: SimulatedItems, item_ids: Strings, rng: np.random.Generator
) -> None:
    titles, descriptions = write_texts(language, items.topic, rng)
    table = {
        "item_id": pa.array(item_ids, pa.string()),
        "title": pa.array(titles, pa.string()),
        "description": pa.array(descriptions, pa.string()),
        "category": pa.array(_desks(language, items.topic, rng), pa.string()),
        "published_at": pa.array(microseconds(items.published), TIME),
    }
    pq.write_table(pa.table(table), folder / "items.parquet", compression="zstd")


def _desks(language: Language, topic: Int32, rng: np.random.Generator) -> Strings:
    """(n,) the coarse category that an item was filed under: mostly its own, sometimes another, sometimes both."""
    names = np.array(language.categories, object)
    true_category = names[language.category_of()[topic]]
    other_category = names[rng.integers(0, len(names), len(topic))]
    chance = rng.random(len(topic))
    both = np.where(true_category == other_category, true_category, true_category + "|" + other_category)
    return np.where(
        chance < _OTHER_DESK, other_category, np.where(chance < _OTHER_DESK + _TWO_DESKS, both, true_category)
    )
