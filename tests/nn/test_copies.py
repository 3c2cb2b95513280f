"""Copies and pickles of tensors, parameters and modules."""
from __future__ import annotations

import copy
import pickle

import pytest

import torsh
from torsh import nn


def test_a_deepcopy_keeps_what_shares_memory():
    base = torsh.arange(6.0)
    for things in ([base, base[2:4], base.view(2, 3)], [base[2:4], base, base.view(2, 3)]):
        copies = copy.deepcopy(things)
        for t in copies:
            t.mul_(2)
        flat = next(c for c in copies if c.ndim == 1 and len(c) == 6)
        assert flat.tolist() == [0.0, 4.0, 16.0, 24.0, 16.0, 20.0]
        assert copies[2].flatten().tolist() == flat.tolist()
    assert base.tolist() == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]


def test_a_deepcopied_state_dict_is_apart_from_the_module():
    layer = nn.Linear(2, 2)
    layer.tied = layer.weight
    state = copy.deepcopy(layer.state_dict())
    before = layer.weight.tolist()
    state["weight"].fill_(3)
    assert state["tied"].tolist() == [[3.0, 3.0]] * 2 and layer.weight.tolist() == before


def test_a_copied_parameter_has_no_gradient_a_copied_tensor_has():
    layer = nn.Linear(2, 2)
    layer(torsh.ones(1, 2)).sum().backward()
    copied = copy.deepcopy(layer)
    assert copied.weight.grad is None and copied.weight.requires_grad and type(copied.weight) is nn.Parameter
    assert copied.weight.equal(layer.weight) and copied.weight is not layer.weight
    t = torsh.ones(2, requires_grad=True)
    (t * 3).sum().backward()
    assert copy.deepcopy(t).grad.tolist() == [3.0, 3.0]


def test_a_pickled_result_is_a_leaf_that_requires_grad():
    loaded = pickle.loads(pickle.dumps(torsh.ones(2, requires_grad=True) * 2))
    assert loaded.requires_grad and loaded.is_leaf and loaded.tolist() == [2.0, 2.0]


def test_parameter_dict_sorts_plain_mappings_and_keeps_the_order_of_others():
    assert list(nn.ParameterDict({"b": torsh.ones(1), "a": torsh.ones(1)})) == ["a", "b"]
    assert list(nn.ParameterDict([("b", torsh.ones(1)), ("a", torsh.ones(1))])) == ["b", "a"]
    with pytest.raises(KeyError, match="dictionary is empty"):
        nn.ParameterDict().popitem()


@pytest.mark.parametrize("container", [nn.ParameterList(), nn.ParameterDict()])
def test_containers_of_parameters_are_no_functions(container):
    with pytest.raises(RuntimeError, match="should not be called"):
        container(torsh.ones(1))


def test_messages_name_types():
    layer = nn.Linear(1, 1)
    with pytest.raises(TypeError, match="cannot assign 'torsh.FloatTensor' as parameter 'weight'"):
        layer.weight = torsh.ones(1, 1)
    with pytest.raises(TypeError, match="^int is not a Module subclass"):
        layer.add_module("x", 3)
    with pytest.raises(ValueError, match="Sequential'>"):
        nn.Sequential(layer) * 0
