"""Features of one's own: what a file may say, what it may not, and that it travels with the model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from offline_values import offline_values
from small_logs import MINUTE, Happening, Shown, make_log, make_requests
from small_ranking_model import SETTINGS, SmallSite, always, small_site

from features import own as former
from features.definitions import custom
from features.definitions.aggregates import GLOBAL, ITEM, Count, days
from features.definitions.custom_file import load_custom_features, read_custom_features
from features.definitions.event_measures import CountOf, Feature, FeatureFunction, WeightedCount
from features.errors import InputError
from features.log import Log
from features.offline.reader import LogIndex
from features.tables.load import load_log
from pipelines.data_options import read_options, read_options_of_model
from recsys.config import load_config
from recsys.errors import ModelError
from recsys.ranker.model import RankingModel, load_ranking_model, read_settings
from recsys.ranker.offline_matrix import OfflineScorer
from recsys.training.context import TrainingContext
from recsys.training.stages import ranker_stage

EXAMPLE = Path(__file__).with_name("custom_features_file.py")
HEAD = "from features.definitions.custom import *\n"


def written(folder: Path, body: str) -> Path:
    path = folder / "mine.py"
    path.write_text(HEAD + body, encoding="utf-8")
    return path


def one(name: str, measure: str, further: str = "") -> str:
    return f"FEATURES = (Feature({name!r}, 'What it is.', {measure}{further}),)\n"


def value(measure: FeatureFunction, log: Log, *, item: int, at: int) -> float:
    requests = make_requests([Shown(0, at, (item,))])
    return float(offline_values((Feature("it", "It.", measure),), LogIndex(log), requests)[0, 0])


def test_weights_of_several_types_are_added_up() -> None:
    log = make_log([Happening(0, 0, 1, "like"), Happening(1, 0, 2, "view"), Happening(0, 0, 3)], [])
    # two positive events, of which one is a like
    assert value(WeightedCount({"click": 1, "like": 3}, ITEM), log, item=0, at=9) == 2 * 1 + 1 * 3
    assert value(WeightedCount({"view": -1}, ITEM, days(7)), log, item=0, at=9) == -1
    assert value(WeightedCount({"like": 3}, ("brand",)), log, item=1, at=9) == 3 / 2  # item 1 has brands acme and bolt
    assert np.isnan(value(WeightedCount({"like": 3}, ("brand",)), log, item=2, at=9))


def test_a_file_names_the_columns_that_it_reads() -> None:
    own = read_custom_features(EXAMPLE)
    assert len(own.features) == 13
    assert list(own.categories()) == ["brand"]
    assert list(own.numbers()) == ["price"]
    assert list(own.vectors()) == ["image"]


def test_a_configuration_executes_its_file_once(tmp_path: Path) -> None:
    path = written(tmp_path, one("own_age", "Age()"))
    config = load_config(None, settings_of(path))
    custom_features = config.features.custom
    path.write_text("nothing of the kind")
    assert config.features.custom is custom_features
    assert read_options(config) == read_options(load_config())


def test_a_measure_of_the_files_own_is_refused(tmp_path: Path) -> None:
    body = (
        "from features.definitions.event_measures import FeatureFunction\n"
        "class Mine(FeatureFunction):\n"
        "    unit = 'days'\n"
        "    def compute(self, reader):\n"
        "        return reader.requests.row_time()\n"
    )
    with pytest.raises(
        InputError, match=r"feature 'x' of .*expected a measure of features.definitions.custom, got Mine"
    ):
        read_custom_features(written(tmp_path, body + one("x", "Mine()")))


def test_the_example_of_the_documentation_is_a_features_file() -> None:
    text = (EXAMPLE.parents[1] / "docs" / "features.md").read_text(encoding="utf-8")
    source = text.split("```python\n")[1].split("```")[0]
    assert len(load_custom_features(source, "mine.py").features) == 6


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("FEATURES = (\n", r"mine.py', line 2: SyntaxError"),
        ("import nothing_of_this_name\n", r"mine.py', line 2: ModuleNotFoundError"),
        ("X = 1\nY = 1 / 0\n", r"mine.py', line 3: ZeroDivisionError"),
        ("WRONG = ()\n", r"mine.py': expected a tuple FEATURES of at least one feature, got None"),
        ("FEATURES = [1]\n", r"expected a tuple FEATURES"),
        ("FEATURES = (1,)\n", r"expected FEATURES\[0\] to be a Feature, got 1"),
        (one("x", "3"), r"feature 'x' of .*mine.py': expected a measure of features.definitions.custom, got 3"),
        (one("x", "CountOf(Count('click', ITEM, 25))"), r"mine.py', line 2: .*positive multiple of 24"),
        (one("x", "CountOf(Count('click', ITEM, hours(0.5)))"), r"line 2: .*whole microseconds"),
        (one("x", "CountOf(Count('click', ('item', 'user')))"), r"line 2: .*expected a key"),
        (one("x", "WeightedCount({'click': 0.5}, ITEM)"), r"line 2: .*whole weights"),
        (one("x", "Rate(Count('like', ITEM), Count('view', ITEM), 0)"), r"line 2: .*above 0"),
        (one("No Name", "Hour()"), r"line 2: .*lower case"),
        ("FEATURES = 2 * (Feature('x', 'X.', Hour()),)\n", r"feature 'x' of .*distinct names"),
        (
            "FEATURES = (Feature('x', 'X.', Age(), within_list=True), Feature('x_zscore', 'X.', Hour()))\n",
            r"feature 'x_zscore' of .*distinct names",
        ),
    ],
)
def test_a_file_that_cannot_be_used_is_an_error_that_names_it(tmp_path: Path, body: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_custom_features(written(tmp_path, body))


def test_a_file_that_is_not_there_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"features file .*none.py' cannot be read"):
        read_custom_features(tmp_path / "none.py")


def with_prices(site: SmallSite, folder: Path) -> Path:
    """The site's tables with a price and a maker of each item; no two items are of one maker."""
    items = pd.read_parquet(site.data / "items.parquet")
    items["price"] = np.arange(len(items)) / 10
    items["maker"] = "maker " + items["item_id"]
    items.to_parquet(folder / "items.parquet")
    for name in ("events", "impressions"):
        (folder / f"{name}.parquet").symlink_to(site.data / f"{name}.parquet")
    return folder


def settings_of(path: Path) -> tuple[str, ...]:
    return (*SETTINGS, f"features.file={path}")


MAKER = one("maker_clicks_7d", "CountOf(Count('click', of_category('maker'), days(7)))", ", within_list=True")


def test_a_column_that_the_items_lack_is_an_error_that_names_the_feature(tmp_path: Path) -> None:
    config = load_config(None, settings_of(written(tmp_path, MAKER)))
    with pytest.raises(InputError, match=r"column 'maker' in items \(named in feature 'maker_clicks_7d' of .*mine.py'"):
        load_log(small_site().data, read_options(config))


def chain_of(folder: Path, body: str, *further: str) -> TrainingContext:
    site = small_site()
    config = load_config(None, (*settings_of(written(folder, body)), *further))
    log, _ = load_log(with_prices(site, folder), read_options(config))
    return replace(site.chain, config=config, log=log, index=LogIndex(log))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (one("item_age", "Age()"), r"feature 'item_age' of .*mine.py': the catalogue has a column 'item_age' already"),
        (one("item_age_zscore", "Age()"), r"the catalogue has a column 'item_age_zscore' already"),
        (one("text_score", "Age()"), r"the catalogue has a column 'text_score' already"),
        (one("x", "CountOf(Count('lkie', ITEM))"), r"feature 'x' of .*expected an event type.*got 'lkie'"),
    ],
)
def test_a_feature_that_does_not_fit_the_data_is_an_error_before_training(
    tmp_path: Path, body: str, message: str
) -> None:
    site = small_site()
    with pytest.raises(InputError, match=message):
        ranker_stage(chain_of(tmp_path, body), always(site.ranking_model.encoder), site.ranking_model.lexical)


def test_the_catalogue_has_no_features_of_a_category_that_only_the_file_names(tmp_path: Path) -> None:
    site = small_site()
    ranked = ranker_stage(
        chain_of(tmp_path, MAKER, "features.categories=[category]"),
        always(site.ranking_model.encoder),
        site.ranking_model.lexical,
    )
    assert set(ranked.vocabularies) == {"category"}
    assert "maker_clicks_7d_zscore" in ranked.columns
    assert "item_maker" not in ranked.columns


def test_a_version_computes_the_features_of_the_file_it_was_trained_with(tmp_path: Path) -> None:
    site = small_site()
    price = "FEATURES = (*FEATURES, Feature('item_price', 'Its price.', ItemNumber('price')))\n"
    chain = chain_of(tmp_path, MAKER + price)
    own = read_custom_features(tmp_path / "mine.py")
    ranked = ranker_stage(chain, always(site.ranking_model.encoder), site.ranking_model.lexical)
    ranker = ranked.rankers["ranker"]
    changes = {
        "columns": ranker.columns,
        "categories": dict(ranked.vocabularies),
        "custom_features": own.fingerprint,
        "custom_source": own.source,
    }
    ranking_model = RankingModel(
        site.ranking_model.settings.model_copy(update=changes),
        ranker,
        always(site.ranking_model.encoder),
        site.ranking_model.lexical,
    )
    ranking_model.save(tmp_path / "unit")
    (tmp_path / "mine.py").write_text("nothing of the kind")
    loaded = load_ranking_model(tmp_path / "unit", site.ranking_model.encoder)
    assert loaded.features == ranking_model.features
    assert set(loaded.settings.item_columns.named_categories) >= {"maker", "category"}
    log, _ = load_log(tmp_path, read_options_of_model(loaded.settings))
    scores = OfflineScorer(loaded, LogIndex(log), ranked.texts.latest, threads=1).scores(ranked.test.requests)
    np.testing.assert_array_equal(scores, ranked.scores("ranker", threads=1))

    (tmp_path / "unit" / "features.py").write_text(own.source.replace("days(7)", "days(1)"))
    with pytest.raises(ModelError, match=r"features.py' is not the file that the ranker was trained with"):
        read_settings(tmp_path / "unit")


def test_a_window_of_the_file_looks_at_the_past_alone() -> None:
    feature = read_custom_features(EXAMPLE).features[3]
    log = make_log([Happening(0, 0, 1, "like"), Happening(0, 0, 5, "view")], [])
    requests = make_requests([Shown(0, 1, (0,)), Shown(0, 5, (0,)), Shown(0, 6, (0,))])
    matrix = offline_values((feature,), LogIndex(log), requests)
    assert matrix[:, 0].tolist() == [0.0, 3.0, 4.0]
    assert requests.time[0] == MINUTE


def test_features_files_of_registered_versions_may_import_the_former_names() -> None:
    words = {name for name in vars(custom) if not name.startswith("_") and name != "Feature"}
    assert all(getattr(former, name) == getattr(custom, name) for name in words)
    source = (
        "from features.own import CATALOGUE, Count, CountOf, Feature, Weighted, days\n"
        "FEATURES = (\n"
        "    Feature('a', 'A.', CountOf(Count('like', CATALOGUE)), place=True),\n"
        "    Feature('b', 'B.', Weighted({'like': 2}, CATALOGUE, days(1)), monotone=1),\n"
        ")\n"
    )
    assert load_custom_features(source, "features.py").features == (
        Feature("a", "A.", CountOf(Count("like", GLOBAL)), within_list=True),
        Feature("b", "B.", WeightedCount({"like": 2}, GLOBAL, days(1)), monotone=1),
    )
