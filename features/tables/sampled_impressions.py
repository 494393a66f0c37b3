"""`recsys data slates`: impressions sampled from events alone, one for each user's first click on an item.

A sampled impression is that item and negatives, items of the clicks that follow the impression's time. No feature may
reveal the clicked item:

- By an earlier event of the user. Without `repeats` the user has none on any of the items, and of the negatives none at
  all. Where another event on the clicked item came just before the click (a view), the impression has the time of that
  event; where it came more than 30 minutes before, no impression is made, and the report counts it.
- By a count, above all by zero. Negatives are items of the clicks that follow, since these have the same past as the
  clicked item. A share is drawn evenly over the items there, the rest by how often they occur there. In expectation and
  at each time, the share of items never clicked before is the same among negatives and clicked items. Items published
  later than the impression are never drawn.

With `repeats` a click after a pause of more than 30 minutes in the user's events on the item makes an impression too.
Then every impression, of a first click too, may have negatives that the user has touched before:

- As many, in expectation, as clicked items are: the share of repeats among the impressions around this one of users for
  whom about as many can be shown. Who has touched nothing gets none, and who nearly always repeats gets many, so that
  an earlier event says no more of the clicked item than of the others. A repeat that cannot be hidden so makes no
  impression, and the report counts it; `features.tables.hidden_repeats` has the rule.
- Drawn as the others are, from the clicks that follow, so that they are alive: an item that nobody wants any more would
  give itself away.
- Never one that the user has an event on within 30 minutes before or after. Before, because a clicked item has none
  there: the pause would tell them apart. After, because what the user takes a moment later is no negative.
- One that the user comes back to later still is a negative now. Leaving those out would leave only items that the user
  is done with, and their counts by user and item would be lower than those of clicked items.

The choice of an item depends on its future, so every row is marked `sampled`: no user saw these impressions.
"""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from features.atomic_files import atomic_file
from features.errors import InputError
from features.log import Log
from features.tables.click_timeline import ClickTimeline
from features.tables.formats import find_table
from features.tables.hidden_repeats import hide_repeats
from features.tables.list_baselines import ListBaselines
from features.tables.list_clicks import ListClicks, list_clicks
from features.tables.load import ReadOptions, load_log
from features.tables.negative_sampling import SampledImpressions, slates
from features.tables.sampled_report import SlateReport
from features.tables.schema import WRITTEN_IMPRESSIONS
from features.tables.touched_items import TouchedItems

logger = logging.getLogger(__name__)

DEFAULT_SIZE = 20
DEFAULT_WINDOW = 1_000
DEFAULT_EVEN_SHARE = 0.5
_TOGETHER = 20_000


def write_slates(
    folder: Path,
    *,
    size: int = DEFAULT_SIZE,
    seed: int = 0,
    window: int = DEFAULT_WINDOW,
    even_share: float = DEFAULT_EVEN_SHARE,
    repeats: bool = True,
    options: ReadOptions | None = None,
) -> SlateReport:
    """Samples impressions from the events in `folder` and writes them there as impressions.parquet, in batches.

    even_share: of the negatives, ratio 0 to 1; see `negative_sampling.slates`. repeats: for clicks on items that the
    user has touched before too.

    Raises InputError where there is an impressions table already, and where no impression can be made.
    """
    existing = find_table(folder, "impressions")
    if existing is not None:
        raise InputError(
            f"{str(existing)!r}: expected no impressions table beside the events; move it away to make lists"
        )
    log, tables = load_log(folder, options)
    for warning in tables.warnings:
        logger.info("warning: %s", warning)
    timeline, touched = ClickTimeline(log.events, len(log.catalog)), TouchedItems(log.events, len(log.catalog))
    clicks = list_clicks(log.events, repeats=repeats)
    clicks = hide_repeats(clicks, timeline, touched, size=size, seed=seed, window=window)
    batches = slates(
        log.catalog,
        clicks,
        timeline,
        touched,
        size=size,
        seed=seed,
        window=window,
        even_share=even_share,
        block=_TOGETHER,
    )
    baselines = ListBaselines(log.events, log.catalog)
    out = folder / "impressions.parquet"
    written: Counter[str] = Counter()
    with atomic_file(out) as path:
        with pq.ParquetWriter(path, WRITTEN_IMPRESSIONS, compression="zstd") as writer:
            for batch in batches:
                writer.write_table(_table(batch, written["impressions"], log))
                written += _counts(batch)
                baselines.add(batch)
        if not written["impressions"]:
            raise InputError(
                f"events of {str(folder)!r}: expected clicks of known users on two items or more, "
                "found none that makes a list"
            )
    positive = None if options is None else options.data.positive
    return _report(out, written, clicks, baselines.aucs(), positive)


def _table(batch: SampledImpressions, first: int, log: Log) -> pa.Table:
    row, column = np.nonzero(batch.item >= 0)
    ids = pa.array([f"s{number:09d}" for number in range(first, first + len(batch.user))], pa.string())
    columns = [
        ids.take(pa.array(row)),
        pa.array(log.users[batch.user[row]], pa.string()),
        pa.array(batch.time[row], pa.timestamp("us", tz="UTC")),
        pa.array(log.catalog.ids[batch.item[row, column]], pa.string()),
        pa.array((column + 1).astype(np.int32)),
        pa.array((column == batch.clicked[row]).astype(np.int8)),
        pa.array(np.ones(len(row), bool)),
    ]
    return pa.table(columns, schema=WRITTEN_IMPRESSIONS)


def _counts(batch: SampledImpressions) -> Counter[str]:
    present = batch.item >= 0
    return Counter(
        impressions=len(batch.user),
        rows=int(present.sum()),
        shorter=int((~present.all(axis=1)).sum()),
        never_seen=int(batch.never_seen.sum()),
        never_seen_clicked=int(batch.never_seen[np.arange(len(batch.user)), batch.clicked].sum()),
        touched=int(batch.touched.sum()),
        repeats=int(batch.touched[np.arange(len(batch.user)), batch.clicked].sum()),
    )


def _report(
    out: Path, written: Counter[str], clicks: ListClicks, baseline_auc: dict[str, float], positive: str | None
) -> SlateReport:
    n, n_clicked, repeats = written["impressions"], written["never_seen_clicked"], written["repeats"]
    return SlateReport(
        file=str(out),
        impressions=n,
        repeats=repeats,
        rows=written["rows"],
        lists_shorter=written["shorter"],
        never_seen_clicked=n_clicked / n,
        never_seen_unclicked=(written["never_seen"] - n_clicked) / (written["rows"] - n),
        touched_clicked=repeats / n,
        touched_unclicked=(written["touched"] - repeats) / (written["rows"] - n),
        skipped_touched_before=clicks.first_left_out,
        skipped_repeats=clicks.repeats_left_out,
        repeats_possible=clicks.not_asked_for,
        repeats_not_hidden=clicks.not_hidden,
        skipped_unknown_user=clicks.unknown_user,
        skipped_nothing_else=len(clicks.user) - n,
        positive=positive,
        baseline_auc=baseline_auc,
    )
