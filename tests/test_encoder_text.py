"""Item texts from templates, and their tokens."""

from dataclasses import replace

import numpy as np
import pytest
from tiny_encoder import catalog_of, tiny_tokenizer
from transformers import PreTrainedTokenizerFast

from features.log import Categorical, Ragged
from recsys.encoder.text import Template, item_texts, text_hash, tokenise
from recsys.errors import ConfigError

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
    genres = Categorical(("Comedy", "Drama"), Ragged(np.array([0, 2, 2, 2]), np.array([0, 1], np.int32)))
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
