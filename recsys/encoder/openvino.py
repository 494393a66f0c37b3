"""A transformer compiled by OpenVINO for encoding on CPUs, with the products of its layers in int8.

One stream for each thread, so that no core waits for another within a batch. Requests are waited for in turn, without
OpenVINO's queue and its callbacks: its threads take the interpreter's lock to release a callback, while the thread that
frees the model holds that lock and waits for them. `recsys.encoder.quantised` says how the weights are stored.
"""

from __future__ import annotations

import logging
import sys
import time
import warnings
from collections import deque
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from features.arrays import Float32, Int64
from recsys.encoder.base_model import quiet_transformers
from recsys.encoder.quantised import INT8_GROUP, quantise

logger = logging.getLogger(__name__)
ENGINE_TOKENS_PER_BATCH = 2048
_EXAMPLES, _EXAMPLE_TOKENS = 16, 32


class OpenVinoEncoder:
    """`vectors`, which maps token ids and mask, (n, t) int64 each, to (n, d), compiled with its weights as they are.

    vocabulary: token ids are below it. bfloat16: arithmetic of what is not int8, else float32. Compiling takes seconds
    and is for one thread at a time; raises what torch's tracing and OpenVINO raise, RuntimeError most often, where it
    is not possible or what is compiled cannot run.
    """

    def __init__(self, vectors: nn.Module, *, vocabulary: int, bfloat16: bool) -> None:
        ov = _openvino()
        started = time.monotonic()
        self._streams = torch.get_num_threads()
        model = _converted(ov, vectors)
        examples = _examples(vocabulary)
        quantise(ov, model, examples)
        self._compiled = ov.Core().compile_model(
            model,
            "CPU",
            {
                "NUM_STREAMS": str(self._streams),
                "INFERENCE_NUM_THREADS": self._streams,
                "INFERENCE_PRECISION_HINT": "bf16" if bfloat16 else "f32",
                "DYNAMIC_QUANTIZATION_GROUP_SIZE": str(INT8_GROUP),
                "ENABLE_CPU_PINNING": False,
            },
        )
        self._check(examples)
        logger.debug("the transformer is compiled for encoding: %.1f s", time.monotonic() - started)

    def run(self, batches: Iterable[tuple[Int64, Tensor, Tensor]], vectors: Float32) -> None:
        """Fill rows of `vectors`, (n_texts, d). batches: rows, token ids and mask of each."""
        idle = [self._compiled.create_infer_request() for _ in range(self._streams)]
        running: deque[tuple[Any, Int64]] = deque()

        def finish_oldest() -> None:
            request, rows = running.popleft()
            request.wait()
            vectors[rows] = request.get_output_tensor(0).data
            idle.append(request)

        for rows, ids, mask in batches:
            if not idle:
                finish_oldest()
            request = idle.pop()
            request.start_async([ids.numpy(), mask.numpy()])
            running.append((request, rows))
        while running:
            finish_oldest()

    def _check(self, examples: Int64) -> None:
        """Raise RuntimeError where the plugin has chosen a kernel that this CPU, or what it is limited to, lacks: it
        finds out when it runs."""
        for ids in (examples[:1], examples):
            if not np.isfinite(self._compiled([ids, np.ones_like(ids)])[0]).all():
                raise RuntimeError("expected finite vectors of the compiled transformer, got others")


def _openvino() -> Any:
    """The package, without the usage reports that it would send from its import on."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


def _converted(ov: Any, vectors: nn.Module) -> Any:
    """The model of OpenVINO that computes what `vectors` does."""
    ids, mask = torch.ones((2, 8), dtype=torch.int64), torch.ones((2, 8), dtype=torch.int64)
    mask[1, 4:] = 0
    with quiet_transformers(), warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        shape = ov.PartialShape([-1, -1])
        return ov.convert_model(vectors.eval(), example_input=(ids, mask), input=[shape, shape])


def _examples(vocabulary: int) -> Int64:
    """Token ids to find the range of inner channels with: any tokens, the same ones for the same vocabulary."""
    return np.random.default_rng(0).integers(0, vocabulary, (_EXAMPLES, _EXAMPLE_TOKENS))
