"""One BLAS thread in every command: requests and chunks are what this project runs side by side, on threads of its own.

A matrix product that takes threads of its own as well makes each of those wait for the others. NumPy's and SciPy's
wheels bring OpenBLAS; Accelerate and BLIS are set the same way. MKL and OpenMP are left alone, since torch and LightGBM
take their own number of threads from them (`threads`, `serving.threads`).
"""

from __future__ import annotations

import os
import sys

_VARIABLES = ("OPENBLAS_NUM_THREADS", "BLIS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
_LOADED = {"openblas": "OPENBLAS_NUM_THREADS", "blis": "BLIS_NUM_THREADS"}


def one_blas_thread() -> None:
    """Give BLAS one thread in this process and in those that it starts, unless the environment says otherwise.

    A library reads its variable when it is loaded, so this is called before NumPy is imported; those that are loaded
    already are told directly.
    """
    given = {variable for variable in _VARIABLES if variable in os.environ}
    for variable in _VARIABLES:
        os.environ.setdefault(variable, "1")
    if "numpy" in sys.modules:
        from threadpoolctl import ThreadpoolController

        told = [library for library, variable in _LOADED.items() if variable not in given]
        ThreadpoolController().select(internal_api=told).limit(limits=1)
