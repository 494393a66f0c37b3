"""The engine of dtype int8: how near its vectors are, what they depend on, and what happens where it cannot run."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from features.arrays import Float32
from recsys.encoder.dtype import has_bfloat16, has_int8
from recsys.encoder.model import EncoderSettings, load_tower
from recsys.encoder.openvino import OpenVinoEncoder
from recsys.encoder.tower import TextTower

pytestmark = pytest.mark.skipif(
    not has_int8(torch.device("cpu")) or torch.cuda.is_available(), reason="needs AVX-512 with VNNI, and no GPU"
)
WORDS = (
    "red",
    "oak",
    "desk",
    "lamp",
    "with",
    "two",
    "drawers",
    "black",
    "steel",
    "pen",
    "set",
    "of",
    "twelve",
    "refill",
)


def built_in(dtype: str) -> TextTower:
    return load_tower("builtin", EncoderSettings("builtin", "{title}", 32, 50, "mean", dtype))  # type: ignore[arg-type]


def made_texts(n: int) -> list[str]:
    random = np.random.default_rng(3)
    return [" ".join(random.choice(WORDS, size)) for size in random.integers(1, 40, n)]


@pytest.mark.parametrize("dtype", ["int8+float32", "int8+bfloat16"])
def test_int8_vectors_of_the_built_in_model_are_near_those_of_float32_and_the_same_alone(dtype: str) -> None:
    if dtype.endswith("bfloat16") and not has_bfloat16(torch.device("cpu")):
        pytest.skip("no bfloat16 here")
    texts = made_texts(120)
    full = built_in("float32").encode(texts)
    tower = built_in(dtype)
    done: list[int] = []
    found = tower.encode_tokens(tower.tokenise(texts), progress=done.append)
    assert sum(done) == len(texts)
    assert (found * full).sum(axis=1).mean() > 0.999
    assert 1e-4 < np.abs(found @ full.T - full @ full.T).max() < 0.015
    assert np.array_equal(np.concatenate([tower.encode([text]) for text in texts[:20]]), found[:20])
    assert np.array_equal(np.concatenate([tower.encode(texts[i : i + 7]) for i in range(0, 120, 7)]), found)


def test_int8_vectors_do_not_depend_on_the_number_of_threads() -> None:
    texts, before = made_texts(40), torch.get_num_threads()
    found = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        try:
            found.append(built_in("int8+float32").encode(texts))
        finally:
            torch.set_num_threads(before)
    assert np.array_equal(*found)


class LargeChannels(nn.Module):
    """Token ids to products of a layer norm of which one channel in 128 is large.

    behind_clamp: put a clamp that changes nothing after the norm, so that the products do not read the norm itself.
    """

    def __init__(self, *, behind_clamp: bool) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.words = nn.Embedding(50, 256)
        self.norm = nn.LayerNorm(256)
        self.norm.weight.data[::128] = 60.0
        self.product = nn.Linear(256, 64)
        self.product.weight.data[:, ::128] /= 60
        self._behind_clamp = behind_clamp

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        normed = self.norm(self.words(ids))
        normed = normed.clamp(min=-1e6) if self._behind_clamp else normed
        products: torch.Tensor = self.product(normed) * mask[:, :, None]
        return products.sum(dim=1)


def test_a_large_channel_of_a_layer_norm_does_not_take_the_scale_from_the_others() -> None:
    ids = torch.from_numpy(np.random.default_rng(5).integers(0, 50, (30, 4)))
    mask = torch.ones_like(ids)

    def error(module: nn.Module) -> float:
        with torch.no_grad():
            exact = module(ids, mask).numpy()
        vectors: Float32 = np.zeros_like(exact)
        OpenVinoEncoder(module, vocabulary=50, bfloat16=False).run([(np.arange(30), ids, mask)], vectors)
        return float(np.abs(vectors - exact).mean() / np.abs(exact).mean())

    balanced, plain = (error(LargeChannels(behind_clamp=clamp)) for clamp in (False, True))
    assert balanced < 0.02
    assert balanced < plain / 3


def test_an_engine_that_cannot_run_here_leaves_the_work_to_torch() -> None:
    """oneDNN is told to do without AVX-512, the plugin of OpenVINO is not."""
    code = (
        "import numpy as np\n"
        "from test_encoder_openvino import built_in, made_texts\n"
        "tower = built_in('int8+float32')\n"
        "assert np.array_equal(tower.encode(made_texts(9)), built_in('float32').encode(made_texts(9)))\n"
        "print(tower.computes_in)\n"
    )
    limited = os.environ | {
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "OMP_NUM_THREADS": "2",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    ran = subprocess.run(
        [sys.executable, "-c", code], env=limited, capture_output=True, text=True, check=False, timeout=300
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip() == "float32"
    assert "cannot be compiled for int8, torch encodes in float32" in ran.stderr
