"""The truth of a simulated site, written beside its tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from features.arrays import Float64, Strings
from pipelines.simulation import pages, site
from pipelines.simulation.site import SimulatedItems, Users
from pipelines.simulation.tables import TIME, microseconds
from pipelines.simulation.texts import Language


def write_truth(
    folder: Path, language: Language, *, items: SimulatedItems, item_ids: Strings, readers: Users, user_ids: Strings
) -> None:
    """Makes `folder` with README.md, items.parquet, users.parquet and tastes.parquet."""
    folder.mkdir()
    (folder / "README.md").write_text(_readme(), encoding="utf-8")
    names = np.array([topic.name for topic in language.topics], object)
    categories = np.array([topic.category for topic in language.topics], object)
    _write(
        folder / "items.parquet",
        item_id=item_ids,
        topic=names[items.topic],
        category=categories[items.topic],
        quality=items.quality,
    )
    _write(folder / "users.parquet", user_id=user_ids, activity=readers.activity, clickiness=readers.clickiness)
    row, slot = np.nonzero(np.isfinite(readers.since) | (np.arange(2 * site.TASTES) < site.TASTES))
    _write(
        folder / "tastes.parquet",
        user_id=user_ids[row],
        topic=names[readers.topic[row, slot]],
        strength=readers.weight[row, slot],
        since=_times(readers.since[row, slot]),
        until=_times(readers.until[row, slot]),
    )


def _times(hours: Float64) -> pa.Array:
    is_finite = np.isfinite(hours)
    return pa.array(microseconds(np.where(is_finite, hours, 0.0)), mask=~is_finite).cast(TIME)


def _write(path: Path, **columns: object) -> None:
    pq.write_table(pa.table(columns), path, compression="zstd")


def _readme() -> str:
    return f"""# The truth about this simulated site

No model may read this folder; it is for checking what a model has learnt.

| file | columns |
|---|---|
| `impressions.parquet` | impression_id, item_id, interest, examination: a row for each row of ../impressions.parquet |
| `items.parquet` | item_id, topic, category (the true one), quality |
| `users.parquet` | user_id, activity (share of the visits), clickiness |
| `tastes.parquet` | user_id, topic, strength, since, until (null: from the start, to the end) |

## The click model
    P(click) = examination(position) x interest(user, item, t)
    examination(p) = p ^ -{pages.POSITION_POWER}
    interest = 1 / (1 + exp(-logit))
    logit = {site.BASE} + {site.TASTE} affinity + {site.QUALITY} quality
            + {site.FRESHNESS} exp(-age / {site.FRESH_HOURS} h) + clickiness
    affinity = the largest, over the user's tastes, of strength x presence(t) x fit
    fit = 1 if the item is on the taste's topic, {site.NEIGHBOUR} if on another of its category, else 0
    presence(t) rises from 0 to 1 over {site.RAMP_HOURS} h around `since` and falls over as many around `until`

quality is normal (0, 1) and clickiness normal (0, {site.CLICKINESS_SPREAD}). Each user has {site.TASTES} tastes at
any time; each gives way to another with probability {site.SWITCH_PROBABILITY} at some moment of the log. A user who
is not known (null) has no taste and no clickiness. All clicks on a list are drawn independently.

## What is shown
A visit opens the section of one of the user's tastes (probability {pages.SECTION_VISITS}) or the front page. A list
of {pages.LIST_LENGTHS[0]} to {pages.LIST_LENGTHS[1]} items is drawn one after the other, without those the user has
clicked (unless fewer than {pages.FEWEST_UNREAD} are left): {pages.POPULAR:.0%} by recent clicks (half-life
{pages.POPULAR_HALF_LIFE} h), {pages.RECENT:.0%} by newness
(exp(-age / {pages.RECENT_HOURS} h)), the rest evenly. So position, popularity and newness go together, and what is
left for a user to see is what did not tempt before. Items leave after {site.SHELF_HOURS} h. A section with too few
items shows the front page. Chances are renewed every hour.

## Other events
A click follows its list after 1 s to 600 s. Some clicks are followed by a `view` whose value is the seconds read, and
a few by a `share`. Before the log begins, {site.TAKES_PART:.0%} of the users `like` {site.LIKES} items for each of
their tastes; {site.WRONG_LIKES:.0%} of these fall on any item.
"""
