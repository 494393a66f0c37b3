"""The cache of vectors: what was encoded once is read again, and only where everything is the same."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from small_ranking_model import small_site

from features.arrays import Float32
from recsys.encoder import vector_cache
from recsys.encoder.tower import TextTower
from recsys.encoder.vector_cache import VARIABLE, VectorCache, shared_cache

TEXTS = [*(f"text {number}" for number in range(70)), "text 1", "a text that is longer than the others"]
N = len(TEXTS)
_DAMAGE = """import lmdb, sys
with lmdb.open(sys.argv[1]) as environment, environment.begin(write=True) as transaction:
    key, value = next(iter(transaction.cursor()))
    transaction.put(key, bytes([*value[:-1], value[-1] ^ 1]))
"""


@pytest.fixture
def tower() -> TextTower:
    """A tower with weights of its own."""
    return small_site().ranking_model.encoder.tower.copy()


@pytest.fixture
def cache(tmp_path: Path) -> VectorCache:
    return VectorCache(tmp_path / "vectors")


def encode(tower: TextTower, cache: VectorCache | None, texts: Sequence[str] = TEXTS) -> tuple[Float32, int]:
    """Vectors, and how many texts went through the transformer."""
    tower.cache = cache
    computed = 0

    def count(module: object, arguments: object, named: dict[str, torch.Tensor], outputs: object) -> None:
        nonlocal computed
        computed += len(named["input_ids"])

    hook = tower.transformer.register_forward_hook(count, with_kwargs=True)
    try:
        return tower.encode(texts), computed
    finally:
        hook.remove()


def test_a_text_goes_through_the_same_transformer_once(tower: TextTower, cache: VectorCache) -> None:
    expected, n_all = encode(tower, None)
    first, n_first = encode(tower, cache)
    again, n_again = encode(small_site().ranking_model.encoder.tower.copy(), cache)
    assert (n_all, n_first, n_again) == (N, N, 0)
    assert expected.tobytes() == first.tobytes() == again.tobytes()


def test_what_a_vector_depends_on_is_in_its_key(tower: TextTower, cache: VectorCache) -> None:
    encode(tower, cache)
    other = tower.copy()
    other.pooling = "cls" if tower.pooling == "mean" else "mean"
    assert encode(other, cache)[1] == N
    shorter = tower.copy()
    shorter.max_tokens = 4
    assert encode(shorter, cache)[1] == N
    with torch.no_grad():
        next(tower.transformer.parameters()).add_(0.5)
    changed, n_changed = encode(tower, cache)
    assert n_changed == N
    assert changed.tobytes() == encode(tower, None)[0].tobytes()


def test_few_texts_are_looked_up_and_not_kept(tower: TextTower, cache: VectorCache) -> None:
    few = TEXTS[:5]
    assert [encode(tower, cache, few)[1] for _ in range(2)] == [5, 5]
    encode(tower, cache)
    vectors, n_computed = encode(tower, cache, few)
    assert n_computed == 0
    assert vectors.tobytes() == encode(tower, None, few)[0].tobytes()


def test_a_vector_that_changed_on_disk_is_computed_again(tower: TextTower, cache: VectorCache) -> None:
    expected = encode(tower, cache)[0]
    subprocess.run([sys.executable, "-c", _DAMAGE, str(cache.folder)], check=True)
    found, n_computed = encode(tower, cache)
    assert n_computed == 1
    assert found.tobytes() == expected.tobytes()


def test_towers_to_be_trained_and_to_be_checked_with_have_no_cache(tower: TextTower, cache: VectorCache) -> None:
    tower.cache = cache
    assert tower.copy().cache is None
    assert tower.with_dtype("float32").cache is None


def test_a_full_cache_begins_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    small = VectorCache(tmp_path / "small", most_bytes=200_000)
    vectors = np.arange(100 * 64, dtype=np.float32).reshape(100, 64)
    with caplog.at_level(logging.INFO):
        for number in range(20):
            small.write([b"%d-%d" % (number, row) for row in range(100)], vectors)
    assert "begins anew" in caplog.text
    read, found = small.read([b"19-7", b"0-7"], 64)
    assert found.tolist() == [True, False]
    assert read[0].tolist() == vectors[7].tolist()


def test_a_cache_that_fails_costs_nothing_but_time(
    tower: TextTower, cache: VectorCache, caplog: pytest.LogCaptureFixture
) -> None:
    encode(tower, cache)
    cache.write([b""] * N, np.ones((N, 4), np.float32))  # LMDB refuses an empty key
    assert "no longer kept" in caplog.text
    vectors, n_computed = encode(tower, cache)
    assert n_computed == N
    assert vectors.tobytes() == encode(tower, None)[0].tobytes()


def test_the_folder_is_the_one_that_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "")
    assert shared_cache() is None
    monkeypatch.setenv(VARIABLE, str(tmp_path / "named"))
    named = shared_cache()
    assert named is not None
    assert named is shared_cache()
    assert (named.folder, named.folder.stat().st_mode & 0o777) == (tmp_path / "named" / "vectors", 0o700)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "file"))
    assert shared_cache() is None
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    default = shared_cache()
    assert default is not None
    assert default.folder == tmp_path / "home" / "recsys" / "vectors"
    assert vector_cache.MOST_BYTES > 2**30
