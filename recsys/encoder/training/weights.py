"""The trained weights of a module by name: copy and restore."""

from __future__ import annotations

import torch
from torch import Tensor, nn

Weights = dict[str, Tensor]


def trainable_parameters(module: nn.Module) -> Weights:
    """Every weight that requires a gradient."""
    return {name: tensor for name, tensor in module.named_parameters() if tensor.requires_grad}


def clone_weights(module: nn.Module) -> Weights:
    """A copy of every trained weight."""
    return {name: tensor.detach().clone() for name, tensor in trainable_parameters(module).items()}


def copy_into(module: nn.Module, weights: Weights) -> None:
    """Give a module's trained weights these values."""
    with torch.no_grad():
        for name, tensor in trainable_parameters(module).items():
            tensor.copy_(weights[name])
