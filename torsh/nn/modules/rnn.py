"""Recurrent layers."""
from __future__ import annotations

import math
import numbers
import warnings
from typing import Any

from torsh.core.errors import ArgumentTypeError, InvalidArgumentError, ShapeMismatchError
from torsh.nn import init
from torsh.nn.modules.module import Module
from torsh.nn.parameter import Parameter
from torsh.nn.recurrence import run_network
from torsh.nn.utils.rnn import PackedSequence
from torsh.tensor.creation import empty

_GATES = {"LSTM": 4, "GRU": 3, "RNN_TANH": 1, "RNN_RELU": 1}


class RNNBase(Module):
    """What RNN, LSTM and GRU share: parameters ``weight_ih_l0``, ``weight_hh_l0``, ``bias_ih_l0``, ``bias_hh_l0`` … (with
    ``_reverse`` for the second direction and ``weight_hr_l0`` for projections), states and packed input."""

    mode: str
    input_size: int
    hidden_size: int

    def __init__(self, mode: str, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True,
                 batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False, proj_size: int = 0,
                 device: Any = None, dtype: Any = None) -> None:
        super().__init__()
        _check_dropout(dropout, num_layers)
        _check_type("bias", bias, bool)
        _check_type("batch_first", batch_first, bool)
        _check_sizes(input_size, hidden_size, num_layers, proj_size)
        if mode not in _GATES:
            raise InvalidArgumentError("Unrecognized RNN mode: " + mode)
        self.mode, self.input_size, self.hidden_size, self.num_layers = mode, input_size, hidden_size, num_layers
        self.bias, self.batch_first, self.dropout = bias, batch_first, float(dropout)
        self.bidirectional, self.proj_size = bidirectional, proj_size
        self._all_weights: list[list[str]] = []
        directions = 2 if bidirectional else 1
        for layer in range(num_layers):
            for direction in range(directions):
                self._add_weights(layer, directions, "_reverse" if direction else "", {"device": device, "dtype": dtype})
        self.reset_parameters()

    def _add_weights(self, layer: int, directions: int, suffix: str, options: dict[str, Any]) -> None:
        rows = _GATES[self.mode] * self.hidden_size
        out = self.proj_size or self.hidden_size
        shapes: dict[str, tuple[int, ...]] = {"weight_ih": (rows, out * directions if layer else self.input_size), "weight_hh": (rows, out)}
        if self.bias:
            shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)}
        if self.proj_size:
            shapes["weight_hr"] = (self.proj_size, self.hidden_size)
        names = []
        for kind, shape in shapes.items():
            names.append(f"{kind}_l{layer}{suffix}")
            setattr(self, names[-1], Parameter(empty(shape, **options)))
        self._all_weights.append(names)

    def reset_parameters(self) -> None:
        """Draw new parameters."""
        bound = 1.0 / math.sqrt(self.hidden_size) if self.hidden_size > 0 else 0
        for weight in self.parameters():
            init.uniform_(weight, -bound, bound)

    def flatten_parameters(self) -> None:
        """Does nothing: parameters need not lie in one block."""

    @property
    def all_weights(self) -> list[list[Any]]:
        """The parameters of every layer and direction."""
        return [[getattr(self, name) for name in names] for names in self._all_weights]

    @property
    def _flat_weights_names(self) -> list[str]:
        return [name for names in self._all_weights for name in names]

    @property
    def _flat_weights(self) -> list[Any]:
        return [getattr(self, name) for name in self._flat_weights_names]

    def _weight_sets(self) -> list[tuple[Any, ...]]:
        """(w_ih, w_hh, b_ih, b_hh, w_hr) of every layer and direction, None where there is none."""
        sets = []
        for weights in self.all_weights:
            biases = weights[2:4] if self.bias else [None, None]
            sets.append((*weights[:2], *biases, weights[-1] if self.proj_size else None))
        return sets

    def extra_repr(self) -> str:
        """Sizes and what differs from the defaults."""
        text = f"{self.input_size}, {self.hidden_size}"
        for name, default in (("proj_size", 0), ("num_layers", 1), ("bias", True), ("batch_first", False), ("dropout", 0),
                              ("bidirectional", False)):
            if getattr(self, name) != default:
                text += f", {name}={getattr(self, name)}"
        return text

    # ---- checks ------------------------------------------------------------------------------------------------------

    def check_input(self, input: Any, batch_sizes: Any) -> None:
        """Raise if the input's dtype, dimensions or features do not fit."""
        weight = getattr(self, self._all_weights[0][0])
        if input.dtype is not weight.dtype:
            raise InvalidArgumentError(f"RNN input dtype ({input.dtype}) does not match weight dtype ({weight.dtype}). Convert input: "
                                       f"input.to({weight.dtype}), or convert model: model.to({input.dtype})")
        wanted = 3 if batch_sizes is None else 2
        if input.dim() != wanted:
            raise ShapeMismatchError(f"input must have {wanted} dimensions, got {input.dim()}")
        if input.shape[-1] != self.input_size:
            raise ShapeMismatchError(f"input.size(-1) must be equal to input_size. Expected {self.input_size}, got {input.shape[-1]}")

    def get_expected_hidden_size(self, input: Any, batch_sizes: Any) -> tuple[int, int, int]:
        """Shape of the state h."""
        batch = int(batch_sizes[0]) if batch_sizes is not None else input.shape[0 if self.batch_first else 1]
        return self._state_shape(batch, self.proj_size or self.hidden_size)

    def get_expected_cell_size(self, input: Any, batch_sizes: Any) -> tuple[int, int, int]:
        """Shape of the state c of LSTM."""
        layers, batch, _ = self.get_expected_hidden_size(input, batch_sizes)
        return layers, batch, self.hidden_size

    def _state_shape(self, batch: int, size: int) -> tuple[int, int, int]:
        return self.num_layers * (2 if self.bidirectional else 1), batch, size

    def check_hidden_size(self, hx: Any, expected_hidden_size: tuple[int, int, int],
                          msg: str = "Expected hidden size {}, got {}") -> None:
        """Raise if a state has another shape."""
        if tuple(hx.shape) != tuple(expected_hidden_size):
            raise ShapeMismatchError(msg.format(expected_hidden_size, list(hx.shape)))

    def permute_hidden(self, hx: Any, permutation: Any) -> Any:
        """The states in another order of the sequences."""
        return hx if permutation is None else _each(hx, lambda s: s.index_select(1, permutation))

    # ---- forward -----------------------------------------------------------------------------------------------------

    def forward(self, input: Any, hx: Any = None) -> tuple[Any, Any]:
        """Outputs of all steps and the last state.

        input: (T, B, input_size), with ``batch_first`` (B, T, input_size), without batch (T, input_size), or a PackedSequence.
        hx: first state (zeros by default), (layers * directions, B, hidden_size); for LSTM a pair (h, c).
        """
        if isinstance(input, PackedSequence):
            return self._forward_packed(input, hx)
        name = "RNN" if self.mode.startswith("RNN") else self.mode
        if input.dim() not in (2, 3):
            raise InvalidArgumentError(f"{name}: Expected input to be 2D or 3D, got {input.dim()}D instead")
        batched = input.dim() == 3
        if hx is not None:
            self._check_state_dims(hx, batched)
        x = input
        if not batched:
            x = input.unsqueeze(0 if self.batch_first else 1)
            hx = None if hx is None else _each(hx, lambda s: s.unsqueeze(1))
        self.check_input(x, None)
        states = self._states(x, None, hx)
        if x.shape[1 if self.batch_first else 0] == 0:
            raise ShapeMismatchError("Expected sequence length to be larger than 0 in RNN")
        out, last = self._run(x, None, states)
        if not batched:
            out = out.squeeze(0 if self.batch_first else 1)
            last = tuple(s.squeeze(1) for s in last)
        return out, self._packed_state(last)

    def _forward_packed(self, packed: PackedSequence, hx: Any) -> tuple[Any, Any]:
        data, batch_sizes, order, undo = packed
        self.check_input(data, batch_sizes)
        states = self._states(data, batch_sizes, self.permute_hidden(hx, order) if hx is not None else None)
        out, last = self._run(data, batch_sizes.tolist(), states)
        return PackedSequence(out, batch_sizes, order, undo), self.permute_hidden(self._packed_state(last), undo)

    def _run(self, x: Any, batch_sizes: Any, states: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...]]:
        return run_network(self.mode, x, batch_sizes, states, self._weight_sets(), 2 if self.bidirectional else 1, self.dropout,
                           self.training, 1 if self.batch_first else 0)

    def _packed_state(self, last: tuple[Any, ...]) -> Any:
        return last if self.mode == "LSTM" else last[0]

    def _check_state_dims(self, hx: Any, batched: bool) -> None:
        dims = [s.dim() for s in (hx if self.mode == "LSTM" else (hx,))]
        wanted = 3 if batched else 2
        if any(d != wanted for d in dims):
            kind = "batched 3-D" if batched else "unbatched 2-D"
            if self.mode == "LSTM":
                raise ShapeMismatchError(f"For {kind} input, hx and cx should also be {wanted}-D but got ({dims[0]}-D, {dims[1]}-D) "
                                         "tensors")
            raise ShapeMismatchError(f"For {kind} input, hx should also be {wanted}-D but got {dims[0]}-D tensor")

    def _states(self, x: Any, batch_sizes: Any, hx: Any) -> tuple[Any, ...]:
        """The first states: those given, checked, or zeros."""
        h_shape = self.get_expected_hidden_size(x, batch_sizes)
        if self.mode != "LSTM":
            if hx is None:
                return (x.new_zeros(h_shape),)
            self.check_hidden_size(hx, h_shape)
            return (hx,)
        c_shape = self.get_expected_cell_size(x, batch_sizes)
        if hx is None:
            return x.new_zeros(h_shape), x.new_zeros(c_shape)
        self.check_hidden_size(hx[0], h_shape, "Expected hidden[0] size {}, got {}")
        self.check_hidden_size(hx[1], c_shape, "Expected hidden[1] size {}, got {}")
        return hx[0], hx[1]


def _each(hx: Any, change: Any) -> Any:
    """``change`` applied to a state, or to both of LSTM's."""
    return tuple(change(s) for s in hx) if isinstance(hx, (tuple, list)) else change(hx)


def _check_dropout(dropout: Any, num_layers: int) -> None:
    if not isinstance(dropout, numbers.Number) or not 0 <= dropout <= 1 or isinstance(dropout, bool):  # type: ignore[operator]
        raise InvalidArgumentError("dropout should be a number in range [0, 1] representing the probability of an element being zeroed")
    if dropout > 0 and num_layers == 1:  # type: ignore[operator]
        warnings.warn("dropout option adds dropout after all but last recurrent layer, so non-zero dropout expects num_layers greater "
                      f"than 1, but got dropout={dropout} and num_layers={num_layers}", stacklevel=4)


def _check_type(name: str, value: Any, wanted: type) -> None:
    if not isinstance(value, wanted):
        raise ArgumentTypeError(f"{name} should be of type {wanted.__name__}, got: {type(value).__name__}")


def _check_sizes(input_size: Any, hidden_size: Any, num_layers: int, proj_size: int) -> None:
    for name, value in (("input_size", input_size), ("hidden_size", hidden_size)):
        _check_type(name, value, int)
        if value <= 0:
            raise InvalidArgumentError(f"{name} must be greater than zero")
    if num_layers <= 0:
        raise InvalidArgumentError("num_layers must be greater than zero")
    if proj_size < 0:
        raise InvalidArgumentError("proj_size should be a positive integer or zero to disable projections")
    if proj_size >= hidden_size:
        raise InvalidArgumentError("proj_size has to be smaller than hidden_size")


class RNN(RNNBase):
    """``h = tanh(w_ih x + b_ih + w_hh h + b_hh)``, or with ``nonlinearity="relu"``.

    Arguments: input_size, hidden_size, num_layers=1, nonlinearity="tanh", bias=True, batch_first=False, dropout=0.0,
    bidirectional=False. See :meth:`RNNBase.forward` for the shapes.

    Example::

        >>> import torsh
        >>> out, h = torsh.nn.RNN(10, 20, 2)(torsh.randn(5, 3, 10))
        >>> out.shape, h.shape
        (torsh.Size([5, 3, 20]), torsh.Size([2, 3, 20]))
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if "proj_size" in kwargs:
            raise InvalidArgumentError("proj_size argument is only supported for LSTM, not RNN or GRU")
        if len(args) > 3:
            self_nonlinearity = args[3]
            args = args[:3] + args[4:]
        else:
            self_nonlinearity = kwargs.pop("nonlinearity", "tanh")
        if self_nonlinearity not in ("tanh", "relu"):
            raise InvalidArgumentError(f"Unknown nonlinearity '{self_nonlinearity}'. Select from 'tanh' or 'relu'.")
        super().__init__("RNN_" + self_nonlinearity.upper(), *args, **kwargs)
        self.nonlinearity = self_nonlinearity


class LSTM(RNNBase):
    """Long short-term memory (Hochreiter and Schmidhuber, 1997); the state is a pair (h, c).

    Arguments: input_size, hidden_size, num_layers=1, bias=True, batch_first=False, dropout=0.0, bidirectional=False,
    proj_size=0 (size of a projection of h). See :meth:`RNNBase.forward` for the shapes.

    Example::

        >>> import torsh
        >>> out, (h, c) = torsh.nn.LSTM(10, 20, bidirectional=True, batch_first=True)(torsh.randn(3, 5, 10))
        >>> out.shape, c.shape
        (torsh.Size([3, 5, 40]), torsh.Size([2, 3, 20]))
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__("LSTM", *args, **kwargs)


class GRU(RNNBase):
    """Gated recurrent unit (Cho et al., 2014).

    Arguments: input_size, hidden_size, num_layers=1, bias=True, batch_first=False, dropout=0.0, bidirectional=False.
    See :meth:`RNNBase.forward` for the shapes.

    Example::

        >>> import torsh
        >>> torsh.nn.GRU(10, 20)(torsh.randn(5, 3, 10))[0].shape
        torsh.Size([5, 3, 20])
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if "proj_size" in kwargs:
            raise InvalidArgumentError("proj_size argument is only supported for LSTM, not RNN or GRU")
        super().__init__("GRU", *args, **kwargs)
