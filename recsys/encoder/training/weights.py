"""The trained weights of a module and the optimizer's memory of them, by name: copied, put back, kept."""

from __future__ import annotations

import torch
from torch import Tensor, nn

Weights = dict[str, Tensor]


def trained(module: nn.Module) -> Weights:
    """Every weight that requires a gradient."""
    return {name: tensor for name, tensor in module.named_parameters() if tensor.requires_grad}


def clone_weights(module: nn.Module) -> Weights:
    """A copy of every trained weight."""
    return {name: tensor.detach().clone() for name, tensor in trained(module).items()}


def copy_into(module: nn.Module, weights: Weights) -> None:
    """Give a module's trained weights these values."""
    with torch.no_grad():
        for name, tensor in trained(module).items():
            tensor.copy_(weights[name])


def optimizer_state(optimizer: torch.optim.Optimizer, module: nn.Module) -> Weights:
    """Optimizer state by parameter (moments, step count), keyed `parameter:state_name`."""
    return {
        f"{name}:{what}": value
        for name, tensor in trained(module).items()
        for what, value in optimizer.state.get(tensor, {}).items()
    }


def load_optimizer_state(optimizer: torch.optim.Optimizer, module: nn.Module, memory: Weights) -> None:
    """Give the optimizer the memory that `optimizer_state` told."""
    optimizer.state.clear()
    for name, tensor in trained(module).items():
        found = {key.rpartition(":")[2]: value for key, value in memory.items() if key.rpartition(":")[0] == name}
        if found:
            optimizer.state[tensor] = {
                what: value.clone() if what == "step" else value.to(tensor.device, copy=True)
                for what, value in found.items()
            }
