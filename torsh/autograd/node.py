"""``grad_fn``: what a tensor shows of the operation that made it."""
from __future__ import annotations

from typing import Any

from torsh.graph.handle import expr_of


def class_name(op_name: str) -> str:
    """PyTorch-like name of a backward node: ``log_softmax`` -> ``LogSoftmaxBackward0``."""
    return "".join(part.capitalize() for part in op_name.split("_")) + "Backward0"


class Node:
    """A description of the operation behind a tensor that requires grad."""

    __slots__ = ("_name", "_arguments")

    def __init__(self, t: Any, expr: Any = None) -> None:
        e = expr_of(t) if expr is None else expr
        self._name = "AccumulateGrad" if e.op.name in ("leaf", "variable") and (t is None or t._leaf_grad) else \
            class_name("view" if e.op.name == "reshape" else e.op.name)
        self._arguments = tuple(a for a in e.args if a.requires_grad)

    def name(self) -> str:
        """The node's name."""
        return self._name

    @property
    def next_functions(self) -> tuple[tuple[Any, int], ...]:
        """The nodes that this node's gradients go to."""
        return tuple((Node(None, a) if a.op.name not in ("leaf", "variable") else Leaf(), 0) for a in self._arguments)

    def __repr__(self) -> str:
        return f"<{self._name}>"


class Leaf:
    """The node that accumulates into ``.grad``."""

    __slots__ = ()
    next_functions: tuple[Any, ...] = ()

    def name(self) -> str:
        """The node's name."""
        return "AccumulateGrad"

    def __repr__(self) -> str:
        return "<AccumulateGrad>"
