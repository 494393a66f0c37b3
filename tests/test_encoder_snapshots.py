"""States of an encoder over time: which one scores a list, and that its columns come from that one alone."""

from pathlib import Path

import numpy as np
import pytest
from small_ranking_model import small_site
from tiny_encoder import save_tiny_bert, tiny_config, topic_log

from features.offline.reader import LogIndex, OfflineSettings
from recsys.encoder.scoring import untrained_head
from recsys.encoder.snapshots import (
    BEGINNING,
    EncoderSnapshot,
    ScheduledEncoder,
    assign_encoder,
    copy_or_spill,
    group_by_encoder,
)
from recsys.encoder.text import item_texts
from recsys.encoder.training.schedule import TrainingSchedule
from recsys.encoder.training.train import TrainedEncoder, train_encoder
from recsys.encoder.vector_table import empty_table
from recsys.ranker.column_names import ENCODER_COLUMNS
from recsys.ranker.matrix import ranker_columns
from recsys.ranker.offline_matrix import build_matrix, build_matrix_by_encoder
from recsys.ranker.text_snapshots import RepresentationSchedule

SECOND = 1_000_000


def snapshot() -> EncoderSnapshot:
    return EncoderSnapshot(50, untrained_head(2), empty_table(2))


def test_a_list_is_scored_by_the_latest_state_that_has_started() -> None:
    states = [
        ScheduledEncoder(BEGINNING, 9, snapshot()),
        ScheduledEncoder(10, 19, snapshot()),
        ScheduledEncoder(20, 29, snapshot()),
    ]
    assert assign_encoder(states, np.array([-5, 9, 10, 19, 20, 99])).tolist() == [0, 0, 1, 1, 2, 2]
    assert [(n, where.tolist()) for n, where in group_by_encoder(states, np.array([25, 3, 30]))] == [
        (0, [1]),
        (2, [0, 2]),
    ]


def test_a_past_state_has_vectors_of_the_texts_that_were_read_and_no_others() -> None:
    table = empty_table(2).with_texts(["red", "blue"], np.array([[1, 0], [0, 1]], np.float32))
    found = EncoderSnapshot(50, untrained_head(2), table).encode_texts(["blue", "", "green"])
    assert found[0].tolist() == [0, 1]
    assert np.isnan(found[1:]).all()


def test_large_vectors_are_copied_to_disk_and_stay_as_they_were() -> None:
    vectors = np.arange(6, dtype=np.float32).reshape(3, 2)
    for memory_bytes in (10**6, 0):
        copied = copy_or_spill(vectors, memory_bytes=memory_bytes)
        assert isinstance(copied, np.memmap) == (memory_bytes == 0)
        before = vectors.tolist()
        vectors += 1
        assert copied.tolist() == before
        assert not np.shares_memory(copied, vectors)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainedEncoder, Path]:
    base = save_tiny_bert(tmp_path_factory.mktemp("base"))
    log = topic_log(600)
    return train_encoder(
        log, TrainingSchedule(log.impressions, (300, 400, 500)), tiny_config(base, "encoder.patience=99")
    ), base


def test_every_part_has_a_state_that_learnt_up_to_the_list_before_it(trained: tuple[TrainedEncoder, Path]) -> None:
    states = trained[0].states
    assert [state.start for state in states] == [BEGINNING, 399 * SECOND + 1, 499 * SECOND + 1, 599 * SECOND + 1]
    assert [state.trained_until for state in states] == [k * SECOND for k in (299, 399, 499, 599)]
    assert states[-1].model is trained[0].full
    told = [record for record in trained[0].records if record.phase == "progressive"]
    assert [record.epoch for record in told] == [0, 1, 2]
    assert told[-1].validation_ndcg > 0.6


def test_parts_after_the_reported_ones_change_the_live_encoder_alone(trained: tuple[TrainedEncoder, Path]) -> None:
    log = topic_log(600)
    config = tiny_config(trained[1], "encoder.patience=99")
    found = train_encoder(log, TrainingSchedule(log.impressions, (300, 400, 500), evaluated_after=2), config)
    assert found.full.fingerprint != found.served.fingerprint
    assert [state.start for state in found.states] == [BEGINNING, 399 * SECOND + 1, 499 * SECOND + 1]
    assert found.states[-1].model is found.full
    assert found.served_trained_until == 599 * SECOND
    earlier = train_encoder(log, TrainingSchedule(log.impressions.take(np.arange(500)), (300, 400)), config)
    assert earlier.full.fingerprint == found.full.fingerprint
    assert earlier.head.fingerprint == found.head.fingerprint


def test_all_columns_of_a_list_come_from_the_state_of_its_time() -> None:
    site = small_site()
    index, texts = LogIndex(site.log), item_texts(site.log.catalog, site.config.encoder.template)
    terms = site.ranking_model.lexical.transform(texts)
    first = site.ranking_model.encoder
    table = first.table
    turned = type(table)(table.keys, np.ascontiguousarray(table.vectors[:, ::-1] * np.float32(-1) ** np.arange(32)))
    second = EncoderSnapshot(
        first.history_length, untrained_head(32), type(table)(table.keys, turned.vectors[::-1].copy())
    )
    lists = site.log.impressions.take(site.chain.sliced.test).requests
    middle = int(lists.time[len(lists) // 2])
    collaborative = site.ranking_model.settings.collaborative
    over_time = RepresentationSchedule(
        (ScheduledEncoder(BEGINNING, None, first), ScheduledEncoder(middle, None, second)), texts, terms, collaborative
    )
    names = [column.name for column in ranker_columns(site.ranking_model.features, site.ranked.texts.columns)]
    found = build_matrix_by_encoder(site.ranking_model.features, over_time, index, lists)
    later = lists.request_of_row() >= np.searchsorted(lists.time, middle)
    for model, rows in ((first, ~later), (second, later)):
        alone = RepresentationSchedule((ScheduledEncoder(BEGINNING, None, model),), texts, terms, collaborative)
        expected = build_matrix(site.ranking_model.features, model, index, lists, alone.of(0), alone.tables(0, index))
        assert np.array_equal(found[rows], expected[rows], equal_nan=True)
        parallel, tables = index.with_settings(OfflineSettings(threads=3)), alone.tables(0, index)
        chunked = build_matrix(site.ranking_model.features, model, parallel, lists, alone.of(0), tables, chunk_rows=7)
        assert chunked.tobytes() == expected.tobytes()
    changed = [name for i, name in enumerate(names) if not np.array_equal(found[later, i], expected[later, i], True)]
    assert changed == []
    other = build_matrix(site.ranking_model.features, first, index, lists, over_time.of(0), over_time.tables(0, index))
    differing = {name for i, name in enumerate(names) if not np.array_equal(found[later, i], other[later, i], True)}
    assert differing <= set(ENCODER_COLUMNS)
    assert {"text_score", "text_similarity_best", "audience_similarity", "aligned_similarity"} <= differing
