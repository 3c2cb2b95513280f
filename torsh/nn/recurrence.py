"""Recurrences over time: one step of each kind of cell, and whole layers of them.

The projection of all inputs of a layer is one ``linear`` before the loop; a step adds the projection of the state.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from torsh.functional.common import T
from torsh.nn import functional as F
from torsh.ops.recurrence import STEPS, sequence_expr
from torsh.tensor.function import recorded_all

State = tuple[Any, ...]                   # (h,) or, for LSTM, (h, c)
Weights = Sequence[Any]                   # w_ih, w_hh, b_ih, b_hh (None without bias), w_hr (None without projection)


MOST_STEPS: Final = 512                   # recorded at once; longer sequences are recorded in parts


def run_step(mode: str, projected: Any, state: State, weights: Weights) -> State:
    """One step; ``projected``: the input's part."""
    return recorded_all(STEPS[mode], (projected, *state, weights[1], weights[3], weights[4]))


def run_steps(mode: str, x: Any, state: State, weights: Weights, backwards: bool, time: int) -> tuple[Any, State]:
    """A layer in one direction over padded input, (T, B, input) or with time = 1 (B, T, input): the outputs and the last state."""
    if x.shape[time] <= MOST_STEPS:
        out, *last = recorded_all(sequence_expr, (x, *state, *weights), (mode, time, backwards))
        return out, tuple(last)
    outputs: list[Any] = []
    parts = x.split(MOST_STEPS, time)
    for part in reversed(parts) if backwards else parts:
        out, state = run_steps(mode, part, state, weights, backwards, time)
        outputs.append(out)
    return T["cat"](outputs[::-1] if backwards else outputs, time), state


def run_packed(mode: str, x: Any, batch_sizes: Sequence[int], state: State, weights: Weights, reverse: bool) -> tuple[Any, State]:
    """A layer in one direction over packed input (sum of batch_sizes, input)."""
    parts = F.linear(x, weights[0], weights[2]).split(list(batch_sizes))
    run = _packed_backwards if reverse else _packed_forwards
    outputs, last = run(mode, parts, batch_sizes, state, weights)
    return T["cat"](outputs, 0), last


def _packed_forwards(mode: str, parts: Any, batch_sizes: Sequence[int], state: State, weights: Weights) -> tuple[list[Any], State]:
    """Sequences end on the way: the states of the shortest ones are put aside."""
    outputs: list[Any] = []
    ended: list[State] = []
    for part, size in zip(parts, batch_sizes, strict=True):
        if size < state[0].shape[0]:
            ended.append(tuple(s[size:] for s in state))
            state = tuple(s[:size] for s in state)
        state = run_step(mode, part, state, weights)
        outputs.append(state[0])
    if not ended:
        return outputs, state
    ended.append(state)
    return outputs, tuple(T["cat"]([e[i] for e in reversed(ended)], 0) for i in range(len(state)))


def _packed_backwards(mode: str, parts: Any, batch_sizes: Sequence[int], first: State, weights: Weights) -> tuple[list[Any], State]:
    """Sequences begin on the way: each starts with its own first state."""
    outputs: list[Any] = []
    state = tuple(s[:batch_sizes[-1]] for s in first)
    for part, size in zip(reversed(parts), reversed(batch_sizes), strict=True):
        known = state[0].shape[0]
        if size > known:
            state = tuple(T["cat"]([s, f[known:size]], 0) for s, f in zip(state, first, strict=True))
        state = run_step(mode, part, state, weights)
        outputs.append(state[0])
    return outputs[::-1], state


def run_network(mode: str, x: Any, batch_sizes: Sequence[int] | None, states: State, weights: Sequence[Weights], directions: int,
                dropout: float, training: bool, time: int = 0) -> tuple[Any, State]:
    """All layers and directions; ``time`` is the dimension of time of padded input and output.

    states: first states (layers * directions, B, size) of each kind. weights: one set per layer and direction.
    Returns the outputs of the last layer, directions joined, and the last states in the form of ``states``.
    """
    last: list[State] = []
    layers = len(weights) // directions
    for layer in range(layers):
        outputs = []
        for direction in range(directions):
            k = layer * directions + direction
            state = tuple(s[k] for s in states)
            if batch_sizes is None:
                out, state = run_steps(mode, x, state, weights[k], direction == 1, time)
            else:
                out, state = run_packed(mode, x, batch_sizes, state, weights[k], direction == 1)
            outputs.append(out)
            last.append(state)
        x = outputs[0] if directions == 1 else T["cat"](outputs, -1)
        if dropout and training and layer < layers - 1:
            x = F.dropout(x, dropout, True)
    return x, tuple(T["stack"]([s[i] for s in last], 0) for i in range(len(states)))
