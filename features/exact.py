"""Arithmetic whose results have the same bits on every CPU, with any BLAS kernel and any number of threads.

Two means. First, vectors lie on a grid, the multiples of 2^-20. A product of two grid values is a multiple of 2^-40, so
a float64 sum of such products is exact as long as the absolute values of its terms add up to less than 2^13, which is
2^53 steps of 2^-40: it is the same in any order, with or without fused multiply-add. The product of the two vectors'
norms bounds that sum (Cauchy-Schwarz). Second, `exp`, `tanh` and `log` use only + - * / and bit patterns in float64.
IEEE 754 fixes these to the last bit, while the routines of NumPy and of the C library change with the CPU.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from features.arrays import Float32, Float64, Int64
from features.compiled import compiled

GRID_STEP = 2.0**-20
"""Distance between neighbouring values of the grid."""

_SMALLEST, _LARGEST = -708.0, 709.0
_LOG2_E = 1.4426950408889634
_LN2_HIGH = 0.6931471803691238
"""The leading bits of ln 2, few enough that products with whole numbers up to 2^20 are exact."""
_LN2_LOW = 1.9082149292705877e-10
"""ln 2 - _LN2_HIGH."""
_ROUNDING = 1.5 * 2.0**52
"""Added to a small number, it leaves the nearest whole number in the low bits."""
_EXP_SERIES = tuple(1.0 / n for n in (3628800.0, 362880.0, 40320.0, 5040.0, 720.0, 120.0, 24.0, 6.0, 2.0))
_LOG_SERIES = tuple(2.0 / n for n in (21.0, 19.0, 17.0, 15.0, 13.0, 11.0, 9.0, 7.0, 5.0, 3.0))
_SQRT_HALF = 0.7071067811865476


def to_grid(values: Float32 | Float64) -> Float32:
    """The nearest multiples of `GRID_STEP`, same shape; halfway values go to the even multiple, NaN stays NaN.

    A float32 of absolute value 16 or more is on the grid already.
    """
    scaled = np.asarray(values, np.float32) * np.float32(1 / GRID_STEP)
    return np.asarray(np.rint(scaled) * np.float32(GRID_STEP))


def exp(x: npt.ArrayLike) -> Float64:
    """e to the power of x, same shape, relative error below 1e-12; 0 below -708, e^709 above 709, NaN stays NaN.

    Source: range reduction by Cody and Waite, Software Manual for the Elementary Functions, 1980; Taylor series.
    """
    exponent = np.asarray(x, np.float64)
    result, power = np.empty(exponent.size), np.empty(exponent.size)
    _fill_exp(exponent.ravel(), power, power.view(np.int64), result)
    return result.reshape(exponent.shape)


@compiled
def _fill_exp(exponent: Float64, power: Float64, bits: Int64, result: Float64) -> None:
    """`exp`. power: room for as many numbers. bits: the same as whole numbers."""
    for place in range(len(exponent)):
        clipped = exponent[place]
        if clipped < _SMALLEST:
            clipped = _SMALLEST
        elif clipped > _LARGEST:
            clipped = _LARGEST
        power[place] = clipped * _LOG2_E + _ROUNDING
        whole = power[place] - _ROUNDING
        rest = clipped - whole * _LN2_HIGH
        rest -= whole * _LN2_LOW
        value = _EXP_SERIES[0]
        for coefficient in _EXP_SERIES[1:]:
            value = value * rest + coefficient
        result[place] = (value * rest + 1.0) * rest + 1.0
    for place in range(len(exponent)):
        bits[place] = (bits[place] + 1023) << 52
        result[place] = 0.0 if exponent[place] < _SMALLEST else result[place] * power[place]


def tanh(x: npt.ArrayLike) -> Float64:
    """Hyperbolic tangent of x, same shape, absolute error below 1e-12. NaN stays NaN."""
    squared = exp(2.0 * np.clip(np.asarray(x, np.float64), -20.0, 20.0))
    return np.asarray((squared - 1.0) / (squared + 1.0))


def log(x: npt.ArrayLike) -> Float64:
    """Natural logarithm of positive finite x, same shape, relative error below 1e-12."""
    mantissa, power = np.frexp(np.asarray(x, np.float64))
    small = mantissa < _SQRT_HALF
    mantissa = np.where(small, 2.0 * mantissa, mantissa)
    whole = (power - small).astype(np.float64)
    ratio = (mantissa - 1.0) / (mantissa + 1.0)
    square = ratio * ratio
    series = np.full_like(square, _LOG_SERIES[0])
    for coefficient in _LOG_SERIES[1:]:
        series = series * square + coefficient
    return np.asarray(whole * _LN2_HIGH + (whole * _LN2_LOW + (ratio * square * series + 2.0 * ratio)))
