"""A small BERT that reads Chinese: its vocabulary is trained on the texts at hand, a token a character."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def chinese_tokenizer(texts: Sequence[str]) -> PreTrainedTokenizerFast:
    """WordPiece over single characters, as bert-base-chinese has it."""
    core = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    core.normalizer = normalizers.BertNormalizer(handle_chinese_chars=True, lowercase=True)
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.train_from_iterator(
        texts, trainers.WordPieceTrainer(vocab_size=4000, special_tokens=list(SPECIAL), show_progress=False)
    )
    ends = [(name, core.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    core.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return PreTrainedTokenizerFast(tokenizer_object=core, mask_token="[MASK]", model_max_length=128, **names)


def save_chinese_bert(folder: Path, texts: Sequence[str]) -> Path:
    """A random BERT of two layers and width 64 with a vocabulary of these texts, in Hugging Face's layout."""
    torch.manual_seed(7)
    tokenizer = chinese_tokenizer(texts)
    shape = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=128,
        max_position_embeddings=128,
    )
    model = BertModel(shape)
    model.embeddings.position_embeddings.weight.data.zero_()  # else every text has nearly the same mean
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
