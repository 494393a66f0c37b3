"""An encoder as files: what is written is what is read, nothing is pickled, and what is altered is noticed."""

import importlib.util
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_encoder import catalog_of, save_tiny_bert, tiny_config, tiny_tokenizer
from transformers import T5Config, T5Model
from transformers.utils import logging as hf_logging

import recsys.encoder.dtype as dtype_module
import recsys.encoder.tower as tower_module
from recsys.encoder.base_model import builtin_folder, check_sha256, load_base_model
from recsys.encoder.dtype import has_bfloat16, has_int8, resolve_dtype
from recsys.encoder.head import Head
from recsys.encoder.model import Encoder, EncoderSettings, encoding_device, load_encoder, load_tower
from recsys.encoder.openvino import OpenVinoEncoder
from recsys.encoder.scoring import score_candidates
from recsys.encoder.text import item_texts, tokenise
from recsys.encoder.token_batches import encoding_batches, length_batches
from recsys.encoder.training.train import base_encoder
from recsys.encoder.vector_table import empty_table, load_table
from recsys.errors import ModelError

on_vnni = pytest.mark.skipif(
    not has_int8(torch.device("cpu")) or torch.cuda.is_available(), reason="needs AVX-512 with VNNI, and no GPU"
)
TEXTS = ["the new goal", "足球比赛", "bread, butter", "moon", "the old launch of the rocket"]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_bert(tmp_path_factory.mktemp("base"))


def make_encoder(
    base: Path, *, trained: bool = True, max_tokens: int = 16, dtype: str = "float32", pooling: str = "mean"
) -> Encoder:
    computed = resolve_dtype(dtype, encoding_device())  # type: ignore[arg-type]
    settings = EncoderSettings(str(base), "{title}. {description}", max_tokens, 50, pooling, computed)  # type: ignore[arg-type]
    torch.manual_seed(1)
    head = Head(32)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return Encoder(settings, load_tower(str(base), settings), head if trained else None)


def test_saving_and_loading_print_no_bars_of_transformers(
    base: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    make_encoder(base).save(tmp_path / "encoder")
    load_encoder(tmp_path / "encoder")
    assert capfd.readouterr() == ("", "")
    assert hf_logging.is_progress_bar_enabled()


@pytest.mark.parametrize("trained", [True, False])
def test_a_loaded_encoder_gives_the_same_bits(base: Path, tmp_path: Path, trained: bool) -> None:
    made = make_encoder(base, trained=trained).with_table(TEXTS[:3])
    made.save(tmp_path / "encoder")
    read = load_encoder(tmp_path / "encoder")
    assert read.fingerprint == made.fingerprint
    assert read.settings == made.settings
    assert len(read.table) == 3
    vectors = [encoder.encode_texts(TEXTS) for encoder in (made, read)]
    assert np.array_equal(*vectors)
    scores = [score_candidates(e.weights, v[:2], v) for e, v in zip((made, read), vectors, strict=True)]
    assert np.array_equal(*scores)


def test_nothing_is_pickled(base: Path, tmp_path: Path) -> None:
    make_encoder(base).with_table(TEXTS).save(tmp_path / "encoder")
    files = sorted(path for path in (tmp_path / "encoder").rglob("*") if path.is_file())
    assert {path.suffix for path in files} == {".json", ".safetensors"}
    assert [path.name for path in tmp_path.iterdir()] == ["encoder"]
    for path in files:
        if path.suffix == ".json":
            json.loads(path.read_text(encoding="utf-8"))
        else:
            load_file(path)


FORMAT_2 = Path(__file__).parent / "fixtures" / "encoder_format_2"
"""An encoder of format 2 as the first release that wrote it did."""


def test_an_encoder_of_an_earlier_release_is_read_to_the_last_bit() -> None:
    encoder = load_encoder(FORMAT_2)
    vectors = encoder.encode_texts(["the new goal", "moon"])
    first = [-0.022849082946777344, -0.22560882568359375, -0.3463706970214844, 0.6947841644287109]
    assert vectors[0, :4].tolist() == first
    assert encoder.encode_texts(["bread"])[0, :2] == pytest.approx([-0.05925559997, -0.37085628509], abs=1e-5)
    # a candidate with its vector in the table: the score has the same bits everywhere
    assert score_candidates(encoder.weights, vectors, vectors)[:, 0].tolist() == [
        -3.8604726791381836, -3.4151885509490967,
    ]  # fmt: skip


def test_an_encoder_of_another_format_is_refused_with_the_command_to_run(tmp_path: Path) -> None:
    shutil.copytree(FORMAT_2, tmp_path / "encoder")
    path = tmp_path / "encoder" / "encoder.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"format": 2', '"format": 1'), encoding="utf-8")
    with pytest.raises(ModelError, match=r"expected format 2, got 1, .*; train it again with `recsys train`"):
        load_encoder(tmp_path / "encoder")


def test_an_encoder_is_never_written_over_another(base: Path, tmp_path: Path) -> None:
    with pytest.raises(FileExistsError, match="expected a new folder"):
        make_encoder(base).save(tmp_path)


def test_altered_weights_and_the_vectors_of_another_encoder_are_noticed(base: Path, tmp_path: Path) -> None:
    made = make_encoder(base).with_table(TEXTS)
    made.save(tmp_path / "a")
    make_encoder(base, max_tokens=8).with_table(TEXTS).save(tmp_path / "b")
    with pytest.raises(ModelError, match="expected vectors of encoder"):
        load_table(tmp_path / "b" / "vectors.safetensors", made.fingerprint)
    path = tmp_path / "a" / "head.safetensors"
    state = load_file(path)
    state["prior"] = state["prior"] + 1
    save_file(state, path)
    with pytest.raises(ModelError, match="the files have been altered"):
        load_encoder(tmp_path / "a")


@pytest.mark.parametrize("part", ["encoder.json", "head.safetensors", "vectors.safetensors", "transformer"])
def test_a_missing_or_broken_part_is_an_error_that_names_it(base: Path, tmp_path: Path, part: str) -> None:
    made = make_encoder(base)
    made.save(tmp_path / "a")
    made.save(tmp_path / "b")
    missing, broken = tmp_path / "a" / part, tmp_path / "b" / part
    if missing.is_dir():
        shutil.rmtree(missing)
    else:
        missing.unlink()
        broken.write_bytes(b"{")
        with pytest.raises(ModelError, match="cannot be read"):
            load_encoder(tmp_path / "b")
    with pytest.raises(ModelError, match=str(tmp_path / "a")):
        load_encoder(tmp_path / "a")


def test_the_fingerprint_follows_weights_and_settings_but_not_the_base_model_s_place(
    base: Path, tmp_path: Path
) -> None:
    made = make_encoder(base)
    elsewhere = shutil.copytree(base, tmp_path / "elsewhere")
    assert make_encoder(elsewhere).fingerprint == made.fingerprint
    assert make_encoder(base, max_tokens=8).fingerprint != made.fingerprint
    assert make_encoder(base, trained=False).fingerprint != made.fingerprint
    assert made.with_table(TEXTS).fingerprint == made.fingerprint


def test_a_text_in_the_table_has_the_tables_vector_and_each_other_one_is_encoded_once(base: Path) -> None:
    encoder = make_encoder(base).with_table(TEXTS[:2])
    done: list[int] = []
    encoder.tower.transformer.register_forward_hook(lambda _, __, output: done.append(len(output[0])))
    found = encoder.encode_texts([TEXTS[2], TEXTS[0], "", TEXTS[2], TEXTS[3]])
    assert sum(done) == 2
    assert np.array_equal(found[1], encoder.table.vectors[encoder.table.find([TEXTS[0]])[0]])
    assert np.isnan(found[2]).all()
    assert np.array_equal(found[0], found[3])
    assert np.linalg.norm(found[[0, 1, 3, 4]], axis=1) == pytest.approx(1.0, abs=1e-5)


def test_a_table_keeps_its_vectors_when_texts_are_added() -> None:
    ones = np.ones((2, 4), np.float32)
    table = empty_table(4).with_texts(["a", "b"], ones).with_texts(["b", "c"], 2 * ones)
    assert [table.vectors[row][0] for row in table.find(["a", "b", "c"])] == [1, 1, 2]
    assert list(table.find(["d"])) == [-1]
    assert list(empty_table(4).find(["d"])) == [-1]


def test_items_without_text_and_the_undescribed_item_have_no_vector(base: Path) -> None:
    texts = item_texts(catalog_of(["moon", "", "goal"], ["", "", "the old match"]), "{title}. {description}")
    found = make_encoder(base).encode_texts(texts)
    assert np.isnan(found[:, 0]).tolist() == [False, True, False, True]
    assert found.dtype == np.float32


@pytest.mark.parametrize("max_tokens", [16, 6])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_a_vector_does_not_depend_on_the_texts_beside_it(base: Path, dtype: str, max_tokens: int) -> None:
    if dtype == "bfloat16" and not has_bfloat16(encoding_device()):
        pytest.skip("no bfloat16 here")
    if dtype == "int8" and not has_int8(encoding_device()):
        pytest.skip("needs AVX-512 with VNNI, and no GPU")
    encoder = make_encoder(base, dtype=dtype, max_tokens=max_tokens)
    texts = [" ".join(TEXTS[k : k + n]) for n in range(1, 6) for k in range(5)]
    together = encoder.encode_texts(texts)
    alone = np.concatenate([encoder.encode_texts([text]) for text in texts])
    assert np.abs(together - alone).max() <= (1e-6 if dtype == "float32" else 0)


def test_a_text_is_padded_by_its_own_length_and_never_beyond_the_limit() -> None:
    tokens = tokenise(tiny_tokenizer(), TEXTS, 6)
    assert tokens.lengths().tolist() == [5, 6, 5, 3, 6]
    assert tokens.padded_lengths().tolist() == [6, 6, 6, 4, 6]
    batches = [batch.tolist() for batch in encoding_batches(tokens.padded_lengths(), 12)]
    assert batches == [[3], [0, 1], [2, 4]]
    some = tokens.take(np.array([3, 0]))
    assert some.mask(np.array([0])).tolist() == [[True] * 3 + [False]]
    assert some.mask(np.array([0, 1])).sum(axis=1).tolist() == [3, 5]
    assert some.ids[:3].tolist() == tokens.ids[tokens.offsets[3] : tokens.offsets[4]].tolist()


def test_batches_hold_texts_of_similar_length_within_the_budget() -> None:
    lengths = np.array([3, 9, 4, 1, 30, 3, 8])
    batches = list(length_batches(lengths, 12))
    assert sorted(np.concatenate(batches)) == list(range(7))
    assert [[int(lengths[i]) for i in batch] for batch in batches] == [[1, 3, 3], [4], [8], [9], [30]]


def with_bfloat16(monkeypatch: pytest.MonkeyPatch, *, there: bool) -> None:
    """Stand in for a machine with or without bfloat16; where it is missing here, it is emulated."""
    monkeypatch.setattr(dtype_module, "has_bfloat16", lambda device: there)


def test_bfloat16_is_close_to_float32(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_bfloat16(monkeypatch, there=True)
    full, half = (make_encoder(base, dtype=dtype).encode_texts(TEXTS) for dtype in ("float32", "bfloat16"))
    assert (full * half).sum(axis=1).min() > 0.99
    assert np.abs(full - half).max() > 0
    assert half.dtype == np.float32


def test_auto_is_recorded_as_what_the_machine_computes(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for vnni in (True, False):
        monkeypatch.setattr(dtype_module, "has_int8", lambda device, there=vnni: there)
        for there in (True, False):
            with_bfloat16(monkeypatch, there=there)
            found.append(make_encoder(base, dtype="auto").settings.dtype)
    assert found == ["bfloat16", "float32", "bfloat16", "float32"]


def test_bfloat16_is_refused_where_it_would_be_emulated(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_bfloat16(monkeypatch, there=False)
    with pytest.raises(
        ModelError, match=r"expected a device that multiplies bfloat16 matrices.*choose encoder\.dtype auto"
    ):
        make_encoder(base, dtype="bfloat16")


def test_an_encoder_of_a_machine_with_bfloat16_reads_its_vectors_and_encodes_new_texts_in_float32_elsewhere(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with_bfloat16(monkeypatch, there=True)
    made = make_encoder(base, dtype="bfloat16").with_table(TEXTS[:2])
    made.save(tmp_path / "encoder")
    with_bfloat16(monkeypatch, there=False)
    read = load_encoder(tmp_path / "encoder")
    assert (read.settings.dtype, read.tower.computes_in) == ("bfloat16", "float32")
    assert "trained in bfloat16, which this machine does not compute" in caplog.text
    found = read.encode_texts(TEXTS)
    assert np.array_equal(found[:2], made.table.vectors[made.table.find(TEXTS[:2])])
    assert np.array_equal(found[2:], made.in_float32().encode_texts(TEXTS[2:]))


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[OpenVinoEncoder]:
    """The engines that are compiled."""
    made: list[OpenVinoEncoder] = []

    def compiling(*arguments: Any, **settings: bool) -> OpenVinoEncoder:
        made.append(OpenVinoEncoder(*arguments, **settings))
        return made[-1]

    monkeypatch.setattr(tower_module, "OpenVinoEncoder", compiling)
    return made


@on_vnni
@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_int8_is_close_to_float32_and_compiled_once(base: Path, compiled: list[OpenVinoEncoder], pooling: str) -> None:
    texts = [" ".join(TEXTS[:n]) for n in range(1, 4)] * 5
    full = make_encoder(base, pooling=pooling).tower.encode(texts)
    tower = make_encoder(base, dtype="int8", pooling=pooling).tower
    done: list[int] = []
    found = tower.encode_tokens(tower.tokenise(texts), progress=done.append)
    assert sum(done) == len(texts)
    assert np.array_equal(found, tower.encode(texts))
    assert len(compiled) == 1
    assert 1e-6 < np.abs(found - full).max() < 0.1
    assert (found * full).sum(axis=1).min() > 0.99
    assert np.linalg.norm(found, axis=1) == pytest.approx(1.0, abs=1e-2)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_only_int8_is_compiled(
    base: Path, compiled: list[OpenVinoEncoder], dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_bfloat16(monkeypatch, there=True)
    make_encoder(base, dtype=dtype).tower.encode(TEXTS)
    assert compiled == []


@on_vnni
def test_a_copy_shares_what_is_compiled_until_its_weights_change(base: Path, compiled: list[OpenVinoEncoder]) -> None:
    tower = make_encoder(base, dtype="int8").tower
    before = tower.encode(TEXTS)
    twin = tower.copy()
    assert np.array_equal(twin.encode(TEXTS), before)
    assert len(compiled) == 1
    with torch.no_grad():
        twin.transformer.encoder.layer[-1].output.dense.weight.neg_().mul_(30)
    assert np.abs(twin.encode(TEXTS) - before).max() > 0.1
    assert len(compiled) == 2
    assert np.array_equal(tower.encode(TEXTS), before)
    assert len(compiled) == 2


@on_vnni
def test_an_engine_has_the_weights_as_they_are(base: Path, compiled: list[OpenVinoEncoder]) -> None:
    tower = make_encoder(base, dtype="int8").tower
    before = tower.encode(TEXTS)
    with torch.no_grad():
        tower.transformer.encoder.layer[-1].output.dense.weight.neg_().mul_(30)
    after = tower.encode(TEXTS)
    assert len(compiled) == 2
    assert np.abs(after - before).max() > 0.1
    assert (after * tower.copy().encode(TEXTS)).sum(axis=1) == pytest.approx(1.0, abs=1e-2)


@on_vnni
def test_a_transformer_that_cannot_be_compiled_is_run_by_torch(
    base: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refusing(*arguments: Any, **settings: bool) -> OpenVinoEncoder:
        raise RuntimeError("no such operation")

    monkeypatch.setattr(tower_module, "OpenVinoEncoder", refusing)
    plain = make_encoder(base, dtype="bfloat16" if has_bfloat16(encoding_device()) else "float32").tower
    tower, expected = make_encoder(base, dtype="int8").tower, plain.encode(TEXTS)
    assert np.array_equal(tower.encode(TEXTS), expected)
    assert np.array_equal(tower.encode(TEXTS), expected)
    assert tower.computes_in == plain.computes_in
    told = f"the transformer cannot be compiled for int8, torch encodes in {plain.computes_in}: no such operation"
    assert [record.getMessage() for record in caplog.records].count(told) == 1


@on_vnni
def test_a_training_of_a_transformer_that_cannot_be_compiled_records_what_encodes(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusing(*arguments: Any, **settings: bool) -> OpenVinoEncoder:
        raise RuntimeError("no such operation")

    monkeypatch.setattr(tower_module, "OpenVinoEncoder", refusing)
    encoder = base_encoder(tiny_config(base, "encoder.dtype=int8").encoder)
    plain = "bfloat16" if has_bfloat16(encoding_device()) else "float32"
    assert (encoder.settings.dtype, encoder.tower.dtype, encoder.tower.computes_in) == (plain, plain, plain)


@pytest.mark.parametrize(
    ("package", "message"),
    [
        (True, r"int8: expected a CPU that multiplies int8 matrices \(AVX-512 VNNI\), got one without"),
        (
            False,
            r"int8: expected the package openvino, got none; pip install 'recsys\[int8\]'; choose encoder\.dtype auto",
        ),
    ],
)
def test_int8_is_refused_where_it_cannot_be_had(package: bool, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if not package:
        monkeypatch.setitem(sys.modules, "openvino", None)
    elif importlib.util.find_spec("openvino") is None:
        pytest.skip("needs openvino")
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: False)
    with pytest.raises(ModelError, match=message):
        resolve_dtype("int8", torch.device("cpu"))


@on_vnni
def test_an_engine_sends_no_usage_reports(base: Path) -> None:
    make_encoder(base, dtype="int8").tower.encode(TEXTS)
    assert sys.modules["openvino_telemetry"] is None


def test_the_built_in_model_is_the_checked_one() -> None:
    settings = EncoderSettings("builtin", "{title}", 32, 50, "mean", "float32")
    encoder = Encoder(settings, load_tower("builtin", settings), None)
    found = encoder.encode_texts(["a cat sits on the mat", "a kitten rests on a rug", "interest rates rise"])
    assert encoder.dim == 384
    assert found[0] @ found[1] > 0.5 > found[0] @ found[2]


def test_weights_that_are_not_the_expected_ones_are_refused(tmp_path: Path) -> None:
    altered = tmp_path / "model.safetensors"
    altered.write_bytes(b"other weights")
    with pytest.raises(ModelError, match=r"expected SHA-256 53aa.*, got "):
        check_sha256(altered, "53aa")
    with pytest.raises(ModelError, match="cannot be read"):
        check_sha256(tmp_path / "absent", "53aa")
    assert (builtin_folder() / "model.safetensors").is_file()


def test_a_base_model_that_cannot_be_reached_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="'nobody/no-such-model' cannot be loaded: expected 'builtin', a folder"):
        load_base_model("nobody/no-such-model")
    with pytest.raises(ModelError, match="expected a folder"):
        load_base_model(str(tmp_path / "absent"))
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_base_model(str(tmp_path))


def test_a_tokenizer_without_a_pad_token_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="has no pad token"):
        load_base_model(str(save_tiny_bert(tmp_path / "base", pad=False)))


def test_an_encoder_decoder_is_an_error(tmp_path: Path) -> None:
    T5Model(T5Config(vocab_size=64, d_model=16, num_layers=1, num_heads=2, d_ff=16, d_kv=8)).save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="is an encoder-decoder"):
        load_base_model(str(tmp_path))


def test_more_tokens_than_the_model_reads_is_an_error(base: Path) -> None:
    with pytest.raises(ModelError, match="at most 64, which is what the base model reads, got 65"):
        make_encoder(base, max_tokens=65)


def test_a_base_model_without_all_its_weights_is_refused(base: Path, tmp_path: Path) -> None:
    shutil.copytree(base, tmp_path / "damaged")
    path = tmp_path / "damaged" / "model.safetensors"
    weights = {name: tensor for name, tensor in load_file(path).items() if "layer.1." not in name}
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"expected weights for all layers, \d+ are missing"):
        load_base_model(str(tmp_path / "damaged"))
