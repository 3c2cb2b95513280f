"""First and second derivatives of elementwise ops against finite differences in float64."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from expression_harness import check_gradient

from torsh.ops.expr import TABLE, emit

POINTS = np.array([[0.31, -0.72], [0.55, -0.13]])
ABOVE = np.abs(POINTS) + 1.2
UNARY: dict[str, Any] = {name: POINTS for name in (
    "abs neg exp exp2 expm1 sin cos tan asin acos atan sinh cosh tanh asinh atanh erf erfc erfinv sigmoid square relu sinc "
    "frac deg2rad rad2deg silu mish logsigmoid selu hardswish hardsigmoid tanhshrink").split()}
UNARY.update({name: ABOVE for name in "log log2 log10 log1p sqrt rsqrt reciprocal acosh lgamma digamma entr".split()})
UNARY["logit"] = np.array([0.2, 0.7])
NUMBERED = {"leaky_relu": (0.1,), "elu": (0.7,), "celu": (0.7,), "softplus": (1.5, 20.0), "hardtanh": (-0.5, 0.5),
            "hardshrink": (0.4,), "softshrink": (0.4,), "threshold": (0.2, 3.0)}
BINARY = "add sub mul div pow atan2 maximum minimum hypot logaddexp logaddexp2 xlogy xlog1py fmod remainder".split()


@pytest.mark.parametrize("name", sorted(UNARY))
def test_unary(name: str) -> None:
    """Functions of one argument."""
    check_gradient(lambda e: emit(TABLE[name], (e,)), UNARY[name], order=2, tolerance=1e-4)


@pytest.mark.parametrize("name", sorted(NUMBERED))
def test_with_numbers(name: str) -> None:
    """Functions with run-time numbers as parameters."""
    check_gradient(lambda *e: emit(TABLE[name], e), POINTS, *NUMBERED[name], order=2, tolerance=1e-4)


@pytest.mark.parametrize("name", BINARY)
def test_binary(name: str) -> None:
    """Functions of two broadcast arguments."""
    check_gradient(lambda *e: emit(TABLE[name], e), ABOVE, np.array([0.8, 2.3]), order=2, tolerance=1e-4)


def test_numbers_and_integers_get_no_gradient() -> None:
    """Only floating-point arrays are differentiated; their gradients have their dtype."""
    check_gradient(lambda a, n, s: emit(TABLE["mul"], (emit(TABLE["mul"], (a, n)), s)), POINTS, np.array([2, 3]), 1.5,
                   order=2)
