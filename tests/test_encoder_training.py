"""Training: a planted signal is learnt, only the older impressions teach, frozen layers stay, seeds decide."""

import logging
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from interrupts import interrupted_at
from tiny_encoder import save_tiny_bert, tiny_config, tiny_tokenizer, topic_log
from transformers import (
    AlbertConfig,
    AlbertModel,
    BertConfig,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
    ModernBertConfig,
    ModernBertModel,
    MPNetConfig,
    MPNetModel,
    PretrainedConfig,
    PreTrainedModel,
    XLMRobertaConfig,
    XLMRobertaModel,
)

from features.arrays import Int64
from features.history import clicks_by_user, histories
from features.log import Log
from recsys.config import EncoderConfig
from recsys.encoder.dtype import has_int8
from recsys.encoder.head import Head
from recsys.encoder.model import Encoder
from recsys.encoder.scoring import text_features
from recsys.encoder.text import Tokens, item_texts, tokenise
from recsys.encoder.text_fields import concat_fields
from recsys.encoder.token_batches import pad_batch
from recsys.encoder.training.batches import Loss
from recsys.encoder.training.examples import (
    TextImpressions,
    collect_texts,
    make_examples,
    make_text_impressions,
    split_by_time,
)
from recsys.encoder.training.fine_tune_phase import FineTunePhase
from recsys.encoder.training.head_phase import HeadPhase
from recsys.encoder.training.layer_cache import FrozenLayerCache
from recsys.encoder.training.loop import TrainingChunk
from recsys.encoder.training.schedule import TrainingSchedule
from recsys.encoder.training.split_layers import split_transformer
from recsys.encoder.training.torch_runtime import deterministic
from recsys.encoder.training.train import TrainedEncoder, base_encoder, train_encoder
from recsys.encoder.training.trainer import EncoderTrainer
from recsys.encoder.training.upper_layers import TrainableLayers
from recsys.metrics.ranking import list_metrics


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_bert(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def log() -> Log:
    return topic_log()


@pytest.fixture(scope="module")
def trained(base: Path, log: Log) -> TrainedEncoder:
    return train_encoder(log, TrainingSchedule(log.impressions), tiny_config(base))


def ndcg(encoder: Encoder, log: Log) -> float:
    requests = log.impressions.requests
    past = histories(clicks_by_user(log.events, len(log.users)), requests, length=50)
    scores = text_features(
        encoder.weights, encoder.encode_texts(item_texts(log.catalog, encoder.settings.template)), requests, past
    )[:, 0]
    return float(np.nanmean(list_metrics(scores, log.impressions.label, requests.offsets).ndcg_at_10))


def test_a_planted_taste_is_learnt_by_the_head_and_better_by_the_layers(base: Path) -> None:
    log, unseen = topic_log(800), topic_log(seed=1)
    trained = train_encoder(log, TrainingSchedule(log.impressions), tiny_config(base, "encoder.fine_tune_epochs=4"))
    frozen, head, full = (ndcg(encoder, unseen) for encoder in (trained.frozen, trained.head, trained.full))
    assert trained.trained
    assert head > frozen + 0.1
    assert full > head + 0.03


@pytest.mark.parametrize("every", [0, 1])
@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_a_text_of_the_training_has_the_vector_that_a_new_text_gets(base: Path, dtype: str, every: int) -> None:
    """Vectors of trained layers, too, are the engine's where there is one, not those that torch trained them with."""
    if dtype == "int8" and (torch.cuda.is_available() or not has_int8(torch.device("cpu"))):
        pytest.skip("needs AVX-512 with VNNI, and no GPU")
    log = topic_log(800)
    settings = (f"encoder.dtype={dtype}", "encoder.fine_tune_epochs=4", f"encoder.fine_tune_every={every}")
    trained = train_encoder(log, TrainingSchedule(log.impressions, (400, 600), 1), tiny_config(base, *settings))
    assert trained.full.fingerprint != trained.head.fingerprint
    for encoder in (trained.frozen, trained.head, trained.full, trained.served):
        texts = [text for text in item_texts(log.catalog, encoder.settings.template) if text]
        assert min(encoder.table.find(texts)) >= 0
        anew = Encoder(encoder.settings, encoder.tower, encoder.head).encode_texts(texts)
        assert np.abs(anew - encoder.encode_texts(texts)).max() <= (1e-5 if dtype == "float32" else 0)


def test_the_records_tell_each_phase_and_the_best_weights_are_kept(trained: TrainedEncoder) -> None:
    for phase in ("head", "fine_tune"):
        records = [record for record in trained.records if record.phase == phase]
        assert np.isnan(records[0].loss)
        assert records[0].epoch == 0
        assert all(np.isfinite(record.loss) and record.learning_rate > 0 for record in records[1:])
        best = max(record.validation_ndcg for record in records)
        assert [record for record in records if record.is_best][-1].validation_ndcg == best
    phases = [record.phase for record in trained.records]
    first_fine_tuned = trained.records[phases.index("fine_tune")].validation_ndcg
    assert first_fine_tuned == max(r.validation_ndcg for r in trained.records if r.phase == "head")


def test_the_same_seed_gives_the_same_weights_and_another_does_not(
    base: Path, log: Log, trained: TrainedEncoder
) -> None:
    again = train_encoder(log, TrainingSchedule(log.impressions), tiny_config(base))
    other = train_encoder(
        log, TrainingSchedule(log.impressions), tiny_config(base, "seed=1", "encoder.fine_tune_epochs=0")
    )
    assert again.full.fingerprint == trained.full.fingerprint
    assert again.head.fingerprint == trained.head.fingerprint
    assert again.frozen.fingerprint == trained.frozen.fingerprint == other.frozen.fingerprint
    assert np.array_equal(again.full.table.vectors, trained.full.table.vectors)
    assert other.head.fingerprint != trained.head.fingerprint


def test_the_frozen_layers_stay_and_the_upper_ones_change(trained: TrainedEncoder) -> None:
    before = trained.frozen.tower.transformer.state_dict()
    after = trained.full.tower.transformer.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all(name.startswith("encoder.layer.2.") for name in changed)


def test_the_validation_part_teaches_nothing(base: Path, log: Log) -> None:
    config = tiny_config(base, "encoder.patience=99")
    shown = log.impressions
    labels = shown.label.copy()
    labels[-6 * 40 :] = np.roll(labels[-6 * 40 :].reshape(40, 6), 1, axis=1).ravel()
    clean = train_encoder(log, TrainingSchedule(shown), config)
    spoiled = train_encoder(log, TrainingSchedule(replace(shown, label=labels)), config)
    head = [[r.loss for r in found.records if r.phase == "head"] for found in (clean, spoiled)]
    assert head[0][1:] == head[1][1:]
    assert [r.validation_ndcg for r in clean.records] != [r.validation_ndcg for r in spoiled.records]


def test_layers_that_never_validate_better_go_on_from_the_weights_they_had(base: Path, log: Log) -> None:
    still = ("encoder.fine_tune_learning_rate=1e-30", "encoder.chunk_epochs=0", "encoder.weight_decay=0")
    found = train_encoder(log, TrainingSchedule(log.impressions), tiny_config(base, *still))
    assert [record.is_best for record in found.records if record.phase == "fine_tune"] == [True, False, False]
    before, after = (encoder.tower.transformer.state_dict() for encoder in (found.head, found.full))
    for name in before:
        torch.testing.assert_close(before[name], after[name], rtol=1e-6, atol=1e-7)


def test_layers_that_validate_no_better_and_learn_no_more_leave_the_head_alone(base: Path, log: Log) -> None:
    still = ("encoder.fine_tune_learning_rate=1e-30", "encoder.fine_tune_every=0")
    found = train_encoder(log, TrainingSchedule(log.impressions, (200, 300)), tiny_config(base, *still))
    assert found.full is found.head
    assert found.states[-1].model is found.full


@pytest.mark.parametrize("pays", [True, False])
def test_layers_go_on_learning_parts_only_while_they_rank_them_better_than_the_head_alone(
    base: Path, log: Log, monkeypatch: pytest.MonkeyPatch, pays: bool
) -> None:
    def ndcg(self: EncoderTrainer, impressions: TextImpressions) -> float:
        return 0.6 if pays and self.layers is not None else 0.5

    learnt = []
    learn, train_layers = EncoderTrainer.learn, EncoderTrainer.train_layers

    def learning(self: EncoderTrainer, chunk: TrainingChunk) -> float:
        learnt.append((len(chunk.new), "head" if self.layers is None else "full"))
        return learn(self, chunk)

    def training(self: EncoderTrainer, chunk: TrainingChunk) -> None:
        learnt.append((len(chunk.with_history().new), "layers"))
        train_layers(self, chunk)

    monkeypatch.setattr(EncoderTrainer, "ndcg", ndcg)
    monkeypatch.setattr(EncoderTrainer, "learn", learning)
    monkeypatch.setattr(EncoderTrainer, "train_layers", training)
    found = train_encoder(
        log, TrainingSchedule(log.impressions, (200, 260, 310, 350)), tiny_config(base, "encoder.fine_tune_every=3")
    )
    begun = [(20, "head"), (60, "head"), (50, "head"), (350, "layers"), (40, "head"), (40, "full")]
    if pays:
        assert learnt == [*begun, (50, "head"), (50, "full")]
        assert found.full is not found.head
    else:
        assert learnt == [*begun, (50, "head")]
        assert found.full is found.head
        assert found.full.tower is found.frozen.tower


def test_each_distinct_text_is_run_through_the_frozen_layers_once(
    base: Path, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[int] = []

    def counted(tokens: Tokens, index: Int64, pad_id: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        rows.extend(index.tolist())
        return pad_batch(tokens, index, pad_id, device)

    monkeypatch.setattr("recsys.encoder.training.layer_cache.pad_batch", counted)
    found = train_encoder(log, TrainingSchedule(log.impressions), tiny_config(base))
    assert sorted(rows) == list(range(found.counts.texts)) == list(range(105))


def test_log_lines_name_what_is_trained_and_how_far_it_is(
    base: Path, log: Log, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        config = tiny_config(base, "encoder.head_epochs=2", "encoder.fine_tune_every=0")
        train_encoder(log, TrainingSchedule(log.impressions, (200, 300)), config)
    lines = [re.sub(r"\b(0\.|1\.|\d+ s)\d*", "", line) for line in caplog.messages]
    begun = [line.split(",")[0] for line in lines if "nDCG@10" in line]
    assert begun == [
        "encoder head: before training", "encoder head: epoch 1/2", "encoder head: epoch 2/2",
        "encoder upper layers: before training", "encoder upper layers: epoch 1/2", "encoder upper layers: epoch 2/2",
        "encoder progressive training: chunk 1/2", "encoder progressive training: chunk 2/2",
    ]  # fmt: skip
    assert not any("nan" in line for line in lines)
    left = r"epoch 1/2, loss \d\.\d{4}, validation nDCG@10 \d\.\d{4}, \d+ s, about \d+ s left$"
    assert re.search(left, caplog.messages[2])


def test_too_few_clicked_items_with_text_leave_the_base_model_and_say_so(
    base: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = topic_log(150, textless=3)
    with caplog.at_level(logging.WARNING):
        found = train_encoder(log, TrainingSchedule(log.impressions), tiny_config(base))
    assert not found.trained
    assert "150 of 150 impressions have a clicked and an unclicked item with text, 135 to begin with" in found.reason
    assert found.reason in caplog.text
    assert found.full is found.head is found.frozen
    assert found.counts.items_without_text == 3
    vectors = found.full.encode_texts(item_texts(log.catalog, found.full.settings.template))
    assert np.isnan(vectors[-4:]).all()
    assert np.linalg.norm(vectors[:-4], axis=1) == pytest.approx(1.0, abs=1e-5)


def test_progress_is_logged_at_every_validation_and_an_interrupt_goes_through(base: Path, log: Log) -> None:
    with interrupted_at("epoch 1/") as messages, pytest.raises(KeyboardInterrupt):
        train_encoder(log, TrainingSchedule(log.impressions), tiny_config(base))
    assert ["before training" in messages[0], "epoch 1/" in messages[1], len(messages)] == [True, True, 2]


def test_binary_cross_entropy_learns_too(base: Path, log: Log) -> None:
    settings = ("encoder.loss=binary", "encoder.fine_tune_epochs=0", "encoder.head_epochs=20", "encoder.patience=99")
    found = train_encoder(log, TrainingSchedule(log.impressions), tiny_config(base, *settings))
    assert ndcg(found.head, log) > ndcg(found.frozen, log) + 0.05


def test_negatives_are_unclicked_items_of_the_same_list_drawn_anew() -> None:
    log = topic_log(50)
    texts = collect_texts(item_texts(log.catalog, "{title}"), None)
    examples = make_examples(make_text_impressions(log, log.impressions, texts, history_length=5, delay=0))
    generator = np.random.default_rng(0)
    draws = [examples.candidates(np.arange(50), 3, generator) for _ in range(2)]
    for drawn in draws:
        for i, row in enumerate(drawn):
            shown = log.impressions.requests.item[6 * i : 6 * i + 6]
            label = log.impressions.label[6 * i : 6 * i + 6]
            assert row[0] == shown[label > 0][0]
            assert len(set(row[1:])) == 3
            assert set(row[1:]) <= set(shown[label == 0])
    assert not np.array_equal(draws[0], draws[1])
    short = examples.candidates(np.arange(50), 9, generator)
    assert short.shape == (50, 6)


@pytest.mark.parametrize("loss", ["listwise", "binary"])
@pytest.mark.parametrize("layers", [False, True])
def test_a_click_counts_by_the_weight_of_its_label(base: Path, loss: Loss, layers: bool) -> None:
    log = topic_log(40)
    texts = collect_texts(item_texts(log.catalog, "{title}"), None)
    lists = make_text_impressions(log, log.impressions, texts, history_length=5, delay=0)
    graded = replace(lists, label=lists.label * (1 + np.repeat(np.arange(40) % 2, 6)))
    examples = make_examples(graded, {2: 7.0})
    tower = base_encoder(tiny_config(base).encoder).tower
    tokens = tower.tokenise(texts.distinct)
    torch.manual_seed(0)
    head, vectors = Head(32).to(tower.device), torch.from_numpy(tower.encode_tokens(tokens)).to(tower.device)
    settings = EncoderConfig(negatives=5, loss=loss, head_batch_size=40, fine_tune_block_size=len(tokens))
    phase: HeadPhase | FineTunePhase = HeadPhase(head, vectors, examples, graded, settings)
    if layers:
        upper, every = TrainableLayers(tower, tokens, np.arange(len(tokens))[:, None], 2), np.arange(len(tokens))
        upper.prepare()
        phase = FineTunePhase(head, upper, vectors, every, examples, graded, settings)

    def loss_of(rows: Int64) -> float:
        generator = np.random.default_rng(0)
        (step,) = phase.steps(rows, generator)
        return phase.backward(step, generator)

    alone = np.array([loss_of(np.array([row])) for row in range(40)])
    assert np.ptp(alone) > 0.01
    assert loss_of(np.arange(40)) == pytest.approx(np.average(alone, weights=[1.0, 7.0] * 20), rel=1e-5)


@pytest.mark.parametrize("loss", ["listwise", "binary"])
def test_lists_teach_the_layers_the_same_some_at_once(base: Path, loss: Loss, monkeypatch: pytest.MonkeyPatch) -> None:
    log = topic_log(60)
    texts = collect_texts(item_texts(log.catalog, "{title}"), None)
    lists = make_text_impressions(log, log.impressions, texts, history_length=5, delay=0)
    fewer = replace(lists, candidates=np.where(np.arange(360) % 6 > np.arange(360) // 90, lists.candidates, -1))
    examples = make_examples(replace(fewer, label=lists.label * (1 + np.arange(360) // 6 % 2)), {2: 7.0})
    tower = base_encoder(tiny_config(base).encoder).tower
    tokens = tower.tokenise(texts.distinct)
    every = np.arange(len(tokens))
    upper = TrainableLayers(tower, tokens, every[:, None], 2)
    found = []
    for at_once in (7, 1000):
        monkeypatch.setattr("recsys.encoder.training.fine_tune_phase.EXAMPLES_AT_ONCE", at_once)
        torch.manual_seed(0)
        head, vectors = Head(32).to(tower.device), torch.from_numpy(upper.prepare()).to(tower.device)
        settings = EncoderConfig(fine_tune_block_size=len(tokens), negatives=5, loss=loss)
        phase = FineTunePhase(head, upper, vectors, every, examples, lists, settings)
        (step,) = phase.steps(np.arange(len(examples)), np.random.default_rng(0))
        upper.trained.zero_grad()
        value = phase.backward(step, np.random.default_rng(0))
        found.append((value, [weight.grad.cpu() for weight in upper.trained.parameters() if weight.grad is not None]))
    (value, gradients), (whole, of_whole) = found
    assert value == pytest.approx(whole, rel=1e-6)
    assert max(float(gradient.abs().max()) for gradient in of_whole) > 1e-3
    for one, other in zip(gradients, of_whole, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_gradients_of_many_rows_are_added_in_one_order() -> None:
    generator, before = torch.Generator().manual_seed(0), torch.get_num_threads()
    vectors = torch.randn(3000, 384, generator=generator, requires_grad=True)
    rows = torch.randint(0, 3000, (60_000, 1), generator=generator)
    weight = torch.randn(60_000, 384, generator=generator)
    torch.set_num_threads(2)
    try:
        with deterministic():
            found = [
                torch.autograd.grad((concat_fields(vectors, rows.numpy()) * weight).sum(), vectors)[0] for _ in range(6)
            ]
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(found[0], other) for other in found[1:])
    assert not torch.are_deterministic_algorithms_enabled()


def test_the_newest_share_is_split_off_without_dividing_a_moment() -> None:
    shown = topic_log(10).impressions
    older, newer = split_by_time(shown, 0.3)
    assert (list(older), list(newer)) == ([0, 1, 2, 3, 4, 5, 6], [7, 8, 9])
    time = np.array([0, 1, 2, 3, 4, 5, 5, 5, 5, 6])
    older, newer = split_by_time(replace(shown, requests=replace(shown.requests, time=time)), 0.3)
    assert (len(older), len(newer)) == (5, 5)


SIZES = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64}
MODELS: list[tuple[type[PreTrainedModel], PretrainedConfig]] = [
    (BertModel, BertConfig(vocab_size=50, **SIZES)),
    (XLMRobertaModel, XLMRobertaConfig(vocab_size=50, pad_token_id=1, **SIZES)),
    (MPNetModel, MPNetConfig(vocab_size=50, **SIZES)),
    (ModernBertModel, ModernBertConfig(vocab_size=50, pad_token_id=0, cls_token_id=2, sep_token_id=3, **SIZES)),
    (DistilBertModel, DistilBertConfig(vocab_size=50, dim=32, n_layers=3, n_heads=4, hidden_dim=64)),
]


@pytest.mark.parametrize(("kind", "config"), MODELS, ids=[kind.__name__ for kind, _ in MODELS])
@pytest.mark.parametrize("n_upper", [1, 2, 9])
def test_the_two_parts_of_a_transformer_compute_what_the_whole_does(
    kind: type[PreTrainedModel], config: PretrainedConfig, n_upper: int
) -> None:
    torch.manual_seed(0)
    model = kind(config).eval()
    split = split_transformer(model, n_upper)
    assert split.lower is not None
    ids, mask = torch.randint(5, 50, (3, 7)), torch.ones(3, 7, dtype=torch.long)
    mask[1, 4:] = 0
    with torch.no_grad():
        whole = model(input_ids=ids, attention_mask=mask).last_hidden_state
        hidden = split.lower(input_ids=ids, attention_mask=mask).last_hidden_state
        parts = split.upper(inputs_embeds=hidden, attention_mask=mask).last_hidden_state
    assert parts[mask.bool()] == pytest.approx(whole[mask.bool()], abs=1e-5)


def test_a_model_whose_layers_cannot_be_told_apart_is_trained_whole_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tokenizer = tiny_tokenizer()
    torch.manual_seed(0)
    AlbertModel(AlbertConfig(vocab_size=len(tokenizer), embedding_size=16, **SIZES)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    log = topic_log(300)
    found = train_encoder(
        log,
        TrainingSchedule(log.impressions),
        tiny_config(tmp_path, "encoder.head_epochs=0", "encoder.fine_tune_epochs=1"),
    )
    assert "the layers of AlbertModel cannot be separated" in caplog.text
    assert found.trained


def test_activations_beyond_the_budget_are_computed_again_and_large_ones_lie_on_disk(base: Path) -> None:
    config = BertConfig(vocab_size=50, **SIZES)
    torch.manual_seed(0)
    lower = split_transformer(BertModel(config).eval(), 1).lower
    assert lower is not None
    tokens = tokenise(tiny_tokenizer(), ["goal match", "bread", "orbit moon probe"], 16)
    found = []
    for memory, disk, stored in ((10**6, 0, 3), (0, 10**6, 3), (7 * 32 * 4, 0, 2), (0, 0, 0)):
        part = FrozenLayerCache(lower, tokens, 0, "float32", memory_bytes=memory, disk_bytes=disk)
        assert part.n_stored == stored
        part.fill()
        hidden, mask = part.get_padded(np.array([2, 0]))
        assert mask.tolist() == [[1] * 5 + [0] * 3, [1] * 4 + [0] * 4]
        found.append(hidden[mask.bool()])
    for other in found[1:]:
        assert other == pytest.approx(found[0], abs=1e-6)
