"""Steps of recurrent networks, and sequences of them, as expressions: each is recorded as a whole, by one look-up.

``projected`` is the input's part of the gates, which is computed for all steps at once; ``weight`` and ``bias`` project the
state. Each function of a step gives the next state(s).
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from torsh.ops.common import add, mul, select, slice_dim, sub, unary, unsqueeze
from torsh.ops.contraction import linear_expr
from torsh.ops.expr import TABLE, Expr, emit, emit1


def _parts(gates: Expr, count: int) -> list[Expr]:
    """The gates, which lie side by side in the last dimension."""
    size = gates.shape[-1] // count
    return [slice_dim(gates, -1, k * size, size) for k in range(count)]


def tanh_step_expr(projected: Expr, h: Expr, weight: Expr, bias: Expr | None, projection: Expr | None) -> tuple[Expr, ...]:
    """A plain recurrence with tanh."""
    return (unary("tanh", add(projected, linear_expr(h, weight, bias))),)


def relu_step_expr(projected: Expr, h: Expr, weight: Expr, bias: Expr | None, projection: Expr | None) -> tuple[Expr, ...]:
    """A plain recurrence with relu."""
    return (emit1(TABLE["relu"], add(projected, linear_expr(h, weight, bias))),)


def lstm_step_expr(projected: Expr, h: Expr, c: Expr, weight: Expr, bias: Expr | None,
                   projection: Expr | None) -> tuple[Expr, ...]:
    """Long short-term memory (Hochreiter and Schmidhuber, 1997), with an optional projection of h."""
    entry, forget, cell, out = _parts(add(projected, linear_expr(h, weight, bias)), 4)
    c = add(mul(unary("sigmoid", forget), c), mul(unary("sigmoid", entry), unary("tanh", cell)))
    h = mul(unary("sigmoid", out), unary("tanh", c))
    return (h if projection is None else linear_expr(h, projection, None)), c


def gru_step_expr(projected: Expr, h: Expr, weight: Expr, bias: Expr | None, projection: Expr | None) -> tuple[Expr, ...]:
    """Gated recurrent unit (Cho et al., 2014)."""
    x_reset, x_update, x_new = _parts(projected, 3)
    h_reset, h_update, h_new = _parts(linear_expr(h, weight, bias), 3)
    new = unary("tanh", add(x_new, mul(unary("sigmoid", add(x_reset, h_reset)), h_new)))
    return (add(new, mul(unary("sigmoid", add(x_update, h_update)), sub(h, new))),)


STEPS: Final[dict[str, Callable[..., tuple[Expr, ...]]]] = {
    "RNN_TANH": tanh_step_expr, "RNN_RELU": relu_step_expr, "LSTM": lstm_step_expr, "GRU": gru_step_expr}


def sequence_expr(x: Expr, *rest: Any) -> tuple[Expr, ...]:
    """A layer in one direction over padded input: the outputs of all steps, and the last state(s).

    rest: the first state(s), the weights (w_ih, w_hh, b_ih, b_hh, w_hr, None where there is none), the cell's name, the dimension
    of time in x and in the outputs, and whether time runs backwards.
    """
    *state, w_ih, w_hh, b_ih, b_hh, w_hr, mode, time, backwards = rest
    step, projected, steps = STEPS[mode], linear_expr(x, w_ih, b_ih), x.shape[time]
    outputs: list[Any] = [None] * steps
    for t in range(steps - 1, -1, -1) if backwards else range(steps):
        state = step(select(projected, time, t), *state, w_hh, b_hh, w_hr)  # type: ignore[assignment]
        outputs[t] = unsqueeze(state[0], time)
    return emit(TABLE["cat"], tuple(outputs), time), *state
