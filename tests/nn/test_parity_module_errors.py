"""Modules raise what PyTorch's raise, where they do."""
from __future__ import annotations

import re
from collections import OrderedDict

import pytest

import torsh

torch = pytest.importorskip("torch")

CASES = [
    lambda m: m.nn.Hardtanh(1.0, -1.0),
    lambda m: m.nn.Softmax2d()(m.ones(2)),
    lambda m: m.nn.Dropout(-0.1),
    lambda m: m.nn.AlphaDropout(1.1),
    lambda m: m.nn.FractionalMaxPool2d(2),
    lambda m: m.nn.FractionalMaxPool2d(2, output_size=3, output_ratio=0.5),
    lambda m: m.nn.FractionalMaxPool2d(2, output_ratio=1.5),
    lambda m: m.nn.FractionalMaxPool3d(2),
    lambda m: m.nn.CircularPad1d(1)(m.ones(2)),
    lambda m: m.nn.CircularPad2d(1)(m.ones(2)),
    lambda m: m.nn.GroupNorm(2, 3),
    lambda m: m.nn.Unflatten(1, 3),
    lambda m: m.nn.Unflatten(1, (2, "x")),
    lambda m: m.nn.Embedding(3, 2, padding_idx=-4),
    lambda m: m.nn.Embedding.from_pretrained(m.ones(3)),
    lambda m: m.nn.EmbeddingBag(3, 2, padding_idx=3),
    lambda m: m.nn.EmbeddingBag.from_pretrained(m.ones(3)),
    lambda m: m.nn.Bilinear(0, 1, 1),
    lambda m: m.nn.Conv1d(2, 2, 1, groups=0),
    lambda m: m.nn.Conv1d(3, 2, 1, groups=2),
    lambda m: m.nn.Conv1d(2, 3, 1, groups=2),
    lambda m: m.nn.Conv1d(2, 2, 1, padding_mode="x"),
    lambda m: m.nn.Conv1d(2, 2, 1, padding="x"),
    lambda m: m.nn.Conv1d(2, 2, 1, padding="same", stride=2),
    lambda m: m.nn.ConvTranspose1d(2, 2, 1, padding_mode="reflect"),
    lambda m: m.nn.ConvTranspose1d(2, 2, 1)(m.ones(1, 2, 3), output_size=(1, 1)),
    lambda m: m.nn.ConvTranspose1d(2, 2, 1)(m.ones(1, 2, 3), output_size=(50,)),
    lambda m: m.nn.HuberLoss(delta="x"),
    lambda m: m.nn.MultiMarginLoss(p=3),
    lambda m: m.nn.MultiMarginLoss(weight=m.ones(1, 1)),
    lambda m: m.nn.TripletMarginLoss(margin=0),
    lambda m: m.nn.TripletMarginWithDistanceLoss(margin=-1),
    lambda m: m.nn.LinearCrossEntropyLoss(2, 3, weight=m.ones(2)),
    lambda m: m.nn.LinearCrossEntropyLoss(2, 3, label_smoothing=2),
    lambda m: m.nn.LinearCrossEntropyLoss(2, 3)(m.ones(1, 1, 2), m.tensor([0])),
    lambda m: m.nn.L1Loss(reduction="x")(m.ones(1), m.ones(1)),
    lambda m: m.nn.BatchNorm1d(2)(m.ones(2)),
    lambda m: m.nn.BatchNorm2d(2)(m.ones(2, 2)),
    lambda m: m.nn.BatchNorm3d(2)(m.ones(2, 2)),
    lambda m: m.nn.SyncBatchNorm(2)(m.ones(2)),
    lambda m: m.nn.InstanceNorm1d(2, affine=True)(m.ones(1, 3, 4)),
    lambda m: m.nn.InstanceNorm2d(2)(m.ones(1, 3)),
    lambda m: m.nn.InstanceNorm3d(2)(m.ones(1, 3)),
    lambda m: m.nn.CrossMapLRN2d(2)(m.ones(1, 3)),
    lambda m: m.nn.Sequential(m.nn.ReLU())[1],
    lambda m: m.nn.Sequential(m.nn.ReLU()) + 3,
    lambda m: m.nn.Sequential(m.nn.ReLU()) * "x",
    lambda m: m.nn.Sequential(m.nn.ReLU()) * 0,
    lambda m: m.nn.Sequential(m.nn.ReLU()).insert(0, 3),
    lambda m: m.nn.Sequential(m.nn.ReLU()).insert(5, m.nn.ReLU()),
    lambda m: m.nn.Sequential(3),
    lambda m: m.nn.Sequential(OrderedDict([("a.b", m.nn.ReLU())])),
    lambda m: m.nn.ModuleList([m.nn.ReLU()])[2],
    lambda m: m.nn.ModuleList().extend(3),
    lambda m: m.nn.ModuleList([3]),
    lambda m: m.nn.ModuleList()(),
    lambda m: m.nn.ModuleDict().update(3),
    lambda m: m.nn.ModuleDict().update([3]),
    lambda m: m.nn.ModuleDict().update([(1, 2, 3)]),
    lambda m: m.nn.ModuleDict()["x"],
    lambda m: m.nn.ParameterList()(),
    lambda m: m.nn.ParameterList([m.ones(1)])[3],
    lambda m: m.nn.ParameterList().extend(3),
    lambda m: m.nn.ParameterDict()(1),
    lambda m: m.nn.ParameterDict({1: m.ones(1)}),
    lambda m: m.nn.ParameterDict().update(3),
    lambda m: m.nn.ParameterDict().update([(1, 2, 3)]),
    lambda m: m.nn.UninitializedParameter().shape,
    lambda m: m.nn.Module().get_submodule("a.b"),
    lambda m: m.nn.Sequential(m.nn.ReLU()).get_parameter("0.x"),
    lambda m: m.nn.Sequential(m.nn.ReLU()).set_submodule("", m.nn.ReLU()),
    lambda m: m.nn.Module().get_extra_state(),
    lambda m: m.nn.Module().register_buffer(3, m.ones(1)),
    lambda m: m.nn.Module().register_parameter("x", m.ones(1, requires_grad=True) * 2),
    lambda m: m.nn.Linear(1, 1).add_module("weight", m.nn.ReLU()),
    lambda m: m.nn.Linear(2, 2).load_state_dict({"weight": 3, "bias": m.ones(2)}),
    lambda m: m.nn.Linear(1, 1, nonsense=3),
    lambda m: m.nn.Linear(1, 1).to("nonsense"),
    lambda m: m.nn.Linear(1, 1).to(3, 4, 5),
    lambda m: m.nn.Linear(1, 1).to(nonsense=3),
    lambda m: m.nn.LSTM(2, 3)(m.ones(4, 2), (m.ones(1, 1, 3), m.ones(1, 1, 3))),
    lambda m: m.nn.GRU(2, 3)(m.ones(4, 1, 2), m.ones(1, 3)),
    lambda m: m.nn.RNNCell(2, 3)(m.ones(4, 2), m.ones(3, 3)),
    lambda m: m.nn.GRUCell(2, 3)(m.ones(4, 2), m.ones(4, 4)),
    lambda m: m.nn.RNNCell(2, 3, nonlinearity="x")(m.ones(4, 2)),
    lambda m: m.nn.LSTM(2, 3)(m.ones(0, 1, 2)),
    lambda m: m.nn.MultiheadAttention(4, 2)(m.ones(3, 2, 4), m.ones(3, 2, 4), m.ones(3, 2, 4), key_padding_mask=m.ones(2, 2)),
    lambda m: m.nn.MultiheadAttention(4, 2)(m.ones(3, 2, 4), m.ones(3, 2, 4), m.ones(3, 2, 4), attn_mask=m.ones(2)),
    lambda m: m.nn.MultiheadAttention(4, 2)(m.ones(1, 3, 2, 4), m.ones(3, 2, 4), m.ones(3, 2, 4)),
    lambda m: m.nn.MultiheadAttention(4, 2, kdim=3)(m.ones(3, 2, 4), m.ones(3, 2, 3), m.ones(4, 2, 4)),
]


def raised(case, m):
    try:
        case(m)
    except Exception as error:
        return error
    return None


@pytest.mark.parametrize("number", range(len(CASES)))
def test_same_error(number):
    theirs, ours = raised(CASES[number], torch), raised(CASES[number], torsh)
    assert theirs is not None, "PyTorch takes this"
    assert ours is not None, f"no error; PyTorch raises {type(theirs).__name__}: {theirs}"
    builtin = next(c for c in type(theirs).__mro__ if c.__module__ == "builtins")
    assert isinstance(ours, builtin), f"{type(ours).__mro__} {ours}; PyTorch raises {type(theirs).__name__}: {theirs}"
    assert re.sub(r"\s", "", str(ours)), "an empty message"
