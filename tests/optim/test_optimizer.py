"""The base class: groups, state, hooks, and what a step does besides the update."""
from __future__ import annotations

import copy
import pickle
import warnings
from collections import defaultdict

import numpy as np
import pytest

import torsh
from torsh.optim import SGD, Adam, Optimizer, SparseAdam, lr_scheduler


def parameter(*values):
    return torsh.tensor(values or (1.0, 2.0), dtype=torsh.float32, requires_grad=True)


def with_grad(*values):
    p = parameter(*values)
    p.grad = torsh.ones_like(p.detach())
    return p


def test_groups_and_defaults():
    a, b = parameter(), parameter()
    optimizer = SGD([{"params": a}, {"params": [b], "lr": 0.5}], lr=0.1)
    assert [g["lr"] for g in optimizer.param_groups] == [0.1, 0.5] == optimizer.get_lr()
    optimizer.add_param_group({"params": [parameter()], "momentum": 0.9})
    assert optimizer.param_groups[2]["lr"] == 0.1


@pytest.mark.parametrize(("make", "error", "message"), [
    (lambda: SGD(parameter()), TypeError, "iterable of Tensors or dicts"),
    (lambda: SGD([]), ValueError, "empty parameter list"),
    (lambda: SGD([1.0]), TypeError, "one of the params is float"),
    (lambda: SGD([parameter() * 2]), ValueError, "non-leaf"),
    (lambda: SGD([{"params": {parameter()}}]), TypeError, "ordered collections"),
    (lambda: SGD([("a", parameter()), parameter()]), ValueError, "with/without names. Some param names are missing"),
    (lambda: SGD([{"params": [("a", parameter())]}, {"params": [parameter()]}]), ValueError, "param groups should be"),
    (lambda: SGD([parameter()], lr=torsh.tensor([0.1, 0.2])), ValueError, "Tensor lr must be 1-element"),
    (lambda: SparseAdam([with_grad()]).step(), RuntimeError, "does not support dense gradients")])
def test_errors(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_duplicates():
    p = parameter()
    with pytest.warns(UserWarning, match="duplicate parameters"):
        SGD([p, p])
    with pytest.raises(ValueError, match="more than one parameter group"):
        SGD([{"params": [p]}, {"params": [p]}])


def test_names_are_kept():
    optimizer = SGD([("w", parameter())])
    state = optimizer.state_dict()
    assert state["param_groups"][0]["param_names"] == ["w"]


def test_parameters_without_gradient_are_skipped():
    a, b = with_grad(), parameter()
    optimizer = Adam([a, b], lr=0.1)
    optimizer.step()
    assert a.tolist() == pytest.approx([0.9, 1.9]) and b.tolist() == [1.0, 2.0]
    assert b not in optimizer.state and a.requires_grad and a.is_leaf


def test_step_counts_are_tensors():
    p = with_grad()
    optimizer = Adam([p])
    for _ in range(3):
        optimizer.step()
    step = optimizer.state[p]["step"]
    assert isinstance(step, torsh.Tensor) and step.dtype == torsh.float32 and step.shape == () and float(step) == 3.0
    assert float(optimizer.state_dict()["state"][0]["step"]) == 3.0


def test_state_that_is_changed_from_outside_counts():
    p = with_grad()
    optimizer = SGD([p], lr=1.0, momentum=0.5)
    optimizer.step()
    optimizer.state[p]["momentum_buffer"] = torsh.full((2,), 10.0)
    optimizer.step()
    assert p.tolist() == pytest.approx([1 - 1 - 6, 2 - 1 - 6])
    optimizer.state = defaultdict(dict)
    optimizer.step()
    assert p.tolist() == pytest.approx([-7.0, -6.0])
    optimizer.state[p].clear()
    optimizer.step()
    assert p.tolist() == pytest.approx([-8.0, -7.0])


def test_changing_the_learning_rate():
    p = with_grad()
    optimizer = SGD([p], lr=1.0)
    optimizer.step()
    optimizer.param_groups[0]["lr"] = 0.5
    optimizer.step()
    assert p.tolist() == pytest.approx([-0.5, 0.5])
    rate = torsh.tensor(2.0)
    optimizer.param_groups[0]["lr"] = rate
    optimizer.step()
    assert p.tolist() == pytest.approx([-2.5, -1.5])


def test_closure():
    p = parameter()
    optimizer = SGD([p], lr=0.1)

    def closure():
        assert torsh.is_grad_enabled()
        optimizer.zero_grad()
        loss = (p * p).sum()
        loss.backward()
        return loss

    with torsh.no_grad():
        assert float(optimizer.step(closure)) == 5.0
    assert p.tolist() == pytest.approx([0.8, 1.6])


def test_zero_grad():
    p = with_grad()
    optimizer = SGD([p])
    optimizer.zero_grad(set_to_none=False)
    assert p.grad.tolist() == [0.0, 0.0]
    optimizer.zero_grad()
    assert p.grad is None


def test_hooks():
    p = with_grad()
    optimizer = SGD([p], lr=1.0)
    calls = []
    handles = [optimizer.register_step_pre_hook(lambda o, a, k: calls.append("pre")),
               optimizer.register_step_post_hook(lambda o, a, k: calls.append("post"))]
    optimizer.step()
    for handle in handles:
        handle.remove()
    optimizer.step()
    assert calls == ["pre", "post"]
    optimizer.register_step_pre_hook(lambda o, a, k: 3)
    with pytest.raises(RuntimeError, match="must return None or a tuple"):
        optimizer.step()
    other = SGD([p])
    other.register_state_dict_post_hook(lambda o, s: {**s, "extra": 1})
    assert other.state_dict()["extra"] == 1
    seen = []
    other.register_load_state_dict_pre_hook(lambda o, s: seen.append("extra" in s))
    other.register_load_state_dict_post_hook(lambda o: seen.append("after"))
    other.load_state_dict(other.state_dict())
    assert seen == [True, "after"]


def test_load_state_dict_checks_and_casts():
    p = with_grad()
    optimizer = Adam([p])
    optimizer.step()
    state = optimizer.state_dict()
    with pytest.raises(ValueError, match="different number of parameter groups"):
        Adam([{"params": [parameter()]}, {"params": [parameter()]}]).load_state_dict(state)
    with pytest.raises(ValueError, match="doesn't match the size"):
        Adam([parameter(), parameter()]).load_state_dict(state)
    q = parameter().detach().double().requires_grad_()
    other = Adam([q])
    other.load_state_dict(state)
    assert other.state[q]["exp_avg"].dtype == torsh.float64 and other.state[q]["step"].dtype == torsh.float32
    other.state[q]["exp_avg"].zero_()
    assert optimizer.state[p]["exp_avg"].abs().sum().item() > 0


def test_copy_and_pickle():
    p = with_grad()
    optimizer = Adam([p], lr=0.1)
    optimizer.step()
    for clone in (copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):
        q = clone.param_groups[0]["params"][0]
        q.grad = torsh.ones(2)
        clone.step()
        assert float(clone.state[q]["step"]) == 2.0
    optimizer.step()
    np.testing.assert_allclose(q.detach().numpy(), p.detach().numpy(), 1e-6)


def test_differentiable_step():
    p = torsh.tensor([1.0, 2.0])
    w = torsh.tensor([3.0, 4.0], requires_grad=True)
    p.grad = w * 2
    SGD([p], lr=0.5, differentiable=True).step()
    p.sum().backward()
    assert w.grad.tolist() == [-1.0, -1.0]


def test_complex_parameters():
    p = torsh.tensor([1 + 2j], requires_grad=True)
    p.grad = torsh.tensor([1 - 1j])
    Adam([p], lr=0.1).step()
    assert p.tolist()[0] == pytest.approx(0.9 + 2.1j)


def test_views_of_parameters_see_the_step():
    p = with_grad()
    view = p.detach()[1:]
    SGD([p], lr=1.0).step()
    assert view.tolist() == [1.0]


def test_own_optimizers_can_be_written_with_tensor_methods():
    class Plain(Optimizer):
        def __init__(self, params, lr):
            super().__init__(params, {"lr": lr})

        @torsh.no_grad()
        def step(self, closure=None):
            for group in self.param_groups:
                for p in group["params"]:
                    p.add_(p.grad, alpha=-group["lr"])

    p = with_grad()
    Plain([p], 0.5).step()
    assert p.tolist() == [0.5, 1.5]


def test_order_of_scheduler_and_optimizer():
    p = with_grad()
    optimizer = SGD([p], lr=1.0)
    scheduler = lr_scheduler.ExponentialLR(optimizer, 0.5)
    with pytest.warns(UserWarning, match="before `optimizer.step"):
        scheduler.step()
    with pytest.warns(UserWarning, match="get_last_lr"):
        scheduler.get_lr()
    other = SGD([p], lr=1.0)
    scheduler = lr_scheduler.ExponentialLR(other, 0.5)
    other.step = lambda: None
    with pytest.warns(UserWarning, match="overridden"):
        scheduler.step()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scheduler.step()
    with pytest.raises(TypeError, match="is not an Optimizer"):
        lr_scheduler.StepLR(p, 1)
    with pytest.raises(KeyError, match="initial_lr"):
        lr_scheduler.StepLR(SGD([p]), 1, last_epoch=3)


def test_tensor_learning_rates_are_filled_in_place():
    p = with_grad()
    rate = torsh.tensor(1.0)
    optimizer = SGD([p], lr=rate)
    scheduler = lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    optimizer.step()
    scheduler.step()
    assert optimizer.param_groups[0]["lr"] is rate and rate.item() == 0.5


def test_lbfgs_moves_complex_parameters():
    parameter = torsh.tensor([3 + 4j, -1j], requires_grad=True)
    optimizer = torsh.optim.LBFGS([parameter], lr=0.5, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = (parameter - 1).abs().square().sum()
        loss.backward()
        return loss
    optimizer.step(closure)
    assert (parameter - 1).abs().max().item() < 1e-3


def test_repr_has_an_empty_line_between_groups():
    groups = [{"params": [torsh.ones(1)], "lr": 0.5}, {"params": [torsh.ones(1)]}]
    lines = repr(torsh.optim.SGD(groups, lr=0.1)).splitlines()
    start = lines.index("Parameter Group 1")
    assert lines[1] == "Parameter Group 0" and lines[start - 1] == "" and lines[-1] == ")"
