"""A real unit in miniature: a simulated site, a random transformer of two narrow layers, a ranker of a few trees."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from features.log import Log
from features.tables.load import load_log
from pipelines.data_options import read_options
from pipelines.simulate import simulate
from recsys.config import Config, load_config
from recsys.encoder.model import Encoder
from recsys.encoder.snapshots import BEGINNING, ScheduledEncoder
from recsys.encoder.text import item_texts
from recsys.encoder.training.train import base_encoder
from recsys.ranker.model import RankingModel, Settings
from recsys.training.context import TrainingContext, make_context
from recsys.training.stages import RankerResult, ranker_stage
from recsys.training.text_models import lexical_stage

SETTINGS = (
    "ranker.max_trees=20",
    "ranker.min_data_in_leaf=5",
    "ranker.num_leaves=7",
    "encoder.max_tokens=24",
    "encoder.dtype=float32",
    "threads=1",
    "registered=ranker",
    "ranker.small_data_lists=0",
    "encoder.min_impressions=200",
)


def tiny_settings(base: Path) -> tuple[str, ...]:
    """Settings of a training that takes seconds, on the base model at `base`."""
    return (
        *SETTINGS,
        f"encoder.base_model={base}",
        "encoder.head_epochs=2",
        "encoder.fine_tune_epochs=1",
        "encoder.fine_tune_every=1",
        "evaluation.resamples=100",
        "final_training=false",
    )


SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


@dataclass(frozen=True)
class SmallSite:
    """data: the folder of tables. unit: trained on them; its encoder's table holds the texts of all items."""

    data: Path
    config: Config
    log: Log
    chain: TrainingContext
    ranked: RankerResult
    ranking_model: RankingModel


def small_encoder(folder: Path, words: list[str], config: Config, *, dim: int = 32, length: int = 64) -> Encoder:
    """An untrained encoder whose tokenizer knows `words`; length: of its longest text, in tokens."""
    vocabulary = {word: i for i, word in enumerate(dict.fromkeys([*SPECIAL, *words]))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        mask_token="[MASK]",
        model_max_length=length,
    )
    shape = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=dim,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=length,
    )
    torch.manual_seed(7)
    BertModel(shape).save_pretrained(folder)
    fast.save_pretrained(folder)
    return base_encoder(config.encoder.model_copy(update={"base_model": str(folder)}))


def always(encoder: Encoder) -> tuple[ScheduledEncoder, ...]:
    """An encoder that scores every list."""
    return (ScheduledEncoder(BEGINNING, None, encoder),)


@lru_cache
def small_site() -> SmallSite:
    """One site for all tests of a run."""
    folder = Path(tempfile.mkdtemp(prefix="small-site-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return make_small_site(folder)


def make_small_site(folder: Path, *, items: int = 80, users: int = 60, impressions: int = 1500) -> SmallSite:
    """Simulate, encode, train; a few seconds."""
    data = folder / "data"
    simulate(data, users=users, items=items, impressions=impressions, seed=3)
    config = load_config(None, SETTINGS)
    log, tables = load_log(data, read_options(config))
    chain = make_context(config, log)
    texts = item_texts(log.catalog, config.encoder.template)
    words = sorted({word.lower() for text in texts for word in text.split() if word.isalpha()})
    encoder = small_encoder(folder / "base", words, config).with_table([text for text in texts if text])
    lexical = lexical_stage(chain)
    ranked = ranker_stage(chain, always(encoder), lexical)
    ranker = ranked.rankers["ranker"]
    settings = Settings(
        columns=ranker.columns,
        categories=dict(ranked.vocabularies),
        inputs=config.features,
        history_length=config.encoder.history_length,
        template=config.encoder.template,
        data=config.data,
        collaborative=ranked.texts.collaborative,
        encoder="models:/small-encoder/1",
        encoder_fingerprint=encoder.fingerprint,
        training_scores="an untrained encoder",
        list_sizes=ranked.list_sizes(),
        data_fingerprint=tables.fingerprint,
        trained_until=int(np.max(log.impressions.requests.time)),
    )
    return SmallSite(data, config, log, chain, ranked, RankingModel(settings, ranker, encoder, lexical))
