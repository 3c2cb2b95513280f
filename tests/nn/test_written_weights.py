"""A convolution sees every write to its weight, however it is done and however often it has run before.

What programs keep of weights between runs (:mod:`torsh.backend.watch`) must never be older than the weights. The results are
compared with those of a copy of the weight that no program has met. All tests run twice: as things are, and with all weights of
direct convolutions prepared, by a copy.
"""
from __future__ import annotations

import copy
import gc
import io
import os
import pickle
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import torsh
from torsh import nn
from torsh.backend.cpu import backend
from torsh.backend.watch import WATCHED
from torsh.compiler import templates
from torsh.compiler.footprint import regions
from torsh.compiler.kernel import BufferRef, Call
from torsh.compiler.plan import Plan

SIZE, CHANNELS = 56, 64
WEIGHT = 5                      # position of the weight's table word in the parameters of a convolution of one phase


def with_copied_weights(plan: Plan) -> Plan:
    """The plan with a preparation before each convolution that reads its weight from a leaf: a copy of it."""
    steps: list[Any] = []
    scratch = plan.scratch_bytes
    for step in plan.steps:
        if isinstance(step, Call) and getattr(step.kernel, "name", "") == "convolution" and step.params[0] == 1:
            slot, offset = step.params[WEIGHT:WEIGHT + 2]
            low, high = next(r for r in regions(step) if not r.write and (r.slot, r.offset) == (slot, offset)).bounds
            if 0 < slot <= plan.leaves and low == offset:
                start = -(-scratch // 64) * 64
                scratch = start + high - low
                steps.append(replace(templates.copy(1, BufferRef(0, start), BufferRef(slot, offset), high - low), prepares=(0, 2)))
                step = replace(step, params=(*step.params[:WEIGHT], 0, start, *step.params[WEIGHT + 2:]), prepared=WEIGHT)
        steps.append(step)
    return replace(plan, steps=steps, scratch_bytes=scratch)


@pytest.fixture(autouse=True, params=["as it is", "prepared"])
def prepared(request, monkeypatch):
    """Are weights prepared?"""
    if request.param == "prepared":
        plan_for = backend.plan_for
        monkeypatch.setattr(backend, "plan_for", lambda *args: with_copied_weights(plan_for(*args)))
    torsh.use_backend("cpu")                # no program is known
    WATCHED.clear()
    yield request.param == "prepared"
    torsh.use_backend("cpu")


def kept() -> int:
    """How many weights are kept in another form."""
    return sum([form is not None for watched in WATCHED.values() for form in watched.forms.values()])


def fresh(module: Any, x: Any) -> Any:
    """The result for new copies of the parameters."""
    weight, bias = module.weight.detach().clone(), module.bias.detach().clone()
    torsh.synchronize()
    return nn.functional.conv2d(x, weight, bias)


def check(module: Any, x: Any, runs: int = 3) -> None:
    """Some runs, the first of which may already find something kept."""
    with torsh.no_grad():
        expected = fresh(module, x)._ndarray().copy()
        for _ in range(runs):
            np.testing.assert_allclose(module(x)._ndarray(), expected, rtol=1e-5, atol=1e-5)


def numbers(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def values(*shape: int, seed: int = 0) -> Any:
    """A tensor in memory of its own."""
    return torsh.tensor(numbers(*shape, seed=seed)) + 0


def new_weight(module: Any, seed: int = 1) -> Any:
    return values(*module.weight.shape, seed=seed) * 0.1


def step(make: Callable[..., Any], read_first: bool) -> Callable[[Any, Any], None]:
    """A step of an optimizer, recorded with the backward or run on its own."""
    def run(module: Any, x: Any) -> None:
        module.train()
        optimizer = make(module.parameters())
        for _ in range(2):
            optimizer.zero_grad()
            loss = (module(x[:, :, :8, :8]) ** 2).mean()
            loss.backward()
            if read_first:
                loss.item()
            optimizer.step()
        module.eval()
    return run


def compiled_step(module: Any, x: Any) -> None:
    optimizer = torsh.optim.SGD(module.parameters(), 0.1)

    @torsh.compile
    def run(batch: Any) -> Any:
        optimizer.zero_grad()
        loss = (module(batch) ** 2).mean()
        loss.backward()
        optimizer.step()
        return loss
    for _ in range(3):
        run(x[:, :, :8, :8] + 0).item()


def through_numpy(module: Any, x: Any) -> None:
    array = module.weight.detach().numpy()
    assert kept() == 0                      # its memory is free at once
    for k in range(3):
        array[k] = k
        check(module, x, 2)
    array *= 0.5


def through_dlpack(module: Any, x: Any) -> None:
    array = np.from_dlpack(module.weight.detach())
    check(module, x)
    with torsh.no_grad():
        torsh.from_numpy(numbers(3)).sum().item()
        module.weight.mul_(2.0)
    assert array.shape == tuple(module.weight.shape)


def through_a_view(module: Any, x: Any) -> None:
    with torsh.no_grad():
        view = module.weight[3:9, :, 1]
        view.fill_(0.25)
        check(module, x)
        view.t_() if view.ndim == 2 else view.mul_(3.0)
        module.weight[0] = 1.0
        module.weight[:, torsh.tensor([1, 5])] = -1.0


def loaded(module: Any, x: Any) -> None:
    other = nn.Conv2d(CHANNELS, CHANNELS, 3)
    module.load_state_dict(other.state_dict())
    check(module, x)
    file = io.BytesIO()
    torsh.save(nn.Conv2d(CHANNELS, CHANNELS, 3).state_dict(), file)
    file.seek(0)
    module.load_state_dict(torsh.load(file))


def adopted(module: Any, x: Any) -> None:
    module.load_state_dict({k: v.detach() * 2 for k, v in module.state_dict().items()}, assign=True)
    check(module, x)
    with torsh.no_grad():
        module.weight.add_(1.0)


def assigned_data(module: Any, x: Any) -> None:
    other = new_weight(module)
    module.weight.data = other
    check(module, x)
    other.zero_()
    check(module, x)
    module.weight.data.add_(1.0)
    check(module, x)
    module.weight.data = new_weight(module, 2)


def swapped(module: Any, x: Any) -> None:
    first, second = module.weight, nn.Parameter(new_weight(module))
    for _ in range(3):
        module.weight = second
        check(module, x, 2)
        module.weight = first
        check(module, x, 2)
        with torsh.no_grad():
            first.mul_(0.5)
            second.mul_(0.5)


def converted(module: Any, x: Any) -> None:
    module.to(torsh.float64)
    check(module, x.double())
    with torsh.no_grad():
        module.weight.add_(0.5)
    check(module, x.double())
    module.to(torsh.float32)


def copied(module: Any, x: Any) -> None:
    other = copy.deepcopy(module)
    check(other, x)
    with torsh.no_grad():
        other.weight.add_(1.0)
        check(module, x)
        check(other, x)
        module.weight.sub_(1.0)
    check(other, x)


def pickled(module: Any, x: Any) -> None:
    other = pickle.loads(pickle.dumps(module))
    check(other, x)
    with torsh.no_grad():
        module.weight.add_(1.0)
        check(other, x)
        other.weight.add_(1.0)
        check(other, x)


def by_the_reference(module: Any, x: Any) -> None:
    torsh.use_backend("reference")
    try:
        with torsh.no_grad():
            module.weight.mul_(2.0)
        torsh.synchronize()
    finally:
        torsh.use_backend("cpu")


def with_a_bad_index(module: Any, x: Any) -> None:
    other = values(4)
    with torsh.no_grad():
        module.weight.mul_(2.0)
        wrong = other[torsh.tensor([99])]
        with pytest.raises(IndexError):
            torsh.synchronize()
    del wrong


def shared_with_processes(module: Any, x: Any) -> None:
    module.share_memory()
    check(module, x)
    if hasattr(os, "fork"):
        child = os.fork()
        if not child:
            status = 1
            try:
                with torsh.no_grad():
                    module.weight.fill_(0.125)
                torsh.synchronize()
                status = 0
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert module.weight[0, 0, 0, 0].item() == 0.125


def in_another_thread(module: Any, x: Any) -> None:
    def work() -> None:
        with torsh.no_grad():
            module.weight.add_(1.0)
        torsh.synchronize()
    for _ in range(3):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        check(module, x, 2)


def freed(module: Any, x: Any) -> None:
    for k in range(4):
        del module.weight
        torsh.synchronize()
        module.weight = nn.Parameter(new_weight(module=nn.Conv2d(CHANNELS, CHANNELS, 3), seed=k))
        check(module, x, 1 + k % 3)


def from_a_vector(module: Any, x: Any) -> None:
    parameters = list(module.parameters())
    vector = nn.utils.parameters_to_vector(parameters).detach() * 2
    nn.utils.vector_to_parameters(vector, parameters)
    check(module, x)
    with torsh.no_grad():
        vector.zero_()
    torsh.synchronize()


def with_out(module: Any, x: Any) -> None:
    with torsh.no_grad():
        torsh.mul(new_weight(module), 3.0, out=module.weight.detach())


def in_place(name: str, *args: Any) -> Callable[[Any, Any], None]:
    def run(module: Any, x: Any) -> None:
        with torsh.no_grad():
            getattr(module.weight, name)(*[a(module) if callable(a) else a for a in args])
    return run


WRITES: dict[str, Callable[[Any, Any], Any]] = {
    "copy_": in_place("copy_", new_weight), "add_": in_place("add_", 1.0), "add_ tensor": in_place("add_", new_weight),
    "zero_": in_place("zero_"), "clamp_": in_place("clamp_", -0.01, 0.01), "normal_": in_place("normal_"),
    "view": through_a_view, "out": with_out,
    "init": lambda module, x: nn.init.kaiming_normal_(module.weight),
    "reset": lambda module, x: module.reset_parameters(),
    "SGD": step(lambda p: torsh.optim.SGD(p, 0.5), False), "SGD alone": step(lambda p: torsh.optim.SGD(p, 0.5, momentum=0.9), True),
    "Adam": step(lambda p: torsh.optim.Adam(p, 0.1), False), "AdamW alone": step(lambda p: torsh.optim.AdamW(p, 0.1), True),
    "compiled step": compiled_step, "numpy": through_numpy, "dlpack": through_dlpack, "load_state_dict": loaded, "assign": adopted,
    "data": assigned_data, "swap": swapped, "to": converted, "deepcopy": copied, "pickle": pickled,
    "reference": by_the_reference, "bad index": with_a_bad_index, "processes": shared_with_processes, "thread": in_another_thread,
    "freed": freed, "vector": from_a_vector, "prune": lambda module, x: nn.utils.prune.remove(
        nn.utils.prune.l1_unstructured(module, "weight", 0.3), "weight"),
}


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_convolutions_see_writes(write, prepared):
    torsh.manual_seed(0)
    module = nn.Conv2d(CHANNELS, CHANNELS, 3).eval()
    x = values(1, CHANNELS, SIZE, SIZE, seed=5)
    check(module, x)
    assert kept() == 1 or not prepared
    for _ in range(2):
        WRITES[write](module, x)
        check(module, x)


def test_parametrized_weights():
    module = nn.utils.parametrizations.weight_norm(nn.Conv2d(CHANNELS, CHANNELS, 3).eval())
    x = values(1, CHANNELS, SIZE, SIZE, seed=5)
    check(module, x)
    for p in module.parameters():
        with torsh.no_grad():
            p.mul_(1.5)
        check(module, x)


def test_batches_of_several_sizes():
    module = nn.Conv2d(CHANNELS, CHANNELS, 3).eval()
    for batch in (1, 2, 1, 2, 3, 1):
        check(module, values(batch, CHANNELS, SIZE, SIZE, seed=batch), 1)
        if batch == 3:
            with torsh.no_grad():
                module.weight.mul_(2.0)


def test_training_and_evaluation_in_turn(prepared):
    torsh.manual_seed(0)
    module, x = nn.Conv2d(CHANNELS, CHANNELS, 3), values(2, CHANNELS, SIZE, SIZE)
    optimizer = torsh.optim.SGD(module.parameters(), 0.5)
    for _ in range(3):
        for _ in range(2):
            optimizer.zero_grad()
            loss = (module(x) ** 2).mean()
            loss.backward()
            loss.item()
            optimizer.step()
            assert kept() == 0
        check(module, x)
        assert kept() == 1 or not prepared


def test_nothing_is_left_behind():
    module, x = nn.Conv2d(CHANNELS, CHANNELS, 3).eval(), values(1, CHANNELS, SIZE, SIZE)
    check(module, x)
    del module
    gc.collect()
    assert not [w for w in WATCHED.values() if (w() or x._storage).nbytes == 4 * 9 * CHANNELS * CHANNELS]


def test_gradients_after_evaluation():
    torsh.manual_seed(0)
    module, x = nn.Conv2d(CHANNELS, CHANNELS, 3), values(1, CHANNELS, SIZE, SIZE)
    first = torsh.autograd.grad((module(x) ** 2).sum(), [module.weight])[0].tolist()
    check(module, x)
    again = torsh.autograd.grad((module(x) ** 2).sum(), [module.weight])[0].tolist()
    np.testing.assert_allclose(again, first, rtol=1e-4, atol=1e-3)
