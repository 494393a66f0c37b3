"""The text models of a training: the encoder's schedule, TF-IDF, and the representations of items.

Labels flow one way: a text model is trained on impressions older than those that it scores.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from features.clock import MINUTE, cell_width, format_time
from features.log import Impressions
from features.seen_items import items_before
from recsys.collaborative.snapshot import TableSettings
from recsys.config import Config
from recsys.encoder.snapshots import ScheduledEncoder
from recsys.encoder.training.schedule import TrainingSchedule
from recsys.errors import TrainingError
from recsys.ranker.text_snapshots import RepresentationSchedule
from recsys.ranker.tfidf import Lexical, fit_lexical
from recsys.training.context import TrainingContext
from recsys.training.time_split import TimeSplit, chunk_starts

SHORTEST_INTERVAL = 10 * MINUTE
"""Between two collaborative tables: those of a log of minutes would be due thousands of times in the days after it."""


def encoder_schedule(impressions: Impressions, sliced: TimeSplit, config: Config) -> TrainingSchedule:
    """The encoder's schedule: the encoder slice, the chunks of the ranker slice, valid as one more, and, with
    `final_training`, test."""
    settings = config.encoder
    slices = [sliced.encoder]
    chunks: list[int] = []
    if settings.progressive_chunks:
        chunks += (chunk_starts(impressions, sliced.ranker, settings.progressive_chunks) + len(sliced.encoder)).tolist()
        chunks.append(len(sliced.encoder) + len(sliced.ranker))
        slices += [sliced.ranker, sliced.valid]
    reported = len(chunks)
    if config.final_training:
        for positions in [sliced.test] if settings.progressive_chunks else [sliced.ranker, sliced.valid, sliced.test]:
            chunks.append(sum(map(len, slices)))
            slices.append(positions)
    return TrainingSchedule(impressions.take(np.concatenate(slices)), tuple(chunks), reported)


def lexical_stage(context: TrainingContext) -> Lexical:
    """TF-IDF fitted on the texts of items that were shown or acted on up to the end of the encoder slice, as far back
    as the horizon."""
    until = int(context.log.impressions.requests.time[context.sliced.encoder[-1]])
    seen = items_before(context.log, until + 1, horizon=context.config.data.horizon)
    return fit_lexical([context.item_texts[i] for i in np.flatnonzero(seen)], context.config.lexical)


def represent_items(
    context: TrainingContext,
    encoders: Sequence[ScheduledEncoder],
    lexical: Lexical,
    collaborative: TableSettings | None,
) -> RepresentationSchedule:
    """The representations of the log's items over time. collaborative: of the tables, None for none."""
    texts = context.item_texts
    return RepresentationSchedule(tuple(encoders), texts, lexical.transform(texts), collaborative)


def collaborative_settings(context: TrainingContext) -> TableSettings | None:
    """When collaborative tables are made: as often as configured from the ranker's first row to valid's last, but no
    more often than every `SHORTEST_INTERVAL`, and with the same period before and after. With a horizon the period is
    at most its 24th: a store keeps no older clicks for one that is due."""
    settings = context.config.collaborative
    if settings.tables == 0:
        return None
    time = context.log.impressions.requests.time
    start, end = int(time[context.sliced.ranker[0]]), int(time[context.sliced.valid[-1]])
    interval = max(SHORTEST_INTERVAL, -(-(end + 1 - start) // settings.tables))
    horizon = context.config.data.horizon
    return TableSettings(
        first_build=start - context.delay,
        build_interval=interval if horizon is None else min(interval, cell_width(horizon)),
        **settings.model_dump(exclude={"tables"}),
    )


def check_no_label_leak(encoders: Sequence[ScheduledEncoder], oldest: int) -> None:
    """Raise TrainingError where an encoder learnt a label that is not older than all that it scores.

    oldest: time of the first impression that is scored, microseconds.
    """
    for encoder in encoders:
        start = max(encoder.start, oldest)
        if encoder.trained_until is not None and not encoder.trained_until < start:
            raise TrainingError(
                f"the encoder was trained on labels up to {format_time(encoder.trained_until)}, expected all of "
                f"them before the lists that it scores, which begin at {format_time(start)}: its scores would leak the "
                "labels; score a part of the log before it is learnt from"
            )
