"""A tiny BERT with a vocabulary of its own, and a log whose clicks follow the words of the items."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from features.arrays import NO_TIME
from features.log import Catalog, Events, Impressions, Log, Requests
from recsys.config import Config, load_config

TOPICS = (
    ("football", "goal", "match", "league", "striker"),
    ("bread", "oven", "flour", "recipe", "butter"),
    ("rocket", "orbit", "moon", "launch", "probe"),
)
PLAIN = ("the", "new", "big", "old", "hot", "top", "raw")
CHINESE = "足球比赛面包烤箱火箭月亮新闻的了"
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
SECOND = 1_000_000


def tiny_tokenizer(pad: bool = True) -> PreTrainedTokenizerFast:
    words = [*SPECIAL, ".", ",", *PLAIN, *(word for topic in TOPICS for word in topic), *CHINESE, "##s"]
    core = Tokenizer(models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    core.normalizer = normalizers.BertNormalizer(lowercase=True)
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        unk_token="[UNK]",
        pad_token="[PAD]" if pad else None,
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=64,
    )


def save_tiny_bert(folder: Path, layers: int = 3, pad: bool = True) -> Path:
    """A random BERT of width 32 in Hugging Face's layout."""
    torch.manual_seed(7)
    tokenizer = tiny_tokenizer(pad)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def tiny_config(folder: Path, *settings: str) -> Config:
    """A configuration that trains the tiny BERT in a second or two."""
    defaults = (
        f"encoder.base_model={folder}",
        "encoder.max_tokens=16",
        "encoder.dtype=float32",
        "encoder.head_epochs=3",
        "encoder.min_impressions=200",
        "encoder.head_learning_rate=1e-2",
        "encoder.head_batch_size=64",
        "encoder.fine_tune_epochs=2",
        "encoder.fine_tune_every=1",
        "encoder.fine_tune_layers=1",
        "encoder.fine_tune_block_size=16",
        "encoder.fine_tune_learning_rate=3e-3",
        "threads=1",
    )
    return load_config(None, (*defaults, *settings))


def catalog_of(titles: list[str], descriptions: list[str] | None = None) -> Catalog:
    """A catalog with these titles, in order; "" for an item without text."""
    n = len(titles)
    ids = np.array([f"i{k:05d}" for k in range(n)], object)
    described = descriptions or [""] * n
    return Catalog(
        ids, np.array([*titles, ""], object), np.array([*described, ""], object), np.full(n + 1, NO_TIME, np.int64)
    )


def topic_log(n_impressions: int = 400, n_users: int = 40, seed: int = 0, textless: int = 0) -> Log:
    """Users who each like one topic click its item among five others; `textless` more items have no text.

    Items of a topic share no word but by chance: what belongs together has to be learnt from clicks.
    """
    generator = np.random.default_rng(seed)
    titles, topic_of = [], []
    for topic, words in enumerate(TOPICS):
        for word in words:
            for plain in PLAIN:
                titles.append(f"{plain} {word} {PLAIN[len(titles) % len(PLAIN)]}")
                topic_of.append(topic)
    topics = np.array([*topic_of, *[-1] * textless])
    taste = generator.integers(0, len(TOPICS), n_users)
    user = generator.integers(0, n_users, n_impressions).astype(np.int32)
    time = np.arange(n_impressions, dtype=np.int64) * SECOND
    item, label = [], []
    for one in user:
        liked = generator.choice(np.flatnonzero(topics == taste[one]))
        others = generator.choice(np.flatnonzero(topics != taste[one]), 5, replace=False)
        order = generator.permutation(6)
        item.extend(np.array([liked, *others])[order])
        label.extend(np.array([1, 0, 0, 0, 0, 0])[order])
    items = np.array(item, np.int32)
    requests = Requests(user, time, np.arange(0, 6 * n_impressions + 1, 6, dtype=np.int64), items)
    labels = np.array(label, np.int8)
    ids = np.array([str(k) for k in range(n_impressions)], object)
    shown = Impressions(requests, ids, np.zeros(n_impressions, bool), labels, np.zeros(len(items), np.int32))
    n = n_impressions
    events = Events(user, items[labels > 0], time, np.zeros(n, np.int8), ("click",), np.ones(n, bool), np.ones(n, bool))
    users = np.array([f"u{k:03d}" for k in range(n_users)], object)
    return Log(catalog_of([*titles, *[""] * textless]), users, events, shown)
