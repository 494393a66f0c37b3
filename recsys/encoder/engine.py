"""A transformer compiled by OpenVINO for encoding on CPUs, with its feed-forward products in int8.

One stream for each thread, so that no core waits for another within a batch.
"""

from __future__ import annotations

import logging
import sys
import time
import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers.utils import logging as hf_logging

from features.log import Float32, Int64

logger = logging.getLogger(__name__)
ENGINE_TOKENS_PER_BATCH = 2048
INT8_GROUP = 128
"""Inputs of a feed-forward product that share one int8 scale."""


class Engine:
    """`vectors`, which maps token ids and mask, (n, t) int64 each, to (n, d), compiled with its weights as they are.

    Feed-forward weights have one int8 scale for each output and their inputs one for every 128, found as they come.
    bfloat16: arithmetic of the other products, else float32. Compiling takes seconds and is for one thread at a time;
    raises what torch's tracing and OpenVINO raise, RuntimeError most often, where it is not possible.
    """

    def __init__(self, vectors: nn.Module, *, bfloat16: bool) -> None:
        ov = _openvino()
        started = time.monotonic()
        self._streams = torch.get_num_threads()
        ids, mask = torch.ones((2, 8), dtype=torch.int64), torch.ones((2, 8), dtype=torch.int64)
        mask[1, 4:] = 0
        verbosity = hf_logging.get_verbosity()
        hf_logging.set_verbosity_error()
        try:
            with warnings.catch_warnings(), torch.no_grad():
                warnings.simplefilter("ignore")
                shape = ov.PartialShape([-1, -1])
                model = ov.convert_model(vectors.eval(), example_input=(ids, mask), input=[shape, shape])
        finally:
            hf_logging.set_verbosity(verbosity)
        _quantise_feed_forward(ov, model)
        self._queue = ov.AsyncInferQueue
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
        logger.debug("the transformer is compiled for encoding: %.1f s", time.monotonic() - started)

    def run(self, batches: Iterable[tuple[Int64, Tensor, Tensor]], found: Float32) -> None:
        """Fill rows of `found`, (n_texts, d). batches: rows, token ids and mask of each."""
        queue = self._queue(self._compiled, self._streams)

        def keep(request: Any, rows: Int64) -> None:
            found[rows] = request.get_output_tensor(0).data

        queue.set_callback(keep)
        for rows, ids, mask in batches:
            queue.start_async([ids.numpy(), mask.numpy()], rows)
        queue.wait_all()


def _openvino() -> Any:
    """The package, without the usage reports that it would send from the moment that it is imported."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


def _quantise_feed_forward(ov: Any, model: Any) -> None:
    """Keep every weight matrix that is not square in int8, (n_out, n_in), with one scale for each output."""
    from openvino import opset13 as ops

    for node in model.get_ordered_ops():
        if node.get_type_name() != "MatMul" or not node.get_attributes()["transpose_b"]:
            continue
        source = node.input(1).get_source_output().get_node()
        if source.get_type_name() != "Constant":
            continue
        weight = source.get_data().astype(np.float32)
        if weight.ndim != 2 or weight.shape[0] == weight.shape[1]:
            continue
        scale = np.maximum(np.abs(weight).max(axis=1, keepdims=True), 1e-12) / 127
        stored = ops.convert(ops.constant(np.round(weight / scale).astype(np.int8), ov.Type.i8), "f32")
        node.input(1).replace_source_output(ops.multiply(stored, ops.constant(scale)).output(0))
