"""`python -m benchmarks.encoder`: fine-tuning and encoding, against what a notebook would do, on amazon-office.

Fine-tuning: one pass over 1,500 lists of the log's oldest half from one head phase, in at least 30 steps after the
warm-up, ours and the plain ones of `benchmarks.plain_fine_tuning` in turns. A plain loop's batch has as many lists as a
step of ours is worth: lists of the pass over steps of the pass. All train the same number of upper layers; a notebook
that trained every layer would be slower. Ours is counted with the lower layers' outputs of the whole catalogue and
one making of the bank in its seconds (`benchmarks.fine_tuning` says how); what both cost is printed apart.

Quality: the text score's nDCG@10 on valid after that pass, ours less the plain float32 loop's, same steps, rates and
seed. Encoding: the whole catalogue in the default dtype beside sentence-transformers, and in the other dtypes that this
machine has. Last, the device: what share of its measured matrix rate is reached.

`--quick` takes 5 steps of the pass and 256 texts, encodes in the default dtype only, leaves out what the vectors are
worth, and cuts the steps of the list by list loop in 4, whose lists share no work: each line says of how many it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.catalogue_encoding import Encode, Encoded, encode_both, encode_results, sentence_encoder
from benchmarks.device_rate import MatrixGauge, forward_operations, number_formats
from benchmarks.fine_tuning import Runner, block_size_for, ours, plain, race, read_start
from benchmarks.report import Result, command_on_data
from features.arrays import Float64
from recsys.config import Config, load_config
from recsys.encoder.dtype import Dtype, has_bfloat16, has_int8, resolve_dtype
from recsys.encoder.tower import TextTower
from recsys.encoder.training.train import base_encoder
from recsys.metrics.bootstrap import mean_interval

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "amazon-office"


@dataclass(frozen=True)
class Size:
    """lists: that teach. pass_steps: of a pass over them. steps: taken, the first `warm_up` not timed. texts: most
    that are encoded, None for all, `rounds` times. plain_parts: in how many a step of the list by list loop is cut.
    everything: race with the block size that ships, too, encode in every dtype, and measure quality. matrix_rate:
    measure the device's, beside all that."""

    lists: int
    pass_steps: int
    steps: int
    warm_up: int
    texts: int | None
    rounds: int
    plain_parts: int
    everything: bool
    matrix_rate: bool = True


FULL = Size(lists=1500, pass_steps=33, steps=33, warm_up=3, texts=None, rounds=3, plain_parts=1, everything=True)
QUICK = Size(lists=1500, pass_steps=33, steps=5, warm_up=1, texts=256, rounds=3, plain_parts=4, everything=False)


def measure(quick: bool, data: Path, config: Config | None = None, size: Size | None = None) -> list[Result]:
    """Fine-tuning and encoding of texts, against a plain loop and sentence-transformers, and the device's rate."""
    config = config or load_config()
    size = size or (QUICK if quick else FULL)
    tower = base_encoder(config.encoder).tower
    other = sentence_encoder(config.encoder.base_model, config.encoder.max_tokens)
    start = read_start(data, config, tower, size.lists)
    texts = start.data.texts.distinct[: size.texts]
    others = _other_dtypes(tower) if size.everything else ()
    by_dtype = [_encoded(one, texts, other, size) for one in (tower, *map(tower.with_dtype, others))]
    own = ours(start, block_size_for(start, size.pass_steps), size.steps, _gauge(tower, size))
    slow = plain(own, dtype="float32", distinct=False, parts=size.plain_parts)
    once = plain(own, dtype=_fast_dtype(tower), distinct=True)
    race(own, (slow, once))
    return [
        _speed("fine_tune_vs_plain_fp32", own, slow, size, "8"),
        _speed("fine_tune_vs_deduplicated_bf16", own, once, size, "2.5"),
        *_beside(own, size),
        *(_quality(own, slow) if size.everything else []),
        *(_shipped_block(own, config, size) if size.everything else []),
        *(line for i, one in enumerate(by_dtype) for line in encode_results(one, default=i == 0)),
        *_device(own, tower, by_dtype[0], size),
    ]


def _gauge(tower: TextTower, size: Size) -> MatrixGauge:
    """What measures the matrix rate beside the work on a tower's device."""
    return MatrixGauge(tower.device, number_formats(tower.device) if size.matrix_rate else {})


def _encoded(tower: TextTower, texts: list[str], other: Encode, size: Size) -> Encoded:
    return encode_both(tower, texts, other, rounds=size.rounds, gauge=_gauge(tower, size))


def _other_dtypes(tower: TextTower) -> list[Dtype]:
    """What this machine encodes in beside the default."""
    dtypes: list[Dtype] = [_fast_dtype(tower), "float32"]
    if has_int8(tower.device):
        dtypes.append(resolve_dtype("int8", tower.device))
    return [dtype for dtype in dict.fromkeys(dtypes) if dtype != tower.computes_in]


def _fast_dtype(tower: TextTower) -> Dtype:
    """bfloat16 where the hardware computes in it; emulated it would be slower than float32."""
    return "bfloat16" if has_bfloat16(tower.device) else "float32"


def _speed(name: str, own: Runner, other: Runner, size: Size, asked: str) -> Result:
    value, reference = (runner.impressions_per_second(size.warm_up) for runner in (own, other))
    batch = len(own.start.examples) / len(other.queue)
    timed_steps = len(own.seconds) - size.warm_up
    unit = f"impressions/s, {timed_steps} steps, of {batch:.0f} lists beside it in {other.dtype}; asked: {asked}"
    return Result(name, value, unit, reference, value / reference)


def _beside(own: Runner, size: Size) -> list[Result]:
    """What a pass of ours takes beside its steps; the reference is the whole pass."""
    whole, n_texts = own.pass_seconds(size.warm_up), len(own.start.base)
    parts = (
        ("lower_layers", own.start.seconds, f"s of a pass, for all {n_texts:,} texts, once a training"),
        ("bank", float(np.median(own.seconds_beside)), "s of a pass, once a pass"),
    )
    return [Result(f"fine_tune_seconds_{name}", part, unit, whole, part / whole) for name, part, unit in parts]


def _quality(own: Runner, slow: Runner) -> list[Result]:
    """nDCG@10 on valid after the last step, ours less the plain loop's, in pairs over users."""
    start = own.start
    fast, plainly, before = own.valid_ndcg(), slow.valid_ndcg(), start.ndcg(start.head, start.base)
    difference = mean_interval(fast - plainly, start.valid_user, resamples=1000, seed=start.seed)
    unit = f"{len(start.examples):,} lists, {own.n_steps} steps; asked: high not below 0"
    return [
        Result("fast_minus_plain_ndcg", difference.mean, unit, low=difference.low, high=difference.high),
        Result("valid_ndcg_fast", _mean(fast), "nDCG@10, beside it the plain loop's", _mean(plainly)),
        Result("valid_ndcg_before", _mean(before), "nDCG@10 of the head alone"),
    ]


def _mean(ndcg: Float64) -> float:
    return float(np.nanmean(ndcg))


def _shipped_block(raced: Runner, config: Config, size: Size) -> list[Result]:
    """The block size that ships beside batches as large as its steps: larger ones suit a loop with distinct texts."""
    tower = raced.start.tower
    own = ours(raced.start.with_other_layers(), config.encoder.fine_tune_block_size, size.steps, _gauge(tower, size))
    once = plain(own, dtype=_fast_dtype(tower), distinct=True)
    race(own, (once,))
    return [_speed("fine_tune_vs_deduplicated_bf16_shipped_block", own, once, size, "none")]


def _device(own: Runner, tower: TextTower, encoded: Encoded, size: Size) -> list[Result]:
    """Operations a second of encoding, tokenisation included, and of steps of fine-tuning, to the measured rates."""
    assert own.gauge is not None
    config, lengths = tower.transformer.config, own.start.data.tokens.lengths()
    n_trained = min(own.start.settings.fine_tune_layers, config.num_hidden_layers)
    encoding = forward_operations(config, config.num_hidden_layers, lengths[: encoded.texts])
    blocks = [own.queue[step % len(own.queue)] for step in range(size.warm_up, size.steps)]
    seconds = sum(own.seconds[size.warm_up :])
    training = 3 * sum(forward_operations(config, n_trained, lengths[block]) for block in blocks)
    tokens = sum(lengths[block].sum() for block in blocks)
    return [
        *own.gauge.results(),
        *encoded.gauge.shares("encode", encoding / encoded.seconds, lengths[: encoded.texts].sum() / encoded.seconds),
        *own.gauge.shares("fine_tune", training / seconds, tokens / seconds),
    ]


if __name__ == "__main__":
    command_on_data(measure, DATA)()
