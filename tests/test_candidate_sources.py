"""Candidates of users over small logs: each source, the filters, the merged list and its recall, worked out by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_logs import MINUTE, Happening, Shown, happenings, lists, make_log, ragged

from features.arrays import NO_TIME, CsrLists, Float32
from features.exact import to_grid
from features.log import Categorical, Log
from features.offline.reader import LogIndex, OfflineSettings
from features.tables.data_settings import DataSettings
from features.tables.id_lists import Exclusions
from recsys.candidates.asked_users import AskedUsers, asked_users
from recsys.candidates.best_items import ScoredLists, best_of_each
from recsys.candidates.by_category import category_source
from recsys.candidates.co_click import CoClickSource
from recsys.candidates.filters import SKIPS, Filters, make_filters
from recsys.candidates.generate import CandidateBlock, CandidateSettings, make_generator
from recsys.candidates.item_ages import newness, popularity
from recsys.candidates.merge import merge
from recsys.candidates.nearest import ItemSearch, NearestSource, nearest_of_items
from recsys.candidates.recall import RecallTally, later_clicks
from recsys.candidates.source import UserBlock
from recsys.collaborative.neighbours import Neighbours

WEEK = 7 * 24 * 60
NOTHING = np.zeros(0, object)


def scored(rows: list[list[tuple[int, float]]]) -> ScoredLists:
    pairs = [pair for row in rows for pair in row]
    offsets = np.cumsum([0, *map(len, rows)]).astype(np.int64)
    return ScoredLists(offsets, np.array([i for i, _ in pairs], np.int32), np.array([s for _, s in pairs], float))


def unscored(found: ScoredLists) -> list[list[tuple[int, float]]]:
    pairs = list(zip(found.item.tolist(), found.score.tolist(), strict=True))
    return [pairs[a:b] for a, b in zip(found.offsets[:-1], found.offsets[1:], strict=True)]


def items_of(found: CsrLists) -> list[list[int]]:
    return [found.row(i).tolist() for i in range(len(found))]


def unit_vectors(rng: np.random.Generator, n: int, dim: int, n_distinct: int) -> Float32:
    """n vectors on the grid, of which only so many are distinct: many products are equal."""
    vectors = rng.normal(size=(n_distinct, dim))
    vectors /= np.sqrt((vectors**2).sum(axis=1, keepdims=True))
    return to_grid(vectors[rng.integers(0, n_distinct, n)])


@given(
    st.integers(0, 2**32),
    st.integers(1, 60),
    st.integers(1, 40),
    st.integers(1, 20),
    st.integers(1, 7),
    st.integers(1, 9),
)
@settings(max_examples=40, deadline=None)
def test_the_search_finds_what_comparing_all_items_finds(
    seed: int, n_items: int, n_distinct: int, most: int, query_rows: int, item_rows: int
) -> None:
    rng = np.random.default_rng(seed)
    vectors = unit_vectors(rng, n_items, 24, n_distinct)
    vectors[rng.random(n_items) < 0.1] = np.nan
    queries = unit_vectors(rng, 11, 24, 40)
    allowed = rng.random(n_items) < 0.8
    left_out = [sorted(np.flatnonzero(rng.random(n_items) < 0.2).tolist()) for _ in queries]
    search = ItemSearch(vectors, allowed, query_rows, item_rows)
    item, score = search.nearest(queries, ragged(left_out), most=most, threads=2)
    for row, query in enumerate(queries.astype(np.float64)):
        products = vectors.astype(np.float64) @ query
        usable = [i for i in np.flatnonzero(allowed & ~np.isnan(products)).tolist() if i not in left_out[row]]
        expected = sorted(usable, key=lambda i: (-products[i], i))[:most]
        found = item[row][item[row] >= 0].tolist()
        assert found == expected
        assert score[row][: len(found)].tolist() == products[expected].tolist()


def test_a_product_that_float32_rounds_down_is_still_in_its_place() -> None:
    # the products are 1 + 2^-25 and 1 + 2^-25 + 2^-33; float32 has 1 for both, which is below the first one's
    query = np.array([[1.0, 2.0**-13]], np.float32)
    vectors = np.array([[1.0, 2.0**-12], [1.0, 2.0**-12 + 2.0**-20]], np.float32)
    item, score = ItemSearch(vectors, np.ones(2, bool)).nearest(query, ragged([[]]), most=1)
    assert (item.tolist(), score.tolist()) == ([[1]], [[1 + 2.0**-25 + 2.0**-33]])


def test_vectors_whose_products_would_not_be_exact_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected item vectors of norm 1, got one of 2; encode the items again"):
        ItemSearch(np.array([[2.0, 0.0]], np.float32), np.ones(1, bool))


def test_a_user_gets_what_is_near_to_the_last_items_and_to_their_mean_by_the_best_similarity() -> None:
    # items 0 and 1 are clicked; 2 is .8 from item 0, 3 is .8 from item 1, 4 is .7 from each and 1 from the mean
    r = np.sqrt(0.5)
    vectors = to_grid(np.array([[1, 0], [0, 1], [0.8, -0.6], [-0.6, 0.8], [r, r], [-1, 0]]))
    search = ItemSearch(vectors, np.ones(6, bool))
    near = nearest_of_items(search, np.array([0, 1]), most=2, threads=1)
    source = NearestSource(search, near, last_items=2)
    users = UserBlock(ragged([[5, 0, 1], [], [5]]), ragged([[0, 1], [], []]))
    found = best_of_each(source.find(users, most=3), most=3, allowed=np.ones(6, bool), banned=users.banned)
    rows = unscored(found)
    assert [item for item, _ in rows[0]] == [4, 2, 3]
    assert [score for _, score in rows[0]] == pytest.approx([1.0, 0.8, 0.8], abs=1e-6)
    assert rows[1:] == [[], []]  # nothing was searched for item 5, which is no last item of any user with a row


def test_co_click_similarities_are_added_over_the_history() -> None:
    # item 0 has neighbours 1 (.5) and 2 (.25), item 3 has 2 (.5)
    similarity = np.array([0.5, 0.25, 0.5], np.float32)
    table = Neighbours(np.array([0, 2, 2, 2, 3, 3]), np.array([1, 2, 2], np.int32), similarity)
    users = UserBlock(ragged([[0, 3], [3], []]), ragged([[], [], []]))
    raw = CoClickSource(table).find(users, most=9)
    found = best_of_each(raw, most=9, allowed=np.ones(4, bool), banned=users.banned, add=True)
    assert unscored(found) == [[(2, 0.75), (1, 0.5)], [(2, 0.5)], []]


def test_an_items_weight_counts_by_the_users_share_of_its_category() -> None:
    # categories: items 0 and 1 in x, 2 in y, 3 in both, 4 in none; the first user clicked x twice and y once
    category = Categorical(("x", "y"), ragged([[0], [0], [1], [0, 1], [], []]))
    source = category_source("popular", np.array([8.0, 0.0, 16.0, 2.0, 8.0]), category)
    users = UserBlock(ragged([[0, 1, 2], []]), ragged([[], []]))
    found = best_of_each(source.find(users, most=9), most=9, allowed=np.ones(5, bool), banned=users.banned)
    # shares: x (2 + 1) / (3 + 1), y 2 / 4, none 1 / 4; without clicks all are 1
    assert unscored(found) == [[(2, 8.0), (0, 6.0), (4, 2.0), (3, 1.5)], [(2, 16.0), (0, 8.0), (4, 8.0), (3, 2.0)]]


def test_items_without_categories_are_found_by_weight_alone() -> None:
    users = UserBlock(ragged([[0]]), ragged([[]]))
    found = category_source("new", np.array([1.0, 3.0, 0.0]), None).find(users, most=5)
    assert unscored(found) == [[(1, 3.0), (0, 1.0)]]


def test_popularity_halves_every_week_before_the_newest_click() -> None:
    log = make_log(
        [
            Happening(0, 1, 0),
            Happening(1, 1, WEEK),
            Happening(1, 2, WEEK),
            Happening(2, 2, WEEK, "view"),
            Happening(0, 3, 5, "history"),
            Happening(0, 3, WEEK + 1),
        ],
        [],
    )
    assert popularity(log, (WEEK + 1) * MINUTE) == pytest.approx([0, 1.5, 1, 0, 0, 0])
    assert popularity(log, WEEK * MINUTE) == pytest.approx([0, 1, 0, 0, 0, 0])
    assert popularity(log, 0).tolist() == [0] * 6


def test_newness_reads_the_date_of_publication_or_the_first_sight_of_an_item() -> None:
    log = make_log(
        [Happening(0, 0, 100)], [Shown(1, 50, (0, 3)), Shown(1, 40, (3,), sampled=True), Shown(1, 200, (3,))]
    )
    published = np.array([NO_TIME, WEEK, 0, NO_TIME, WEEK + 1, NO_TIME, NO_TIME]) * MINUTE
    published[[0, 3, 5, 6]] = NO_TIME
    log = replace(log, catalog=replace(log.catalog, published_at=published))
    # item 4 is not out yet, item 5 was never seen; items 0 and 3 are seen at minute 50
    at = (WEEK + 1) * MINUTE
    expected = [0.5 ** ((WEEK - 50) / WEEK), 1, 0.5, 0.5 ** ((WEEK - 50) / WEEK), 0, 0]
    assert newness(log, at, as_of=at) == pytest.approx(expected)


pairs = st.lists(st.tuples(st.integers(-1, 9), st.sampled_from((0.25, 0.5, 1.0))), max_size=25)


@given(st.lists(pairs, min_size=1, max_size=4), st.integers(1, 6), st.sets(st.integers(0, 9)), st.booleans())
@settings(max_examples=50, deadline=None)
def test_the_best_of_each_list_are_those_that_sorting_finds(
    rows: list[list[tuple[int, float]]], most: int, banned: set[int], add: bool
) -> None:
    allowed = np.array([i % 4 != 3 for i in range(10)])
    found = best_of_each(scored(rows), most=most, allowed=allowed, banned=ragged([sorted(banned)] * len(rows)), add=add)
    for row, got in zip(rows, unscored(found), strict=True):
        totals: dict[int, float] = {}
        for item, score in row:
            if item >= 0 and allowed[item] and item not in banned:
                totals[item] = totals.get(item, 0.0) + score if add else max(totals.get(item, 0.0), score)
        assert got == sorted(totals.items(), key=lambda pair: (-pair[1], pair[0]))[:most]


def test_the_merged_list_takes_the_first_of_each_source_then_the_second() -> None:
    first = scored([[(3, 0.9), (1, 0.8), (2, 0.7)], []])
    second = scored([[(1, 50.0), (5, 40.0)], [(4, 3.0)]])
    merged = merge((first, second), most=3, n_items=6)
    assert items_of(merged.items) == [[3, 1, 5], [4]]
    # item 1 was found by both, first with rank 2
    assert merged.by_source.tolist() == [0, 1, 3, 4, 5]
    assert merged.source.tolist() == [0, 0, 1, 1, 1]
    assert merged.rank.tolist() == [1, 2, 1, 2, 1]
    assert merged.score.tolist() == [0.9, 0.8, 50.0, 40.0, 3.0]


def ask(log: Log, at: int) -> AskedUsers:
    return asked_users(log, np.array(["u2", "u0", "nobody", "u1"], object), NOTHING, at)


def found_at(
    log: Log,
    at: int,
    *,
    exclusions: Sequence[Exclusions] = (),
    skip: str = "clicked",
    block_users: int = 2,
    threads: int = 1,
    most: int = 4,
    delay: int = 0,
) -> tuple[list[CandidateBlock], Filters]:
    """Candidates of four users, one of them unknown; items c and f have no text, item e is in no table."""
    users = ask(log, at - delay)
    described = np.array(["a", "b", "c", "d", "f"], object)
    kind = SKIPS[SKIPS.index(skip)]  # type: ignore[arg-type]
    filters = make_filters(log, users, described, exclusions, at=at, as_of=at - delay, skip=kind)
    vectors = unit_vectors(np.random.default_rng(3), 7, 8, 7)
    vectors[[2, 5, 6]] = np.nan
    index = LogIndex(log, OfflineSettings(DataSettings(event_delay_seconds=delay / 1e6), history_length=3))
    sizes = CandidateSettings(most=most, last_items=2, near_each=2, block_users=block_users)
    generator = make_generator(index, users.code, vectors, filters, at, sizes, threads=threads)
    return list(generator.blocks(0, len(users), threads=threads)), filters


def content(blocks: list[CandidateBlock]) -> list[object]:
    """Everything that reaches the output, without the borders of blocks."""
    merged = [block.merged for block in blocks]
    arrays = (
        (one.items.lengths(), one.items.codes, np.diff(one.by_source), one.source, one.rank, one.score)
        for one in merged
    )
    return [np.concatenate(column).tolist() for column in zip(*arrays, strict=True)]


AT = 200 * MINUTE
with_category = Categorical(("x", "y"), ragged([[0], [0], [1], [1], [0], [1], []]))


def with_categories(log: Log) -> Log:
    return replace(log, catalog=replace(log.catalog, categories={"category": with_category}))


@given(happenings, lists, st.sampled_from(SKIPS), st.sampled_from((0, 30 * MINUTE)))
@settings(max_examples=25, deadline=None)
def test_no_user_gets_an_item_that_is_filtered(
    happened: list[Happening], shown: list[Shown], skip: str, delay: int
) -> None:
    log = with_categories(make_log(happened, shown))
    only_u0 = Exclusions(np.array(["d"], object), np.array(["u0", "u9"], object), np.array(["a", "b"], object))
    blocks, _ = found_at(log, AT, exclusions=(only_u0,), skip=skip, delay=delay)
    rows = [row for block in blocks for row in items_of(block.merged.items)]
    published = log.catalog.published_at[:-1]
    for row, user in zip(rows, (2, 0, -1, 1), strict=True):
        assert len(set(row)) == len(row)
        assert not {3, 4} & set(row)  # excluded for all, and not in the items table
        assert all(published[item] < AT for item in row)
        assert user != 0 or 0 not in row
        known = {h.item for h in happened if h.user == user >= 0 and h.minute * MINUTE < AT - delay}
        clicked = {h.item for h in happened if h.user == user >= 0 and h.minute * MINUTE < AT - delay and h.positive}
        listed = {
            i
            for s in shown
            if s.user == user >= 0 and s.minute * MINUTE < AT - delay and not s.sampled
            for i in s.items
        }
        assert not {"clicked": clicked, "seen": known | listed, "nothing": set()}[skip] & set(row)


def test_filters_read_what_is_strictly_before_the_time() -> None:
    shown = [Shown(0, 199, (1, 2)), Shown(0, 199, (3,), sampled=True), Shown(0, 200, (4,))]
    log = make_log([Happening(0, 0, 199), Happening(0, 5, 199, "view"), Happening(0, 3, 200)], shown)
    published = np.array([NO_TIME, AT - 1, AT, NO_TIME, AT + 1, 0, NO_TIME])
    log = replace(log, catalog=replace(log.catalog, published_at=published))
    users = asked_users(log, np.array(["u0"], object), NOTHING, AT)
    described = log.catalog.ids
    banned = {}
    for skip in SKIPS:
        filters = make_filters(log, users, described, (), at=AT, as_of=AT, skip=skip)
        assert filters.allowed.tolist() == [True, True, False, False, False, True]  # d is seen at minute 200 first
        banned[skip] = items_of(filters.banned)
    assert banned == {"clicked": [[0]], "seen": [[0, 1, 2, 5]], "nothing": [[]]}


def test_an_item_without_a_date_is_no_candidate_before_it_was_first_seen() -> None:
    # of each item the minutes in which it is seen: a 199 and 200, b 200 in a list, c never, d in a made-up list,
    # e 200 as an event, f in a history that ends before
    happened = [Happening(0, 0, 199), Happening(1, 0, 200), Happening(0, 4, 200, "view"), Happening(0, 5, 200)]
    log = make_log(
        [*happened, Happening(1, 5, -1, "history")], [Shown(0, 200, (1,)), Shown(0, 200, (3,), sampled=True)]
    )
    log = replace(log, catalog=replace(log.catalog, published_at=np.full(7, NO_TIME)))
    users = asked_users(log, np.array(["u0"], object), NOTHING, AT)

    def allowed(at: int) -> str:
        filters = make_filters(log, users, log.catalog.ids, (), at=at, as_of=at)
        return "".join(log.catalog.ids[filters.allowed])

    assert (allowed(AT - MINUTE), allowed(AT), allowed(AT + 1)) == ("cdf", "acdf", "abcdef")


def test_more_candidates_than_items_are_all_the_items_there_are() -> None:
    log = with_categories(make_log([Happening(0, 0, 10), Happening(0, 1, 20), Happening(1, 1, 30)], []))
    assert content(found_at(log, AT, most=10**9)[0]) == content(found_at(log, AT, most=6)[0])


@given(happenings, lists)
@settings(max_examples=25, deadline=None)
def test_blocks_and_threads_change_nothing(happened: list[Happening], shown: list[Shown]) -> None:
    log = with_categories(make_log(happened, shown))
    one = content(found_at(log, AT, block_users=1)[0])
    assert content(found_at(log, AT, block_users=3, threads=2)[0]) == one


@given(happenings, lists, st.sampled_from((0, 30 * MINUTE)))
@settings(max_examples=25, deadline=None)
def test_what_comes_later_changes_nothing(happened: list[Happening], shown: list[Shown], delay: int) -> None:
    known = (AT - delay) // MINUTE
    before = make_log(
        [h for h in happened if h.minute < known], [Shown(0, 0, (0, 3)), *(s for s in shown if s.minute < known)]
    )  # a and d have no date: they are seen before
    planted = [Happening(user, item, known + 3 * item) for user in range(3) for item in range(6)]
    later = make_log(
        [h for h in happened if h.minute < known] + planted,
        [
            Shown(0, 0, (0, 3)),
            *(s for s in shown if s.minute < known),
            Shown(1, known, (4, 5)),
            Shown(2, known + 9, (0,)),
        ],
    )
    found = [content(found_at(with_categories(log), AT, delay=delay)[0]) for log in (before, later)]
    assert found[0] == found[1]


def test_users_without_clicks_and_unknown_ones_get_popular_and_new_items() -> None:
    log = with_categories(make_log([Happening(0, 0, 10), Happening(0, 1, 20), Happening(1, 1, 30)], []))
    blocks, _ = found_at(log, AT, block_users=4)
    by_source = [items_of(CsrLists(one.offsets, one.item)) for one in blocks[0].by_source]
    nearest, co_click, popular, new = by_source
    assert nearest[0] == nearest[2] == co_click[0] == co_click[2] == []
    assert popular[0] == popular[2] == [1, 0]
    # published at minutes 1, 2, 4 and 5, but e, of minute 4, is not in the table; a and d have no date: a was clicked
    assert new[0] == new[2] == [0, 5, 2, 1]
    assert co_click[3] == [0]
    known = ask(log, AT).known.tolist()
    assert known == [False, True, False, True]


def test_all_users_are_those_of_the_users_table_and_those_seen_before() -> None:
    log = make_log([Happening(0, 0, 10), Happening(2, 0, 300)], [Shown(1, 20, (0,)), Shown(2, 300, (0,))])
    assert asked_users(log, None, NOTHING, AT).ids.tolist() == ["u0", "u1"]
    assert asked_users(log, None, np.array(["u2"], object), AT).ids.tolist() == ["u0", "u1", "u2"]


def test_recall_is_the_share_of_later_clicks_that_were_found() -> None:
    later = [
        Happening(0, 2, 201),
        Happening(0, 3, 210),
        Happening(0, 0, 220),
        Happening(1, 3, 200),
        Happening(1, 1, 400),
    ]
    log = make_log([Happening(0, 0, 10), *later, Happening(1, 2, 205, "view"), Happening(-1, 4, 205)], [])
    users = ask(log, AT)  # u2, u0, nobody, u1
    allowed = np.array([True, True, True, False, True, True])
    filters = Filters(allowed, ragged([[], [0], [], []]))
    clicks = later_clicks(log, users.position(3), filters, start=AT, end=400 * MINUTE)
    assert items_of(clicks.items) == [[], [2, 3], [], [3]]
    assert (clicks.n_banned, clicks.n_not_allowed) == (1, 2)
    tally = RecallTally(clicks, ("nearest", "popular"), 3)
    # u0 finds item 2 by both and item 5 by none of its clicks; u1 finds nothing
    tally.add(0, (scored([[], [(2, 1.0)]]), scored([[(1, 1.0)], [(5, 1.0), (2, 1.0)]])), ragged([[1], [2, 5]]))
    tally.add(2, (scored([[(3, 1.0)], []]), scored([[], [(3, 1.0)]])), ragged([[3], [0]]))
    report = tally.report(resamples=200)
    assert report.users == 2
    assert {name: interval.mean for name, interval in report.recall.items()} == {
        "nearest": 0.25,
        "popular": 0.75,
        "union": 0.25,
    }
    assert report.recall["union"].low <= 0.25 <= report.recall["union"].high
    assert (report.found, report.alone) == ({"nearest": 1, "popular": 2, "union": 1}, {"nearest": 0, "popular": 1})
