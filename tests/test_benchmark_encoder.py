"""The encoder's benchmark: its plain loops compute one loss and one gradient, and it runs on a tiny site."""

import copy
import json
import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from small_ranking_model import small_site, tiny_settings
from tiny_encoder import save_tiny_bert, tiny_config, topic_log

from benchmarks.catalogue_encoding import sentence_encoder
from benchmarks.device_rate import MatrixGauge, forward_operations, number_formats
from benchmarks.encoder import FULL, QUICK, Size, measure
from benchmarks.plain_fine_tuning import LISTS_AT_ONCE, PlainFineTuning, with_repeats
from benchmarks.report import command_on_data
from recsys.config import EncoderConfig, load_config
from recsys.encoder.dtype import has_bfloat16, has_int8, resolve_dtype
from recsys.encoder.head import Head
from recsys.encoder.text import Tokens, item_texts
from recsys.encoder.tower import TextTower
from recsys.encoder.training.batches import Batch, batch_of, batch_scores, click_loss
from recsys.encoder.training.examples import TrainingExamples, collect_texts, make_examples, make_text_impressions
from recsys.encoder.training.train import base_encoder

TINY = Size(
    lists=120, pass_steps=4, steps=4, warm_up=1, texts=40, rounds=2, plain_parts=2, everything=True, matrix_rate=False
)


@pytest.fixture(scope="module")
def tower(tmp_path_factory: pytest.TempPathFactory) -> TextTower:
    folder = save_tiny_bert(tmp_path_factory.mktemp("base"))
    return base_encoder(tiny_config(folder).encoder).tower


@pytest.fixture(scope="module")
def tokens_and_examples(tower: TextTower) -> tuple[Tokens, TrainingExamples]:
    log = topic_log(120)
    texts = collect_texts(item_texts(log.catalog, "{title}"), None)
    lists = make_text_impressions(log, log.impressions, texts, history_length=50, delay=0)
    return tower.tokenise(texts.distinct), make_examples(lists)


@pytest.fixture(scope="module")
def head(tower: TextTower) -> Head:
    torch.manual_seed(5)
    found = Head(32).to(tower.device)
    for parameter in found.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return found


def plain(
    tower: TextTower, head: Head, tokens_and_examples: tuple[Tokens, TrainingExamples], *, distinct: bool
) -> PlainFineTuning:
    tokens, examples = tokens_and_examples
    settings = EncoderConfig(fine_tune_layers=2, negatives=3)
    return PlainFineTuning(copy.deepcopy(head), tower.copy(), tokens, examples, settings, 5, distinct)


def gradients(phase: PlainFineTuning) -> dict[str, torch.Tensor]:
    return {name: p.grad for name, p in phase.module.named_parameters() if p.grad is not None}


def test_each_text_once_and_each_time_it_is_read_give_the_same_loss_and_gradients(
    tower: TextTower, head: Head, tokens_and_examples: tuple[Tokens, TrainingExamples]
) -> None:
    found = []
    for distinct in (True, False):
        phase = plain(tower, head, tokens_and_examples, distinct=distinct)
        index = phase.steps(np.arange(120), np.random.default_rng(1))[0]
        assert len(index) == 24 > LISTS_AT_ONCE
        found.append((phase.backward(index, np.random.default_rng(2)), gradients(phase)))
    (once, of_once), (repeated, of_repeated) = found
    assert once == pytest.approx(repeated, abs=1e-6)
    assert of_once.keys() == of_repeated.keys()
    assert any(name.startswith("0.attention") for name in of_once)
    for name, gradient in of_once.items():
        assert gradient.abs().max() > 0 or name == "0.attention.self.key.bias"
        torch.testing.assert_close(gradient, of_repeated[name], rtol=1e-4, atol=1e-6)


def test_the_plain_loss_is_that_of_the_towers_own_vectors(
    tower: TextTower, head: Head, tokens_and_examples: tuple[Tokens, TrainingExamples]
) -> None:
    tokens, examples = tokens_and_examples
    phase = plain(tower, head, tokens_and_examples, distinct=False)
    index = phase.steps(np.arange(120), np.random.default_rng(1))[0]
    candidates = examples.candidates(np.arange(len(examples)), 3, np.random.default_rng(1))
    batch = batch_of(examples.impressions, examples.impression[index], candidates[index], tower.device)
    vectors = torch.from_numpy(tower.encode_tokens(tokens)[batch.texts]).to(tower.device)
    with torch.no_grad():
        wanted = click_loss(batch_scores(head, head.project(vectors), batch), "listwise")
    assert phase.backward(index, np.random.default_rng(2)) == pytest.approx(wanted.item(), abs=1e-6)


def test_only_the_upper_layers_are_trained(
    tower: TextTower, head: Head, tokens_and_examples: tuple[Tokens, TrainingExamples]
) -> None:
    names = [
        name
        for name, p in plain(tower, head, tokens_and_examples, distinct=True).module.named_parameters()
        if p.requires_grad
    ]
    assert {name.split(".")[0] for name in names} == {"0", "1"}
    with pytest.raises(ValueError, match="expected the loss 'listwise', got 'binary'"):
        PlainFineTuning(head, tower, *tokens_and_examples, EncoderConfig(loss="binary"), 5, distinct=True)


def test_a_batch_with_repeats_reads_the_same_texts_at_places_of_their_own() -> None:
    texts = np.array([10, 20, 30])
    batch = Batch(texts, torch.tensor([[2, 0], [2, -1]]), torch.tensor([[1, 0], [0, -1]]), torch.tensor([-1, 2]))
    found = with_repeats(batch)
    assert found.texts.tolist() == [30, 10, 30, 20, 10, 10, 30]
    assert found.history.tolist() == [[0, 1], [2, -1]]
    assert found.candidates.tolist() == [[3, 4], [5, -1]]
    assert found.query is not None
    assert found.query.tolist() == [-1, 6]


def test_operations_of_a_layer_are_those_of_its_matrix_products(tower: TextTower) -> None:
    # width 32, feed-forward 64; 2 operations for each multiply-add; one text of 5 tokens:
    projections, feed_forward, attention = 4 * 5 * 32 * 32, 2 * 5 * 32 * 64, 2 * 5 * 5 * 32
    wanted = 2 * (projections + feed_forward + attention)
    assert forward_operations(tower.transformer.config, 3, np.array([5])) == 3 * wanted


def test_a_rate_is_that_of_the_median_product_and_a_share_is_of_that_rate() -> None:
    gauge = MatrixGauge(torch.device("cpu"), {})
    gauge.seconds["fp32"] = [9.0, 0.5, 0.25]
    # three products of 1,536-wide matrices in half a second
    rate = 3 * 2 * 1536**3 / 0.5
    assert gauge.rate("fp32") == rate
    (found,) = gauge.shares("encode", rate / 4, 1000.0)
    assert (found.name, found.ratio) == ("encode_share_of_fp32_rate", 0.25)
    assert (found.value, found.reference) == (rate / 4e9, rate / 1e9)
    assert found.unit.endswith("1,000 tokens/s")


def test_bfloat16_products_are_timed_only_where_the_hardware_computes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    assert ("bf16" in number_formats(cpu)) == has_bfloat16(cpu)
    for has, kinds in ((True, ["bf16", "fp32"]), (False, ["fp32"])):
        monkeypatch.setattr("benchmarks.device_rate.has_bfloat16", lambda _, has=has: has)
        assert list(number_formats(cpu)) == kinds


def test_sentence_transformers_reads_the_same_weights_as_the_tower(tmp_path: Path) -> None:
    folder = save_tiny_bert(tmp_path / "base")
    tower = base_encoder(tiny_config(folder).encoder).tower
    texts = ["the new football goal", "bread oven flour recipe butter " * 9, "moon"]
    np.testing.assert_allclose(tower.encode(texts), sentence_encoder(str(folder), 16)(texts), atol=1e-5)


@pytest.mark.slow
def test_the_quick_benchmark_runs_on_a_tiny_site_and_writes_the_contracts_report(tmp_path: Path) -> None:
    site = small_site()
    config = load_config(None, (*tiny_settings(site.data.parent / "base"), "encoder.fine_tune_block_size=16"))
    command = command_on_data(partial(measure, config=config, size=TINY), Path("absent"))
    report = tmp_path / "report.json"
    ran = CliRunner().invoke(command, ["--quick", "--json", str(report), "--data", str(site.data)])
    assert ran.exit_code == 0, ran.output
    content = json.loads(report.read_text(encoding="utf-8"))
    assert content.keys() == {"results", "machine", "seconds"}
    results = {one["name"]: one for one in content["results"]}
    for one in content["results"]:
        assert one.keys() == {"name", "value", "unit", "reference", "ratio", "low", "high"}
        assert math.isfinite(one["value"])
    for name in ("fine_tune_vs_plain_fp32", "fine_tune_vs_deduplicated_bf16", "encode_vs_sentence_transformers"):
        assert results[name]["ratio"] == pytest.approx(results[name]["value"] / results[name]["reference"])
        assert name in ran.output
    difference = results["fast_minus_plain_ndcg"]
    assert difference["low"] <= difference["value"] <= difference["high"]
    assert results["encode_mean_cosine"]["value"] > 0.9999
    device = torch.device("cpu")
    if not torch.cuda.is_available() and has_int8(device):
        assert results[f"encode_in_{resolve_dtype('int8', device)}_mean_cosine"]["value"] > 0.99
    assert not [name for name in results if name.startswith("matrix_rate")]  # no test measures a rate
    beside = [results[f"fine_tune_seconds_{part}"]["ratio"] for part in ("lower_layers", "bank")]
    assert 0 < sum(beside) < 1


def test_the_quick_benchmark_does_less_by_counts_alone() -> None:
    assert (QUICK.lists, QUICK.pass_steps) == (FULL.lists, FULL.pass_steps)  # a step is worth the same
    assert QUICK.steps < FULL.steps
    assert QUICK.texts == 256
    assert QUICK.plain_parts == 4
    assert not QUICK.everything


def test_a_folder_that_is_not_there_is_named() -> None:
    ran = CliRunner().invoke(command_on_data(measure, Path("absent/amazon-office")), [])
    assert ran.exit_code == 1
    assert "data directory 'absent/amazon-office': expected a folder" in ran.output
