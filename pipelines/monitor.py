"""`recsys monitor DIR|STORE`: what comes now against what a version was evaluated on.

Reads a data directory, or an online store and the rankings that a server logged; of the registry the version, and its
`reference.json`, which its training kept. Writes an HTML page where one is named.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from features.arrays import Int64
from features.atomic_files import replaced_file
from features.clock import format_time
from features.errors import InputError
from features.tables.formats import find_table
from features.tables.load import ReadOptions
from features.tables.logged_clicks import LabelledLists, label_logged
from pipelines.unseen_data import UnseenData, load_unseen
from recsys.config import Config
from recsys.encoder.text import item_texts
from recsys.errors import RunNotFound
from recsys.metrics.bootstrap import Interval, count_clusters
from recsys.monitoring.drift import ColumnDrift, column_drifts, largest_first
from recsys.monitoring.histogram import Histogram
from recsys.monitoring.logged_rows import LoggedRows, read_logged_rows
from recsys.monitoring.online_figures import OnlineFigures, Promise, online_figures
from recsys.monitoring.reference import (
    SCORE,
    Reference,
    ScoredRows,
    feature_histograms,
    make_reference,
    row_users,
    score_histogram,
    spread_evenly,
)
from recsys.monitoring.report import MonitorReport, SampleSize
from recsys.monitoring.stored_texts import texts_of_items, texts_of_store
from recsys.monitoring.texts import text_histograms_like
from recsys.online.open_state import open_existing_state
from recsys.ranker.column_names import ENCODER_COLUMNS
from recsys.ranker.offline_matrix import OfflineScorer
from recsys.registry import tracking
from recsys.registry.references import promise_of, recorded_reference
from recsys.registry.run_queries import data_folder, recorded_lists, run_of_version
from recsys.registry.versions import LoadedModel, load, served_until
from recsys.report.page import monitor_page

log = logging.getLogger(__name__)

FEATURE, TEXT, CATALOGUE = "feature", "text", "catalogue"
LEARNT_MORE = "what is served learnt test after it was evaluated, so that these values differ for that alone"
NO_PROMISE = Interval(np.nan, np.nan, np.nan)


@dataclass(frozen=True)
class Monitored:
    """A version, what its evaluation was like, and where that is known from."""

    loaded: LoadedModel
    reference: Reference
    source: str
    config: Config


def monitor(
    place: str,
    config: Config,
    *,
    model: str,
    rankings: Path | None = None,
    events: Path | None = None,
    page: Path | None = None,
) -> MonitorReport:
    """Compare what is in a data directory, or an online store, with what a version was evaluated on.

    rankings: a log of `recsys serve --log-rankings`: its versions' click rate and nDCG@10 and, with a store, the
    columns that were read. events: table with the clicks on these; by default the directory's. page: an HTML file to
    write. Raises InputError where there is nothing to compare, ModelNotFound and its kin for the model.
    """
    tracking.connect()
    loaded = load(model, evaluated=True)
    folder = Path(place) if _is_data(place) else None
    reference, source = _reference(loaded, folder, config)
    monitored = Monitored(loaded, reference, source, config)
    clicks = events or (None if folder is None or rankings is None else find_table(folder, "events"))
    labelled = None if rankings is None or clicks is None else _labelled(rankings, clicks, config)
    if folder is not None:
        drifts, after, notes = _drift_of_tables(monitored, folder)
    else:
        drifts, after, notes = _drift_of_store(monitored, place, rankings, labelled)
    if rankings is not None and labelled is None:
        notes = [*notes, "without --events nobody knows the clicks: no click rate and no nDCG@10 of what was served"]
    report = MonitorReport(
        version=loaded.ranker.uri,
        before=SampleSize(source, reference.n_lists, reference.n_users, f"{reference.start} to {reference.end}"),
        after=after,
        drifts=tuple(largest_first(drifts)),
        online=tuple(_online(labelled, config)) if labelled is not None else (),
        settings=config.monitor,
        notes=tuple(notes),
    )
    if page is not None:
        with replaced_file(page) as partial:
            partial.write_text(monitor_page(report), encoding="utf-8")
    return report


def _is_data(place: str) -> bool:
    return "://" not in place and not (Path(place) / "data.mdb").is_file()


def _reference(loaded: LoadedModel, folder: Path | None, config: Config) -> tuple[Reference, str]:
    """What the version's training recorded or, of an older one, the lists of its recorded evaluation."""
    recorded = recorded_reference(loaded.ranker)
    if recorded is not None:
        return recorded, "the test lists of its training, as recorded with it"
    frame = recorded_lists(loaded.ranker.uri).frame
    tables = data_folder(run_of_version(loaded.ranker)) or folder
    if tables is None:
        raise RunNotFound(
            f"{loaded.ranker} has no record of the columns that it was evaluated on, and the tables of its training "
            "are gone; monitor a data directory that holds its test lists, or train again"
        )
    (opened,) = load_unseen([loaded], tables, after=None, files=config.data.files)
    ids = opened.impressions.ids[opened.positions]
    chosen = opened.positions[np.isin(ids, frame["impression_id"].to_numpy())]
    if not len(chosen):
        raise InputError(
            f"data directory {str(tables)!r}: expected the test lists of {loaded.ranker}, which has no record of its "
            "columns, found none of them; train again, or name with DIR the tables of its training"
        )
    rows, times = _ranked_rows(opened, chosen, config), opened.impressions.requests.time[chosen]
    reference = make_reference(
        rows,
        item_texts(opened.index.log.catalog, loaded.ranking_model.settings.template),
        loaded.ranking_model.lexical.terms,
        start=format_time(int(times.min())),
        end=format_time(int(times.max())),
        clicked=NO_PROMISE,
        ndcg_at_10=NO_PROMISE,
    )
    return reference, f"the lists of its recorded evaluation, computed again from {str(tables)!r}"


def _ranked_rows(opened: UnseenData, positions: Int64, config: Config) -> ScoredRows:
    """The rows of some lists, or of `monitor.max_lists` of them, as the version ranks them."""
    model, index = opened.loaded.ranking_model, opened.index
    requests = opened.impressions.requests.take(spread_evenly(positions, config.monitor.max_lists))
    threads = config.threads or os.cpu_count() or 1
    matrix = OfflineScorer(model, index, opened.texts, threads).matrix(requests)
    every = item_texts(index.log.catalog, model.settings.template)
    return ScoredRows(
        columns=model.settings.columns,
        matrix=matrix,
        score=model.ranker.scores(matrix, threads=threads),
        user=row_users(requests.user, requests.lengths()),
        texts=[every[code] for code in np.unique(requests.item).tolist()],
        n_lists=len(requests),
        n_users=count_clusters(requests.user),
    )


Drifts = tuple[list[ColumnDrift], SampleSize, list[str]]


def _drift_of_tables(monitored: Monitored, folder: Path) -> Drifts:
    """The lists of a data directory that are later than all that the version learnt."""
    loaded, config = monitored.loaded, monitored.config
    after = served_until(loaded)
    (opened,) = load_unseen([loaded], folder, after=after, files=config.data.files)
    if not len(opened.positions):
        raise InputError(opened.none_left())
    rows = _ranked_rows(opened, opened.positions, config)
    times = opened.impressions.requests.time[opened.positions]
    period = f"{format_time(int(times.min()))} to {format_time(int(times.max()))}"
    size = SampleSize(f"later lists of {str(folder)!r}", rows.n_lists, rows.n_users, period)
    reference = monitored.reference
    texts = text_histograms_like(reference.texts, rows.texts, loaded.ranking_model.lexical.terms)
    few = _too_few(rows.n_lists, rows.n_users, config)
    return _drifts(monitored, rows, texts, few=few), size, [few] if few else []


def _drift_of_store(monitored: Monitored, place: str, rankings: Path | None, labelled: LabelledLists | None) -> Drifts:
    """The items of a store and, with a log of rankings, the columns that were read for them."""
    model, config, reference = monitored.loaded.ranking_model, monitored.config, monitored.reference
    template, terms = model.settings.template, model.lexical.terms
    if rankings is None:
        with open_existing_state(place) as state:
            texts = texts_of_store(state, template, seed=config.seed)
        drifts = _text_drifts(
            CATALOGUE, reference.catalogue, text_histograms_like(reference.catalogue, texts, terms), config
        )
        note = (
            "a store holds counts and no lists: name the rankings that were served with --rankings to compare columns"
        )
        return drifts, SampleSize(f"{len(texts):,} items of store {place!r}", 0, 0), [note]
    ranker = str(monitored.loaded.ranker)
    lists = None if labelled is None else _with_click(labelled)
    logged = read_logged_rows(rankings, ranker, model.settings.columns, most=config.monitor.max_lists, lists=lists)
    with open_existing_state(place) as state:
        shown = texts_of_items(state, logged.items, template)
    rows = _rows_of_log(logged, shown)
    few = _too_few(rows.n_lists, rows.n_users, config)
    unjudged = dict.fromkeys((*ENCODER_COLUMNS, SCORE), LEARNT_MORE) if monitored.loaded.before_final else {}
    notes = [few] if few else []
    if unjudged:
        notes.append(f"text columns of the encoder and scores are not judged: {LEARNT_MORE}; monitor tables for them")
    size = SampleSize(
        f"rankings logged in {str(rankings)!r}", rows.n_lists, rows.n_users, f"{logged.start} to {logged.end}"
    )
    texts_now = text_histograms_like(reference.texts, rows.texts, terms)
    return _drifts(monitored, rows, texts_now, few=few, unjudged=unjudged), size, notes


def _rows_of_log(logged: LoggedRows, texts: Sequence[str]) -> ScoredRows:
    return ScoredRows(logged.columns, logged.matrix, logged.score, logged.user, texts, logged.n_lists, logged.n_users)


def _with_click(labelled: LabelledLists) -> frozenset[str]:
    """Ids of lists with a click: those of an evaluation have one too."""
    table = labelled.lists.table
    clicked = np.add.reduceat(table.label > 0, table.offsets[:-1]) > 0 if len(table) else np.zeros(0, np.bool_)
    return frozenset(map(str, table.ids.decoded()[clicked]))


def _drifts(
    monitored: Monitored,
    rows: ScoredRows,
    texts: dict[str, Histogram],
    *,
    few: str,
    unjudged: dict[str, str] | None = None,
) -> list[ColumnDrift]:
    """Of columns, scores and texts. few: why none is judged, "" where they are."""
    reference, config = monitored.reference, monitored.config
    reasons = dict.fromkeys((*reference.features, SCORE), few) if few else unjudged or {}
    options = {"resamples": config.evaluation.resamples, "seed": config.seed}
    n_users = min(reference.n_users, rows.n_users)
    features = feature_histograms(reference.features, rows)
    score = {SCORE: score_histogram(reference.score, rows)}
    return [
        *column_drifts(FEATURE, reference.features, features, n_users=n_users, unjudged=reasons, **options),
        *column_drifts(SCORE, {SCORE: reference.score}, score, n_users=n_users, unjudged=reasons, **options),
        *_text_drifts(TEXT, reference.texts, texts, config),
    ]


def _text_drifts(
    kind: str, before: dict[str, Histogram], after: dict[str, Histogram], config: Config
) -> list[ColumnDrift]:
    """Each item is a user here. Not judged where there are too few."""
    n_items = min((side.n for side in (*before.values(), *after.values())), default=0)
    least = config.monitor.min_users
    few = "" if n_items >= least else f"{n_items:,} items, expected at least {least:,} (monitor.min_users)"
    unjudged = dict.fromkeys(before, few) if few else {}
    options = {"resamples": config.evaluation.resamples, "seed": config.seed}
    return column_drifts(kind, before, after, n_users=n_items, unjudged=unjudged, **options)


def _too_few(n_lists: int, n_users: int, config: Config) -> str:
    settings = config.monitor
    if n_lists >= settings.min_lists and n_users >= settings.min_users:
        return ""
    return (
        f"too little to judge columns by: {n_lists:,} lists of {n_users:,} users, expected at least "
        f"{settings.min_lists:,} of {settings.min_users:,} (monitor.min_lists, monitor.min_users)"
    )


def _labelled(rankings: Path, events: Path, config: Config) -> LabelledLists:
    return label_logged(rankings, events, ReadOptions(config.data, files=config.data.files))


def _online(labelled: LabelledLists, config: Config) -> list[OnlineFigures]:
    versions = {str(name) for name in labelled.lists.ranker.decoded() if name}
    options = {"resamples": config.evaluation.resamples, "seed": config.seed}
    promises: dict[str, Promise] = {}
    for version in sorted(versions):
        promise = promise_of(version, **options)
        if promise is None:
            log.info("%s: no recorded evaluation, so its online figures are compared with nothing", version)
        else:
            promises[version] = promise
    return online_figures(labelled.lists, promises, **options)
