"""What operations of kernels cost, in rough numbers of vector instructions."""
from __future__ import annotations

from typing import Final

# Rough numbers of vector instructions; 1 for what is not listed.
_COSTS: Final = {
    "exp": 14, "exp2": 12, "expm1": 18, "log": 24, "log2": 26, "log10": 28, "log1p": 34, "sin": 40, "cos": 40, "tan": 90,
    "asin": 50, "acos": 50, "atan": 24, "sinh": 26, "cosh": 18, "tanh": 26, "asinh": 100, "acosh": 100, "atanh": 90,
    "pow": 70, "atan2": 70, "erf": 30, "erfc": 45, "normal_cdf": 32, "sigmoid": 18,
    "fmod": 60, "remainder": 60, "floor_divide": 70,
    "trunc_divide": 6, "philox": 110, "div": 4, "sqrt": 4, "rsqrt": 8, "reciprocal": 4, "index_load": 12}


def operation_cost(name: str) -> int:
    """Rough number of vector instructions of an operation of a kernel."""
    if name in ("constant", "scalar", "iota"):
        return 0
    return _COSTS.get("index_load" if name in ("index", "gather") else name, 1)
