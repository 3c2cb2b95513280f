"""Module: registration, walking, modes, conversions, hooks, state_dict, copies and printing."""
from __future__ import annotations

import copy
import pickle
from collections import OrderedDict

import pytest

import torsh
from torsh import nn


class Block(nn.Module):
    """One of everything."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 3)
        self.scale = nn.Parameter(torsh.ones(3))
        self.register_buffer("count", torsh.zeros((), dtype=torsh.int64))
        self.register_buffer("scratch", torsh.zeros(2), persistent=False)
        self.nothing = None

    def forward(self, x):
        return self.layer(x) * self.scale


# ---- registration ----------------------------------------------------------------------------------------------------


def test_names_of_parameters_buffers_and_modules():
    net = nn.Sequential(Block(), nn.ReLU())
    assert [n for n, _ in net.named_parameters()] == ["0.scale", "0.layer.weight", "0.layer.bias"]
    assert [n for n, _ in net.named_buffers()] == ["0.count", "0.scratch"]
    assert [n for n, _ in net.named_modules()] == ["", "0", "0.layer", "1"]
    assert [n for n, _ in net.named_children()] == ["0", "1"]
    assert [n for n, _ in net.named_parameters(prefix="net", recurse=True)][0] == "net.0.scale"
    assert list(net.parameters(recurse=False)) == []
    assert net.get_submodule("0.layer") is net[0].layer and net.get_parameter("0.scale") is net[0].scale
    assert net.get_buffer("0.count") is net[0].count


def test_shared_members_are_listed_once():
    shared = nn.Linear(2, 2)
    net = nn.Sequential(shared, shared)
    assert len(list(net.parameters())) == 2 and len(list(net.modules())) == 2
    assert [n for n, _ in net.named_parameters(remove_duplicate=False)] == ["0.weight", "0.bias", "1.weight", "1.bias"]
    assert list(net.state_dict()) == ["0.weight", "0.bias", "1.weight", "1.bias"]


def test_assignment_registers_and_deletion_forgets():
    m = nn.Module()
    m.value = nn.Parameter(torsh.ones(2))
    m.child = nn.Linear(1, 1)
    m.kept = nn.Buffer(torsh.ones(1))
    m.passing = nn.Buffer(torsh.ones(1), persistent=False)
    assert list(m.state_dict()) == ["value", "kept", "child.weight", "child.bias"]
    m.kept = torsh.zeros(1)
    assert m.get_buffer("kept").item() == 0
    m.value = None
    assert list(m.parameters(recurse=False)) == [] and m.value is None
    del m.child, m.kept
    assert list(m.state_dict()) == [] and not hasattr(m, "child")


def test_a_parameter_takes_the_place_of_a_plain_attribute():
    m = nn.Module()
    m.x = 3
    m.x = nn.Parameter(torsh.ones(1))
    assert "x" in m._parameters and "x" not in m.__dict__
    m.y = nn.Linear(1, 1)
    assert "y" in dir(m) and "x" in dir(m)


def test_set_submodule():
    net = nn.Sequential(Block())
    net.set_submodule("0.layer", nn.Identity())
    assert isinstance(net[0].layer, nn.Identity)


# ---- walking and modes -----------------------------------------------------------------------------------------------


def test_apply_goes_from_the_leaves_up():
    seen = []
    net = nn.Sequential(nn.Linear(1, 1), nn.ReLU())
    assert net.apply(lambda m: seen.append(type(m).__name__)) is net
    assert seen == ["Linear", "ReLU", "Sequential"]


def test_train_and_eval():
    net = nn.Sequential(Block())
    assert net.eval() is net and not net[0].layer.training
    assert net.train() is net and net[0].layer.training
    net[0].eval()
    assert net.training and not net[0].layer.training


def test_requires_grad_and_zero_grad():
    net = Block()
    net(torsh.ones(1, 2)).sum().backward()
    assert net.scale.grad is not None
    net.zero_grad(set_to_none=False)
    assert net.scale.grad.abs().sum().item() == 0
    net.zero_grad()
    assert net.scale.grad is None
    assert net.requires_grad_(False) is net and not any(p.requires_grad for p in net.parameters())


# ---- conversions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "dtype"), [("double", torsh.float64), ("half", torsh.float16), ("bfloat16", torsh.bfloat16)])
def test_casts_keep_the_parameter_objects(name, dtype):
    net = Block()
    before = list(net.parameters())
    assert getattr(net, name)() is net
    assert all(p is q for p, q in zip(before, net.parameters(), strict=True))
    assert net.scale.dtype is dtype and net.count.dtype is torsh.int64 and net.scratch.dtype is dtype
    assert net.float().scale.dtype is torsh.float32


@pytest.mark.parametrize("arguments", [(torsh.float64,), ("cpu", torsh.float64), (torsh.ones(1, dtype=torsh.float64),)])
def test_to(arguments):
    net = Block()
    assert net.to(*arguments).scale.dtype is torsh.float64
    assert net.to(dtype=torsh.float32).scale.dtype is torsh.float32
    assert net.to(device="cpu").scale.device.type == "cpu" and net.cpu() is net


def test_gradients_are_converted_too():
    net = nn.Linear(2, 1)
    net(torsh.ones(1, 2)).sum().backward()
    assert net.double().weight.grad.dtype is torsh.float64


def test_tied_parameters_stay_tied():
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    net[1].weight = net[0].weight
    net.double()
    assert net[0].weight is net[1].weight


def test_to_empty_keeps_the_shapes():
    assert [tuple(p.shape) for p in nn.Linear(2, 3).to_empty(device="cpu").parameters()] == [(3, 2), (3,)]


# ---- hooks -----------------------------------------------------------------------------------------------------------


def test_forward_hooks_change_arguments_and_results():
    net = nn.Identity()
    first = net.register_forward_pre_hook(lambda m, args: args[0] + 1)
    second = net.register_forward_hook(lambda m, args, out: out * 10)
    assert net(torsh.tensor(1.0)).item() == 20
    first.remove()
    assert net(torsh.tensor(1.0)).item() == 10
    second.remove()
    assert net(torsh.tensor(1.0)).item() == 1


def test_hooks_see_keywords_and_their_order_can_be_chosen():
    class Named(nn.Module):
        def forward(self, x, *, by=1):
            return x * by
    net, order = Named(), []
    net.register_forward_pre_hook(lambda m, args, kwargs: (args, {"by": 5}), with_kwargs=True)
    net.register_forward_hook(lambda m, args, kwargs, out: order.append(("late", kwargs["by"])), with_kwargs=True)
    net.register_forward_hook(lambda m, args, out: order.append("early"), prepend=True)
    assert net(torsh.tensor(2.0), by=3).item() == 10 and order == ["early", ("late", 5)]


def test_hooks_that_are_always_called():
    class Broken(nn.Module):
        def forward(self):
            raise ValueError("broken")
    net, calls = Broken(), []
    net.register_forward_hook(lambda m, args, out: calls.append(out), always_call=True)
    with pytest.raises(ValueError, match="broken"):
        net()
    assert calls == [None]


def test_backward_hooks():
    net, seen = nn.Linear(2, 3), {}
    net.register_full_backward_pre_hook(lambda m, grad_output: (grad_output[0] * 2,))
    net.register_full_backward_hook(lambda m, grad_input, grad_output: seen.update(i=grad_input, o=grad_output))
    x = torsh.ones(1, 2, requires_grad=True)
    net(x).sum().backward()
    assert seen["o"][0].tolist() == [[2.0, 2.0, 2.0]]
    assert torsh.allclose(seen["i"][0], 2 * net.weight.sum(0)) and torsh.allclose(x.grad, seen["i"][0])
    assert net.bias.grad.tolist() == [2.0, 2.0, 2.0]


def test_backward_hook_replaces_the_gradient():
    net = nn.Linear(2, 3)
    net.register_full_backward_hook(lambda m, grad_input, grad_output: (torsh.full_like(grad_input[0], 7.0),))
    x = torsh.ones(1, 2, requires_grad=True)
    net(x).sum().backward()
    assert x.grad.tolist() == [[7.0, 7.0]]


def test_hooks_of_all_modules():
    names = []
    handle = nn.modules.module.register_module_forward_hook(lambda m, args, out: names.append(type(m).__name__))
    net = nn.Sequential(nn.Linear(1, 1), nn.ReLU())
    net(torsh.ones(1, 1))
    handle.remove()
    net(torsh.ones(1, 1))
    assert names == ["Linear", "ReLU", "Sequential"]


def test_registration_hooks():
    seen = []
    handle = nn.modules.module.register_module_parameter_registration_hook(lambda m, name, p: seen.append(name))
    nn.Linear(1, 1)
    handle.remove()
    assert seen == ["weight", "bias"]


# ---- state_dict ------------------------------------------------------------------------------------------------------


def test_state_dict_shares_memory_and_is_detached():
    net = Block()
    state = net.state_dict()
    assert isinstance(state, OrderedDict) and list(state) == ["scale", "count", "layer.weight", "layer.bias"]
    assert not state["scale"].requires_grad and net.state_dict(keep_vars=True)["scale"] is net.scale
    state["scale"].fill_(5)
    assert net.scale[0].item() == 5
    assert list(net.state_dict(prefix="p."))[0] == "p.scale" and state._metadata["layer"]["version"] == 1


def test_load_copies_into_the_same_objects():
    a, b = Block(), Block()
    kept = b.scale
    assert str(b.load_state_dict(a.state_dict())) == "<All keys matched successfully>"
    assert b.scale is kept and torsh.equal(a.layer.weight, b.layer.weight) and b.layer.weight is not a.layer.weight


def test_load_strict_and_not():
    net = nn.Linear(2, 2)
    state = {"weight": torsh.ones(2, 2), "more": torsh.ones(1)}
    with pytest.raises(RuntimeError, match=r'Missing key\(s\) in state_dict: "bias"[\s\S]*Unexpected key\(s\) in state_dict: "more"'):
        net.load_state_dict(state)
    result = net.load_state_dict(state, strict=False)
    assert result.missing_keys == ["bias"] and result.unexpected_keys == ["more"] and net.weight.sum().item() == 4


def test_load_with_another_size():
    with pytest.raises(RuntimeError, match="size mismatch for weight: copying a param with shape"):
        nn.Linear(2, 2).load_state_dict({"weight": torsh.ones(3, 2), "bias": torsh.ones(2)})


def test_load_with_assign():
    net = nn.Linear(2, 2)
    given = {"weight": torsh.ones(2, 2, dtype=torsh.float64), "bias": nn.Parameter(torsh.ones(2, dtype=torsh.float64))}
    net.load_state_dict(given, assign=True)
    assert net.weight.dtype is torsh.float64 and net.bias is given["bias"] and net.weight.requires_grad
    given["weight"].fill_(3)
    assert net.weight[0, 0].item() == 3


def test_state_hooks():
    net = nn.Linear(1, 1)
    net.register_state_dict_pre_hook(lambda m, prefix, keep_vars: setattr(m, "asked", True))
    net.register_state_dict_post_hook(lambda m, state, prefix, meta: state.update({prefix + "more": 1}))
    state = net.state_dict()
    assert net.asked and state["more"] == 1
    net.register_load_state_dict_pre_hook(lambda m, state, prefix, *rest: state.pop(prefix + "more"))
    net.register_load_state_dict_post_hook(lambda m, keys: keys.missing_keys.clear())
    net.load_state_dict({"weight": torsh.ones(1, 1), "more": 1})
    assert net.weight.item() == 1


def test_extra_state():
    class Extra(nn.Module):
        state = None

        def get_extra_state(self):
            return {"step": 3}

        def set_extra_state(self, state):
            self.state = state
    a, b = Extra(), Extra()
    assert list(a.state_dict()) == ["_extra_state"]
    b.load_state_dict(a.state_dict())
    assert b.state == {"step": 3}


# ---- copies and printing ---------------------------------------------------------------------------------------------


def test_deepcopy_is_independent():
    net = nn.Sequential(Block(), nn.BatchNorm1d(3))
    twin = copy.deepcopy(net)
    assert repr(twin) == repr(net)
    twin[0].scale.data.fill_(9)
    assert net[0].scale[0].item() == 1 and isinstance(twin[0].scale, nn.Parameter)
    assert torsh.equal(twin[0].layer.weight, net[0].layer.weight)


def test_deepcopy_keeps_ties():
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    net[1].weight = net[0].weight
    twin = copy.deepcopy(net)
    assert twin[0].weight is twin[1].weight


def test_pickle():
    net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.LSTM(3, 2)).eval()
    twin = pickle.loads(pickle.dumps(net))
    assert repr(twin) == repr(net) and not twin.training
    assert all(torsh.equal(p, q) for p, q in zip(net.parameters(), twin.parameters(), strict=True))
    assert all(isinstance(p, nn.Parameter) and p.requires_grad for p in twin.parameters())


def test_repr():
    net = nn.Sequential(OrderedDict(body=nn.Sequential(nn.Linear(2, 3), nn.ReLU(inplace=True)), head=nn.Dropout(0.1)))
    assert repr(net) == ("Sequential(\n  (body): Sequential(\n    (0): Linear(in_features=2, out_features=3, bias=True)\n"
                         "    (1): ReLU(inplace=True)\n  )\n  (head): Dropout(p=0.1, inplace=False)\n)")
    assert repr(nn.Parameter(torsh.ones(2))) == "Parameter containing:\ntensor([1., 1.], requires_grad=True)"
    assert repr(nn.ModuleList([nn.ReLU(), nn.ReLU()])) == "ModuleList(\n  (0-1): 2 x ReLU()\n)"


# ---- containers ------------------------------------------------------------------------------------------------------


def test_sequential():
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    assert len(net) == 3 and len(net[:2]) == 2 and isinstance(net[-1], nn.Linear)
    net.append(nn.Sigmoid())
    net.insert(1, nn.Tanh())
    del net[2]
    assert [type(m).__name__ for m in net] == ["Linear", "Tanh", "Linear", "Sigmoid"] and list(net._modules) == ["0", "1", "2", "3"]
    assert net(torsh.ones(1, 2)).shape == (1, 1)
    assert len(net + nn.Sequential(nn.ReLU())) == 5


def test_module_list_and_dict():
    layers = nn.ModuleList([nn.Linear(1, 1)])
    layers.extend([nn.ReLU(), nn.Tanh()])
    layers[1] = nn.Sigmoid()
    assert [type(m).__name__ for m in layers] == ["Linear", "Sigmoid", "Tanh"] and len(layers[:2]) == 2
    choices = nn.ModuleDict({"relu": nn.ReLU()})
    choices["linear"] = nn.Linear(1, 1)
    assert list(choices.keys()) == ["relu", "linear"] and "relu" in choices
    assert list(choices.state_dict()) == ["linear.weight", "linear.bias"]
    choices.pop("relu")
    assert len(choices) == 1


def test_parameter_list_and_dict():
    values = nn.ParameterList([torsh.ones(2), nn.Parameter(torsh.zeros(1))])
    assert [n for n, _ in values.named_parameters()] == ["0", "1"] and values[0].requires_grad
    named = nn.ParameterDict({"a": torsh.ones(2)})
    named["b"] = nn.Parameter(torsh.zeros(1))
    assert list(named.state_dict()) == ["a", "b"] and named["a"].requires_grad


# ---- lazy modules ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_of_lazy_modules_are_independent(copied):
    net = nn.Sequential(nn.LazyLinear(2), nn.LazyBatchNorm1d())
    twin = copied(net)
    assert twin(torsh.ones(3, 4)).shape == (3, 2) and type(twin[0]) is nn.Linear and twin[0].in_features == 4
    assert type(net[0]) is nn.LazyLinear and net[0].has_uninitialized_params()
    assert net(torsh.ones(3, 5)).shape == (3, 2) and net[0].in_features == 5 and not net[0]._has_hooks


def test_lazy_modules_take_the_shapes_of_a_state():
    net = nn.LazyLinear(2).double()
    assert net.weight.dtype is torsh.float64
    net.load_state_dict(nn.Linear(3, 2, dtype=torsh.float64).state_dict())
    assert net.weight.shape == (2, 3) and net(torsh.ones(1, 3, dtype=torsh.float64)).shape == (1, 2)
    assert type(net) is nn.Linear and net.in_features == 3
