"""Collaborative tables and columns: worked out by hand, out of the past alone, and the same offline and online."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_logs import MINUTE, Happening, Shown, happenings, make_log, make_requests, ragged
from small_ranking_model import SmallSite, small_site

from features.arrays import NO_TIME, Float32
from features.definitions.aggregates import hours
from features.exact import GRID_STEP, to_grid
from features.history import Histories, clicked_before, clicks_by_user, histories
from features.log import Log, Requests
from features.offline.reader import LogIndex, OfflineSettings
from features.online.events import IncomingEvent
from features.online.id_hash import hash_id
from features.online.item_arrays import ItemPlaces
from features.online.reader import OnlineReader
from features.online.state import OnlineState, StateSnapshot
from features.online.user_clicks import clicked_before as clicked_online
from features.stores.base import StoreSnapshot
from features.tables.data_settings import DataSettings
from pipelines.load import load_items_into
from recsys.collaborative.alignment import Alignment, align
from recsys.collaborative.column_names import (
    ALIGNED_COLUMN,
    AUDIENCE_COLUMN,
    CO_CLICK_COLUMNS,
    COLLABORATIVE_COLUMNS,
    FACTOR_COLUMN,
    SEQUENCE_COLUMN,
)
from recsys.collaborative.columns import collaborative_matrix, similarity_of
from recsys.collaborative.neighbours import Neighbours
from recsys.collaborative.offline import OfflineSnapshots
from recsys.collaborative.online import OnlineSnapshots
from recsys.collaborative.snapshot import CollaborativeSnapshot, TableSettings, build_tables
from recsys.config import Config
from recsys.online.model import OnlineModel
from recsys.online.open_state import open_state
from recsys.ranker.model import RankingModel
from recsys.ranker.offline_matrix import OfflineScorer
from recsys.rollout.warm_up import remember_catalogue
from recsys.serving.schemas import RankRequest
from recsys.serving.service import RankService
from recsys.training.context import TrainingContext
from recsys.training.text_models import collaborative_settings
from recsys.training.time_split import slice_impressions

SETTINGS = TableSettings(
    first_build=0,
    build_interval=10 * MINUTE,
    user_items=50,
    neighbours=10,
    shrinkage=0.0,
    factors=2,
    sequence_window=2,
    alignment_clicks=1.0,
)
TEXTS = np.array([[1, 0], [0, 1], [0, 1], [np.nan, np.nan]], np.float32)


def tables_of(rows: list[list[int]], **changes: float) -> CollaborativeSnapshot:
    return build_tables(ragged(rows), TEXTS, SETTINGS.model_copy(update=changes))


def similarity(tables: CollaborativeSnapshot, row: int, item: int) -> float:
    return of_pair(tables.neighbours, row, item)


def of_pair(near: Neighbours, row: int, item: int) -> float:
    return similarity_of((near.offsets, near.item, near.similarity), row, item)


def test_two_items_are_as_similar_as_the_users_they_share() -> None:
    tables = tables_of([[0, 1], [0, 1], [0, 2], [3]])
    assert similarity(tables, 0, 1) == pytest.approx(2 / np.sqrt(3 * 2))
    assert similarity(tables, 0, 2) == similarity(tables, 2, 0) == pytest.approx(1 / np.sqrt(3))
    assert similarity(tables, 1, 2) == similarity(tables, 0, 0) == similarity(tables, 3, 0) == 0


def test_shrinkage_distrusts_few_common_users() -> None:
    tables = tables_of([[0, 1], [2], [3]], shrinkage=3.0)
    assert similarity(tables, 0, 1) == pytest.approx(1 / (1 + 3))


def test_only_the_most_similar_items_are_kept() -> None:
    tables = tables_of([[0, 1], [0, 1], [0, 2], [3]], neighbours=1)
    assert similarity(tables, 0, 1) > 0
    assert similarity(tables, 0, 2) == 0
    assert similarity(tables, 2, 0) > 0


def test_items_of_the_same_users_have_the_same_factors() -> None:
    factors = tables_of([[0, 1], [0, 1], [2, 3], [2, 3]]).factors.astype(np.float64)
    cosine = (factors @ factors.T) / np.outer(*[np.linalg.norm(factors, axis=1)] * 2)
    assert cosine[0, 1] == pytest.approx(1)
    assert cosine[2, 3] == pytest.approx(1)
    assert cosine[0, 2] == pytest.approx(0, abs=1e-6)


def test_an_audience_is_the_mean_of_what_its_clickers_read() -> None:
    audience = tables_of([[0, 1], [0], [3]]).audience
    half = np.sqrt(0.5)
    assert audience[1] == pytest.approx([half, half])
    assert audience[0] == pytest.approx([(half + 1) / 2, half / 2])
    assert np.isnan(audience[3]).all()


class Fixed:
    """The same tables at every moment."""

    def __init__(self, tables: CollaborativeSnapshot) -> None:
        self._tables = tables
        self.settings = SETTINGS

    def build_times(self, times: np.ndarray) -> np.ndarray:
        return np.zeros(len(times), np.int64)

    def snapshot(self, as_of: int) -> CollaborativeSnapshot:
        return self._tables


def columns(tables: CollaborativeSnapshot, history: list[list[int]], shown: list[list[int]]) -> Float32:
    requests = make_requests([Shown(0, 5, tuple(row)) for row in shown])
    past = ragged(history)
    vectors = np.vstack([TEXTS, np.full((1, 2), np.nan)]).astype(np.float32)
    spread = tables.to_global_codes(np.arange(4, dtype=np.int32), 5)
    reader = LogIndex(make_log([], [])).reader(requests)
    reader.histories = Histories(past, np.zeros(len(past.codes), np.int64))
    return collaborative_matrix(Fixed(spread), reader, vectors, SETTINGS.columns)


def test_co_click_columns_are_mean_best_and_last_over_the_history() -> None:
    tables = tables_of([[0, 1], [0, 1], [0, 2], [3]])
    found = columns(tables, [[1, 2], []], [[0, 3, -1], [0]])
    one, two = 2 / np.sqrt(6), 1 / np.sqrt(3)
    assert found[0, :3] == pytest.approx([(one + two) / 2, one, two])
    assert found[1, :3].tolist() == found[2, :3].tolist() == [0, 0, 0]
    assert np.isnan(found[3]).all()
    assert np.isnan(
        found[2, [name.endswith("similarity") and name != SEQUENCE_COLUMN for name in SETTINGS.columns]]
    ).all()


def test_clicks_in_a_row_are_more_similar_than_distant_ones() -> None:
    # users 0 and 1 clicked 1 between 0 and 2; the window of two positions leaves 3 out of the pairs of 0
    near = tables_of([[0, 1, 2, 3], [2, 1, 0], [3]]).sequence
    assert near is not None
    pairs = [(0, 1), (0, 2), (1, 0), (0, 3), (2, 3), (0, 0)]
    found = np.array([of_pair(near, *pair) for pair in pairs])
    assert found == pytest.approx([2 / 2, (1 / 2 + 1 / 2) / 2, 2 / 2, 0, 1 / 2, 0], abs=GRID_STEP)
    assert (found / GRID_STEP % 1 == 0).all()


def test_sequence_neighbours_are_the_same_whatever_pairs_are_counted_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [np.random.default_rng(user).permutation(4).tolist() for user in range(20)]
    whole = tables_of(rows).sequence
    monkeypatch.setattr("recsys.collaborative.neighbours._PAIRS", 1)
    assert whole is not None
    for field in ("offsets", "item", "similarity"):
        assert getattr(whole, field).tobytes() == getattr(tables_of(rows).sequence, field).tobytes()


def test_the_sequence_column_counts_the_latest_click_most() -> None:
    tables = tables_of([[0, 1], [2, 1], [3]])
    found = columns(tables, [[0, 3, 2], [2, 3, 0]], [[1], [1]])[:, SETTINGS.columns.index(SEQUENCE_COLUMN)]
    one = 1 / np.sqrt(2)
    assert found == pytest.approx([one + one / 3, one + one / 3], abs=2 * GRID_STEP)
    only = columns(tables_of([[0, 1], [2], [3]]), [[0, 3, 2], [2, 3, 0]], [[1], [1]])
    assert only[:, SETTINGS.columns.index(SEQUENCE_COLUMN)] == pytest.approx([1 / 3, 1], abs=2 * GRID_STEP)


def test_an_item_without_clicks_has_the_factors_that_its_text_predicts() -> None:
    text = np.array([[1, 0], [0, 1]], np.float32)
    aligned = align(np.array([[2, 0], [0, 3]], np.float32), np.array([1, 3]), text, half_clicks=1.0)
    # gram = diag(1, 3), ridge = 0.1 * 4 / 2
    assert aligned.weights == pytest.approx(np.diag([1 / 1.2, 3 / 3.2]), abs=GRID_STEP)
    assert aligned.vectors == pytest.approx(np.diag([(1 + 1 / 1.2) / 2, (3 + 3 / 3.2) / 4]), abs=2 * GRID_STEP)
    with_new = Alignment(np.vstack([aligned.vectors, np.full((3, 2), np.nan, np.float32)]), aligned.weights)
    vectors = np.vstack([text, [[0.6, 0.8], [np.nan, np.nan], [np.nan, np.nan]]]).astype(np.float32)
    requests = make_requests([Shown(0, 5, (2, 3, -1))])
    found = with_new.similarity(requests, ragged([[1]]), vectors)
    predicted = np.array([0.6 / 1.2, 0.8 * 3 / 3.2])
    assert found[0] == pytest.approx(predicted[1] / np.linalg.norm(predicted), abs=1e-5)
    assert np.isnan(found[1:]).all()


def test_without_any_text_the_alignment_is_the_items_own_factors() -> None:
    factors, clicks = np.array([[2, 0], [0, 3]], np.float32), np.array([1, 3])
    aligned = align(factors, clicks, np.full((2, 2), np.nan, np.float32), half_clicks=1.0)
    assert aligned.vectors.tolist() == [[1, 0], [0, 1]]
    assert not aligned.weights.any()


@pytest.mark.kernels
def test_predicted_factors_have_the_same_bits_in_any_order() -> None:
    generator = np.random.default_rng(0)
    text = to_grid(generator.normal(size=(50, 96)) / np.sqrt(96))
    weights = to_grid(generator.normal(size=(96, 8)) * 5)
    order = generator.permutation(96)
    missing = Alignment(np.full((51, 8), np.nan, np.float32), weights)
    turned = Alignment(missing.vectors, np.ascontiguousarray(weights[order]))
    requests = make_requests([Shown(0, 5, tuple(range(25, 50)))])
    history = ragged([list(range(25))])
    text = np.vstack([text, np.full((1, 96), np.nan)]).astype(np.float32)
    first, second = (
        one.similarity(requests, history, vectors) for one, vectors in ((missing, text), (turned, text[:, order]))
    )
    assert first.tobytes() == second.tobytes()
    assert not np.isnan(first).any()


@pytest.mark.parametrize("column", [SEQUENCE_COLUMN, ALIGNED_COLUMN])
def test_a_snapshot_that_reads_later_clicks_is_seen_in_each_new_column(
    column: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    past = [Happening(user, item, 1 + item) for user in (0, 1) for item in (user, 2, 3)]
    shown = [Shown(user, 15, (0, 1, 2, 3, 4, 5)) for user in (0, 1)]
    later = [Happening(2, item, 12 + position) for position, item in enumerate((4, 2, 5, 0))]
    requests, position = make_requests(shown), SETTINGS.columns.index(column)

    def changed() -> bool:
        first, second = (matrix_of(make_log(clicks, shown), requests)[:, position] for clicks in (past, past + later))
        return first.tobytes() != second.tobytes()

    assert not changed()
    before = LogIndex.clicked_before
    monkeypatch.setattr(LogIndex, "clicked_before", lambda self, time, *, length: before(self, 2 * time, length=length))
    assert changed()


@pytest.mark.kernels
def test_a_columns_value_depends_on_its_own_request_and_candidate_alone() -> None:
    tables = tables_of([[0, 1], [0, 1], [0, 2], [3]])
    whole = columns(tables, [[1, 2], [0, 3]], [[0, 1, 2, 3], [1, 2]])
    turned = columns(tables, [[0, 3], [1, 2]], [[2, 1], [3, 2, 1, 0]])
    assert whole.tobytes() == np.vstack([turned[2:][::-1], turned[:2][::-1]]).tobytes()


def text_vectors(log: Log) -> Float32:
    vectors = np.random.default_rng(1).normal(size=(len(log.catalog) + 1, 4)).astype(np.float32)
    vectors[-1] = np.nan
    return vectors


def matrix_of(log: Log, requests: Requests, delay: int = 0) -> Float32:
    index, vectors = LogIndex(log, OfflineSettings(DataSettings(event_delay_seconds=delay / 1e6))), text_vectors(log)
    snapshots = OfflineSnapshots(index, vectors, SETTINGS)
    return collaborative_matrix(snapshots, index.reader(requests), vectors, SETTINGS.columns)


@pytest.mark.kernels
@settings(deadline=None)
@given(happenings, st.integers(0, 45), st.integers(0, 15))
def test_clicks_at_and_after_a_request_change_nothing(found: list[Happening], minute: int, delay: int) -> None:
    shown = [Shown(user, minute, (0, 1, 2, 3, 4, 5)) for user in (0, 1, 2)]
    later = [Happening(user, item, max(0, minute - delay) + item) for user in range(3) for item in range(6)]
    requests = make_requests(shown)
    before = [one for one in found if one.minute < minute - delay]
    first, second = (matrix_of(make_log(some, shown), requests, delay * MINUTE) for some in (before, before + later))
    if minute >= delay:
        assert first.tobytes() == second.tobytes()


def test_tables_hold_the_clicks_before_they_were_made_and_no_later_ones() -> None:
    clicks = [Happening(0, 0, 1), Happening(0, 1, 2), Happening(1, 0, 11), Happening(1, 2, 12)]
    shown = [Shown(2, 19, (1, 2)), Shown(2, 20, (1, 2))]
    log = make_log([*clicks, Happening(2, 0, 3)], shown)
    found = matrix_of(log, log.impressions.requests)[:, 1]
    assert found[0] > 0
    assert found[1] == 0
    assert found[3] > 0


@settings(deadline=None)
@given(happenings, st.integers(0, 420), st.integers(1, 4), st.sampled_from((None, hours(1))))
def test_what_all_users_clicked_before_a_moment_are_their_histories(
    found: list[Happening], minute: int, length: int, horizon: int | None
) -> None:
    log = make_log(found, [])
    clicks = clicks_by_user(log.events, len(log.users))
    everyone = make_requests([Shown(user, minute, (0,)) for user in range(len(log.users))])
    expected = histories(clicks, everyone, length=length, horizon=horizon).items
    got = clicked_before(clicks, minute * MINUTE, length=length, horizon=horizon)
    assert [got.row(user).tolist() for user in range(3)] == [expected.row(user).tolist() for user in range(3)]


@pytest.fixture(scope="module")
def site() -> SmallSite:
    return small_site()


@pytest.fixture
def horizon_days(request: pytest.FixtureRequest) -> float | None:
    """How far back the model reads; a test may ask for another."""
    return getattr(request, "param", None)


@pytest.fixture
def ranking_model(site: SmallSite, horizon_days: float | None) -> RankingModel:
    model = site.ranking_model
    data = model.settings.data.model_copy(update={"horizon_days": horizon_days})
    return replace(model, settings=model.settings.model_copy(update={"data": data}))


@pytest.fixture
def state(site: SmallSite, ranking_model: RankingModel, new_place: Callable[[], str]) -> Iterator[OnlineState]:
    with open_state(new_place(), ranking_model.settings, create=True) as opened:
        load_items_into(opened, ranking_model, site.data / "items.parquet")
        yield opened


def events_of(log: Log, first: int, end: int) -> list[IncomingEvent]:
    events = log.events
    return [
        IncomingEvent(
            log.users[events.user[k]] if events.user[k] >= 0 else None,
            log.catalog.ids[events.item[k]],
            int(events.time[k]),
            events.types[events.type[k]],
        )
        for k in range(first, end)
    ]


def test_the_store_knows_the_clicks_that_the_log_does(site: SmallSite, state: OnlineState) -> None:
    log = site.log
    state.add_events(events_of(log, 0, len(log.events)))
    moment = int(np.quantile(log.events.time, 0.7))
    with state.snapshot() as view:
        ids, found = clicked_online(view, moment, length=3)
    expected = LogIndex(log).clicked_before(moment, length=3)
    rows = [expected.row(user).tolist() for user in range(len(log.users)) if len(expected.row(user))]
    assert list(ids) == sorted(ids)
    assert [log.catalog.codes([ids[code] for code in found.row(k)]).tolist() for k in range(len(found))] == rows


@pytest.mark.kernels
@pytest.mark.parametrize("horizon_days", [None, 2.0], indirect=True)
def test_online_columns_replayed_in_time_order_equal_the_offline_ones_to_the_last_bit(
    site: SmallSite, ranking_model: RankingModel, state: OnlineState
) -> None:
    log = site.log
    online = OnlineModel.of(ranking_model, state, cached_texts=1000)
    impressions = log.impressions.take(site.chain.sliced.test[::9])
    requests, index, texts = impressions.requests, LogIndex(log), ranking_model.texts(log.catalog)
    expected = OfflineScorer(ranking_model, index, texts, threads=2).matrix(requests)
    chosen = [ranking_model.settings.columns.index(name) for name in COLLABORATIVE_COLUMNS]
    applied, made = 0, 0
    for i in range(len(requests)):
        due = int(np.searchsorted(log.events.time, requests.time[i]))
        state.add_events(events_of(log, applied, due))
        applied = due
        made += online.refresh(int(requests.time[i])) is not None
        rows = slice(requests.offsets[i], requests.offsets[i + 1])
        ids = log.catalog.ids[requests.item[rows]]
        user = None if requests.user[i] < 0 else log.users[requests.user[i]]
        time = int(requests.time[i])
        with state.snapshot() as view:
            found = online.matrix(view, OnlineReader(view, user, time, ids.tolist(), now=time)).values
        assert found[:, chosen].tobytes() == expected[rows][:, chosen].tobytes()
    assert made > 2
    assert np.nanmax(expected[:, chosen[1]]) > 0
    assert len(build_times(online, state)) == 2


def build_times(online: OnlineModel, state: OnlineState) -> tuple[int, ...]:
    """When the snapshots that the store holds for a model were built."""
    assert online.snapshots is not None
    with state.snapshot() as view:
        return online.snapshots.build_times(view.values)


def test_a_store_without_tables_answers_and_counts_it(site: SmallSite, state: OnlineState) -> None:
    service = RankService(site.ranking_model, state, ranker="r/1", encoder="e/1")
    service.rank(RankRequest.model_validate({"user_id": "u", "candidates": ["a", "b"], "history": ["a"]}))
    assert b"recsys_without_tables_total 1.0" in service.telemetry.exposition()
    stored = service.served.online.snapshots
    assert stored is not None
    with state.snapshot() as view:
        assert stored.read(view.values, np.array(["a"], object), np.zeros(1, np.int32), 10**15).as_of == NO_TIME


def test_tables_are_made_again_where_older_clicks_have_come(site: SmallSite, state: OnlineState) -> None:
    online, log = OnlineModel.of(site.ranking_model, state, cached_texts=1000), site.log
    half = len(log.events) // 2
    moment = int(log.events.time[-1]) + 1
    state.add_events(events_of(log, half, len(log.events)))
    first = online.refresh(moment)
    state.add_events(events_of(log, 0, half))
    assert first is not None
    assert online.refresh(moment) is None
    again = online.refresh(moment, rebuild=True)
    assert again is not None
    assert (again.as_of, again.users > 0) == (first.as_of, True)
    assert again.items >= first.items


class KeysRead:
    """A snapshot of a store that notes which keys are asked for."""

    def __init__(self, values: StoreSnapshot) -> None:
        self._values = values
        self.keys: list[bytes] = []

    def get_many(self, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        self.keys += keys
        return self._values.get_many(keys)

    def scan(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        return self._values.scan(start, end)


def test_what_is_remembered_of_items_is_not_read_again(site: SmallSite, state: OnlineState) -> None:
    state.add_events(events_of(site.log, 0, len(site.log.events)))
    ids, now = site.log.catalog.ids.tolist(), int(site.log.events.time[-1]) + 1
    OnlineModel.of(site.ranking_model, state, cached_texts=1000).refresh(now)

    def first_ranking(*, remembered: bool) -> tuple[bytes, int]:
        """The matrix, and how many records of items it read."""
        anew = OnlineState.open(state.store)
        service = RankService(site.ranking_model, anew, ranker="r/1", encoder="e/1")
        online = service.served.online
        if remembered:
            remember_catalogue(service, service.served, lambda: False)
        with state.store.read() as values:
            view = StateSnapshot(anew, counted := KeysRead(values))
            matrix = online.matrix(view, OnlineReader(view, None, now, ids, now=now, history=ids[:3])).values
        return matrix.tobytes(), sum(key[:1] in (b"i", b"n") for key in counted.keys)

    expected, n_read = first_ranking(remembered=False)
    found, n_read_again = first_ranking(remembered=True)
    assert found == expected
    assert n_read >= 2 * len(ids)
    assert n_read_again < 10, "the lists of the history's items alone"


def test_tables_of_another_encoder_are_not_read(site: SmallSite, state: OnlineState) -> None:
    online, log = OnlineModel.of(site.ranking_model, state, cached_texts=1000), site.log
    state.add_events(events_of(log, 0, len(log.events)))
    built, settings = online.refresh(), site.ranking_model.settings.collaborative
    assert built is not None
    assert settings is not None
    assert build_times(online, state) == (built.as_of,)
    other = OnlineSnapshots(state.store, settings, encoder="0" * 32, dim=site.ranking_model.encoder.dim)
    with state.snapshot() as view:
        assert other.build_times(view.values) == ()


def test_a_request_never_reads_tables_made_after_its_moment(state: OnlineState) -> None:
    stored = OnlineSnapshots(state.store, SETTINGS, encoder="e", dim=2)
    names = np.array(["a", "b", "c", "d"], object)
    early, late = tables_of([[0, 1], [2], [3]]), tables_of([[0, 2], [1], [3]])
    for edge, tables in ((10, early), (20, late)):
        stored.save(edge, names.tolist(), tables)
    for moment, edge, similar in ((9, NO_TIME, None), (19, 10, 1), (20, 20, 2)):
        with state.store.read() as snapshot:
            read = stored.read(snapshot, names, np.array([0], np.int32), moment)
        assert read.as_of == edge
        assert [item for item in range(4) if similarity(read.built, 0, item)] == ([] if similar is None else [similar])
    stored.save(30, names.tolist(), early)
    with state.store.read() as snapshot:
        assert stored.build_times(snapshot) == (20, 30)
        assert len(list(snapshot.scan(b"n", b"n\xff"))) == 1 + 2 * (3 * len(names) + 1)


def test_tables_built_again_for_the_same_moment_are_read_anew(state: OnlineState) -> None:
    stored = OnlineSnapshots(state.store, SETTINGS, encoder="e", dim=2)
    names, history = np.array(["a", "b", "c", "d"], object), np.array([0], np.int32)
    hashes = np.array([hash_id(name) for name in names], np.uint64)
    places = ItemPlaces(1, np.array([3, 1, 2, 0, 0]), hashes)  # d is none of the stored items
    for tables in (tables_of([[0, 1], [2], [3]]), tables_of([[0, 2], [1, 3], [3]])):
        stored.save(10, names.tolist(), tables)
        for _ in range(2):
            with state.store.read() as snapshot:
                found = stored.read(snapshot, names, history, 10, places).built
                alone = stored.read(snapshot, names, history, 10).built
            assert found.factors[:-1].tolist() == tables.factors.tolist()
            assert np.isnan(found.factors[-1]).all()
            for name in ("factors", "audience"):
                assert getattr(found, name).tobytes() == getattr(alone, name).tobytes()
            assert all(similarity(found, 0, item) == similarity(tables, 0, item) for item in range(4))
    stored.save(20, names.tolist(), tables_of([[0, 3], [1], [2]]))
    for moment in (10, 20, 10):  # the older one once more
        with state.store.read() as snapshot:
            found = stored.read(snapshot, names, history, moment, places).built
            assert found.factors.tobytes() == stored.read(snapshot, names, history, moment).built.factors.tobytes()


def test_tables_of_a_log_of_minutes_are_not_due_thousands_of_times_in_the_days_after_it() -> None:
    config = Config()
    for step, interval in ((1, 10 * MINUTE), (60, 60 * 60 * MINUTE // 10)):
        minutes = [step * number for number in range(85)] + [step * 85 + 1440 * day for day in range(15)]
        log = make_log([], [Shown(0, minute, (0, 1), False) for minute in minutes])
        clicked = replace(log.impressions, label=np.tile([1, 0], len(minutes)).astype(np.int8))
        sliced = slice_impressions(clicked, config.slices)
        built = collaborative_settings(TrainingContext(config, log, sliced, LogIndex(log), 1))
        assert built is not None
        assert built.build_interval == pytest.approx(interval, rel=0.02)


def test_settings_of_older_versions_name_the_same_snapshots() -> None:
    older: dict[str, object] = {
        "origin": 5,
        "period": 10,
        "user_items": 50,
        "neighbours": 10,
        "shrinkage": 0.0,
        "factors": 2,
    }
    read = TableSettings.model_validate(older)
    assert (read.first_build, read.build_interval) == (5, 10)
    assert read.model_dump(by_alias=True) == older
    assert TableSettings.model_validate(read.model_dump()) == read
    assert read.columns == (*CO_CLICK_COLUMNS, FACTOR_COLUMN, AUDIENCE_COLUMN)
    newer = read.model_copy(update={"sequence_window": 10, "alignment_clicks": 2.5})
    assert newer.model_dump(by_alias=True) == older | {"sequence_window": 10, "alignment_clicks": 2.5}
    assert TableSettings.model_validate(newer.model_dump()) == newer
    assert newer.columns == COLLABORATIVE_COLUMNS
