"""Steps of recurrent networks, as expressions: each is recorded as a whole, by one look-up.

``projected`` is the input's part of the gates, which is computed for all steps at once; ``weight`` and ``bias`` project the
state. Each function gives the next state(s).
"""
from __future__ import annotations

from torsh.ops.common import add, mul, slice_dim, sub, unary
from torsh.ops.contraction import linear_expr
from torsh.ops.expr import TABLE, Expr, emit1


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
