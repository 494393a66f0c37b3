"""Stored settings carry a format number: an older one is read as it was meant, another one refused in one line.

`tests/fixtures/format_1` holds the settings of a ranker version and a store with its answers, written when format 1 was
the current one.
"""

from __future__ import annotations

import json
import shutil
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from small_logs import read_online

from features.errors import StoreError
from features.matrix.columns import feature_matrix
from features.online.keys import SETTINGS
from features.online.state import OnlineState
from features.stores.lmdb_store import LmdbStore
from features.tables.data_settings import DataSettings, settings_to_json
from recsys.errors import ModelError
from recsys.online.open_state import open_state, required_store_settings
from recsys.ranker.model import SETTINGS_FILE, Settings, read_settings

FORMAT_1 = Path(__file__).parent / "fixtures" / "format_1"
DATA = DataSettings(
    timezone="Europe/Berlin",
    positive_event_types=("click", "like"),
    click_window_minutes=20,
    event_delay_seconds=90,
)


def version_settings() -> Settings:
    return read_settings(FORMAT_1 / "version")


def store_of_format_1(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FORMAT_1 / "store", tmp_path / "store"))


def test_settings_of_a_ranker_in_format_1_are_read() -> None:
    settings = version_settings()
    assert settings.data == DATA
    assert (settings.data.click_window, settings.data.event_delay) == (1_200_000_000, 90_000_000)
    assert settings.history_length == 30


def test_a_features_file_of_format_1_is_still_executed() -> None:
    settings = read_settings(FORMAT_1 / "version_with_features")
    assert [feature.name for feature in settings.features()][-4:] == list(settings.columns[-4:])
    assert settings.item_columns.named_categories == ("category", "section")
    assert settings.inputs.known_at == {"age": "request"}
    assert settings.inputs.allow_known_after == ("worth",)
    assert settings.encoder_trained_until == 1_699_000_000_000_000


def test_settings_are_stored_in_the_current_format_and_read_again(tmp_path: Path) -> None:
    settings = version_settings()
    (tmp_path / SETTINGS_FILE).write_text(settings_to_json(settings), encoding="utf-8")
    assert json.loads((tmp_path / SETTINGS_FILE).read_text())["format"] == 2
    assert read_settings(tmp_path) == settings


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": 3}, "expected format 1 or 2, found 3"),
        ({"format": "x"}, "field 'format': Input should be a valid integer"),
        ({"timezone": 5}, "field 'timezone': Input should be a valid string"),
        ({"more": 5}, "field 'more': Extra inputs are not permitted"),
    ],
)
def test_other_settings_of_a_ranker_are_refused_in_one_line(
    tmp_path: Path, change: dict[str, object], said: str
) -> None:
    stored = json.loads((FORMAT_1 / "version" / SETTINGS_FILE).read_text())
    (tmp_path / SETTINGS_FILE).write_text(json.dumps(stored | change))
    with pytest.raises(ModelError) as caught:
        read_settings(tmp_path)
    assert said in str(caught.value)
    assert "`recsys train`" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_store_of_format_1_answers_as_it_did(tmp_path: Path) -> None:
    expected = json.loads((FORMAT_1 / "store_answers.json").read_text())
    settings = version_settings()
    rows = []
    with open_state(str(store_of_format_1(tmp_path)), settings, create=False) as state:
        assert state.settings.data == DATA
        for user in expected["users"]:
            reader = read_online(state, user, expected["at"], expected["items"], now=expected["at"])
            names, matrix = feature_matrix(settings.features(), reader)
            rows.append(matrix)
    assert list(names) == expected["features"]
    np.testing.assert_array_equal(np.concatenate(rows), np.array(expected["rows"], np.float32))


def test_a_store_says_what_it_was_made_for(tmp_path: Path) -> None:
    wanted = required_store_settings(version_settings(), {})
    with closing(LmdbStore(tmp_path / "store")) as store:
        OnlineState.open(store, wanted)
        assert OnlineState.open(store).settings == wanted


def test_a_store_of_another_format_is_refused_in_one_line(tmp_path: Path) -> None:
    with closing(LmdbStore(store_of_format_1(tmp_path))) as store:
        with store.read() as snapshot:
            (data,) = snapshot.get_many([SETTINGS])
        assert data is not None
        changed = json.dumps(json.loads(data) | {"format": 3}).encode()
        store.update(lambda transaction: transaction.put_many([(SETTINGS, changed)]))
        with pytest.raises(StoreError) as caught:
            OnlineState.open(store)
    assert "expected format 1 or 2, found 3; fill a new store with `recsys load-items`" in str(caught.value)
    assert "\n" not in str(caught.value)
