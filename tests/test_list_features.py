"""The list of features: every column of the matrix stands in it, with what a person has to know."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from small_ranking_model import small_site

from features.definitions.builtin import catalogue
from features.errors import InputError
from pipelines.list_features import list_features
from recsys.collaborative.column_names import COLLABORATIVE_COLUMNS
from recsys.config import load_config
from recsys.ranker.column_docs import column_docs
from recsys.ranker.column_names import RESERVED_COLUMNS
from recsys.ranker.matrix import ranker_columns

OWN = Path(__file__).with_name("custom_features_file.py")


def test_every_column_of_the_ranker_is_in_the_list() -> None:
    features = catalogue(categories={"category": ("news",)}, numbers=("price",), vectors=("image",))
    docs = column_docs(features, COLLABORATIVE_COLUMNS)
    named = {name for doc in docs for name in (doc.name, *doc.places)}
    assert named == {column.name for column in ranker_columns(features, RESERVED_COLUMNS)}
    for doc in docs:
        assert doc.meaning.endswith("."), doc.name
        assert all((doc.unit, doc.range, doc.known, doc.missing)), doc.name


def test_the_list_says_how_far_back_anything_looks() -> None:
    report = list_features(load_config(None, ("data.horizon_days=90",)))
    assert report.as_dict()["horizon_days"] == 90
    assert any("data.horizon_days is 90: nothing looks further back" in line for line in report.lines())
    assert not any("horizon" in line for line in list_features(load_config(None)).lines())


def test_without_a_directory_the_list_is_of_a_table_with_a_category() -> None:
    report = list_features(load_config(None, (f"features.file={OWN}", "features.numbers=[price]")))
    found = {one["name"]: one for one in json.loads(json.dumps(report.as_dict(), allow_nan=False))["features"]}
    assert {"item_category", "item_price", "brand_like_rate_1d", "text_score"} <= set(found)
    assert found["item_click_rate_7d"] == {
        "name": "item_click_rate_7d",
        "meaning": "Clicks per impression of the item, in the last 7 days, smoothed towards the catalogue's rate.",
        "unit": "clicks per impression",
        "low": 0.0,
        "high": None,
        "known": "request time",
        "missing": "the catalogue has no impression in the window, or only sampled lists exist",
        "group": "popularity",
        "places": ["item_click_rate_7d_percentile", "item_click_rate_7d_zscore"],
        "categorical": False,
        "monotone": 0,
        "shown": "item_click_rate_7d",
    }
    assert found["brand_like_rate_1d"]["unit"] == "like events per view"
    assert (found["item_age"]["known"], found["own_price"]["known"]) == ("publication", "publication")


def test_with_a_directory_the_list_is_of_its_columns() -> None:
    site = small_site()
    report = list_features(site.config, site.data)
    columns = {name for doc in report.columns for name in (doc.name, *doc.places)}
    assert columns == set(site.ranked.columns)
    assert columns >= set(site.ranking_model.settings.columns)
    assert report.n_columns == len(columns)
    assert f"{len(columns)} columns" in report.lines()[-1]


def test_a_directory_without_items_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected an items table, found none"):
        list_features(load_config(), tmp_path)
