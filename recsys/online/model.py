"""The part of a ranking model that reads an online state: cached encoder, item texts and collaborative snapshots.

    model = OnlineModel.of(ranking_model, state, cached_texts=100_000)
    with state.snapshot() as view:
        matrix = model.matrix(view, OnlineReader(view, user_id, time, candidates, now=now))

Serving, loading, the refresh of collaborative snapshots and the replay share it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from features.arrays import Bool, Float32
from features.definitions.event_measures import Feature
from features.matrix.columns import FeaturePlan
from features.online.items import StoredItem, local_catalog
from features.online.reader import OnlineReader
from features.online.state import OnlineState, StateSnapshot
from features.online.user_clicks import clicked_before
from features.stores.one_at_a_time import one_at_a_time
from recsys.collaborative.online import OnlineSnapshots, RequestTables
from recsys.collaborative.snapshot import TableSettings, build_tables
from recsys.encoder.text import clean_text
from recsys.encoder.text_model import NoEncoder
from recsys.online.encoding_queue import EncodingWait, NoWait
from recsys.online.item_texts import ItemTextReader
from recsys.ranker.column_names import LEXICAL_COLUMNS
from recsys.ranker.lightgbm_ranker import select_columns
from recsys.ranker.matrix import candidate_matrix
from recsys.ranker.model import RankingModel
from recsys.ranker.tfidf import NO_LEXICAL, Lexical

if TYPE_CHECKING:
    from recsys.encoder.model import Encoder
    from recsys.online.cached_encoder import CachedEncoder

CACHED_TEXTS = 20_000
"""Texts that stay in memory where no setting names their number."""


@dataclass(frozen=True)
class OnlineMatrix:
    """The columns of one request. names, values: (n_candidates, n_columns), of the whole matrix. has_text: whether the
    items of the reader's catalog and the unknown one have a text. vectors: of these texts, (n_items + 1, d), d is 0
    without an encoder. tables: None without collaborative columns.
    """

    names: tuple[str, ...]
    values: Float32
    has_text: Bool
    vectors: Float32
    tables: RequestTables | None

    def select(self, columns: Sequence[str]) -> Float32:
        """The columns that a ranker reads, in its order."""
        return select_columns(self.values, self.names, columns)


@dataclass(frozen=True)
class RefreshedSnapshot:
    """A collaborative snapshot that was built. as_of: the clicks before it are in, microseconds. items, users: how many
    have any.
    """

    as_of: int
    items: int
    users: int
    seconds: float


class OnlineModel:
    """A ranking model's features, text models and collaborative snapshots over one online state. Safe for threads."""

    def __init__(
        self,
        state: OnlineState,
        features: Sequence[Feature],
        encoder: Encoder | NoEncoder,
        lexical: Lexical,
        collaborative: TableSettings | None,
        template: str,
        *,
        read: tuple[str, ...] | None = None,
        cached_texts: int,
        on_encoded: Callable[[int], object] | None = None,
    ) -> None:
        """template: of an item's text. read: as in `candidate_matrix`. cached_texts: texts that stay in memory.
        on_encoded: called with the number of texts that were encoded."""
        self.encoder = _with_store(encoder, state, cached_texts, on_encoded)
        self.snapshots: OnlineSnapshots | None = None
        if collaborative is not None:
            self.snapshots = OnlineSnapshots(state.store, collaborative, encoder=encoder.fingerprint, dim=encoder.dim)
        self._state = state
        self._features = FeaturePlan(features)
        reads_words = read is None or not set(read).isdisjoint(LEXICAL_COLUMNS)
        self._texts = ItemTextReader(self.encoder, lexical if reads_words else NO_LEXICAL, template, cached_texts)
        self._read = read

    @classmethod
    def of(
        cls,
        ranking_model: RankingModel,
        state: OnlineState,
        *,
        cached_texts: int = CACHED_TEXTS,
        on_encoded: Callable[[int], object] | None = None,
    ) -> OnlineModel:
        """The online part of a registered ranking model."""
        return cls(
            state,
            ranking_model.features,
            ranking_model.encoder,
            ranking_model.lexical,
            ranking_model.settings.collaborative,
            ranking_model.settings.template,
            read=ranking_model.settings.columns,
            cached_texts=cached_texts,
            on_encoded=on_encoded,
        )

    def matrix(self, view: StateSnapshot, reader: OnlineReader, waiting: EncodingWait | None = None) -> OnlineMatrix:
        """The columns of a reader's request; whatever the store knows of it comes from `view`. waiting: how long to
        wait for texts without a vector, which count as missing afterwards; None waits for all."""
        has_text, items = self._texts.read(view.values, reader.catalog, reader.places, waiting)
        tables = read_tables(self.snapshots, view, reader, items.vectors)
        query = "" if reader.requests.query is None else clean_text(reader.requests.query[0])
        queries = self.encoder.encode_from(view.values, [query], waiting) if query else None
        names, values = candidate_matrix(
            self._features, self.encoder.weights, reader, items, queries, tables, read=self._read
        )
        return OnlineMatrix(names, values, has_text, items.vectors, tables)

    def encode(self, items: Mapping[str, StoredItem]) -> None:
        """Encode the items' texts that have no vector yet, and store the vectors."""
        self._texts.encode(items)

    def remember(self, view: StateSnapshot, ids: Sequence[str]) -> None:
        """Keep in memory what a request for now reads of some stored items, so that the first one does not wait for it.
        Texts without a vector are left for later. ids: sorted and distinct."""
        found = view.catalog(ids)
        if found is None:  # items have changed meanwhile
            return
        catalog, places = found
        texts = self._texts.read(view.values, catalog, places, NoWait())[1]
        if self.snapshots is not None:
            as_of = view.resolve_request_time(None, time.time_ns() // 1000) - view.settings.data.event_delay
            self.snapshots.read(view.values, catalog.ids, np.zeros(0, np.int32), as_of, places, texts.vectors)

    def refresh(
        self,
        request_time: int | None = None,
        *,
        rebuild: bool = False,
        wait: bool = True,
        stopping: Callable[[], bool] = lambda: False,
    ) -> RefreshedSnapshot | None:
        """Build the collaborative snapshot that a request reads at a time (microseconds, None for now) from the clicks
        in the state; None where the store has it, or the model reads none.

        rebuild: build it again, since clicks from before it was built have come. wait: for another process that builds
        one just now, to find it built; otherwise an earlier one in the store is good enough. stopping: whether to wait
        no longer. Raises StoreError where the store cannot be read or written.
        """
        snapshots, state = self.snapshots, self._state
        if snapshots is None:
            return None
        with state.snapshot() as view:
            built = snapshots.build_times(view.values)
            if not rebuild and self._build_time(snapshots, view, request_time) in built:
                return None

        def giving_up() -> bool:
            return stopping() or (bool(built) and not wait)

        with one_at_a_time(state.store, "collaborative", giving_up=giving_up) as mine:
            return self._build(snapshots, request_time, rebuild=rebuild) if mine else None

    def _build_time(self, snapshots: OnlineSnapshots, view: StateSnapshot, request_time: int | None) -> int:
        if request_time is None:
            request_time = view.resolve_request_time(None, time.time_ns() // 1000)
        return int(snapshots.settings.build_times(np.array([request_time - self._state.settings.data.event_delay]))[0])

    def _build(
        self, snapshots: OnlineSnapshots, request_time: int | None, *, rebuild: bool
    ) -> RefreshedSnapshot | None:
        started, settings = time.perf_counter(), self._state.settings
        with self._state.snapshot() as view:
            as_of = self._build_time(snapshots, view, request_time)
            if not rebuild and as_of in snapshots.build_times(view.values):
                return None
            ids, clicked = clicked_before(view, as_of, length=snapshots.settings.user_items)
            items = view.items(ids)
        catalog = local_catalog(ids, items, categories=settings.categories, numbers=settings.numbers, vectors={})
        built = build_tables(clicked, self._texts.vectors(catalog)[:-1], snapshots.settings)
        snapshots.save(as_of, ids, built)
        return RefreshedSnapshot(as_of, len(ids), len(clicked), time.perf_counter() - started)


def read_tables(
    snapshots: OnlineSnapshots | None, view: StateSnapshot, reader: OnlineReader, text_vectors: Float32 | None
) -> RequestTables | None:
    """The collaborative tables of a reader's request; None where a model reads none. text_vectors: of its catalog, None
    for a model that reads no text."""
    if snapshots is None:
        return None
    as_of, history = reader.time - reader.delay, reader.histories.items.codes
    return snapshots.read(view.values, reader.catalog.ids, history, as_of, reader.places, text_vectors)


def _with_store(
    encoder: Encoder | NoEncoder, state: OnlineState, cached_texts: int, on_encoded: Callable[[int], object] | None
) -> CachedEncoder | NoEncoder:
    """The encoder with vectors in memory and in the store. A model without one imports no torch."""
    if isinstance(encoder, NoEncoder):
        return encoder
    from recsys.online.cached_encoder import CachedEncoder

    return CachedEncoder(encoder, state.store, cached_texts, on_encoded=on_encoded)
