"""Matrix products of a model of OpenVINO in int8: how weights are stored, and how the error is kept small.

Weights have an int8 scale for each output and 128 inputs; inputs get theirs as they come, for 128 of a token. A few
channels of a layer norm's output are many times as large as the others and would take the scale from them, so they are
divided by a factor, and the weights that read them multiplied by it: max|x|^1/2 / max|w|^1/2 of each channel
(SmoothQuant, arXiv:2211.10438). max|x| is found on random tokens, so that vectors depend on the weights alone: which
channels are large hardly depends on the text.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from features.arrays import Float32, Int64

INT8_GROUP = 128
"""Inputs of a product that share one int8 scale."""
_LEAST = 1e-5


@dataclass
class _Source:
    """What some products read. output: of a node. products: `MatMul` nodes with their weights, (n_out, n_in) each."""

    output: Any
    products: list[tuple[Any, Float32]]


@dataclass(frozen=True)
class _Norm:
    """A layer norm: `normed * scale + shift`. normed: an output; scale, shift: constants, (d,)."""

    normed: Any
    scale: Float32
    shift: Float32


def quantise(ov: Any, model: Any, examples: Int64) -> None:
    """Store in int8 every matrix that inputs are multiplied by. examples: token ids, (n, t), all of them read."""
    sources = _sources(model)
    norms = [(source, norm) for source in sources if (norm := _norm_of(source.output)) is not None]
    peaks = _peaks(ov, model, [source.output for source, _ in norms], examples)
    for (source, norm), peak in zip(norms, peaks, strict=True):
        _balance(source, norm, peak)
    for source in sources:
        for product, weight in source.products:
            product.input(1).replace_source_output(_stored(ov, weight))


def _sources(model: Any) -> list[_Source]:
    """Inputs of products with a constant matrix, in the order of the model."""
    sources: dict[tuple[str, int], _Source] = {}
    for node in model.get_ordered_ops():
        if node.get_type_name() != "MatMul" or not node.get_attributes()["transpose_b"]:
            continue
        constant = node.input(1).get_source_output().get_node()
        if constant.get_type_name() != "Constant" or len(constant.get_output_shape(0)) != 2:
            continue
        output = node.input(0).get_source_output()
        key = (output.get_node().get_friendly_name(), output.get_index())
        sources.setdefault(key, _Source(output, [])).products.append((node, constant.get_data().astype(np.float32)))
    return list(sources.values())


def _norm_of(output: Any) -> _Norm | None:
    """The layer norm of which this is the output; None for other outputs. One that shifts nothing has no addition."""
    node, shift = output.get_node(), None
    if node.get_type_name() == "Add":
        node, shift = (node.input(i).get_source_output().get_node() for i in (0, 1))
    if node.get_type_name() != "Multiply":
        return None
    normed, scale = (node.input(i).get_source_output() for i in (0, 1))
    constants = [scale.get_node()] if shift is None else [scale.get_node(), shift]
    if normed.get_node().get_type_name() != "MVN" or any(
        constant.get_type_name() != "Constant" for constant in constants
    ):
        return None
    factor, *added = (constant.get_data().astype(np.float32).reshape(-1) for constant in constants)
    return _Norm(normed, factor, added[0] if added else np.zeros_like(factor))


def _peaks(ov: Any, model: Any, outputs: list[Any], examples: Int64) -> list[Float32]:
    """Largest magnitude of each channel of some outputs over the examples, (d,) each."""
    if not outputs:
        return []
    from openvino import opset13 as ops

    read = ov.Model([ops.result(output) for output in outputs], model.get_parameters(), "peaks")
    compiled = ov.Core().compile_model(read, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    values = compiled([examples, np.ones_like(examples)])
    return [np.abs(values[i]).max(axis=(0, 1)) for i in range(len(outputs))]


def _balance(source: _Source, norm: _Norm, peak: Float32) -> None:
    """Let the products of a source read its layer norm divided by a factor for each channel, and multiply by it."""
    from openvino import opset13 as ops

    largest = np.max([np.abs(weight).max(axis=0) for _, weight in source.products], axis=0)
    factor = np.sqrt(np.maximum(peak, _LEAST) / np.maximum(largest, _LEAST)).astype(np.float32)
    scale, shift = (ops.constant((values / factor)[None, None, :]) for values in (norm.scale, norm.shift))
    balanced = ops.add(ops.multiply(norm.normed, scale), shift)
    for product, _ in source.products:
        product.input(0).replace_source_output(balanced.output(0))
    source.products = [(product, weight * factor) for product, weight in source.products]


def _stored(ov: Any, weight: Float32) -> Any:
    """The output of a node that is the weight, (n_out, n_in), stored in int8."""
    from openvino import opset13 as ops

    n_out, n_in = weight.shape
    groups = weight.reshape(n_out, -1, INT8_GROUP if n_in % INT8_GROUP == 0 else n_in)
    scale = np.maximum(np.abs(groups).max(axis=2, keepdims=True), _LEAST**2) / 127
    stored = ops.convert(ops.constant(np.round(groups / scale).astype(np.int8), ov.Type.i8), "f32")
    return ops.reshape(ops.multiply(stored, ops.constant(scale)), ops.constant(np.array([n_out, n_in])), False).output(
        0
    )
