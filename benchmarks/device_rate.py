"""How much of a device's matrix rate encoding and fine-tuning reach, and where a step of fine-tuning spends its time.

The rate is measured beside each of them, see `benchmarks.matrix_rate`. Of a transformer the products of its layers are
counted, for the tokens that a text has and not for padding: in each layer 8 d^2 + 4 d f for the projections
and the two products of the feed-forward part, and 4 t d for attention over t tokens. Training a layer is three times
that: forward, and the gradients of inputs and of weights.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from transformers import PretrainedConfig

from benchmarks.catalogue_encoding import Encoded
from benchmarks.fine_tuning_race import Ours
from benchmarks.matrix_rate import MatrixGauge
from benchmarks.report import Result
from features.arrays import Int64
from recsys.encoder.tower import TextTower


def forward_operations(config: PretrainedConfig, n_layers: int, lengths: Int64) -> float:
    """Operations of `n_layers` layers over texts of these numbers of tokens."""
    d, f = config.hidden_size, config.intermediate_size
    return float(n_layers * (lengths * (8 * d * d + 4 * d * f + 4 * lengths * d)).sum())


def device_results(own: Ours, encode: TextTower, *, encoded: Encoded, warm_up: int) -> list[Result]:
    """Lines on this device, of what was raced and encoded on it. warm_up: steps at the beginning that do not count."""
    gpus = torch.cuda.device_count()
    where = "CPU" if encode.device.type == "cpu" else torch.cuda.get_device_name(encode.device)
    return [
        Result("gpus", gpus, "" if gpus else "no GPU here: what follows is of the CPU"),
        *(
            Result(f"matrix_rate_{kind}", own.gauge.rate(kind) / 1e9, f"GFLOP/s, {where}, beside steps")
            for kind in own.gauge.seconds
        ),
        *_shares(own, encode, encoded, warm_up),
        *_parts(own, warm_up),
    ]


def _shares(own: Ours, encode: TextTower, encoded: Encoded, warm_up: int) -> list[Result]:
    """Operations a second of encoding, tokenisation included, and of steps of fine-tuning, to the measured rates."""
    config, lengths = encode.transformer.config, own.began.lists.tokens.lengths()
    read = lengths[: encoded.texts]
    n_layers = min(own.began.settings.fine_tune_layers, config.num_hidden_layers)
    steps = list(zip(own.blocks, own.seconds, strict=True))[warm_up:]
    encoding = forward_operations(config, config.num_hidden_layers, read) / encoded.seconds
    training = _median([3 * forward_operations(config, n_layers, lengths[b]) / seconds for b, seconds in steps])
    tokens = _median([lengths[b].sum() / seconds for b, seconds in steps])
    return [
        *to_rates("encode", encoding, read.sum() / encoded.seconds, encoded.gauge),
        *to_rates("fine_tune", training, tokens, own.gauge),
    ]


def to_rates(name: str, operations: float, tokens: float, gauge: MatrixGauge) -> list[Result]:
    """Shares of the rates that a gauge measured, a line for each kind of number. operations, tokens: a second."""
    what = f"GFLOP/s of layers, {tokens:,.0f} tokens/s"
    return [
        Result(f"{name}_share_of_{kind}_rate", operations / 1e9, what, rate / 1e9, operations / rate)
        for kind, rate in ((kind, gauge.rate(kind)) for kind in gauge.seconds)
    ]


def _parts(own: Ours, warm_up: int) -> list[Result]:
    """Shares of a step's time: reading the kept outputs of the lower layers, the trained layers both ways, the rest."""
    step, move, run = (_median(spent[warm_up:]) for spent in (own.seconds, own.moved, own.run))
    parts = (
        ("movement", move, "reading the kept outputs of the lower layers"),
        ("layers", run - move, "the trained layers, forward and backward"),
        ("scoring", step - run, "lists, head, scores, bank and optimizer"),
    )
    return [Result(f"fine_tune_time_{name}", part, f"s, {means}", step, part / step) for name, part, means in parts]


def _median(values: Sequence[float]) -> float:
    return float(np.median(np.array(values)))
