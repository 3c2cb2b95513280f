"""How tensors print: PyTorch's layout, threshold, precision and suffixes."""
from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from torsh.core.dtype import bool_, complex64, get_default_dtype, int64
from torsh.graph.handle import requires_grad
from torsh.tensor.function import METHODS, NAMESPACES
from torsh.tensor.tensor import Tensor


@dataclass
class PrintOptions:
    """What :func:`set_printoptions` sets."""

    precision: int = 4
    threshold: float = 1000
    edgeitems: int = 3
    linewidth: int = 80
    sci_mode: bool | None = None


options = PrintOptions()
_PROFILES = {"default": (4, 1000, 3, 80), "short": (2, 1000, 2, 80), "full": (4, math.inf, 3, 80)}


def set_printoptions(precision: int | None = None, threshold: float | None = None, edgeitems: int | None = None,
                     linewidth: int | None = None, profile: str | None = None, sci_mode: bool | None = None) -> None:
    """Set how tensors print (profile: ``"default"``, ``"short"`` or ``"full"``)."""
    if profile is not None:
        options.precision, options.threshold, options.edgeitems, options.linewidth = _PROFILES[profile.lower()]
    for name, value in (("precision", precision), ("threshold", threshold), ("edgeitems", edgeitems),
                        ("linewidth", linewidth)):
        if value is not None:
            setattr(options, name, value)
    options.sci_mode = sci_mode


class Formatter:
    """Formats all elements of a tensor in one width."""

    def __init__(self, values: np.ndarray[Any, Any], dtype: Any) -> None:
        self.floating = dtype.category == 2
        self.integers = True
        self.scientific = False
        self.width = 1
        self.bool = dtype is bool_
        flat = values.reshape(-1)
        if not self.floating:
            self.width = max([1, *(len(f"{v}") for v in flat.tolist())])
            return
        finite = flat[np.isfinite(flat)]
        finite = finite[finite != 0]
        if finite.size:
            low, high = float(np.abs(finite).min()), float(np.abs(finite).max())
            self.integers = bool(np.all(finite == np.ceil(finite)))
            self.choose(finite, low, high)
        if options.sci_mode is not None:
            self.scientific = options.sci_mode

    def choose(self, finite: np.ndarray[Any, Any], low: float, high: float) -> None:
        """Fixed or scientific notation, and the width."""
        p = options.precision
        ratio = high / low if low else math.inf
        if self.integers:
            self.scientific = ratio > 1000.0 or high > 1.0e8
        else:
            self.scientific = ratio > 1000.0 or high > 1.0e8 or low < 1.0e-4
        if options.sci_mode is not None:
            self.scientific = options.sci_mode
        if self.scientific:
            texts = (f"{{:.{p}e}}".format(v) for v in finite.tolist())
            self.width = max(len(t) for t in texts)
        elif self.integers:
            self.width = max(len(f"{v:.0f}") for v in finite.tolist()) + 1
        else:
            self.width = max(len(f"{v:.{p}f}") for v in finite.tolist())

    def format(self, value: Any) -> str:
        """One element, padded to the common width."""
        if not self.floating:
            return f"{value}".rjust(self.width)
        p = options.precision
        if self.scientific:
            text = f"{value:.{p}e}"
        elif self.integers:
            text = f"{value:.0f}"
            if math.isfinite(value):
                text += "."
        else:
            text = f"{value:.{p}f}"
        return text.rjust(self.width)


class ComplexFormatter:
    """Formats complex elements as ``a+bj`` in one width."""

    def __init__(self, values: np.ndarray[Any, Any], dtype: Any) -> None:
        real_dtype = dtype.to_real()
        self.real, self.imag = Formatter(values.real, real_dtype), Formatter(values.imag, real_dtype)
        self.width = self.real.width + self.imag.width + 1

    def format(self, value: Any) -> str:
        """One element."""
        real, imag = self.real.format(value.real), self.imag.format(value.imag).lstrip()
        sign = "" if imag.startswith("-") else "+"
        return f"{real}{sign}{imag}j"


def vector_text(values: np.ndarray[Any, Any], indent: int, summarise: bool, formatter: Any) -> str:
    """One innermost row, wrapped at the line width."""
    per_line = max(1, math.floor((options.linewidth - indent) / (formatter.width + 2)))
    edge = options.edgeitems
    if summarise and len(values) > 2 * edge:
        items = [formatter.format(v) for v in values[:edge].tolist()] + [" ..."] + \
            [formatter.format(v) for v in values[-edge:].tolist()]
    else:
        items = [formatter.format(v) for v in values.tolist()]
    lines = [", ".join(items[i:i + per_line]) for i in range(0, len(items), per_line)]
    return "[" + (",\n" + " " * (indent + 1)).join(lines) + "]"


def array_text(values: np.ndarray[Any, Any], indent: int, summarise: bool, formatter: Any) -> str:
    """The nested brackets of an array."""
    if values.ndim == 0:
        return str(formatter.format(values.item()))
    if values.ndim == 1:
        return vector_text(values, indent, summarise, formatter)
    edge = options.edgeitems
    if summarise and len(values) > 2 * edge:
        parts = [array_text(v, indent + 1, summarise, formatter) for v in values[:edge]] + ["..."] + \
            [array_text(v, indent + 1, summarise, formatter) for v in values[-edge:]]
    else:
        parts = [array_text(v, indent + 1, summarise, formatter) for v in values]
    return "[" + ("," + "\n" * (values.ndim - 1) + " " * (indent + 1)).join(parts) + "]"


def shown(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The part of an array that is printed when it is summarised."""
    edge = options.edgeitems
    for axis, n in enumerate(values.shape):
        if n > 2 * edge:
            values = np.take(values, [*range(edge), *range(n - edge, n)], axis)
    return values


def tensor_repr(self: Any, *, tensor_contents: Any = None) -> str:
    """The text that ``print`` shows."""
    t = self.detach()
    prefix = "tensor("
    suffixes: list[str] = []
    array = t._ndarray()
    if t.dtype.name in ("bfloat16", "float16"):
        array = array.astype(np.float32)
    if t.numel() == 0:
        if t.ndim != 1:
            suffixes.append(f"size={tuple(t.shape)}")
        if t.dtype is not get_default_dtype():
            suffixes.append(f"dtype={t.dtype}")
        body = "[]"
    else:
        if t.dtype not in (get_default_dtype(), int64, bool_) and not (
                t.dtype is complex64 and get_default_dtype().name == "float32"):
            suffixes.append(f"dtype={t.dtype}")
        summarise = t.numel() > options.threshold
        kind = ComplexFormatter if t.dtype.is_complex else Formatter
        formatter = kind(shown(array) if summarise else array, t.dtype)
        body = array_text(array, len(prefix), summarise, formatter)
    if self._leaf_grad:
        suffixes.append("requires_grad=True")
    elif requires_grad(self):
        suffixes.append(f"grad_fn=<{self.grad_fn.name()}>")
    text = prefix + body
    last = len(text) - text.rfind("\n") + 1
    for suffix in suffixes:
        if last + len(suffix) + 2 > options.linewidth:
            text += ",\n" + " " * len(prefix) + suffix
            last = len(prefix) + len(suffix)
        else:
            text += ", " + suffix
            last += len(suffix) + 2
    return text + ")"


def tensor_format(self: Any, spec: str) -> str:
    """``format()``: scalars as their numbers."""
    return format(self.item(), spec) if self.ndim == 0 and spec else tensor_repr(self)


METHODS.update({"__repr__": tensor_repr, "__str__": tensor_repr, "__format__": tensor_format})
NAMESPACES.setdefault("", {})["set_printoptions"] = set_printoptions
__all__ = ["Tensor", "set_printoptions", "tensor_repr"]
