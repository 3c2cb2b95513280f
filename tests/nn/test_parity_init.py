"""Initialisers beside PyTorch's: exact where nothing is drawn, by range and spread where numbers are."""
from __future__ import annotations

import math

import pytest

import torsh
from torsh.nn import init

torch = pytest.importorskip("torch")
from module_twins import close  # noqa: E402


@pytest.mark.parametrize(("name", "args", "shape"), [
    ("constant_", (0.3,), (2, 3)), ("ones_", (), (2, 3)), ("zeros_", (), (2, 3)), ("eye_", (), (2, 3)), ("dirac_", (), (4, 2, 3)),
    ("dirac_", (2,), (4, 2, 3, 3)), ("dirac_", (), (2, 3, 3, 3, 3))])
def test_exact(name, args, shape):
    ours, theirs = torsh.empty(*shape), torch.empty(*shape)
    assert getattr(init, name)(ours, *args) is ours
    close(ours, getattr(torch.nn.init, name)(theirs, *args), name)


@pytest.mark.parametrize(("name", "args"), [
    ("uniform_", (-1.0, 3.0)), ("normal_", (1.0, 2.0)), ("trunc_normal_", (0.0, 1.0, -1.0, 0.5)), ("xavier_uniform_", (2.0,)),
    ("xavier_normal_", (0.5,)), ("kaiming_uniform_", (math.sqrt(5),)), ("kaiming_uniform_", (0, "fan_out", "relu")),
    ("kaiming_normal_", (0.2, "fan_in", "leaky_relu"))])
def test_distribution(name, args):
    torch.manual_seed(0)
    torsh.manual_seed(0)
    ours, theirs = getattr(init, name)(torsh.empty(100, 20, 5), *args), getattr(torch.nn.init, name)(torch.empty(100, 20, 5), *args)
    spread = theirs.std().item()
    assert abs(ours.mean().item() - theirs.mean().item()) < 0.05 * spread
    assert abs(ours.std().item() - spread) < 0.05 * spread
    if "normal" not in name or "trunc" in name:
        assert abs(ours.max().item() - theirs.max().item()) < 0.05 * spread
        assert abs(ours.min().item() - theirs.min().item()) < 0.05 * spread


@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (4, 2, 3)])
def test_orthogonal(shape):
    matrix = init.orthogonal_(torsh.empty(*shape), gain=2.0).reshape(shape[0], -1)
    inner = matrix @ matrix.T if matrix.shape[0] < matrix.shape[1] else matrix.T @ matrix
    assert torsh.allclose(inner, 4 * torsh.eye(len(inner)), atol=1e-5)


def test_sparse():
    columns = (init.sparse_(torsh.empty(10, 4), 0.25) == 0).sum(0)
    assert columns.tolist() == [3, 3, 3, 3]


@pytest.mark.parametrize("name", ["linear", "conv2d", "conv_transpose3d", "sigmoid", "tanh", "relu", "leaky_relu", "selu"])
def test_gain(name):
    assert init.calculate_gain(name) == torch.nn.init.calculate_gain(name)
    assert init.calculate_gain("leaky_relu", 0.3) == torch.nn.init.calculate_gain("leaky_relu", 0.3)


def test_generator_makes_numbers_repeatable():
    first, second = (init.normal_(torsh.empty(4), generator=torsh.Generator().manual_seed(5)) for _ in range(2))
    assert torsh.equal(first, second)


def test_gradients_are_not_recorded():
    weight = torsh.nn.Parameter(torsh.empty(2, 2))
    assert init.xavier_normal_(weight) is weight and weight.is_leaf and weight.requires_grad


def test_warnings_and_errors():
    with pytest.warns(UserWarning, match="zero-element"):
        init.kaiming_normal_(torsh.empty(0, 2))
    with pytest.warns(UserWarning, match="2 std"):
        init.trunc_normal_(torsh.empty(2), mean=10.0)
    with pytest.warns(FutureWarning, match=r"`nn.init.constant` is now deprecated in favor of `nn.init.constant_`"):
        assert init.constant(torsh.empty(1), 2.0).item() == 2
    for call, text in ((lambda: init.eye_(torsh.empty(2)), "2 dimensions"), (lambda: init.dirac_(torsh.empty(2, 2)), "3, 4, or 5"),
                       (lambda: init.xavier_uniform_(torsh.empty(2)), "Fan in and fan out"),
                       (lambda: init.kaiming_uniform_(torsh.empty(2, 2), mode="x"), "not supported"),
                       (lambda: init.calculate_gain("x"), "Unsupported nonlinearity"),
                       (lambda: init.orthogonal_(torsh.empty(2)), "2 or more")):
        with pytest.raises(ValueError, match=text):
            call()
