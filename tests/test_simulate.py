"""The simulated site: its tables, its truth, and whether there is something to learn that words alone do not tell."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from benchmarks.unbiased_test import clicks_before, read_truth, redraw_clicks, unbiased_test
from features.errors import InputError
from features.tables.load import load_log
from pipelines.simulate import SimulationReport, simulate
from pipelines.simulation.pages import examination
from pipelines.simulation.texts import read_language, write_texts
from recsys.config import EvaluationConfig
from recsys.evaluation.evaluate import evaluate

Site = tuple[Path, SimulationReport]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Site:
    out = tmp_path_factory.mktemp("small") / "site"
    return out, simulate(out, users=60, items=200, impressions=700, seed=3)


def table(folder: Path, name: str) -> pd.DataFrame:
    return pd.read_parquet(folder / f"{name}.parquet")


def test_the_tables_are_read_without_a_reject_and_as_the_report_counts_them(small: Site) -> None:
    folder, report = small
    log, read = load_log(folder)
    assert (len(log.catalog), len(log.impressions), log.impressions.requests.n_rows) == (200, 700, report.rows)
    assert len(log.events) == report.events == len(table(folder, "events"))
    assert (log.impressions.label > 0).sum() == report.clicks == read.matched
    assert read.rejected == 0
    assert not log.impressions.sampled.any()
    assert f"{report.clicks:,} clicks" in "\n".join(report.lines())


def test_a_list_shows_published_items_once_in_order_of_position(small: Site) -> None:
    shown = table(small[0], "impressions").merge(table(small[0], "items"), on="item_id")
    assert (shown["published_at"] < shown["timestamp"]).all()
    assert not shown.duplicated(["impression_id", "item_id"]).any()
    sizes = shown.groupby("impression_id")["position"].agg(["min", "max", "count"])
    assert (sizes["min"] == 1).all() and (sizes["max"] == sizes["count"]).all()
    assert sizes["count"].min() >= 2 and sizes["count"].max() <= 28
    assert shown["user_id"].isna().any()


def test_lists_without_a_click_exist_and_clicks_follow_their_list(small: Site) -> None:
    folder, report = small
    shown, events = table(folder, "impressions"), table(folder, "events")
    assert report.impressions_without_click == (shown.groupby("impression_id")["clicked"].sum() == 0).sum() > 0
    clicks = events[events["event_type"] == "click"].merge(shown, on=["impression_id", "item_id"])
    delay = (clicks["timestamp_x"] - clicks["timestamp_y"]).dt.total_seconds()
    assert len(clicks) == report.clicks and delay.between(1, 601).all()
    assert set(events["event_type"]) == {"click", "view", "share", "like"}
    assert events["timestamp"].is_monotonic_increasing


def test_one_seed_gives_the_same_bytes_and_another_seed_others(small: Site, tmp_path: Path) -> None:
    simulate(tmp_path / "again", users=60, items=200, impressions=700, seed=3)
    simulate(tmp_path / "other", users=60, items=200, impressions=700, seed=4)
    files = sorted(path.relative_to(small[0]) for path in small[0].rglob("*.*"))
    assert len(files) == 8
    for file in files:
        assert (tmp_path / "again" / file).read_bytes() == (small[0] / file).read_bytes()
    assert (tmp_path / "other" / "events.parquet").read_bytes() != (small[0] / "events.parquet").read_bytes()


def test_a_folder_that_holds_something_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="new or empty folder"):
        simulate(tmp_path, users=5, items=60, impressions=10)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    simulate(tmp_path, users=1, items=60, impressions=1)
    assert pq.read_metadata(tmp_path / "impressions.parquet").num_rows > 0


@pytest.mark.parametrize(("name", "value"), [("users", 0), ("items", 59), ("impressions", 0), ("seed", -1)])
def test_a_size_out_of_range_is_named(name: str, value: int, tmp_path: Path) -> None:
    sizes = {"users": 5, "items": 60, "impressions": 10, "seed": 0} | {name: value}
    with pytest.raises(ValueError, match=f"{name}: expected .* got {value}"):
        simulate(tmp_path / "out", **sizes)
    assert list(tmp_path.iterdir()) == []


def test_a_topic_has_several_wordings_of_each_concept() -> None:
    language = read_language("english")
    assert len(language.topics) == 72 and len(language.categories) == 12
    for topic in language.topics:
        assert min(len(topic.who), len(topic.does), len(topic.what)) >= 4
    titles, descriptions = write_texts(language, np.repeat(np.arange(72, dtype=np.int32), 20), np.random.default_rng(0))
    assert max(len(title.split()) for title in titles) <= 16
    assert min(len(text.split()) for text in descriptions) >= 10
    assert not any("{" in text for text in [*titles, *descriptions])


HAN = re.compile(r"[\u4e00-\u9fff]+")


@pytest.fixture(scope="module")
def small_chinese(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("small-chinese") / "site"
    simulate(out, users=60, items=200, impressions=700, seed=3, language="zh")
    return out


def test_chinese_has_the_topics_of_english_in_characters_without_spaces(small_chinese: Path) -> None:
    language = read_language("chinese")
    assert len(language.topics) == 72 and len(language.categories) == 12
    assert language.category_of().tolist() == read_language("english").category_of().tolist()
    for topic in language.topics:
        for wordings in (topic.who, topic.does, topic.what):
            assert len(set(wordings)) == 5 and all(HAN.fullmatch(words) for words in (topic.name, *wordings))
    items = table(small_chinese, "items")
    for text in [*items["title"], *items["description"]]:
        assert set(HAN.sub("", text)) <= set("，。：？"), text
    assert items["title"].str.len().between(4, 40).all() and items["description"].str.len().between(20, 90).all()
    assert all(HAN.fullmatch(name) for value in items["category"] for name in value.split("|"))


def test_chinese_sentences_have_the_places_of_english_ones() -> None:
    mine, other = read_language("chinese"), read_language("english")
    for some, others in ((mine.titles, other.titles), (mine.descriptions, other.descriptions)):
        assert [set(re.findall(r"{(\w+)}", one)) for one in some] == [
            set(re.findall(r"{(\w+)}", one)) for one in others
        ]
    for name in ("where", "when", "source"):
        assert len(getattr(mine, name)) == len(set(getattr(mine, name))) == len(getattr(other, name))


def test_one_seed_gives_the_same_lists_clicks_and_truth_in_both_languages(small: Site, small_chinese: Path) -> None:
    for file in ("events", "impressions", "truth/impressions", "truth/users"):
        assert (small_chinese / f"{file}.parquet").read_bytes() == (small[0] / f"{file}.parquet").read_bytes()
    place = {
        name: {topic.name: i for i, topic in enumerate(one.topics)}
        for name, one in (("en", read_language("english")), ("zh", read_language("chinese")))
    }
    mine, other = (table(folder, "truth/items") for folder in (small_chinese, small[0]))
    assert (mine["topic"].map(place["zh"]) == other["topic"].map(place["en"])).all()
    assert (mine["quality"] == other["quality"]).all()


def test_an_unknown_language_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected a language of \['en', 'zh'\], got 'xx'"):
        simulate(tmp_path / "out", language="xx")


def test_the_truth_is_aligned_with_the_shown_rows_and_its_redrawn_clicks_have_its_rate(small: Site) -> None:
    truth, shown = read_truth(small[0]), table(small[0], "impressions")
    assert (truth.item_id == shown["item_id"]).all() and (truth.impression_id == shown["impression_id"]).all()
    assert np.allclose(truth.examination, examination(shown["position"].to_numpy()))
    drawn = redraw_clicks(truth, seed=1)
    assert drawn.sum() == pytest.approx(truth.interest.sum(), abs=4 * np.sqrt(truth.interest.sum()))
    assert np.array_equal(drawn, redraw_clicks(truth, seed=1))
    assert truth.rows_of(truth.impression_id[[5, 3]], truth.item_id[[5, 0]]).tolist() == [5, 0]
    assert truth.rows_of(truth.impression_id[[5]], np.array(["no such item"], object)).tolist() == [-1]


def test_clicks_before_counts_only_earlier_ones_of_the_same_key() -> None:
    key, time = np.array([0, 0, 1], np.int32), np.array([5, 7, 6])
    asked = np.array([0, 0, 0, 1, 2], np.int32), np.array([5, 6, 9, 6, 9])
    assert clicks_before(key, time, *asked).tolist() == [0, 1, 2, 0, 0]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    out = tmp_path_factory.mktemp("large") / "site"
    return out, simulate(out, users=2_000, items=1_000, impressions=20_000, seed=0)


@pytest.fixture(scope="module")
def chinese_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("large-chinese") / "site"
    simulate(out, users=2_000, items=1_000, impressions=20_000, seed=0, language="zh")
    return out


def test_logged_clicks_have_the_probability_that_the_truth_states(site: Site) -> None:
    truth, shown = read_truth(site[0]), table(site[0], "impressions")
    expected = truth.interest * truth.examination
    for part in np.array_split(np.argsort(expected), 10):
        spread = np.sqrt((expected[part] * (1 - expected[part])).sum())
        assert shown["clicked"].to_numpy()[part].sum() == pytest.approx(expected[part].sum(), abs=4.5 * spread + 1)


def test_every_impression_is_shown_even_to_readers_who_have_read_nearly_everything(site: Site) -> None:
    assert table(site[0], "impressions")["impression_id"].nunique() == site[1].impressions == 20_000


def ndcg(folder: Path) -> dict[str, dict[str, dict[str, float]]]:
    """nDCG@10 of the truth, popularity and TF-IDF on the newest lists without position bias, and on cold items."""
    log, _ = load_log(folder)
    test = unbiased_test(log, read_truth(folder), seed=1)
    found = evaluate(
        {"truth": test.truth, "popularity": test.popularity, "tfidf": test.lexical},
        test.impressions,
        log.users,
        item_clicks_before=test.popularity,
        user_clicks_before=test.user_clicks_before,
        settings=EvaluationConfig(resamples=100),
        seed=0,
    ).as_dict()
    assert found["cold_items"]["n"] >= 50 and found["cold_users"]["n"] >= 20
    names = ("truth", "popularity", "tfidf")
    return {part: {name: found[part][name]["ndcg_at_10"]["mean"] for name in names} for part in ("test", "cold_items")}


def test_the_truth_beats_popularity_by_far_and_words_on_cold_items_in_both_languages_alike(
    site: Site, chinese_site: Path
) -> None:
    english_found, chinese_found = ndcg(site[0]), ndcg(chinese_site)
    for found in (english_found, chinese_found):
        assert found["test"]["truth"] - found["test"]["popularity"] >= 0.10
        assert found["cold_items"]["truth"] - found["cold_items"]["tfidf"] >= 0.03
    assert chinese_found["test"]["tfidf"] == pytest.approx(english_found["test"]["tfidf"], abs=0.03)
