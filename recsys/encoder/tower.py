"""The item tower: texts to unit vectors through the transformer, each distinct text once.

Texts are sorted by length and go through in batches of a fixed number of tokens, so that next to nothing is padding.
With a dtype of int8 a CPU runs them through an engine that is compiled for it, in place of torch.
"""

from __future__ import annotations

import copy
import importlib.util
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from features.arrays import Float32, Int64
from recsys.encoder.openvino import ENGINE_TOKENS_PER_BATCH, OpenVinoEncoder
from recsys.encoder.text import Tokens, tokenise
from recsys.errors import ModelError

DtypeSetting = Literal["auto", "float32", "bfloat16", "int8"]
"""What a training may ask for."""
Dtype = Literal["float32", "bfloat16", "int8+float32", "int8+bfloat16"]
"""Arithmetic of a transformer. int8: of the products of its layers, beside that of everything else."""
Pooling = Literal["mean", "cls"]
_TOKENS_PER_BATCH = 4096
_GPU_TOKENS_PER_BATCH = 32768
_COMPILING = threading.Lock()
logger = logging.getLogger(__name__)


class TextTower:
    """A transformer, its tokenizer, and how its outputs become one vector of length 1.

    max_tokens: longest text, in tokens, special ones included; ModelError where the model reads fewer. dtype: the
    arithmetic that it was trained and registered with. computes_in: the arithmetic that this machine encodes with, the
    same where it has it.
    """

    def __init__(
        self,
        transformer: PreTrainedModel,
        tokenizer: Any,
        *,
        limit: int,
        max_tokens: int,
        pooling: Pooling,
        dtype: Dtype,
    ) -> None:
        if max_tokens > limit:
            raise ModelError(
                f"expected encoder.max_tokens of at most {limit}, which is what the base model reads, got {max_tokens}"
            )
        self.transformer = transformer
        self.tokenizer = tokenizer
        self.limit = limit
        self.max_tokens = max_tokens
        self.pooling: Pooling = pooling
        self.dtype: Dtype = dtype
        self.computes_in: Dtype = available_dtype(dtype, self.device)
        self.pad_id: int = tokenizer.pad_token_id
        self._engine: OpenVinoEncoder | None = None
        self._engine_weights: tuple[Any, ...] = ()

    @property
    def dim(self) -> int:
        """Width d of its vectors."""
        width: int = self.transformer.config.hidden_size
        return width

    @property
    def device(self) -> torch.device:
        """Where the transformer's weights are."""
        device: torch.device = self.transformer.device
        return device

    def tokenise(self, texts: Sequence[str]) -> Tokens:
        """Token ids of the texts, cut to the tower's limit."""
        return tokenise(self.tokenizer, texts, self.max_tokens)

    def encode(self, texts: Sequence[str], *, progress: Callable[[int], None] | None = None) -> Float32:
        """Unit vectors of the texts, (n, d). progress: called with the number of texts done after every batch.

        On a CPU a text's vector does not depend on the texts beside it. On a GPU, whose kernels depend on the size of a
        batch, it may differ by rounding.
        """
        return self.encode_tokens(self.tokenise(texts), progress=progress)

    def encode_tokens(self, tokens: Tokens, *, progress: Callable[[int], None] | None = None) -> Float32:
        """As `encode`, for texts that are tokens already."""
        found = np.zeros((len(tokens), self.dim), np.float32)
        engine = self._compiled()
        if engine is not None:
            engine.run(self._batches(tokens, ENGINE_TOKENS_PER_BATCH, progress), found)
            return found
        self.transformer.eval()
        with torch.inference_mode():
            for index, ids, mask in self._batches(tokens, tokens_per_batch(self.device), progress):
                with self.arithmetic():
                    hidden = self.transformer(input_ids=ids, attention_mask=mask).last_hidden_state
                found[index] = pool(hidden, mask, self.pooling).cpu().numpy()
        return found

    def _batches(
        self, tokens: Tokens, size: int, progress: Callable[[int], None] | None
    ) -> Iterator[tuple[Int64, Tensor, Tensor]]:
        """Positions, token ids and mask of batches of texts; tells `progress` of each once the next is asked for."""
        for index in encoding_batches(tokens.padded_lengths(), size):
            yield index, *pad_batch(tokens, index, self.pad_id, self.device)
            if progress is not None:
                progress(len(index))

    @property
    def uses_int8(self) -> bool:
        """Whether texts are encoded by an engine in int8, not by torch."""
        return self.computes_in.startswith("int8")

    def prepare(self) -> None:
        """Compile the engine where there is one to be used; `computes_in` then says what texts are encoded in."""
        self._compiled()

    def release(self) -> None:
        """Give back the engine's memory; what is encoded next compiles one again."""
        self._engine, self._engine_weights = None, ()

    def _compiled(self) -> OpenVinoEncoder | None:
        """The engine with the weights as they are; None for other dtypes and devices, and where it can't be had."""
        if not self.uses_int8:
            return None
        with _COMPILING:
            return self._engine_as_it_is()

    def _weights(self) -> tuple[Any, ...]:
        """Where the weights are and how often they have been changed."""
        return tuple((w.data_ptr(), w._version) for w in self.transformer.state_dict(keep_vars=True).values())

    def _engine_as_it_is(self) -> OpenVinoEncoder | None:
        weights = self._weights()
        if self._engine_weights != weights:
            try:
                vectors = _Vectors(self.transformer, self.pooling)
                vocabulary = self.transformer.get_input_embeddings().num_embeddings
                bfloat16 = self.computes_in == "int8+bfloat16"
                self._engine = OpenVinoEncoder(vectors, vocabulary=vocabulary, bfloat16=bfloat16)
            except (ImportError, OSError, RuntimeError, TypeError, ValueError, NotImplementedError) as error:
                self._engine = None
                self.computes_in = _without_int8(self.computes_in)
                logger.warning(
                    "the transformer cannot be compiled for int8, torch encodes in %s: %.200s", self.computes_in, error
                )
            self._engine_weights = weights
        return self._engine

    def copy(self) -> TextTower:
        """The same tower with weights of its own; what is compiled is shared until they change."""
        twin = self._alike(copy.deepcopy(self.transformer), self.dtype)
        twin.computes_in = self.computes_in
        if self._engine is not None and self._engine_weights == self._weights():
            twin._engine, twin._engine_weights = self._engine, twin._weights()
        return twin

    def with_dtype(self, dtype: Dtype) -> TextTower:
        """A tower of the same weights, shared, that encodes in another arithmetic."""
        return self._alike(self.transformer, dtype)

    def _alike(self, transformer: PreTrainedModel, dtype: Dtype) -> TextTower:
        return TextTower(
            transformer,
            self.tokenizer,
            limit=self.limit,
            max_tokens=self.max_tokens,
            pooling=self.pooling,
            dtype=dtype,
        )

    def arithmetic(self) -> AbstractContextManager[Any]:
        """The context in which torch runs the transformer: autocast to bfloat16, or nothing for float32."""
        return arithmetic(self.computes_in, self.device)


class _Vectors(nn.Module):
    """Token ids and mask to unit vectors."""

    def __init__(self, transformer: PreTrainedModel, pooling: Pooling) -> None:
        super().__init__()
        self.transformer = transformer
        self._pooling: Pooling = pooling

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        return pool(self.transformer(input_ids=ids, attention_mask=mask).last_hidden_state, mask, self._pooling)


def arithmetic(dtype: Dtype, device: torch.device) -> AbstractContextManager[Any]:
    """Autocast to bfloat16 where that is a part of `dtype`, else float32."""
    if dtype.endswith("bfloat16"):
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()


def resolve_dtype(setting: DtypeSetting, device: torch.device) -> Dtype:
    """The arithmetic that a training records: auto is bfloat16 where the device computes in it, else float32.

    On a GPU int8 is auto. Raises ModelError where the device lacks what is asked for, or OpenVINO is not installed.
    """
    fast: Dtype = "bfloat16" if has_bfloat16(device) else "float32"
    if setting == "float32":
        return "float32"
    if setting == "bfloat16" and fast != "bfloat16":
        raise ModelError(
            f"encoder.dtype bfloat16: expected a device that multiplies bfloat16 matrices, got {device.type} without; "
            "choose encoder.dtype auto or float32"
        )
    if setting != "int8" or device.type != "cpu":
        return fast
    if not has_int8(device):
        expected, got = "a CPU that multiplies int8 matrices (AVX-512 VNNI)", "one without"
        if not _has_openvino():
            expected, got = "the package openvino", "none; pip install 'recsys[int8]'"
        raise ModelError(f"encoder.dtype int8: expected {expected}, got {got}; choose encoder.dtype auto")
    return "int8+bfloat16" if fast == "bfloat16" else "int8+float32"


def available_dtype(dtype: Dtype, device: torch.device) -> Dtype:
    """`dtype` where the device and what is installed have it, else the nearest arithmetic that they have."""
    if dtype.startswith("int8") and not has_int8(device):
        dtype = _without_int8(dtype)
    if dtype.endswith("bfloat16") and not has_bfloat16(device):
        return "int8+float32" if dtype == "int8+bfloat16" else "float32"
    return dtype


def _without_int8(dtype: Dtype) -> Dtype:
    return "bfloat16" if dtype.endswith("bfloat16") else "float32"


def _has_openvino() -> bool:
    return importlib.util.find_spec("openvino") is not None


def has_bfloat16(device: torch.device) -> bool:
    """True where the device multiplies bfloat16 matrices in hardware, not by emulation."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type != "cpu":
        return False
    features = torch.backends.cpu.get_cpu_capability()
    return features.startswith("AVX512") and (
        torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    )


def has_int8(device: torch.device) -> bool:
    """True for a CPU that multiplies int8 matrices in hardware (AVX-512 VNNI), where OpenVINO is installed."""
    if device.type != "cpu" or not _has_openvino():
        return False
    return torch.backends.cpu.get_cpu_capability().startswith("AVX512") and torch.cpu._is_vnni_supported()


def pool(hidden: Tensor, mask: Tensor, pooling: Pooling) -> Tensor:
    """One unit vector for each text, (n, d) float32. hidden: (n, t, d); mask: (n, t), 1 for a token, 0 for padding."""
    hidden = hidden.float()
    if pooling == "cls":
        return functional.normalize(hidden[:, 0], dim=1)
    weights = mask[:, :, None].to(hidden.dtype)
    return functional.normalize((hidden * weights).sum(dim=1), dim=1)


def tokens_per_batch(device: torch.device, on_cpu: int = _TOKENS_PER_BATCH) -> int:
    """Most tokens of a batch: few enough for a CPU's caches, many enough that a GPU does not wait for its next work."""
    return _GPU_TOKENS_PER_BATCH if device.type == "cuda" else on_cpu


def encoding_batches(padded_lengths: Int64, most_tokens: int) -> Iterator[Int64]:
    """Positions of texts in batches of one padded length each, shortest first.

    A batch has at most `most_tokens` tokens, or one text.
    """
    for length in np.unique(padded_lengths):
        alike = np.flatnonzero(padded_lengths == length)
        size = max(1, most_tokens // max(1, int(length)))
        for start in range(0, len(alike), size):
            yield alike[start : start + size]


def length_batches(lengths: Int64, most_tokens: int) -> Iterator[Int64]:
    """Positions of texts in batches of similar length, shortest first.

    Padded, a batch has at most `most_tokens` tokens, or one text.
    """
    order = np.argsort(lengths, kind="stable")
    start = 0
    while start < len(order):
        end = start + 1
        while end < len(order) and lengths[order[end]] * (end + 1 - start) <= most_tokens:
            end += 1
        yield order[start:end]
        start = end


def pad_batch(tokens: Tokens, index: Int64, pad_id: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Token ids and mask of some texts, (n, t) each, int64."""
    lengths = tokens.lengths()[index]
    within = tokens.mask(index)
    ids = np.full(within.shape, pad_id, np.int64)
    ids[within] = tokens.ids[np.repeat(tokens.offsets[index], lengths) + _ramps(lengths)]
    return torch.from_numpy(ids).to(device), torch.from_numpy(within.astype(np.int64)).to(device)


def _ramps(lengths: Int64) -> Int64:
    """0, 1, ... for each length, one after the other."""
    ends = np.cumsum(lengths)
    return np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - lengths, lengths)
