"""A transformer cut in two: a frozen lower part, whose outputs can be stored, and the upper layers, which are trained.

Both parts are shallow copies of the model that share its weights and run its own forward pass: the lower one has only
the first layers, the upper one takes hidden states in place of embeddings. That works for every model whose layers are
one list; it is checked on a few tokens before it is used.
"""

from __future__ import annotations

import copy
import logging
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

logger = logging.getLogger(__name__)

_LAYER_LISTS = (("encoder", "layer"), ("layers",), ("transformer", "layer"), ("encoder", "layers"))
_LAST_NORM = "final_norm"
_TOLERANCE = 1e-4


@dataclass(frozen=True)
class SplitTransformer:
    """The two parts; lower is None where the model could not be cut, and upper is all of it then. trained: the modules
    of the upper part whose weights training may change."""

    lower: PreTrainedModel | None
    upper: PreTrainedModel
    trained: nn.Module


class _HiddenStates(nn.Module):
    """Replaces the embeddings: returns the hidden states that the model was called with."""

    def forward(self, *inputs: Any, **named: Any) -> Tensor:
        """The only floating-point argument of three dimensions."""
        tensors = [x for x in (*inputs, *named.values()) if isinstance(x, Tensor) and x.ndim == 3]
        return next(x for x in tensors if x.is_floating_point())


def split_transformer(model: PreTrainedModel, n_upper: int) -> SplitTransformer:
    """The model cut below its last `n_upper` layers, all of them if it has fewer; warns where it cannot be cut."""
    path = next((path for path in _LAYER_LISTS if isinstance(_reach(model, path), nn.ModuleList)), None)
    if path is not None and isinstance(getattr(model, "embeddings", None), nn.Module):
        split = _cut(model, path, n_upper)
        if _agrees(model, split):
            return split
    logger.warning("the layers of %s cannot be separated: all of them are trained", type(model).__name__)
    return SplitTransformer(None, model, model)


def _cut(model: PreTrainedModel, path: tuple[str, ...], n_upper: int) -> SplitTransformer:
    """The parts above and below the last `n_upper` layers of the list at `path`."""
    layers = list(_reach(model, path))
    cut = max(0, len(layers) - n_upper)
    lower = _with_layers(model, path, layers[:cut])
    upper = _with_layers(model, path, layers[cut:])
    upper.embeddings = _HiddenStates()
    trained = list(layers[cut:])
    if isinstance(getattr(model, _LAST_NORM, None), nn.Module):
        lower.final_norm = nn.Identity()
        trained.append(upper.final_norm)
    return SplitTransformer(lower, upper, nn.ModuleList(trained))


def _reach(model: nn.Module, path: tuple[str, ...]) -> Any:
    module: Any = model
    for name in path:
        module = getattr(module, name, None)
    return module


def _with_layers(model: PreTrainedModel, path: tuple[str, ...], layers: list[nn.Module]) -> Any:
    """A copy of the model that has only these layers and shares all weights."""
    top = _shallow(model)
    parent = top
    for name in path[:-1]:
        setattr(parent, name, _shallow(getattr(parent, name)))
        parent = getattr(parent, name)
    setattr(parent, path[-1], nn.ModuleList(layers))
    return top


def _shallow(module: Any) -> Any:
    """A module that shares its children and weights, but whose children can be replaced."""
    twin = copy.copy(module)
    twin._modules = dict(module._modules)
    return twin


def _agrees(model: PreTrainedModel, split: SplitTransformer) -> bool:
    """True where the two parts, one after the other, compute what the model computes."""
    assert split.lower is not None
    device = model.device
    ids = torch.tensor([[5, 6, 7, 8], [9, 5, 0, 0]], device=device) % model.config.vocab_size
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]], device=device)
    model.eval()
    try:
        with torch.inference_mode():
            whole = model(input_ids=ids, attention_mask=mask).last_hidden_state
            hidden = split.lower(input_ids=ids, attention_mask=mask).last_hidden_state
            parts = split.upper(inputs_embeds=hidden, attention_mask=mask).last_hidden_state
    except (RuntimeError, TypeError, IndexError, StopIteration) as error:
        logger.debug("%s cannot be cut: %s", type(model).__name__, error)
        return False
    return bool((whole - parts)[mask.bool()].abs().max() < _TOLERANCE)
