"""The arithmetic of a transformer: the setting, and what a machine computes."""

from __future__ import annotations

import importlib.util
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch

from recsys.errors import ModelError

DtypeSetting = Literal["auto", "float32", "bfloat16", "int8"]
"""The values of `encoder.dtype`."""
Dtype = Literal["float32", "bfloat16", "int8+float32", "int8+bfloat16"]
"""Arithmetic of a transformer. int8: of the products of its layers, beside that of everything else."""


def autocast(dtype: Dtype, device: torch.device) -> AbstractContextManager[Any]:
    """The context in which torch runs a transformer: autocast to bfloat16 where `dtype` has it, else float32."""
    if dtype.endswith("bfloat16"):
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()


def resolve_dtype(setting: DtypeSetting, device: torch.device) -> Dtype:
    """The arithmetic that a training records: auto is bfloat16 where the device computes in it, else float32.

    On a GPU int8 is auto. Raises ModelError where the device does not support the setting, or OpenVINO is not
    installed.
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
    """`dtype` where the device and the installed packages have it, else the nearest arithmetic that they have."""
    if dtype.startswith("int8") and not has_int8(device):
        dtype = without_int8(dtype)
    if dtype.endswith("bfloat16") and not has_bfloat16(device):
        return "int8+float32" if dtype == "int8+bfloat16" else "float32"
    return dtype


def without_int8(dtype: Dtype) -> Dtype:
    """The arithmetic that torch computes in where int8 cannot be used."""
    return "bfloat16" if dtype.endswith("bfloat16") else "float32"


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


def _has_openvino() -> bool:
    return importlib.util.find_spec("openvino") is not None
