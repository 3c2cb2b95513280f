"""Single steps of recurrent layers."""
from __future__ import annotations

import math
from typing import Any

from torsh.core.errors import InvalidArgumentError, ShapeMismatchError
from torsh.nn import functional as F
from torsh.nn import init
from torsh.nn.modules.module import Module
from torsh.nn.parameter import Parameter
from torsh.nn.recurrence import State, run_step
from torsh.tensor.creation import empty


class RNNCellBase(Module):
    """What the cells share: ``weight_ih``, ``weight_hh``, ``bias_ih``, ``bias_hh`` for ``num_chunks`` gates."""

    input_size: int
    hidden_size: int
    bias: bool

    def __init__(self, input_size: int, hidden_size: int, bias: bool, num_chunks: int, device: Any = None, dtype: Any = None) -> None:
        super().__init__()
        self.input_size, self.hidden_size, self.bias = input_size, hidden_size, bias
        rows = num_chunks * hidden_size
        options = {"device": device, "dtype": dtype}
        self.weight_ih = Parameter(empty((rows, input_size), **options))
        self.weight_hh = Parameter(empty((rows, hidden_size), **options))
        for name in ("bias_ih", "bias_hh"):
            self.register_parameter(name, Parameter(empty(rows, **options)) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new parameters."""
        bound = 1.0 / math.sqrt(self.hidden_size) if self.hidden_size > 0 else 0
        for weight in self.parameters():
            init.uniform_(weight, -bound, bound)

    def extra_repr(self) -> str:
        """Sizes and what differs from the defaults."""
        text = f"{self.input_size}, {self.hidden_size}"
        if self.bias is not True:
            text += f", bias={self.bias}"
        nonlinearity = getattr(self, "nonlinearity", "tanh")
        return text if nonlinearity == "tanh" else f"{text}, nonlinearity={nonlinearity}"

    def _step(self, mode: str, input: Any, states: list[Any]) -> State:
        """One step; inputs and states may come without batch dimension."""
        name = type(self).__name__
        if input.dim() not in (1, 2):
            raise InvalidArgumentError(f"{name}: Expected input to be 1D or 2D, got {input.dim()}D instead")
        for k, s in enumerate(states):
            if s is not None and s.dim() not in (1, 2):
                label = f"hx[{k}]" if len(states) > 1 else "hidden"
                raise InvalidArgumentError(f"{name}: Expected {label} to be 1D or 2D, got {s.dim()}D instead")
        batched = input.dim() == 2
        x = input if batched else input.unsqueeze(0)
        full = [x.new_zeros(x.shape[0], self.hidden_size) if s is None else s if batched else s.unsqueeze(0) for s in states]
        self._check(x, full)
        weights = (self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh, None)
        result = run_step(mode, F.linear(x, weights[0], weights[2]), tuple(full), weights)
        return result if batched else tuple(s.squeeze(0) for s in result)

    def _check(self, x: Any, states: list[Any]) -> None:
        if x.shape[1] != self.input_size:
            raise ShapeMismatchError(f"input has inconsistent input_size: got {x.shape[1]} expected {self.input_size}")
        for k, s in enumerate(states):
            if s.dim() != 2 or s.shape[0] != x.shape[0]:
                raise ShapeMismatchError(f"Input batch size {x.shape[0]} doesn't match hidden{k} batch size {s.shape[0]}")
            if s.shape[1] != self.hidden_size:
                raise ShapeMismatchError(f"hidden{k} has inconsistent hidden_size: got {s.shape[1]}, expected {self.hidden_size}")


class RNNCell(RNNCellBase):
    """One step of RNN: input (B, input_size), state (B, hidden_size) to the next state.

    Example::

        >>> import torsh
        >>> torsh.nn.RNNCell(10, 20)(torsh.randn(3, 10)).shape
        torsh.Size([3, 20])
    """

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, nonlinearity: str = "tanh", device: Any = None,
                 dtype: Any = None) -> None:
        super().__init__(input_size, hidden_size, bias, 1, device, dtype)
        self.nonlinearity = nonlinearity

    def forward(self, input: Any, hx: Any = None) -> Any:
        """The next state."""
        if self.nonlinearity not in ("tanh", "relu"):
            raise ShapeMismatchError(f"Unknown nonlinearity: {self.nonlinearity}")
        return self._step("RNN_" + self.nonlinearity.upper(), input, [hx])[0]


class LSTMCell(RNNCellBase):
    """One step of LSTM: input (B, input_size), state (h, c) of (B, hidden_size) to the next state (h, c)."""

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, device: Any = None, dtype: Any = None) -> None:
        super().__init__(input_size, hidden_size, bias, 4, device, dtype)

    def forward(self, input: Any, hx: Any = None) -> tuple[Any, Any]:
        """The next state."""
        h, c = self._step("LSTM", input, [None, None] if hx is None else list(hx))
        return h, c


class GRUCell(RNNCellBase):
    """One step of GRU: input (B, input_size), state (B, hidden_size) to the next state."""

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, device: Any = None, dtype: Any = None) -> None:
        super().__init__(input_size, hidden_size, bias, 3, device, dtype)

    def forward(self, input: Any, hx: Any = None) -> Any:
        """The next state."""
        return self._step("GRU", input, [hx])[0]
