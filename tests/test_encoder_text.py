"""Item texts from templates, and their tokens."""

import itertools
import json
import unicodedata
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_encoder import catalog_of, save_tiny_bert, tiny_config, tiny_tokenizer, topic_log
from transformers import PreTrainedTokenizerFast

from features.arrays import CsrLists
from features.log import Categorical
from recsys.encoder.base_model import load_base_model
from recsys.encoder.model import Encoder, EncoderSettings, load_tower
from recsys.encoder.text import Template, clean_text, item_texts, text_hash, tokenise
from recsys.encoder.training.data import read_training_data
from recsys.encoder.training.examples import collect_texts
from recsys.encoder.training.schedule import TrainingSchedule
from recsys.encoder.training.train import base_encoder
from recsys.errors import ConfigError
from recsys.ranker.matrix import encode_queries

BOTH = {"title": "Red shoes", "description": "For rain"}


@pytest.mark.parametrize(
    ("template", "values", "expected"),
    [
        ("{title}. {description}", BOTH, "Red shoes. For rain"),
        ("{title}. {description}", {"title": "Red shoes"}, "Red shoes"),
        ("{title}. {description}", {"description": "For rain"}, "For rain"),
        ("{title}. {description}", {"title": " ", "description": ""}, ""),
        ("{title}. {description}", {"title": "Why?", "description": "So."}, "Why? So."),
        ("{title}。{description}", {"title": "红鞋。", "description": "防雨"}, "红鞋。防雨"),
        ("{title}。{description}", {"title": "红鞋"}, "红鞋"),
        ("{title}。{description}", {"description": "防雨。"}, "防雨。"),
        ("{title}。{category}。{description}", {"title": "红鞋", "description": "防雨"}, "红鞋。防雨"),
        (
            "{title}。{category}。{description}",
            {"title": "下雨吗？", "category": "鞋", "description": "防雨。"},
            "下雨吗？鞋。防雨。",
        ),
        ("{title}。品牌：{brand}。{description}", {"title": "红鞋", "description": "防雨"}, "红鞋。防雨"),
        (
            "{title}。品牌：{brand}。{description}",
            {"title": "红鞋", "brand": "阿科", "description": "防雨"},
            "红鞋。品牌：阿科。防雨",
        ),
        ("{title}。{description}", {"title": "他说：“下雨了。”", "description": "防雨"}, "他说：“下雨了。”防雨"),
        ("{title}。{description}", {"title": "赤い靴｡", "description": "雨用"}, "赤い靴｡雨用"),
        ("{title}. {description}", {"title": "红鞋。", "description": "防雨"}, "红鞋。 防雨"),
        ("{title}. {description}", {"title": "لماذا؟", "description": "للمطر"}, "لماذا؟ للمطر"),
        ("{title}. {description}", {"title": "سرخ۔", "description": "بارش"}, "سرخ۔ بارش"),
        ("{title}، {description}", {"description": "للمطر"}, "للمطر"),
        ("{title}. {description}", {"title": "नमस्ते।", "description": "बारिश"}, "नमस्ते। बारिश"),
        ("{title}. {description}", {"title": "(Really?)", "description": "So."}, "(Really?) So."),
        ("{title}. {description}", {"title": "ร่มแดง", "description": "กันฝน"}, "ร่มแดง. กันฝน"),
        ("{title}. {description}", {"title": "\u200f", "description": "防雨"}, "防雨"),
        ("{title}. Brand: {brand}. {description}", {**BOTH, "brand": "Aco"}, "Red shoes. Brand: Aco. For rain"),
        ("{title}. Brand: {brand}. {description}", BOTH, "Red shoes. For rain"),
        ("{title}. Brand: {brand}", {"brand": "Aco"}, "Brand: Aco"),
        ("Title: {title} ({brand})", {"title": "Red shoes"}, "Title: Red shoes"),
        ("Title: {title} ({brand})", {"title": "Red shoes", "brand": "Aco"}, "Title: Red shoes (Aco)"),
        ("{title}", {"title": "two\n lines \ud800"}, "two lines ?"),
    ],
)
def test_a_missing_column_takes_the_words_before_it_along(template: str, values: dict[str, str], expected: str) -> None:
    assert Template.parse(template).fill(values) == expected


@pytest.mark.parametrize("template", ["no column", "{title", "{}", "{title:>10}", "{title!r}", "{a.b}", "{0}"])
def test_a_malformed_template_is_an_error(template: str) -> None:
    with pytest.raises(ConfigError, match="expected a text template"):
        Template.parse(template)


def test_any_column_of_the_items_table_can_stand_in_the_template() -> None:
    genres = Categorical(("Comedy", "Drama"), CsrLists(np.array([0, 2, 2, 2]), np.array([0, 1], np.int32)))
    catalog = replace(
        catalog_of(["Up", "Off"]),
        categories={"category": genres},
        numbers={"year": np.array([2009.0, np.nan, np.nan])},
        texts={"brand": np.array(["", "Aco", ""], object)},
    )
    assert item_texts(catalog, "{title}. {category}. {year}. {brand}") == ["Up. Comedy, Drama. 2009", "Off. Aco", ""]


def test_an_unknown_column_is_an_error_that_names_the_known_ones_but_category_may_be_absent() -> None:
    with pytest.raises(ConfigError, match=r"'brand'.*\['category', 'description', 'title'\]"):
        item_texts(catalog_of(["a"]), "{title} {brand}")
    assert item_texts(catalog_of(["a"]), "{title}, {category}") == ["a", ""]


def test_long_texts_are_cut_and_counted_and_chinese_is_read_by_the_character() -> None:
    tokens = tokenise(tiny_tokenizer(), ["足球比赛", "the new goal the new goal", "the"], 6)
    assert list(tokens.lengths()) == [6, 6, 3]
    assert tokens.truncated == 1
    assert tiny_tokenizer().decode(tokens.ids[:6]) == "[CLS] 足 球 比 赛 [SEP]"
    assert len(tokenise(tiny_tokenizer(), [], 6)) == 0


def test_what_is_cut_of_a_chinese_text_is_its_end_and_what_is_unknown_is_counted(tmp_path: Path) -> None:
    folder = save_tiny_bert(tmp_path / "bert")
    saved = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(saved | {"truncation_side": "left"}))
    tokenizer = load_base_model(str(folder)).tokenizer
    tokens = tokenise(tokenizer, ["足球比赛新闻", "月亮", "龘龘月"], 6)
    read = [tokenizer.decode(tokens.ids[a:b]) for a, b in itertools.pairwise(tokens.offsets)]
    assert read == ["[CLS] 足 球 比 赛 [SEP]", "[CLS] 月 亮 [SEP]", "[CLS] [UNK] [UNK] 月 [SEP]"]
    assert (tokens.truncated, tokens.unknown) == (1, 2)


@pytest.mark.parametrize("mark", [*"\u00ad\u061c\u200e\u200f\u202a\u202e\u2066\u2069\ufeff"])
def test_marks_of_direction_leave_no_trace_in_a_text(mark: str) -> None:
    assert clean_text(f"{mark}שלום{mark} {mark} עו{mark}לם{mark}") == "שלום עולם"


@pytest.mark.parametrize("kept", ["می\u200cخواهم", "क्\u200dष", "รถ\u200bไฟ", "👩\u200d👩", "שָׁלוֹם", "مُحَمَّد"])
def test_joiners_and_points_stay_for_the_tokenizer(kept: str) -> None:
    assert clean_text(kept) == unicodedata.normalize("NFC", kept)


def test_composed_and_decomposed_letters_are_one_text() -> None:
    for text in ("café", "한국", "ガラス", "Việt Nam", "أحمد"):
        assert text_hash(clean_text(unicodedata.normalize("NFD", text))) == text_hash(clean_text(text))
    assert clean_text("红鞋\u3000防雨\n\n") == "红鞋 防雨"


def test_one_reading_gives_the_tokens_that_the_tokenizer_itself_gives_whole_and_cut() -> None:
    texts = ["the new goal the new goal", "the", "", "足球比赛 goal", "oven " * 40]
    tokenizer = tiny_tokenizer()
    tokenizer.backend_tokenizer.enable_padding(length=12)
    for max_tokens in (4, 6, 6, 64):
        wanted = tokenizer(texts, truncation=True, max_length=max_tokens, padding=False)["input_ids"]
        whole = tokenizer(texts, truncation=False, padding=False)["input_ids"]
        tokenizer.backend_tokenizer.enable_truncation(5, direction="left")
        found = tokenise(tokenizer, texts, max_tokens)
        slow = tokenise(SlowTokenizer(tokenizer), texts, max_tokens)
        for one in (found, slow):
            assert [row.tolist() for row in np.split(one.ids, one.offsets[1:-1])] == wanted
            assert one.truncated == sum(len(row) > max_tokens for row in whole)


class SlowTokenizer:
    """A tokenizer without a part in Rust: it can only be called."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self.pad_token_id, self.unk_token_id = tokenizer.pad_token_id, tokenizer.unk_token_id
        self._tokenizer = tokenizer

    def __call__(self, *inputs: object, **named: object) -> object:
        return self._tokenizer(*inputs, **named)


def test_equal_texts_have_equal_hashes_and_others_do_not() -> None:
    assert text_hash("红鞋") == text_hash("红鞋") != text_hash("红鞋 ")
    assert len(text_hash("")) == 32


def test_a_query_is_read_as_an_item_is_and_one_of_marks_alone_is_none(tmp_path: Path) -> None:
    folder = save_tiny_bert(tmp_path / "bert")
    settings = EncoderSettings(str(folder), "{title}", 16, 50, "mean", "float32")
    encoder = Encoder(settings, load_tower(str(folder), settings), None)
    vectors = encode_queries(encoder, np.array(["足球", "\u200f足球\u200e ", " \u200f", None], object))
    assert vectors is not None
    assert np.array_equal(vectors[0], vectors[1]) and np.isnan(vectors[2:]).all()
    texts = collect_texts(["足球", ""], np.array(["足球\u200f", "\u200f", None], object))
    assert texts.distinct == ["足球"]
    assert texts.rows(np.array(["足球\u200f", "\u200f", None], object)).tolist() == [0, -1, -1]  # type: ignore[union-attr]


@pytest.mark.parametrize(("title", "said"), [("the new goal", False), ("מדוע הטיל ממתין", True)])
def test_a_base_model_that_does_not_read_the_language_is_told(
    title: str, said: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = tiny_config(save_tiny_bert(tmp_path / "bert"))
    log = topic_log(n_impressions=20)
    log = replace(log, catalog=catalog_of([f"{title} {i % 2}" if said else title for i in range(len(log.catalog))]))
    tower = base_encoder(config.encoder).tower
    data = read_training_data(log, TrainingSchedule(log.impressions), config, tower)
    assert (data.counts.tokens_unknown > 0) is said
    assert ("unknown to base model" in caplog.text) is said
