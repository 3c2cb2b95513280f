"""A torsh module beside PyTorch's with the same weights. Import it after ``pytest.importorskip("torch")``."""
from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.nn.utils.rnn import PackedSequence

import torsh
from torsh.nn.utils.rnn import PackedSequence as MyPackedSequence


def mine(value: Any) -> Any:
    """The torsh form of PyTorch's tensors, in any nesting."""
    if isinstance(value, torch.Tensor):
        return torsh.tensor(value.detach().numpy().copy()).requires_grad_(value.requires_grad)
    if isinstance(value, PackedSequence):
        return MyPackedSequence(*[mine(part) for part in value])
    if isinstance(value, (tuple, list)):
        return type(value)(mine(v) for v in value)
    return {k: mine(v) for k, v in value.items()} if isinstance(value, dict) else value


def tensors(value: Any) -> list[Any]:
    """All tensors in a nested value."""
    if isinstance(value, (torch.Tensor, torsh.Tensor)):
        return [value]
    if isinstance(value, dict):
        value = value.values()
    return [t for v in value for t in tensors(v)] if hasattr(value, "__iter__") and not isinstance(value, str) else []


def close(ours: Any, theirs: Any, what: str, rough: float = 1e-5) -> None:
    """Equal shape and dtype, and values up to rounding."""
    assert str(ours.dtype).split(".")[-1] == str(theirs.dtype).split(".")[-1], f"{what}: {ours.dtype} is not {theirs.dtype}"
    assert tuple(ours.shape) == tuple(theirs.shape), f"{what}: {tuple(ours.shape)} is not {tuple(theirs.shape)}"
    expected = theirs.detach().numpy()
    scale = rough * max(1.0, float(np.abs(expected[np.isfinite(expected)]).max(initial=0.0))) if expected.dtype.kind == "f" else 0
    np.testing.assert_allclose(ours.detach().numpy(), expected, rtol=rough, atol=scale, err_msg=what)


def pair(name: str, *args: Any, train: bool = True, **kwargs: Any) -> tuple[Any, Any]:
    """(torsh's module, PyTorch's module) of one class with one set of weights."""
    theirs = getattr(torch.nn, name)(*args, **kwargs).train(train)
    ours = getattr(torsh.nn, name)(*mine(args), **mine(kwargs)).train(train)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict(mine(dict(theirs.state_dict())))
    return ours, theirs


def check_twins(ours: Any, theirs: Any, *inputs: Any, rough: float = 1e-5, **kwargs: Any) -> Any:
    """Both modules give the same results, gradients and buffers, and the same repr. Returns PyTorch's result."""
    my_inputs = mine(inputs)
    my_kwargs = mine(kwargs)
    my_out, out = ours(*my_inputs, **my_kwargs), theirs(*inputs, **kwargs)
    results = list(zip(tensors(my_out), tensors(out), strict=True))
    for i, (a, b) in enumerate(results):
        close(a, b, f"result {i}", rough)
    roots = [(a, b) for a, b in results if b.requires_grad]
    if roots:
        torch.manual_seed(1)
        seeds = [torch.randn_like(b) for _, b in roots]
        torch.autograd.backward([b for _, b in roots], seeds)
        torsh.autograd.backward([a for a, _ in roots], [mine(s) for s in seeds])
    for i, (a, b) in enumerate(zip(tensors(my_inputs), tensors(inputs), strict=True)):
        if b.is_leaf and b.grad is not None:
            close(a.grad, b.grad, f"gradient of input {i}", rough)
    for (name, a), (_, b) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        assert (a.grad is None) == (b.grad is None), name
        if b.grad is not None:
            close(a.grad, b.grad, f"gradient of {name}", rough)
    for (name, a), (_, b) in zip(ours.named_buffers(), theirs.named_buffers(), strict=True):
        close(a, b, name, rough)
    assert repr(ours) == repr(theirs).replace("torch.", "torsh.")
    return out
