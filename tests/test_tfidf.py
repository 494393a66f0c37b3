"""TF-IDF against scikit-learn and by hand; the same bits after loading and whatever else is ranked."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import TfidfVectorizer

from features.arrays import CsrLists
from features.history import Histories
from features.log import Requests
from recsys.config import LexicalConfig
from recsys.errors import ModelError
from recsys.ranker.tfidf import Lexical, fit_lexical, lexical_column, load_lexical, tokenize

pytestmark = pytest.mark.kernels

TEXTS = [
    "Red shoes, red laces",
    "blue shoes",
    "a blue hat for rain",
    "红色的鞋子",
    "蓝色的鞋子 shoes",
    "rain rain rain",
]
EVERY_TERM = LexicalConfig(min_document_count=1)


def one_request(items: list[int], past: list[int]) -> tuple[Requests, Histories]:
    requests = Requests(
        np.zeros(1, np.int32), np.zeros(1, np.int64), np.array([0, len(items)]), np.array(items, np.int32)
    )
    codes = CsrLists(np.array([0, len(past)]), np.array(past, np.int32))
    return requests, Histories(codes, np.zeros(len(past), np.int64))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Don't RUN, ｆａｓｔ", ["don", "run", "fast"]),
        ("红鞋", ["红鞋"]),
        ("鞋", ["鞋"]),
        ("iPhone手机壳", ["iphone", "手机", "机壳", "手机壳"]),
        ("รถไฟ", ["รถ", "ถไ", "ไฟ", "รถไ", "ถไฟ"]),
        ("さくら", ["さく", "くら", "さくら"]),
        ("हिन्दी समाचार", ["हिन्दी", "समाचार"]),
        ("شَمس كبيرة", ["شمس", "كبيرة"]),
        ("한국 뉴스", ["한국", "뉴스"]),
        ("책 a", ["책"]),
        ("ジョン・レノン", ["ジョ", "ョン", "ジョン", "レノ", "ノン", "レノン"]),
        ("东京、大阪。", ["东京", "大阪"]),
        ("บ้าน ฿๑๐", ["บ้", "้า", "าน", "บ้า", "้าน", "๑๐"]),
        ("སྐད བོད", ["སྐད", "བོད"]),
        ("ދިވެހި", ["ދިވެހި"]),
        ("snake_case", ["snake", "case"]),
        ("a _ - !", []),
    ],
)
def test_words_are_terms_and_scripts_without_spaces_give_character_n_grams(text: str, expected: list[str]) -> None:
    assert tokenize(text) == expected


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("ｶﾞﾗｽ", "ガラス"),  # half-width forms
        ("ﻣﺮﺣﺒﺎ ﷲ", "مرحبا الله"),  # presentation forms and a ligature
        ("\ufb2aלום", "שלום"),
        ("שָׁלוֹם", "שלום"),  # points
        ("مُحَمَّد", "محمد"),  # vowel signs
        ("مـــرحبا", "مرحبا"),  # stretching
        ("צה\"ל ארה״ב ג'ירפה", "צהל ארהב גירפה"),  # abbreviations and sounds
        ("בית־ספר", "בית ספר"),  # the Hebrew hyphen
        ("می\u200cخواهم", "می خواهم"),  # a non-joiner parts words in Persian
        ("क्\u200cष क्\u200dष", "क्ष क्ष"),  # and shapes letters in Hindi
        ("葛\U000e0100城", "葛城"),  # a variant of a glyph
        ("红\u200b鞋", "红鞋"),
        ("re\u00adsult", "result"),
        ("cafe\u0301 e\u0301tude", "café étude"),
    ],
)
def test_what_looks_or_sounds_the_same_gives_the_same_terms(text: str, same: str) -> None:
    assert tokenize(text) == tokenize(same) != []


@pytest.mark.parametrize("mark", [*"\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff"])
def test_marks_of_direction_neither_part_nor_join_nor_make_terms(mark: str) -> None:
    for text in ("שלום עולם", "مرحبا بالعالم", "red shoes", "红鞋 防雨"):
        assert tokenize(f"{mark}{text[:2]}{mark}{text[2:]}{mark}") == tokenize(text)
    assert tokenize(f"{mark} {mark}") == []


def test_rows_are_those_of_scikit_learn() -> None:
    model = fit_lexical(TEXTS, EVERY_TERM)
    reference = TfidfVectorizer(analyzer=tokenize, sublinear_tf=True)
    expected = reference.fit_transform(TEXTS)
    assert list(model.terms) == reference.get_feature_names_out().tolist()
    rows = model.transform(TEXTS)
    bounds = np.append(0, rows.ends)
    found = csr_matrix((rows.values, rows.terms, bounds), shape=(len(TEXTS), rows.n_terms))
    assert found.toarray() == pytest.approx(expected.toarray())


def test_rare_terms_are_left_out_and_the_most_frequent_are_kept() -> None:
    assert fit_lexical(TEXTS[:3], LexicalConfig(min_document_count=2)).terms == ("blue", "shoes")
    assert fit_lexical(TEXTS, LexicalConfig(min_document_count=1, max_terms=2)).terms == ("rain", "shoes")


def test_a_loaded_model_transforms_to_the_same_bits(tmp_path: Path) -> None:
    model = fit_lexical(TEXTS, EVERY_TERM)
    model.save(tmp_path / "lexical.json")
    read = load_lexical(tmp_path / "lexical.json")
    one, two = model.transform(TEXTS), read.transform(TEXTS)
    for name in ("starts", "ends", "terms", "values"):
        assert np.array_equal(getattr(one, name), getattr(two, name))


@pytest.mark.parametrize("content", ["", "{}", '{"format": 9}', '{"format": 1, "terms": ["a"], "idf": []}'])
def test_a_file_that_is_no_model_is_an_error(tmp_path: Path, content: str) -> None:
    path = tmp_path / "lexical.json"
    path.write_text(content)
    with pytest.raises(ModelError, match=r"lexical model .* cannot be read"):
        load_lexical(path)


def test_the_column_is_the_cosine_with_the_mean_of_the_history() -> None:
    model = Lexical(("hat", "red", "shoes"), np.ones(3))
    rows = model.transform(["red shoes", "red hat", "shoes", "unknown", ""])
    requests, past = one_request([2, 3, 0, -1, 1], [0, 1])
    # The mean of (red, shoes) and (red, hat) points to (hat 1, red 2, shoes 1).
    length = np.sqrt(6)
    expected = [1 / length, np.nan, 3 / np.sqrt(2) / length, np.nan, 3 / np.sqrt(2) / length]
    assert lexical_column(rows, requests, past) == pytest.approx(np.array(expected), nan_ok=True)


def test_without_a_known_term_in_the_history_the_value_is_missing() -> None:
    rows = fit_lexical(TEXTS, EVERY_TERM).transform([*TEXTS, "zzz"])
    for past in ([], [6], [-1]):
        assert np.isnan(lexical_column(rows, *one_request([0, 1], past))).all()


texts = st.lists(st.text(alphabet="abcd 红鞋子的", max_size=30), min_size=3, max_size=12)


@given(texts, st.integers(0, 2**32 - 1))
def test_a_value_has_the_same_bits_whatever_else_is_ranked(drawn: list[str], seed: int) -> None:
    generator = np.random.default_rng(seed)
    rows = fit_lexical(drawn, EVERY_TERM).transform([*drawn, ""])
    past = generator.integers(0, len(drawn), 5).tolist()
    items = list(range(len(drawn)))
    whole = lexical_column(rows, *one_request(items, past))
    some = generator.permutation(items)[: 1 + seed % len(items)].tolist()
    assert np.array_equal(lexical_column(rows, *one_request(some, past)), whole[some], equal_nan=True)
