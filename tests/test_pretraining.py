"""Pre-training on texts: what is learnt, what stays as it was, what is refused."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from interrupts import interrupted_at
from small_ranking_model import small_encoder
from tiny_encoder import TOPICS, save_tiny_bert, tiny_config, tiny_tokenizer, topic_log
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

from features.arrays import Float32
from recsys.config import PretrainingConfig, load_config
from recsys.encoder.base_model import BaseModel
from recsys.encoder.pretraining.masking import Masked, Masking
from recsys.encoder.pretraining.pretrain import pretrain
from recsys.encoder.pretraining.reduced_vocabulary import reduced_embeddings, used_tokens
from recsys.encoder.text import tokenise
from recsys.encoder.token_batches import length_batches, pad_batch
from recsys.encoder.tower import TextTower
from recsys.encoder.training.schedule import TrainingSchedule
from recsys.encoder.training.train import base_encoder, train_encoder
from recsys.errors import ModelError

# every word of a topic is always followed by the same one: 3 topics x 5 first words x 7 lengths
CYCLES = [
    " ".join(words[(first + k) % 5] for k in range(length))
    for words in TOPICS
    for first in range(5)
    for length in range(4, 11)
]
MASKED = PretrainingConfig(masked_epochs=15, masked_batch_tokens=64, masked_learning_rate=3e-3, held_out_share=0.1)
CONTRASTIVE = PretrainingConfig(contrastive_epochs=5, contrastive_batch_tokens=512, contrastive_learning_rate=1e-3)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_bert(tmp_path_factory.mktemp("base"))


@pytest.fixture
def tower(base: Path) -> TextTower:
    return tower_of(base)


def tower_of(base: Path) -> TextTower:
    config = tiny_config(base)
    return base_encoder(config.encoder).tower


def weights(tower: TextTower) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in tower.transformer.state_dict().items()}


def changed(before: dict[str, torch.Tensor], tower: TextTower) -> set[str]:
    after = tower.transformer.state_dict()
    assert before.keys() == after.keys()
    return {name for name in before if not torch.equal(before[name], after[name])}


def entropy(texts: list[str]) -> float:
    """Nats a word of the best guess that knows no context."""
    words = [word for text in texts for word in text.split()]
    _, counts = np.unique(words, return_counts=True)
    shares = counts / counts.sum()
    return float(-(shares * np.log(shares)).sum())


def test_hidden_words_are_guessed_from_their_context(tower: TextTower) -> None:
    records = pretrain(tower, CYCLES, MASKED, seed=0)
    assert entropy(CYCLES) == pytest.approx(np.log(15), abs=0.01)
    assert records[0].metrics["loss"] == pytest.approx(np.log(15), abs=0.6)
    # the topic alone leaves 5 words: log(5) is 1.61, log(15) is 2.71
    assert min(record.metrics["loss"] for record in records) < np.log(7)
    assert records[-1].loss < np.log(7)


def test_the_loss_is_that_of_the_hidden_places_alone(tower: TextTower, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[int] = []
    shown: list[Masked] = []
    apply = Masking.apply

    def told(self: Masking, ids: np.ndarray, share: float, generator: np.random.Generator) -> Masked:
        shown.append(apply(self, ids, share, generator))
        return shown[-1]

    cross_entropy = torch.nn.functional.cross_entropy

    def counted(logits: torch.Tensor, targets: torch.Tensor, **named: str) -> torch.Tensor:
        rows.append(len(logits))
        assert logits.shape == (len(targets), 15)
        return cross_entropy(logits, targets, **named)

    monkeypatch.setattr(Masking, "apply", told)
    monkeypatch.setattr("recsys.encoder.pretraining.masked_lm.functional.cross_entropy", counted)
    pretrain(tower, CYCLES, replace_of(MASKED, masked_epochs=1), seed=0)
    assert rows == [len(masked.positions) for masked in shown]
    n_tokens = sum(masked.ids.size for masked in shown)
    assert 0.08 * n_tokens < sum(rows) < 0.2 * n_tokens


def test_contrastive_training_spreads_texts_and_lets_their_views_find_each_other(tower: TextTower) -> None:
    def measured(tower: TextTower) -> tuple[float, float]:
        """Uniformity (Wang and Isola 2020), lower is better, and the share of texts nearest to their other view."""
        first, second = (views(tower, seed) for seed in (1, 2))
        squared = 2 - 2 * (first @ first.T)[np.triu_indices(len(first), 1)]
        found = (first @ second.T).argmax(axis=1) == np.arange(len(first))
        return float(np.log(np.exp(-2 * squared).mean())), float(found.mean())

    before = measured(tower)
    records = pretrain(tower, CYCLES, CONTRASTIVE, seed=0)
    after = measured(tower)
    assert after[0] < before[0] - 0.5
    assert after[1] > before[1] + 0.05
    assert records[-1].metrics["loss"] < records[0].metrics["loss"]
    assert records[-1].metrics["accuracy"] >= records[0].metrics["accuracy"]


def test_the_two_views_of_a_text_differ_by_dropout_in_training(
    tower: TextTower, monkeypatch: pytest.MonkeyPatch
) -> None:
    cosines: list[float] = []
    cross_entropy = torch.nn.functional.cross_entropy

    def told(logits: torch.Tensor, targets: torch.Tensor, **named: str) -> torch.Tensor:
        cosines.extend((logits.diagonal() * 0.05).tolist())
        return cross_entropy(logits, targets, **named)

    monkeypatch.setattr("recsys.encoder.pretraining.simcse.functional.cross_entropy", told)
    pretrain(tower, CYCLES, replace_of(CONTRASTIVE, contrastive_epochs=1), seed=0)
    assert min(cosines) > 0.5
    assert max(cosines) < 0.9999


def views(tower: TextTower, seed: int) -> Float32:
    """Vectors of the texts through one draw of the dropout."""
    torch.manual_seed(seed)
    tokens = tower.tokenise(CYCLES)
    tower.transformer.train()
    found = np.zeros((len(CYCLES), 32), np.float32)
    with torch.no_grad():
        for index in length_batches(tokens.lengths(), 10**6):
            ids, mask = pad_batch(tokens, index, 0, tower.device)
            hidden = tower.transformer(input_ids=ids, attention_mask=mask).last_hidden_state
            pooled = (hidden * mask[:, :, None]).sum(dim=1)
            found[index] = torch.nn.functional.normalize(pooled, dim=1).cpu().numpy()
    tower.transformer.eval()
    return found


def replace_of(settings: PretrainingConfig, **values: float | None) -> PretrainingConfig:
    return settings.model_copy(update=values)


BOTH = PretrainingConfig(
    masked_epochs=2,
    masked_batch_tokens=64,
    masked_learning_rate=3e-3,
    contrastive_epochs=2,
    contrastive_batch_tokens=256,
    held_out_share=0.1,
)


def test_the_same_seed_gives_the_same_weights_and_another_does_not(base: Path) -> None:
    found = []
    for seed, noise in ((0, 1), (0, 2), (1, 1)):
        tower = tower_of(base)
        torch.manual_seed(noise)
        pretrain(tower, CYCLES, BOTH, seed=seed)
        found.append(weights(tower))
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])
    assert any(not torch.equal(found[0][name], found[2][name]) for name in found[0])


def test_the_callers_random_numbers_stay_as_they_were(tower: TextTower) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    pretrain(tower, CYCLES, BOTH, seed=0)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("settings", [MASKED, CONTRASTIVE], ids=["masked", "contrastive"])
def test_with_upper_layers_alone_the_others_and_the_embeddings_stay(
    tower: TextTower, settings: PretrainingConfig
) -> None:
    before = weights(tower)
    pretrain(tower, CYCLES, replace_of(settings, layers=1), seed=0)
    found = changed(before, tower)
    assert found
    assert all(name.startswith("encoder.layer.2.") for name in found)


def test_with_all_layers_the_embeddings_of_tokens_that_do_not_occur_stay(tower: TextTower) -> None:
    before = weights(tower)
    pretrain(tower, CYCLES, BOTH, seed=0)
    name = "embeddings.word_embeddings.weight"
    assert {name, "encoder.layer.0.output.dense.weight"} <= changed(before, tower)
    rows = (before[name] != tower.transformer.state_dict()[name]).any(dim=1).cpu()
    vocabulary = tiny_tokenizer().get_vocab()
    expected = {vocabulary[word] for words in TOPICS for word in words}
    assert expected <= set(np.flatnonzero(rows)) <= expected | set(range(5))  # the special tokens are 0 to 4


def test_afterwards_the_tower_is_frozen_and_encodes_the_same_twice(tower: TextTower) -> None:
    kind = tower.transformer.config._attn_implementation
    embeddings = tower.transformer.get_input_embeddings()
    pretrain(tower, CYCLES, BOTH, seed=0)
    assert not tower.transformer.training
    assert not any(
        parameter.requires_grad or parameter.grad is not None for parameter in tower.transformer.parameters()
    )
    assert tower.transformer.config._attn_implementation == kind
    assert tower.transformer.get_input_embeddings() is embeddings
    assert np.array_equal(tower.encode(["the new moon", "bread"]), tower.encode(["the new moon", "bread"]))


def test_an_interrupt_leaves_a_whole_frozen_tower(tower: TextTower) -> None:
    before = weights(tower)

    with interrupted_at("epoch 1/"), pytest.raises(KeyboardInterrupt):
        pretrain(tower, CYCLES, BOTH, seed=0)
    assert changed(before, tower)
    assert not any(parameter.requires_grad for parameter in tower.transformer.parameters())
    assert tower.encode(["the new moon"]).shape == (1, 32)


def test_it_is_off_by_default_and_then_changes_nothing(tower: TextTower) -> None:
    assert load_config().encoder.pretraining == PretrainingConfig()
    before = weights(tower)
    assert pretrain(tower, CYCLES, PretrainingConfig(), seed=0) == ()
    assert not changed(before, tower)


def test_the_records_tell_each_phase_in_order(tower: TextTower) -> None:
    records = pretrain(tower, CYCLES, BOTH, seed=0)
    assert [(record.phase, record.epoch) for record in records] == [
        ("masked", 0), ("masked", 1), ("masked", 2), ("contrastive", 0), ("contrastive", 1), ("contrastive", 2),
    ]  # fmt: skip
    assert all(record.metrics["loss"] > 0 and 0 <= record.metrics["accuracy"] <= 1 for record in records)


def test_a_text_given_twice_or_empty_changes_nothing(base: Path) -> None:
    once, twice = tower_of(base), tower_of(base)
    pretrain(once, CYCLES, BOTH, seed=0)
    pretrain(twice, [*CYCLES, "", *CYCLES[::-1]], BOTH, seed=0)
    assert not changed(weights(once), twice)


def test_too_few_texts_are_left_alone_with_a_warning(tower: TextTower, caplog: pytest.LogCaptureFixture) -> None:
    before = weights(tower)
    with caplog.at_level(logging.WARNING):
        assert pretrain(tower, CYCLES[:10] * 9, BOTH, seed=0) == ()
    assert "expected at least 50 distinct texts, got 10" in caplog.text
    assert not changed(before, tower)


def test_a_tokenizer_without_a_mask_token_is_refused(tmp_path: Path) -> None:
    words = sorted({word for text in CYCLES for word in text.split()})
    tower = small_encoder(tmp_path, words, load_config(None, ("encoder.max_tokens=16",))).tower
    tower.tokenizer.mask_token = None
    with pytest.raises(ModelError, match=r"no mask token; .* or encoder\.pretraining\.masked_epochs=0"):
        pretrain(tower, CYCLES, BOTH, seed=0)
    assert pretrain(tower, CYCLES, replace_of(BOTH, masked_epochs=0), seed=0)


def test_a_transformer_without_dropout_is_refused_before_anything_is_trained(tower: TextTower) -> None:
    for module in tower.transformer.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if hasattr(module, "config"):
            module.config.attention_probs_dropout_prob = 0.0
    before = weights(tower)
    with pytest.raises(ModelError, match=r"BertModel has no dropout, .* or encoder\.pretraining\.contrastive_epochs=0"):
        pretrain(tower, CYCLES, BOTH, seed=0)
    assert not changed(before, tower)
    assert pretrain(tower, CYCLES, replace_of(BOTH, contrastive_epochs=0), seed=0)


def test_texts_of_which_no_word_is_known_are_refused(tower: TextTower) -> None:
    longer = TextTower(
        BaseModel(tower.transformer, tower.tokenizer, 64), max_tokens=64, pooling="mean", dtype="float32"
    )
    with pytest.raises(ModelError, match="knows no word of the texts"):
        pretrain(longer, ["ж " * length for length in range(1, 60)], BOTH, seed=0)


SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
MODELS: list[tuple[type[PreTrainedModel], PretrainedConfig]] = [
    (AlbertModel, AlbertConfig(vocab_size=50, embedding_size=16, hidden_dropout_prob=0.1, **SIZES)),
    (XLMRobertaModel, XLMRobertaConfig(vocab_size=50, pad_token_id=0, **SIZES)),
    (MPNetModel, MPNetConfig(vocab_size=50, pad_token_id=0, **SIZES)),
    (ModernBertModel, ModernBertConfig(vocab_size=50, pad_token_id=0, embedding_dropout=0.1, **SIZES)),
    (DistilBertModel, DistilBertConfig(vocab_size=50, dim=32, n_layers=2, n_heads=4, hidden_dim=64)),
    (BertModel, BertConfig(vocab_size=50, **SIZES)),
]


@pytest.mark.parametrize(("kind", "config"), MODELS, ids=[kind.__name__ for kind, _ in MODELS])
def test_other_encoders_are_pretrained_too(kind: type[PreTrainedModel], config: PretrainedConfig) -> None:
    torch.manual_seed(0)
    model = kind(config).eval().requires_grad_(requires_grad=False)
    tower = TextTower(BaseModel(model, tiny_tokenizer(), 64), max_tokens=16, pooling="mean", dtype="float32")
    records = pretrain(tower, CYCLES, replace_of(BOTH, masked_epochs=24, masked_learning_rate=1e-3), seed=0)
    losses = [record.loss for record in records if record.phase == "masked"]
    assert losses[-1] < losses[1] - 0.1


@pytest.mark.parametrize(("kind", "config"), MODELS, ids=[kind.__name__ for kind, _ in MODELS])
def test_with_the_embeddings_of_the_used_tokens_alone_it_computes_the_same(
    kind: type[PreTrainedModel], config: PretrainedConfig
) -> None:
    torch.manual_seed(0)
    model = kind(config).eval()
    tokenizer = tiny_tokenizer()
    tokens = tokenise(tokenizer, CYCLES, 16)
    ids, mask = pad_batch(tokens, np.array([0, 3, 40]), 0, torch.device("cpu"))
    with torch.no_grad():
        whole = model(input_ids=ids, attention_mask=mask).last_hidden_state
        with reduced_embeddings(model, used_tokens(tokenizer, tokens)) as reduced:
            assert torch.equal(model(input_ids=ids, attention_mask=mask).last_hidden_state, whole)
            assert len(reduced.words) == 15
            reduced.words.add_(1)
        again = model(input_ids=ids, attention_mask=mask).last_hidden_state
    assert not torch.equal(again, whole)


def test_a_training_with_pretraining_starts_from_other_vectors_and_reports_the_base_model_as_frozen(
    tmp_path: Path,
) -> None:
    log, base = topic_log(400), save_tiny_bert(tmp_path / "base")
    plain, pretrained = (
        train_encoder(log, TrainingSchedule(log.impressions, (200, 300)), tiny_config(base, *settings))
        for settings in ((), ("encoder.pretraining.masked_epochs=4", "encoder.fine_tune_epochs=0"))
    )
    assert pretrained.frozen.fingerprint == plain.frozen.fingerprint
    assert np.array_equal(pretrained.frozen.table.vectors, plain.frozen.table.vectors)
    before, after = (encoder.tower.transformer.state_dict() for encoder in (pretrained.frozen, pretrained.head))
    assert any(not torch.equal(before[name], after[name]) for name in before)
