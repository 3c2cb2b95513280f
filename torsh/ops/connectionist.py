"""Connectionist temporal classification: the loss over all alignments of a sequence with its target."""
from __future__ import annotations

from typing import Any, Final

import numpy as np

from torsh.core.dtype import DType, from_numpy_dtype, int64
from torsh.core.errors import ShapeMismatchError, UnsupportedDTypeError
from torsh.core.promotion import SCALAR_TYPE_NAMES
from torsh.ops.common import apply, cast
from torsh.ops.define import Array, convert, wide
from torsh.ops.expr import HOST, Expr, Op, Shape, emit

# attr of the ops: (blank, infinite losses count as 0)
CtcAttr = tuple[int, bool]


def _infer(attr: CtcAttr, logs: Expr, targets: Expr, input_lengths: Expr, target_lengths: Expr) -> tuple[Shape, DType]:
    if not logs.dtype.is_floating_point:
        raise UnsupportedDTypeError(f"\"ctc_loss_cpu\" not implemented for '{SCALAR_TYPE_NAMES[logs.dtype.name]}'")
    if len(logs.shape) != 3 or len(targets.shape) != 2 or targets.shape[0] != logs.shape[1]:
        raise ShapeMismatchError("ctc_loss: expected log-probabilities (times, batch, classes) and padded targets (batch, "
                                 f"length), got shapes {list(logs.shape)} and {list(targets.shape)}")
    if not 0 <= attr[0] < logs.shape[2]:
        raise ShapeMismatchError(f"blank must be in label range, got {attr[0]} for {logs.shape[2]} classes")
    for name, lengths in (("input_lengths", input_lengths), ("target_lengths", target_lengths)):
        if lengths.shape != (logs.shape[1],):
            raise ShapeMismatchError(f"{name} must be of size batch_size: expected [{logs.shape[1]}], got "
                                     f"{list(lengths.shape)}")
    return (logs.shape[1],), logs.dtype


def _states(target: Array, blank: int) -> tuple[Array, Array]:
    """(labels with blanks between them, may a state be reached from the one before the last?)."""
    labels = np.full(2 * len(target) + 1, blank, np.int64)
    labels[1::2] = target
    skip = np.zeros(len(labels), bool)
    skip[3::2] = target[1:] != target[:-1]
    return labels, skip


def _forward(logs: Array, labels: Array, skip: Array) -> Array:
    """Log-probabilities of all prefixes: (times, states)."""
    alpha = np.full((len(logs), len(labels)), -np.inf)
    alpha[0, :2] = logs[0, labels[:2]]
    for t in range(1, len(logs)):
        total = alpha[t - 1].copy()
        total[1:] = np.logaddexp(total[1:], alpha[t - 1, :-1])
        total[2:] = np.where(skip[2:], np.logaddexp(total[2:], alpha[t - 1, :-2]), total[2:])
        alpha[t] = total + logs[t, labels]
    return alpha


def _negative_log(alpha: Array) -> float:
    if not len(alpha):
        return 0.0 if alpha.shape[1] == 1 else np.inf
    return float(-np.logaddexp.reduce(alpha[-1, -2:]))


def _sequences(logs: Any, targets: Any, input_lengths: Any, target_lengths: Any) -> Any:
    array = convert(logs, wide(from_numpy_dtype(np.asarray(logs).dtype))).astype(np.float64)
    for i, (times, length) in enumerate(zip(np.asarray(input_lengths), np.asarray(target_lengths), strict=True)):
        if not 0 <= times <= len(array) or not 0 <= length <= np.shape(targets)[1]:
            raise ShapeMismatchError(f"ctc_loss: lengths {times} (input) and {length} (target) do not fit log-probabilities "
                                     f"of shape {list(array.shape)} and targets of shape {list(np.shape(targets))}")
        yield array[:times, i], np.asarray(targets)[i, :length]


def _reference(attr: CtcAttr, logs: Any, targets: Any, input_lengths: Any, target_lengths: Any) -> Array:
    losses = []
    for line, target in _sequences(logs, targets, input_lengths, target_lengths):
        loss = _negative_log(_forward(line, *_states(target, attr[0])))
        losses.append(0.0 if attr[1] and np.isinf(loss) else loss)
    return np.asarray(losses).astype(np.asarray(logs).dtype)


def _gradient_reference(attr: CtcAttr, g: Any, logs: Any, targets: Any, input_lengths: Any, target_lengths: Any) -> Array:
    out = np.zeros(np.shape(logs))
    with np.errstate(all="ignore"):
        for i, (line, target) in enumerate(_sequences(logs, targets, input_lengths, target_lengths)):
            if not len(line):
                continue
            labels, skip = _states(target, attr[0])
            alpha = _forward(line, labels, skip)
            loss = _negative_log(alpha)
            if attr[1] and np.isinf(loss):
                continue
            turned = np.zeros(len(skip), bool)
            turned[2:] = skip[2:][::-1]
            beta = _forward(line[::-1], labels[::-1], turned)[::-1, ::-1]
            # The share of every class at every time among all alignments; both directions count its own probability.
            shares = np.zeros(line.shape)
            weights = np.exp(alpha + beta - line[:, labels] + loss)
            for state, label in enumerate(labels):
                shares[:, label] += weights[:, state]
            out[:len(line), i] = (np.exp(line) - shares) * float(np.asarray(g)[i])
    return out.astype(np.asarray(logs).dtype)


# attr: (blank, zero_infinity); args: gradient of the losses, then ctc_loss's arguments
CTC_LOSS_GRADIENT: Final[Op] = Op("ctc_loss_gradient", lambda attr, g, logs, *rest: (logs.shape, logs.dtype),
                                  _gradient_reference, kind=HOST)
# attr: (blank, zero_infinity); args: log-probabilities (times, batch, classes), targets (batch, length) padded at the end,
# lengths of inputs and of targets. One loss per sequence. As in PyTorch, the gradient assumes normalised log-probabilities.
CTC_LOSS: Final[Op] = Op("ctc_loss", _infer, _reference, kind=HOST,
                         gradient=lambda e, g: (apply("ctc_loss_gradient", g, *e.args, attr=e.attr), None, None, None))


def ctc_loss_expr(logs: Expr, targets: Expr, input_lengths: Expr, target_lengths: Expr, blank: int = 0,
                  zero_infinity: bool = False) -> Expr:
    """The loss of every sequence of a batch."""
    integers = [cast(e, int64) for e in (targets, input_lengths, target_lengths)]
    return emit(CTC_LOSS, (logs, *integers), (int(blank), bool(zero_infinity)))
