"""Any item column makes features: under a safe name of its own, and counted by the column whatever that is called."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from small_logs import read_online

from features.definitions.aggregates import ITEM, USER, Key, category_of, of_category, user_of_category
from features.definitions.builtin import catalogue, required_aggregates
from features.definitions.column_names import column_names
from features.definitions.feature_names import safe_name
from features.errors import InputError
from features.log import Log
from features.matrix.columns import display_names, feature_matrix
from features.offline.reader import LogIndex
from features.online.settings import StoreSettings
from features.online.state import OnlineState
from features.stores.lmdb_store import LmdbStore
from features.tables.items import CatalogColumns
from features.tables.load import ReadOptions, load_log, read_table_rows
from pipelines.cli import cli
from pipelines.online_rows import read_events, read_items
from recsys.config import load_config
from recsys.ranker.features import check_features
from recsys.training.context import open_training_context

ODD = (
    "Brand",
    "brand",
    "品牌",
    "Marque d'origine",
    "2nd",
    "_",
    "item",
    "user",
    "clicks_7d",
    "click_rate_7d",
    "a b",
    "A-B",
)
NOON = 1_700_000_000


@pytest.mark.parametrize(
    ("column", "name"),
    [
        ("brand", "brand"),
        ("Brand", "brand"),
        ("Marque d'Été", "marque_d_ete"),
        ("2nd", "column_2nd"),
        ("品牌", "column"),
        ("", "column"),
        ("a__b", "a__b"),
    ],
)
def test_a_name_is_made_of_lower_case_letters_digits_and_underscores(column: str, name: str) -> None:
    assert safe_name(column) == name


def test_features_of_any_columns_have_distinct_safe_names_and_say_the_column_as_written() -> None:
    features = catalogue(
        categories=dict.fromkeys(ODD, ("x",)),
        numbers=("age", "Price €", "Brand", "brand_percentile", "x_similarity"),
        vectors=("x", "X"),
    )
    names = column_names(features)
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z][a-z0-9_]*", name) for name in names)
    docs = {feature.name: feature.doc for feature in features}
    assert (docs["item_brand"], docs["item_brand_2"]) == ("The item's brand.", "The item's 'Brand'.")
    assert docs["item_age"] == "Time since the item was published."
    assert docs["item_age_2"] == "The item's age."
    assert docs["item_column"] != docs["item_column_2"]
    assert docs["item_price"] == "The item's 'Price €'."


def test_people_see_the_column_as_it_is_written() -> None:
    features = catalogue(categories={"brand": ("x",), "Brand": ("x",)}, numbers=("价格",), vectors=("Image 2",))
    shown = display_names(features)
    assert shown["item_brand_2"] == "item_Brand"
    assert shown["user_brand_2_share_percentile"] == "user_Brand_share_percentile"
    assert (shown["item_column"], shown["item_column_zscore"]) == ("item_价格", "item_价格_zscore")
    assert shown["item_image_2_similarity"] == "item_Image 2_similarity"
    assert not {"item_brand", "item_age"} & set(shown)
    assert len(set(shown.values())) == len(shown)


def test_plain_columns_keep_their_names_whatever_comes_along() -> None:
    alone = column_names(catalogue(categories={"brand": ("x",)}, numbers=("price",)))
    more = column_names(catalogue(categories={"BRAND": ("x",), "brand": ("x",)}, numbers=("Price", "price")))
    assert set(alone) <= set(more)
    assert {"item_brand", "item_brand_2", "user_brand_2_share", "item_price", "item_price_2"} <= set(more)


@pytest.mark.parametrize("column", ["item", "user", "brand"])
def test_a_key_by_a_column_is_no_other_key_whatever_the_column_is_called(column: str) -> None:
    keys: set[Key] = {of_category(column), user_of_category(column), ITEM, USER, ("user", "item")}
    assert len(keys) == 5
    assert category_of(of_category(column)) == category_of(user_of_category(column)) == column


def log_of(folder: Path, column: str) -> Log:
    """Six items of three values of a column, and clicks of two users on some of them."""
    folder.mkdir()
    items = pd.DataFrame({"item_id": list("abcdef"), "title": list("ABCDEF"), column: ["x", "x", "y", "y", "z", "x|y"]})
    items.to_csv(folder / "items.csv", index=False)
    clicks = [("u", "a", 0), ("u", "c", 1), ("v", "b", 2), ("u", "f", 3), ("v", "e", 4), ("u", "a", 5)]
    events = pd.DataFrame(
        [(user, item, NOON + at) for user, item, at in clicks], columns=["user_id", "item_id", "timestamp"]
    )
    events.to_csv(folder / "events.csv", index=False)
    shown = [("1", "u", NOON + 10, item, int(item == "b")) for item in "abcdef"]
    columns = ["impression_id", "user_id", "timestamp", "item_id", "clicked"]
    pd.DataFrame(shown, columns=columns).to_csv(folder / "impressions.csv", index=False)
    return load_log(folder, ReadOptions(item_columns=CatalogColumns(categories=(column,))))[0]


def matrices(folder: Path, column: str) -> tuple[np.ndarray, np.ndarray]:
    """The features of the first list, read over the log and from an online store."""
    log = log_of(folder, column)
    features = catalogue(categories={column: ("x", "y", "z")})
    index, requests = LogIndex(log), log.impressions.requests
    offline = index.reader(requests)
    store = LmdbStore(folder / "store")
    state = OnlineState.open(store, StoreSettings(reads=required_aggregates(features), categories=(column,)))
    options = ReadOptions(item_columns=CatalogColumns(categories=(column,)))
    for checked in read_table_rows(folder / "items.csv", "items", options):
        state.add_items(list(read_items(checked)))
    for checked in read_table_rows(folder / "events.csv", "events"):
        state.add_events(read_events(checked))
    online = read_online(state, "u", (NOON + 10) * 1_000_000, list("abcdef"), now=0)
    found = feature_matrix(features, offline)[1], feature_matrix(features, online)[1]
    store.close()
    return found


@pytest.mark.parametrize("column", ["item", "user", "Brand", "品牌", "clicks_7d"])
def test_a_column_of_any_name_counts_as_the_same_column_of_a_plain_name(column: str, tmp_path: Path) -> None:
    plain, _ = matrices(tmp_path / "plain", "brand")
    offline, online = matrices(tmp_path / "odd", column)
    np.testing.assert_array_equal(offline, plain)
    np.testing.assert_array_equal(online, plain)
    assert np.isfinite(plain).any(axis=0).sum() > 40


def test_validate_takes_any_column_and_finds_a_feature_that_cannot_be_made(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    log_of(folder, "Brand")
    arguments = ["data", "validate", str(folder), "--set", "features.categories=[Brand]"]
    assert CliRunner().invoke(cli, arguments).exit_code == 0
    own = tmp_path / "own.py"
    own.write_text(
        "from features.definitions.custom import ITEM, Count, CountOf, Feature\n"
        'FEATURES = (Feature("likes", "Mine.", CountOf(Count("like", ITEM))),)\n'
    )
    found = CliRunner().invoke(cli, [*arguments, "--set", f"features.file={own}"])
    assert found.exit_code == 1
    assert "expected an event type of the tables" in str(found.exception)


def test_a_feature_of_ones_own_that_cannot_be_made_is_found_before_anything_is_trained(tmp_path: Path) -> None:
    log = log_of(tmp_path / "data", "brand")
    own = tmp_path / "own.py"
    own.write_text(
        "from features.definitions.custom import ITEM, Count, CountOf, Feature\n"
        'FEATURES = (Feature("item_brand", "Mine.", CountOf(Count("like", ITEM))),)\n'
    )
    config = load_config(None, (f"features.file={own}", "features.categories=[brand]"))
    with pytest.raises(InputError, match=r"got 'like'; the tables have \['click'\]"):
        open_training_context(config, log)
    own.write_text(own.read_text().replace('"like"', '"Click"'))
    config = load_config(None, (f"features.file={own}", "features.categories=[brand]"))
    with pytest.raises(InputError, match="the catalogue has a column 'item_brand' already"):
        check_features(config, log, ())
