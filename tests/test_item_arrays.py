"""Items in memory: the catalog of any request equals the one made of its items, whatever was asked for before."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.arrays import NO_TIME, Int64
from features.log import Catalog
from features.online import item_arrays, item_changes
from features.online.item_arrays import ItemPlaces, RowsByPlace
from features.online.items import StoredItem, local_catalog
from features.online.settings import StoreSettings
from features.online.state import OnlineState
from features.stores.lmdb_store import LmdbStore
from recsys.encoder.scoring import untrained_head
from recsys.online.text_arrays import StoredTexts, TextArrays
from recsys.ranker.matrix import ItemRepresentations
from recsys.ranker.tfidf import TermRows

SETTINGS = StoreSettings(reads=(), categories=("brand", "tag"), numbers=("price",), vectors=(("image", 2),))
IDS = [f"i{n}" for n in range(8)]


@st.composite
def stored_items(draw: st.DrawFn) -> StoredItem:
    values = st.lists(st.sampled_from(["a", "b", "c"]), max_size=3).map(tuple)
    return StoredItem(
        draw(st.sampled_from(IDS)),
        draw(st.sampled_from(["", "title", "标题"])),
        draw(st.sampled_from(["", "words"])),
        draw(st.sampled_from([NO_TIME, 0, 5])),
        draw(st.dictionaries(st.sampled_from(["brand", "tag"]), values)),
        draw(st.dictionaries(st.just("price"), st.sampled_from([0.0, 2.5]))),
        draw(st.dictionaries(st.just("image"), st.sampled_from([np.float32([1, 2]), np.float32([0, 1])]))),
        draw(st.dictionaries(st.sampled_from(["maker", "note"]), st.sampled_from(["x", "y"]))),
    )


@pytest.fixture
def state(tmp_path: Path) -> Iterator[OnlineState]:
    store = LmdbStore(tmp_path / "store", durable=False)
    yield OnlineState.open(store, SETTINGS)
    store.close()


def catalog_of(state: OnlineState, ids: list[str]) -> Catalog:
    with state.snapshot() as view:
        found = view.catalog(ids)
        assert found is not None
        catalog, places = found
        assert (places.place[:-1] > 0).tolist() == [item in view.items(ids) for item in ids]
        return catalog


def expected_catalog(state: OnlineState, ids: list[str]) -> Catalog:
    with state.snapshot() as view:
        return local_catalog(
            ids, view.items(ids), categories=SETTINGS.categories, numbers=SETTINGS.numbers, vectors={"image": 2}
        )


def as_lists(catalog: Catalog) -> dict[str, list[object]]:
    """The cells of a catalog, without text columns that no item has."""
    cells: dict[str, list[object]] = {
        "id": [*catalog.ids.tolist(), None],
        "title": catalog.title.tolist(),
        "description": catalog.description.tolist(),
        "published_at": catalog.published_at.tolist(),
    }
    for name, column in catalog.categories.items():
        cells[name] = [list(column.values), *(column.codes.row(i).tolist() for i in range(len(column.codes)))]
    for name, numbers in (*catalog.numbers.items(), *catalog.vectors.items()):
        cells[name] = [str(value) for value in numbers.tolist()]
    return cells | {name: texts.tolist() for name, texts in catalog.texts.items() if any(texts.tolist())}


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_a_catalog_is_that_of_the_items_as_they_are_stored(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    store = LmdbStore(tmp_path_factory.mktemp("store"), durable=False)
    state, other = OnlineState.open(store, SETTINGS), OnlineState.open(store, SETTINGS)
    for _ in range(data.draw(st.integers(1, 5))):
        writer = data.draw(st.sampled_from([state, other]))
        writer.add_items(data.draw(st.lists(stored_items(), max_size=4)))
        ids = sorted(data.draw(st.sets(st.sampled_from([*IDS, "unknown"]))))
        assert as_lists(catalog_of(state, ids)) == as_lists(expected_catalog(state, ids))
    store.close()


def test_a_snapshot_from_before_a_change_gets_no_catalog_of_after_it(state: OnlineState) -> None:
    state.add_items([StoredItem("i1", "old")])
    assert catalog_of(state, ["i1"]).title.tolist() == ["old", ""]
    with state.snapshot() as before:
        state.add_items([StoredItem("i1", "new")])
        assert catalog_of(state, ["i1"]).title.tolist() == ["new", ""]
        assert before.catalog(["i1"]) is None


def test_more_items_than_fit_in_memory_begin_anew(state: OnlineState, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(item_arrays, "CACHED_ITEMS", 4)
    state.add_items([StoredItem(item, f"title {item}") for item in IDS])
    generations = []
    for ids in (IDS[:2], IDS[:3], IDS[3:6], IDS[:2]):
        with state.snapshot() as view:
            found = view.catalog(ids)
        assert found is not None
        catalog, places = found
        assert catalog.title.tolist() == [*[f"title {item}" for item in ids], ""]
        generations.append(places.generation)
    assert generations[0] == generations[1] < generations[2] < generations[3]


def test_threads_that_empty_the_memory_for_each_other_get_their_own_items(
    state: OnlineState, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(item_arrays, "CACHED_ITEMS", 5)
    state.add_items([StoredItem(item, f"title {item}") for item in IDS])

    def ask(seed: int) -> None:
        generator = np.random.default_rng(seed)
        for _ in range(200):
            ids = sorted(generator.choice([*IDS, "unknown", "another"], 3, replace=False).tolist())
            titles = [f"title {item}" if item in IDS else "" for item in ids]
            assert catalog_of(state, ids).title.tolist() == [*titles, ""]

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(ask, range(4)))
    assert len(state.item_arrays._place) <= 5 + 3


@pytest.mark.parametrize(("n_changes", "named", "stay"), [(1, 1, True), (2, 3, True), (3, 3, False), (1, 4, False)])
def test_the_items_that_another_process_left_alone_stay_in_memory(
    state: OnlineState, monkeypatch: pytest.MonkeyPatch, n_changes: int, named: int, stay: bool
) -> None:
    monkeypatch.setattr(item_changes, "SLOTS", 2)
    monkeypatch.setattr(item_changes, "MOST_NAMED", 3)
    other = OnlineState.open(state.store, SETTINGS)
    state.add_items([StoredItem(item, "old") for item in IDS])
    with state.snapshot() as view:
        before = view.catalog(IDS)
    for number in range(n_changes):
        other.add_items([StoredItem(item, f"new {number}") for item in IDS[:named]])
    with state.snapshot() as view:
        after, read = view.catalog(IDS), view.items(IDS)
    assert before is not None
    assert after is not None
    titles = [f"new {n_changes - 1}" if n < named else "old" for n in range(len(IDS))]
    assert after[0].title.tolist() == [*titles, ""] == [*[read[item].title for item in IDS], ""]
    assert (after[1].generation == before[1].generation) == stay
    unchanged = after[1].place[named:] == before[1].place[named:]
    assert unchanged.all() or not stay


def test_an_item_that_is_sent_again_hides_no_change_of_another_process(tmp_path: Path) -> None:
    store = LmdbStore(tmp_path / "store", durable=False)
    state, other = OnlineState.open(store, SETTINGS), OnlineState.open(store, SETTINGS)
    state.add_items([StoredItem("i1", "old"), StoredItem("i2", "same")])
    assert catalog_of(state, ["i1"]).title.tolist() == ["old", ""]
    other.add_items([StoredItem("i1", "new")])
    assert state.add_items([StoredItem("i2", "same")]) == []
    assert catalog_of(state, ["i1"]).title.tolist() == ["new", ""]
    with state.snapshot() as view:
        assert view.items(["i1"])["i1"].title == "new"
    store.close()


def test_rows_stay_until_what_they_are_computed_from_changes() -> None:
    rows = RowsByPlace(1)

    def ask(state: tuple[int, ...], place: list[int], value: float) -> tuple[list[float], list[int]]:
        """All rows after those that were missing are computed, and where these were."""
        wanted = np.array(place)
        found, missing = rows.get(state, wanted)
        assert np.isnan(found[missing]).all()
        found[missing] = value + wanted[missing][:, None]
        rows.put(state, wanted[missing], found[missing])
        return found[:, 0].tolist(), missing.tolist()

    assert ask((1, 5), [3, 1], 10) == ([13, 11], [0, 1])
    assert ask((1, 5), [1, 2, 3], 20) == ([11, 22, 13], [1])
    assert ask((1, 4), [1], 30) == ([31], [0]), "an older state"
    assert ask((1, 5), [1, 1, 0], 40) == ([11, 11, 40], [2]), "place 0 is kept for none"
    assert ask((1, 5), [0], 50) == ([50], [0])
    assert ask((1, 6), [1], 60) == ([61], [0])


def test_texts_by_place_are_those_that_were_computed_for_the_newest_generation() -> None:
    arrays = TextArrays(untrained_head(1), 1, 3)
    asked = []

    def ask(generation: int, place: list[int], first: float) -> list[tuple[bool, float, list[int]]]:
        def represent(codes: Int64) -> StoredTexts:
            asked.append([place[code] for code in codes])
            offsets = np.concatenate([[0], np.cumsum(codes)])  # text i has i terms
            terms = np.concatenate([np.arange(code) for code in codes]).astype(np.int32)
            rows = TermRows(offsets[:-1], offsets[1:], terms, np.ones(len(terms)), 3)
            return StoredTexts(
                codes > 0, codes >= 0, ItemRepresentations(first + codes.astype(np.float32)[:, None], rows)
            )

        hashes = np.zeros(len(place) - 1, np.uint64)
        found = arrays.get(ItemPlaces(generation, np.array(place), hashes), represent)
        rows, vectors = found.representations.terms, found.representations.vectors
        entries = [rows.terms[start:end].tolist() for start, end in zip(rows.starts, rows.ends, strict=True)]
        return list(zip(found.has_text.tolist(), vectors[:, 0].tolist(), entries, strict=True))

    assert ask(2, [5, 1, 0], 10) == [(False, 10, []), (True, 11, [0]), (True, 12, [0, 1])]
    assert ask(2, [1, 3, 5], 20) == [(True, 11, [0]), (True, 21, [0]), (False, 10, [])]
    assert ask(1, [5], 30) == [(False, 30, [])], "of an older generation: another item's place"
    assert ask(2, [5, 0], 40) == [(False, 10, []), (True, 12, [0, 1])]
    assert ask(3, [0, 5], 50) == [(False, 50, []), (True, 51, [0])]
    assert asked == [[5, 1, 0], [3], [5], [0, 5]]
