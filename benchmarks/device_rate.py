"""How much of a device's matrix rate encoding and fine-tuning reach, and where a step of fine-tuning spends its time.

The rate is measured: one large product of square matrices, the best of several. Of a transformer the products of its
layers are counted, for the tokens that a text has and not for padding: in each layer 8 d^2 + 4 d f for the projections
and the two products of the feed-forward part, and 4 t d for attention over t tokens. Training a layer is three times
that: forward, and the gradients of inputs and of weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from transformers import PretrainedConfig

from benchmarks.catalogue_encoding import Encoded
from benchmarks.fine_tuning_race import Ours, timed
from benchmarks.report import Result
from features.log import Int64
from recsys.encoder.tower import Tower, has_bfloat16, length_batches
from recsys.encoder.upper import TRAINED_TOKENS_PER_BATCH, UpperTower

_SIDE = {"cpu": 2048, "cuda": 8192}
_PRODUCTS = 12


def matrix_rate(dtype: torch.dtype, device: torch.device) -> float:
    """Floating-point operations a second of one large matrix product, the best of several."""
    n = _SIDE.get(device.type, 4096)
    left, right = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
    with torch.inference_mode():
        seconds = [timed(lambda: left @ right, device) for _ in range(_PRODUCTS)]
    return float(2 * n**3 / min(seconds))


def forward_operations(config: PretrainedConfig, n_layers: int, lengths: Int64) -> float:
    """Operations of `n_layers` layers over texts of these numbers of tokens."""
    d, f = config.hidden_size, config.intermediate_size
    return float(n_layers * (lengths * (8 * d * d + 4 * d * f + 4 * lengths * d)).sum())


def device_results(own: Ours, encode: Tower, *, encoded: Encoded, warm_up: int) -> list[Result]:
    """Lines on this device, of what was raced and encoded on it. warm_up: steps at the beginning that do not count."""
    device = encode.device
    rates = {name: matrix_rate(kind, device) for name, kind in (("bf16", torch.bfloat16), ("fp32", torch.float32))}
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    used = "bf16" if has_bfloat16(device) and encode.dtype != "float32" else "fp32"
    return [
        Result(
            "gpus",
            torch.cuda.device_count(),
            "" if torch.cuda.is_available() else "no GPU here: what follows is of the CPU",
        ),
        *(Result(f"matrix_rate_{name}", rate / 1e9, f"GFLOP/s, {where}, measured") for name, rate in rates.items()),
        *_shares(own, encode, encoded, warm_up, rates, used),
        *_parts(own, warm_up),
    ]


def _shares(
    own: Ours, encode: Tower, encoded: Encoded, warm_up: int, rates: dict[str, float], used: str
) -> list[Result]:
    """Operations a second of encoding, tokenisation included, and of steps of fine-tuning, to each measured rate."""
    config, lengths = encode.transformer.config, own.began.lists.tokens.lengths()
    read = lengths[: encoded.texts]
    n_layers = min(own.began.settings.fine_tune_layers, config.num_hidden_layers)
    steps = list(zip(own.queue, own.seconds, strict=False))[warm_up:]
    tokens = {
        "encode": read.sum() / encoded.seconds,
        "fine_tune": _median([lengths[block].sum() / seconds for block, seconds in steps]),
    }
    operations = {
        "encode": forward_operations(config, config.num_hidden_layers, read) / encoded.seconds,
        "fine_tune": _median([3 * forward_operations(config, n_layers, lengths[b]) / seconds for b, seconds in steps]),
    }
    return [
        Result(
            f"{name}_share_of_{kind}_rate",
            operations[name] / 1e9,
            f"GFLOP/s of layers, {tokens[name]:,.0f} tokens/s, in {used}",
            rate / 1e9,
            operations[name] / rate,
        )
        for name in operations
        for kind, rate in rates.items()
    ]


def _parts(own: Ours, warm_up: int) -> list[Result]:
    """Shares of a step's time: reading the kept outputs of the lower layers, the trained layers both ways, the rest."""
    device = own.began.tower.device
    move = _median(
        [
            timed(partial(_read_lower, own.upper, own.began.lists.tokens.lengths(), block), device)
            for block in own.queue[warm_up:]
        ]
    )
    layers = _median([timed(partial(_both_ways, own.upper, block), device) for block in own.queue[warm_up:]]) - move
    step = _median(own.seconds[warm_up:])
    parts = (
        ("movement", move, "reading the kept outputs of the lower layers"),
        ("layers", layers, "the trained layers, forward and backward"),
        ("scoring", step - move - layers, "lists, head, scores, bank and optimizer"),
    )
    return [Result(f"fine_tune_time_{name}", part, f"s, {means}", step, part / step) for name, part, means in parts]


def _read_lower(upper: UpperTower, lengths: Int64, block: Int64) -> None:
    if upper.lower is not None:
        for batch in length_batches(lengths[block], TRAINED_TOKENS_PER_BATCH):
            upper.lower.padded(block[batch])


def _both_ways(upper: UpperTower, block: Int64) -> None:
    upper.trained.zero_grad(set_to_none=True)
    upper.vectors(block).sum().backward()  # type: ignore[no-untyped-call]


def _median(seconds: Sequence[float]) -> float:
    return float(np.median(np.array(seconds)))
