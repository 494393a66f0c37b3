"""The item tower: texts to unit vectors through the transformer, each distinct text once.

Texts are sorted by length and go through in batches of a fixed number of tokens, so that next to nothing is padding.
With a dtype of int8 a CPU runs them through OpenVINO in place of torch.
"""

from __future__ import annotations

import copy
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b
from typing import Any, Literal

import numpy as np
import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from features.arrays import Float32, Int64
from recsys.encoder.base_model import BaseModel
from recsys.encoder.dtype import Dtype, autocast, available_dtype, without_int8
from recsys.encoder.openvino import ENGINE_TOKENS_PER_BATCH, OpenVinoEncoder
from recsys.encoder.text import Tokens, tokenise
from recsys.encoder.token_batches import encoding_batches, pad_batch, tokens_per_batch
from recsys.encoder.vector_cache import VectorCache, vector_keys
from recsys.errors import ModelError

Pooling = Literal["mean", "cls"]
_COMPILING = threading.Lock()
logger = logging.getLogger(__name__)


class TextTower:
    """A transformer, its tokenizer, and how its outputs become one vector of length 1.

    max_tokens: longest text, in tokens, special ones included; ModelError where the transformer reads fewer. dtype:
    the arithmetic that it was trained and registered with. computes_in: the arithmetic that this machine encodes with,
    the same where it has it. cache: of vectors that were computed before, none at first.
    """

    def __init__(self, base: BaseModel, *, max_tokens: int, pooling: Pooling, dtype: Dtype) -> None:
        if max_tokens > base.limit:
            raise ModelError(
                f"expected encoder.max_tokens of at most {base.limit}, which is what the base model reads, "
                f"got {max_tokens}"
            )
        self.transformer = base.transformer
        self.tokenizer = base.tokenizer
        self.max_tokens = max_tokens
        self.pooling: Pooling = pooling
        self.dtype: Dtype = dtype
        self.computes_in: Dtype = available_dtype(dtype, self.device)
        self.pad_id: int = base.tokenizer.pad_token_id
        self.cache: VectorCache | None = None
        self._engine: OpenVinoEncoder | None = None
        self._engine_weights: tuple[Any, ...] = ()
        self._digest = b""
        self._digest_weights: tuple[Any, ...] = ()

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

    @property
    def uses_int8(self) -> bool:
        """Whether texts are encoded by OpenVINO in int8, not by torch."""
        return self.computes_in.startswith("int8")

    def tokenise(self, texts: Sequence[str]) -> Tokens:
        """Token ids of the texts, cut to the tower's limit."""
        return tokenise(self.tokenizer, texts, self.max_tokens)

    def encode(self, texts: Sequence[str]) -> Float32:
        """Unit vectors of the texts, (n, d).

        On a CPU a text's vector does not depend on the texts beside it. On a GPU, whose kernels depend on the size of a
        batch, it may differ by rounding.
        """
        return self.encode_tokens(self.tokenise(texts))

    def encode_tokens(self, tokens: Tokens, *, progress: Callable[[int], None] | None = None) -> Float32:
        """As `encode`, for token ids. progress: called with the number of texts done after every batch."""
        self.prepare()
        if self.cache is None or self.device.type != "cpu" or not len(tokens):
            return self._compute(tokens, progress)
        keys = vector_keys(self._identity(), tokens)
        vectors, found = self.cache.read(keys, self.dim)
        missing = np.flatnonzero(~found)
        if progress is not None:
            progress(len(keys) - len(missing))
        if len(missing):
            vectors[missing] = self._compute(tokens.take(missing), progress)
            self.cache.write([keys[row] for row in missing.tolist()], vectors[missing])
        return vectors

    def _compute(self, tokens: Tokens, progress: Callable[[int], None] | None) -> Float32:
        vectors = np.zeros((len(tokens), self.dim), np.float32)
        engine = self.prepare()
        if engine is not None:
            engine.run(self._batches(tokens, ENGINE_TOKENS_PER_BATCH, progress), vectors)
            return vectors
        self.transformer.eval()
        with torch.inference_mode():
            for index, ids, mask in self._batches(tokens, tokens_per_batch(self.device), progress):
                vectors[index] = pool(self.hidden_states(ids, mask), mask, self.pooling).cpu().numpy()
        return vectors

    def hidden_states(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Outputs of torch's last layer, (n, t, d), in the tower's arithmetic. ids, mask: (n, t)."""
        with autocast(self.computes_in, self.device):
            hidden: Tensor = self.transformer(input_ids=ids, attention_mask=mask).last_hidden_state
        return hidden

    def _batches(
        self, tokens: Tokens, size: int, progress: Callable[[int], None] | None
    ) -> Iterator[tuple[Int64, Tensor, Tensor]]:
        """Positions, token ids and mask of batches of texts; reports a batch to `progress` once the next is read."""
        for index in encoding_batches(tokens.padded_lengths(), size):
            yield index, *pad_batch(tokens, index, self.pad_id, self.device)
            if progress is not None:
                progress(len(index))

    def prepare(self) -> OpenVinoEncoder | None:
        """Compile the transformer with its present weights and return it; None where torch encodes.

        If it cannot be compiled, a warning is logged and `computes_in` becomes torch's arithmetic.
        """
        if not self.uses_int8:
            return None
        with _COMPILING:
            weights = self._weight_versions()
            if self._engine_weights != weights:
                self._engine = self._compile()
                self._engine_weights = weights
            return self._engine

    def _compile(self) -> OpenVinoEncoder | None:
        vectors = _PooledTransformer(self.transformer, self.pooling)
        bfloat16 = self.computes_in == "int8+bfloat16"
        try:
            vocabulary = self.transformer.get_input_embeddings().num_embeddings
            return OpenVinoEncoder(vectors, vocabulary=vocabulary, bfloat16=bfloat16)
        except (ImportError, OSError, RuntimeError, TypeError, ValueError, NotImplementedError) as error:
            self.computes_in = without_int8(self.computes_in)
            logger.warning(
                "the transformer cannot be compiled for int8, torch encodes in %s: %.200s", self.computes_in, error
            )
            return None

    def _weight_versions(self) -> tuple[Any, ...]:
        """Where the weights are and how often they have been changed."""
        return tuple((w.data_ptr(), w._version) for w in self.transformer.state_dict(keep_vars=True).values())

    def _identity(self) -> bytes:
        """What tells its vectors of the same tokens from another's."""
        weights = self._weight_versions()
        if self._digest_weights != weights:
            digest = blake2b(self.transformer.config.to_json_string().encode(), digest_size=48)
            digest.update(f"{torch.__version__} {transformers.__version__}".encode())
            for name, tensor in sorted(self.transformer.state_dict().items()):
                digest.update(name.encode() + tensor.cpu().contiguous().view(torch.uint8).numpy().tobytes())
            self._digest, self._digest_weights = digest.digest(), weights
        how = f"{self.pooling} {self.computes_in} {self.max_tokens} {self.pad_id}"
        return blake2b(self._digest + how.encode(), digest_size=48).digest()

    def release(self) -> None:
        """Give back the memory of the compiled transformer; the next text compiles it again."""
        self._engine, self._engine_weights = None, ()

    def copy(self) -> TextTower:
        """The same tower with weights of its own, to be trained, and no cache; what is compiled is shared until they
        change."""
        twin = copy.copy(self)
        twin.cache = None
        twin.transformer = copy.deepcopy(self.transformer)
        if self._engine_weights == self._weight_versions():
            twin._engine_weights = twin._weight_versions()
        else:
            twin.release()
        return twin

    def with_dtype(self, dtype: Dtype) -> TextTower:
        """A tower of the same weights, shared, that encodes in another arithmetic, without a cache."""
        twin = copy.copy(self)
        twin.cache = None
        twin.dtype, twin.computes_in = dtype, available_dtype(dtype, self.device)
        twin.release()
        return twin


class _PooledTransformer(nn.Module):
    """Token ids and mask to unit vectors."""

    def __init__(self, transformer: PreTrainedModel, pooling: Pooling) -> None:
        super().__init__()
        self.transformer = transformer
        self._pooling: Pooling = pooling

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        return pool(self.transformer(input_ids=ids, attention_mask=mask).last_hidden_state, mask, self._pooling)


def pool(hidden: Tensor, mask: Tensor, pooling: Pooling) -> Tensor:
    """One unit vector for each text, (n, d) float32. hidden: (n, t, d); mask: (n, t), 1 for a token, 0 for padding."""
    hidden = hidden.float()
    if pooling == "cls":
        return functional.normalize(hidden[:, 0], dim=1)
    weights = mask[:, :, None].to(hidden.dtype)
    return functional.normalize((hidden * weights).sum(dim=1), dim=1)
