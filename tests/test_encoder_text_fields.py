"""Texts of several lines: each line is encoded on its own, and the head reads their vectors side by side."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_encoder import save_tiny_bert, tiny_config, topic_log

from recsys.encoder.head import Head
from recsys.encoder.model import Encoder, load_encoder
from recsys.encoder.text import Template
from recsys.encoder.text_fields import concat_fields, split_fields
from recsys.encoder.training.schedule import TrainingSchedule
from recsys.encoder.training.train import base_encoder, train_encoder
from recsys.encoder.training.upper_layers import TrainableLayers
from recsys.errors import ConfigError

TWO = r'encoder.template="{title}\n{description}"'
TEXTS = ["moon\nthe old launch", "bread, butter", "\nthe old launch", "moon\nbread, butter"]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_bert(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def encoder(base: Path) -> Encoder:
    return base_encoder(tiny_config(base, TWO).encoder)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"title": "A", "category": "B", "description": "C\nD"}, "A. B\nC D"),
        ({"title": "A", "category": "", "description": ""}, "A"),
        ({"title": "", "category": "", "description": "C"}, "\nC"),
        ({"title": "", "category": "", "description": ""}, ""),
    ],
)
def test_a_line_of_the_template_is_a_line_of_the_text(values: dict[str, str], text: str) -> None:
    assert Template.parse("{title}. {category}\n{description}\n").fill(values) == text


def test_every_line_of_a_template_names_a_column() -> None:
    with pytest.raises(ConfigError, match="at least one column in braces on every line"):
        Template.parse("{title}\nwords")


def test_a_missing_line_is_the_first_that_is_there() -> None:
    lines = split_fields([*TEXTS, "\n", "a\nb\nc"], 2)
    shown = [[lines.distinct[line] for line in row] for row in lines.of_text]
    assert shown == [
        ["moon", "the old launch"],
        ["bread, butter", "bread, butter"],
        ["the old launch", "the old launch"],
        ["moon", "bread, butter"],
        ["\n", "\n"],
        ["a", "b\nc"],
    ]
    assert len(lines.distinct) == len(set(lines.distinct)) == 6


def test_without_a_head_a_text_is_the_mean_of_its_lines(encoder: Encoder) -> None:
    vectors = encoder.encode_texts(TEXTS)
    moon, launch, bread = encoder.tower.encode(["moon", "the old launch", "bread, butter"])
    assert vectors.shape == (4, encoder.dim) == (4, 32)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-6)
    assert vectors[0] == pytest.approx((moon + launch) / np.linalg.norm(moon + launch), abs=1e-5)
    assert vectors[1:3] == pytest.approx(np.array([bread, launch]), abs=1e-5)


def test_a_fresh_head_takes_the_mean_and_a_trained_one_reads_which_line_says_what(encoder: Encoder) -> None:
    head = Head(encoder.dim, 2)
    read = Encoder(encoder.settings, encoder.tower, head)
    assert read.encode_texts(TEXTS) == pytest.approx(encoder.encode_texts(TEXTS), abs=1e-6)
    torch.nn.init.normal_(head.map_out.weight, generator=torch.Generator().manual_seed(0))
    there, turned = read.encode_texts(["moon\nthe old launch", "the old launch\nmoon"])
    assert np.linalg.norm(there) == pytest.approx(1, abs=1e-6)
    assert there @ turned < 0.99


def test_the_upper_layers_give_the_vectors_of_the_whole_and_every_line_its_gradient(encoder: Encoder) -> None:
    lines = split_fields(TEXTS, 2)
    tower = encoder.tower.copy()
    upper = TrainableLayers(tower, tower.tokenise(lines.distinct), lines.of_text, 1)
    expected = concat_fields(encoder.tower.encode(lines.distinct), lines.of_text)
    index = np.array([3, 0])
    assert upper.prepare() == pytest.approx(expected, abs=1e-5)
    made = upper.vectors(index)
    assert made.detach().cpu().numpy() == pytest.approx(expected[index], abs=1e-5)
    ramp = torch.arange(32, device=made.device)
    weights = [weight for weight in upper.trained.parameters() if weight.requires_grad]
    first, second = (
        torch.autograd.grad(half.square().sum(), weights[0], retain_graph=True)[0]
        for half in (made[:, :32] * ramp, made[:, 32:] * ramp)
    )
    assert first.abs().max() > 0
    assert second.abs().max() > 0


def test_side_by_side_leaves_vectors_of_one_line_as_they_are() -> None:
    vectors = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    assert np.array_equal(concat_fields(vectors, np.array([[2], [0]])), vectors[[2, 0]])
    assert concat_fields(vectors, np.zeros((0, 2), np.int64)).shape == (0, 8)


def test_an_encoder_of_two_lines_is_trained_saved_and_read(base: Path, tmp_path: Path) -> None:
    log = topic_log(400)
    config = tiny_config(base, TWO, "encoder.fine_tune_every=1")
    trained = train_encoder(log, TrainingSchedule(log.impressions, (200, 300)), config)
    texts = ["the new goal", "goal\nmoon", "\nmoon"]
    trained.full.save(tmp_path / "encoder")
    read = load_encoder(tmp_path / "encoder")
    assert trained.trained
    assert read.dim == 32
    assert read.encode_texts(texts) == pytest.approx(trained.full.encode_texts(texts), abs=1e-6)
    assert [state.model.weights.prior.shape for state in trained.states] == [(32,)] * 3
