"""A small log, ranker and text model kept as files, with the columns and scores that they gave once.

`tests/fixtures/golden_scores` holds them. `read_golden` computes them again from the files alone; nothing in it is
trained, encoded or decomposed, so that every machine has to get the same bits. Where features or the ranker's columns
change on purpose, write the fixture anew:

    PYTHONPATH=.:tests .venv/bin/python tests/golden_scores.py
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from features.arrays import Float32, Float64
from features.exact import to_grid
from features.log import Requests
from features.matrix.columns import FeaturePlan
from features.offline.reader import LogIndex, OfflineSettings
from features.tables.data_settings import settings_to_json
from features.tables.load import load_log
from pipelines.data_options import read_options, read_options_of_model
from pipelines.simulate import simulate
from recsys.collaborative.neighbours import Neighbours
from recsys.collaborative.offline import OfflineSnapshots
from recsys.collaborative.online import RequestTables
from recsys.collaborative.snapshot import CollaborativeSnapshot, collaborative_columns
from recsys.config import Config, load_config
from recsys.encoder.scoring import HeadWeights
from recsys.encoder.text import item_texts
from recsys.ranker.column_names import model_columns
from recsys.ranker.lightgbm_ranker import RankingDataset, load_tree_ranker, retrain_ranker
from recsys.ranker.matrix import ItemRepresentations, candidate_matrix, ranker_columns
from recsys.ranker.model import SETTINGS_FILE, Settings, read_settings
from recsys.ranker.tfidf import fit_lexical, load_lexical
from recsys.training.context import TrainingContext, make_context
from recsys.training.stages import resolve_features
from recsys.training.text_models import collaborative_settings

FOLDER = Path(__file__).parent / "fixtures" / "golden_scores"
ROWS = 200
DIM = 128
SETTINGS = (
    "ranker.min_data_in_leaf=5",
    "ranker.num_leaves=15",
    "collaborative.factors=8",
    "collaborative.neighbours=10",
    "collaborative.sequence_window=0",
    "collaborative.alignment_clicks=0",
    "threads=1",
)


@dataclass(frozen=True)
class Golden:
    """The files as they are read. requests: the latest lists, 200 rows or a few more."""

    settings: Settings
    index: LogIndex
    requests: Requests
    texts: ItemRepresentations
    head: HeadWeights
    source: RequestTables

    @cached_property
    def matrix(self) -> Float32:
        """(n_rows, n_columns) as the ranker reads it."""
        return self.matrix_of(self.requests)

    def matrix_of(self, requests: Requests) -> Float32:
        """The ranker's columns of some requests."""
        settings = self.settings
        reader = self.index.reader(requests)
        names, matrix = candidate_matrix(
            FeaturePlan(settings.features()), self.head, reader, self.texts, None, self.source
        )
        assert names == settings.columns
        return matrix

    def scores(self, matrix: Float32) -> Float64:
        """Of the stored ranker, (n_rows,)."""
        return load_tree_ranker(FOLDER / "ranker.txt", self.settings.columns).scores(matrix, threads=1)


def read_golden() -> Golden:
    """Everything that the golden scores are computed from, out of the files."""
    settings = read_settings(FOLDER)
    log, _ = load_log(FOLDER / "data", read_options_of_model(settings))
    assert settings.collaborative is not None
    arrays = load_file(FOLDER / "arrays.safetensors")
    head = HeadWeights(**{name[5:]: value for name, value in arrays.items() if name.startswith("head.")})
    neighbours = Neighbours(arrays["neighbours.offsets"], arrays["neighbours.item"], arrays["neighbours.similarity"])
    tables = CollaborativeSnapshot(neighbours, arrays["factors"], arrays["audience"])
    terms = load_lexical(FOLDER / "lexical.json").transform(item_texts(log.catalog, settings.template))
    return Golden(
        settings,
        LogIndex(log, OfflineSettings(settings.data, settings.history_length)),
        latest(log.impressions.requests),
        ItemRepresentations(arrays["vectors"], terms),
        head,
        RequestTables(int(arrays["edge"][0]), tables, settings.collaborative),
    )


def read_expected() -> tuple[Float32, Float64]:
    """The matrix and the scores that were written, (n_rows, n_columns) and (n_rows,)."""
    expected = load_file(FOLDER / "expected.safetensors")
    return expected["matrix"], expected["scores"]


def latest(requests: Requests) -> Requests:
    """The last lists that have 200 rows together."""
    first = int(np.searchsorted(requests.offsets, requests.n_rows - ROWS, side="right")) - 1
    return requests.take(np.arange(first, len(requests)))


def random_vectors(n: int, seed: int) -> Float32:
    """n unit vectors around a few centres, so that some resemble each other; the last row is missing."""
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(6, DIM))
    drawn = centres[generator.integers(0, 6, n)] + generator.normal(size=(n, DIM))
    vectors = to_grid(drawn / np.linalg.norm(drawn, axis=1, keepdims=True))
    vectors[-1] = np.nan
    return vectors


def random_head(seed: int) -> HeadWeights:
    """A head as one that was trained: no weight is zero."""
    generator = np.random.default_rng(seed)

    def drawn(*shape: int, scale: float = 0.3) -> Float32:
        return np.asarray(generator.normal(size=shape) * scale, np.float32)

    return HeadWeights(
        attention_in=drawn(DIM, 16),
        attention_bias=drawn(16),
        attention_out=drawn(16, scale=2.0),
        recency=drawn(50, scale=1.0),
        prior=drawn(DIM, scale=0.1),
        prior_logit=np.array(-1.0, np.float32),
        similarity_weight=np.array(5.5, np.float32),
        popularity=drawn(DIM, scale=0.2),
        scale=np.array(21.7, np.float32),
        query_scale=np.array(19.1, np.float32),
        bias=np.array(-0.7, np.float32),
    )


def write_golden() -> None:
    """Simulate a site of few users with long histories, train a ranker on random vectors, keep all of it."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    data = FOLDER / "data"
    simulate(data, users=8, items=60, impressions=400, seed=5)
    shutil.rmtree(data / "truth")
    config = load_config(None, SETTINGS)
    log, tables = load_log(data, read_options(config))
    chain = make_context(config, log)
    vectors = random_vectors(len(log.catalog) + 1, 1)
    lexical = fit_lexical(item_texts(log.catalog, config.encoder.template), config.lexical)
    requests = latest(log.impressions.requests)
    periods = collaborative_settings(chain)
    assert periods is not None
    as_of = int(periods.build_times(requests.time[:1])[0])
    snapshot = OfflineSnapshots(chain.index, vectors, periods).snapshot(as_of)
    settings = _settings(chain, tables.fingerprint, as_of)
    golden = Golden(
        settings,
        chain.index,
        requests,
        ItemRepresentations(vectors, lexical.transform(item_texts(log.catalog, settings.template))),
        random_head(2),
        RequestTables(as_of, snapshot, periods),
    )
    lexical.save(FOLDER / "lexical.json")
    (FOLDER / SETTINGS_FILE).write_text(settings_to_json(settings), encoding="utf-8")
    _write_arrays(golden)
    _train(chain, golden, config)
    matrix = golden.matrix
    save_file({"matrix": matrix, "scores": golden.scores(matrix)}, FOLDER / "expected.safetensors")


def _settings(chain: TrainingContext, fingerprint: str, as_of: int) -> Settings:
    config = chain.config
    features, vocabularies = resolve_features(chain, chain.usable(chain.sliced.ranker).requests.item)
    columns = ranker_columns(features, model_columns(collaborative_columns(collaborative_settings(chain))))
    return Settings(
        columns=tuple(column.name for column in columns),
        categories=dict(vocabularies),
        inputs=config.features,
        history_length=config.encoder.history_length,
        template=config.encoder.template,
        data=config.data,
        collaborative=collaborative_settings(chain),
        encoder="models:/golden-encoder/1",
        encoder_fingerprint="0" * 32,
        training_scores="random vectors",
        list_sizes={"smallest": 1, "median": 20, "largest": 20},
        data_fingerprint=fingerprint,
        trained_until=as_of,
    )


def _write_arrays(golden: Golden) -> None:
    tables = golden.source.built
    arrays = {f"head.{name}": value for name, value in golden.head.arrays().items()}
    arrays |= {"vectors": golden.texts.vectors, "factors": tables.factors, "audience": tables.audience}
    arrays |= {
        "neighbours.offsets": tables.neighbours.offsets,
        "neighbours.item": tables.neighbours.item,
        "neighbours.similarity": tables.neighbours.similarity,
        "edge": np.array([golden.source.as_of]),
    }
    save_file(arrays, FOLDER / "arrays.safetensors")


def _train(chain: TrainingContext, golden: Golden, config: Config) -> None:
    """A ranker of 30 trees on the ranker slice."""
    columns = ranker_columns(golden.settings.features(), model_columns(golden.source.settings.columns))
    usable = chain.usable(chain.sliced.ranker)
    lists = RankingDataset(golden.matrix_of(usable.requests), usable.label, usable.requests.offsets)
    retrain_ranker([lists], columns, config.ranker, trees=30, seed=0, threads=1).save(FOLDER)


if __name__ == "__main__":
    write_golden()
    print(
        json.dumps({path.name: path.stat().st_size for path in sorted(FOLDER.rglob("*")) if path.is_file()}, indent=1)
    )
