"""Comparing functions of expressions, their decompositions and their gradients with PyTorch's."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from expression_harness import gradients, inputs, primitive
from torch_comparison import same, to_numpy

from torsh.backend.reference import evaluate
from torsh.ops.expr import Expr


def tensor(array: Any) -> torch.Tensor:
    """A torch tensor over a copy; leaves that can have gradients ask for them."""
    t = torch.from_numpy(np.array(array))
    return t.requires_grad_() if t.is_floating_point() or t.is_complex() else t


def compare(mine: Callable[..., Expr], theirs: Callable[..., torch.Tensor], *arrays: Any, message: str = "",
            gradient: bool = True, least: float = 0, frozen: Sequence[int] = ()) -> None:
    """Equal values by references and by decompositions, and equal gradients by both; none of the ``frozen`` arguments."""
    exprs, leaves, scalars = inputs(arrays)
    head = mine(*exprs)
    tensors = [tensor(a).detach() if i in frozen else tensor(a) for i, a in enumerate(arrays)]
    expected = theirs(*tensors)
    assert head.shape == tuple(expected.shape), f"{message}: {head.shape} is not {tuple(expected.shape)}"
    agree([head], [expected], leaves, scalars, message, least)
    targets = [t for t in tensors if t.requires_grad]
    if not gradient or not targets or not expected.requires_grad:
        return
    seed = np.random.default_rng(5).standard_normal(head.shape).astype(head.dtype.numpy)
    exprs, leaves, scalars = inputs([*arrays, seed])
    own = [e for i, e in enumerate(exprs[:-1]) if e.requires_grad and i not in frozen]
    found = gradients(mine(*exprs[:-1]), own, exprs[-1])
    wanted = torch.autograd.grad(expected, targets, torch.from_numpy(seed), allow_unused=True)
    filled = [torch.zeros_like(t) if w is None else w for t, w in zip(targets, wanted, strict=True)]
    agree(found, filled, leaves, scalars, f"{message} gradient", max(least, 1e-9))


def agree(heads: Sequence[Expr], expected: Sequence[torch.Tensor], leaves: list[Any], scalars: list[Any], message: str,
          least: float) -> None:
    """Compare values through the references of composite ops, and through their decompositions."""
    for kind, exprs in (("reference", list(heads)), ("decomposition", [primitive(e) for e in heads])):
        for value, want in zip(evaluate(exprs, leaves, scalars), expected, strict=True):
            close(value, want, f"{message} {kind}", least)


def close(value: Any, want: torch.Tensor, message: str, least: float) -> None:
    """Equal up to rounding, relative to the largest element."""
    array = to_numpy(want)
    if array.dtype.kind not in "f" or not array.size:
        same(value, want, message)
        return
    assert value.dtype == array.dtype, f"{message}: {value.dtype} is not {array.dtype}"
    rough = max({4: 2e-5, 8: 1e-9, 2: 4e-3}[array.dtype.itemsize], least)
    finite = array[np.isfinite(array)]
    scale = float(np.abs(finite.astype(np.float64)).max()) if finite.size else 1.0
    np.testing.assert_allclose(value.astype(np.float64), array.astype(np.float64), rtol=rough, atol=rough * max(scale, 1e-3),
                               err_msg=message)


def normal(*shape: int, dtype: Any = np.float64, seed: int = 0) -> Any:
    """Random numbers."""
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)
