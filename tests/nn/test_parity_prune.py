"""Pruning beside PyTorch's."""
from __future__ import annotations

import pytest

import torsh

torch = pytest.importorskip("torch")
pytest.importorskip("torch.nn.utils.prune")
from module_twins import close, mine, pair  # noqa: E402

BOTH = (torsh, torch)
STEPS = {
    "identity": ("identity", ()), "l1": ("l1_unstructured", (0.3,)), "l1 count": ("l1_unstructured", (5,)),
    "rows": ("ln_structured", (1, 2, 0)), "columns": ("ln_structured", (0.5, 1, 1)), "nothing": ("l1_unstructured", (0,))}


def prune(pairs, kind):
    name, args = STEPS[kind]
    for m, layer in zip(BOTH, pairs, strict=True):
        assert getattr(m.nn.utils.prune, name)(layer, "weight", *args) is layer


def same(pairs):
    ours, theirs = pairs
    assert sorted(ours.state_dict()) == sorted(theirs.state_dict())
    for key, value in theirs.state_dict().items():
        close(ours.state_dict()[key], value, key)
    close(ours.weight, theirs.weight, "weight")
    x = torch.randn(3, 6)
    close(ours(mine(x)), theirs(x), "result")


@pytest.mark.parametrize("first", list(STEPS))
@pytest.mark.parametrize("second", [None, *STEPS])
def test_methods(first, second):
    torch.manual_seed(0)
    layers = pair("Linear", 6, 4)
    prune(layers, first)
    same(layers)
    if second:
        prune(layers, second)
        same(layers)
    assert torsh.nn.utils.prune.is_pruned(layers[0])
    for m, layer in zip(BOTH, layers, strict=True):
        m.nn.utils.prune.remove(layer, "weight")
    same(layers)
    assert isinstance(layers[0].weight, torsh.nn.Parameter) and not torsh.nn.utils.prune.is_pruned(layers[0])


def test_scores_mask_and_gradient():
    torch.manual_seed(0)
    layers, scores = pair("Linear", 6, 4), torch.rand(4, 6)
    for m, layer in zip(BOTH, layers, strict=True):
        m.nn.utils.prune.l1_unstructured(layer, "weight", 7, scores if m is torch else mine(scores))
        m.nn.utils.prune.custom_from_mask(layer, "weight", m.tensor([[1.0, 0, 1, 1, 1, 1]] * 4))
    same(layers)
    layers[0](torsh.ones(1, 6)).sum().backward()
    assert torsh.equal(layers[0].weight_orig.grad, layers[0].weight_mask)


def test_global():
    torch.manual_seed(0)
    nets = [pair("Linear", 6, 4), pair("Linear", 6, 2)]
    for k, m in enumerate(BOTH):
        m.nn.utils.prune.global_unstructured([(p[k], "weight") for p in nets], m.nn.utils.prune.L1Unstructured, amount=0.4)
        m.nn.utils.prune.global_unstructured([(p[k], "weight") for p in nets], m.nn.utils.prune.L1Unstructured, amount=3)
    for p in nets:
        same(p)


def test_random():
    layer = torsh.nn.utils.prune.random_unstructured(torsh.nn.Linear(6, 4), "weight", 5)
    assert int((layer.weight_mask == 0).sum()) == 5
    layer = torsh.nn.utils.prune.random_structured(torsh.nn.Linear(6, 4), "weight", 2, dim=1)
    assert int((layer.weight_mask.sum(0) == 0).sum()) == 2 and int((layer.weight_mask == 0).sum()) == 8
    method = torsh.nn.utils.prune.L1Unstructured(amount=1)
    assert method.prune(torsh.tensor([3.0, -1.0, 2.0])).tolist() == [3.0, 0.0, 2.0]


@pytest.mark.parametrize(("call", "error", "text"), [
    (lambda p, m: p.l1_unstructured(m, "weight", "x"), TypeError, "Must be int or float"),
    (lambda p, m: p.l1_unstructured(m, "weight", 1.5), ValueError, "range"),
    (lambda p, m: p.l1_unstructured(m, "weight", 100), ValueError, "number of parameters to prune"),
    (lambda p, m: p.ln_structured(m, "bias", 1, 2, 0), ValueError, "multidimensional"),
    (lambda p, m: p.ln_structured(m, "weight", 1, 2, 2), IndexError, "Invalid index 2"),
    (lambda p, m: p.remove(m, "weight"), ValueError, "has to be pruned"),
    (lambda p, m: p.global_unstructured([(m, "weight")], p.LnStructured, amount=1, n=2), TypeError, "unstructured")])
@pytest.mark.parametrize("which", [0, 1])
def test_bad_input(call, error, text, which):
    m = BOTH[which]
    layer = m.nn.Linear(6, 4)
    with pytest.raises(error, match=text):
        call(m.nn.utils.prune, layer)
    assert "weight" in layer._parameters and "bias" in layer._parameters
