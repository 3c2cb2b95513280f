"""Recurrent layers, cells and packed sequences beside PyTorch's."""
from __future__ import annotations

import itertools

import pytest

import torsh

torch = pytest.importorskip("torch")
from module_twins import check_twins, close, mine, pair  # noqa: E402
from torch.nn.utils import rnn as theirs  # noqa: E402

from torsh.nn.utils import rnn as ours  # noqa: E402

# PyTorch says once which of its kernels it uses.
pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections:UserWarning")

LAYERS = [(name, options) for name, options in itertools.product(
    ["RNN", "LSTM", "GRU"],
    [{}, {"num_layers": 2}, {"bidirectional": True}, {"bias": False, "batch_first": True},
     {"num_layers": 2, "bidirectional": True, "batch_first": True}])]
LAYERS += [("RNN", {"nonlinearity": "relu", "num_layers": 2}), ("LSTM", {"proj_size": 2}),
           ("LSTM", {"proj_size": 2, "num_layers": 2, "bidirectional": True, "bias": False})]


def state_of(layer, batch):
    """A random first state for PyTorch's layer."""
    rows = layer.num_layers * (2 if layer.bidirectional else 1)
    shape = (rows,) if batch is None else (rows, batch)
    h = torch.randn(*shape, layer.proj_size or layer.hidden_size, requires_grad=True)
    return (h, torch.randn(*shape, layer.hidden_size, requires_grad=True)) if layer.mode == "LSTM" else h


@pytest.mark.parametrize(("name", "options"), LAYERS)
@pytest.mark.parametrize("given", [False, True])
def test_layer(name, options, given):
    torch.manual_seed(0)
    a, b = pair(name, 3, 4, **options)
    x = torch.randn(2, 5, 3, requires_grad=True)
    batch = 2 if options.get("batch_first") else 5
    check_twins(a, b, x, *([state_of(b, batch)] if given else []))


@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
def test_without_batch(name):
    torch.manual_seed(0)
    a, b = pair(name, 3, 4, bidirectional=True)
    check_twins(a, b, torch.randn(5, 3, requires_grad=True), state_of(b, None))


@pytest.mark.parametrize(("name", "options"), [case for case in LAYERS if not case[1].get("batch_first")])
@pytest.mark.parametrize("ordered", [True, False])
def test_packed(name, options, ordered):
    torch.manual_seed(0)
    a, b = pair(name, 3, 4, **options)
    lengths = [5, 4, 4, 1] if ordered else [2, 5, 1, 4]
    x = torch.randn(5, 4, 3)
    packed = theirs.pack_padded_sequence(x, torch.tensor(lengths), enforce_sorted=ordered)
    packed = theirs.PackedSequence(packed.data.requires_grad_(True), *packed[1:])
    check_twins(a, b, packed)
    check_twins(a, b, theirs.PackedSequence(packed.data.detach(), *packed[1:]), state_of(b, 4))


@pytest.mark.parametrize(("name", "options"), [("RNNCell", {}), ("RNNCell", {"nonlinearity": "relu", "bias": False}),
                                               ("LSTMCell", {}), ("LSTMCell", {"bias": False}), ("GRUCell", {})])
@pytest.mark.parametrize("shape", [(2,), ()])
def test_cell(name, options, shape):
    torch.manual_seed(0)
    a, b = pair(name, 3, 4, **options)
    x = torch.randn(*shape, 3, requires_grad=True)
    state = [torch.randn(*shape, 4, requires_grad=True) for _ in range(2)]
    check_twins(a, b, x)
    check_twins(a, b, x.detach(), tuple(state) if name == "LSTMCell" else state[0])


def test_dropout_between_layers_only_in_training():
    layer = torsh.nn.LSTM(3, 4, num_layers=2, dropout=0.5)
    x = torsh.randn(5, 2, 3)
    assert torsh.equal(layer.eval()(x)[0], layer(x)[0])
    assert not torsh.equal(layer.train()(x)[0], layer(x)[0])
    with pytest.warns(UserWarning, match="num_layers greater than 1"):
        torsh.nn.GRU(3, 4, dropout=0.5)


def test_whole_state_can_be_saved():
    a, b = pair("LSTM", 3, 4, num_layers=2, bidirectional=True, proj_size=2)
    assert [n for n, _ in a.named_parameters()] == [n for n, _ in b.named_parameters()]
    assert [len(w) for w in a.all_weights] == [len(w) for w in b.all_weights]
    a.flatten_parameters()


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("total", [None, 7])
def test_pad_packed(batch_first, total):
    torch.manual_seed(0)
    x = torch.randn(4, 5, 2) if batch_first else torch.randn(5, 4, 2)
    lengths = torch.tensor([2, 5, 1, 4])
    a = ours.pack_padded_sequence(mine(x), mine(lengths), batch_first, False)
    b = theirs.pack_padded_sequence(x, lengths, batch_first, False)
    for name in ("data", "batch_sizes", "sorted_indices", "unsorted_indices"):
        close(getattr(a, name), getattr(b, name), name)
    for p, q in zip(ours.pad_packed_sequence(a, batch_first, -1.0, total), theirs.pad_packed_sequence(b, batch_first, -1.0, total),
                    strict=True):
        close(p, q, "padded")
    for p, q in zip(ours.unpack_sequence(a), theirs.unpack_sequence(b), strict=True):
        close(p, q, "unpacked")


@pytest.mark.parametrize("options", [{}, {"batch_first": True}, {"padding_value": 2.0}, {"padding_side": "left", "batch_first": True}])
def test_pad_sequence(options):
    parts = [torch.randn(n, 2) for n in (3, 1, 4)]
    a, b = ours.pad_sequence(mine(parts), **options), theirs.pad_sequence(parts, **options)
    close(a, b, "padded")
    if "padding_side" not in options:
        first = options.get("batch_first", False)
        for p, q in zip(ours.unpad_sequence(a, torsh.tensor([3, 1, 4]), first), theirs.unpad_sequence(b, torch.tensor([3, 1, 4]), first),
                        strict=True):
            close(p, q, "unpadded")


def test_pack_sequence():
    parts = [torch.randn(n, 2) for n in (2, 4, 1)]
    a, b = ours.pack_sequence(mine(parts), enforce_sorted=False), theirs.pack_sequence(parts, enforce_sorted=False)
    for p, q in zip(a, b, strict=True):
        close(p, q, "packed")
    assert a.double().data.dtype is torsh.float64 and a.to(torsh.float32) is a and not a.is_cuda
