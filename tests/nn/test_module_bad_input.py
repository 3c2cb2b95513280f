"""Modules refuse impossible arguments, with PyTorch's exception types."""
from __future__ import annotations

import pytest

import torsh
from torsh import nn
from torsh.nn.utils import parametrize, rnn

X = torsh.ones


def assign_before_init(value):
    class Early(nn.Module):
        def __init__(self):
            self.x = value
    return Early


class Empty(nn.Module):
    """Without forward."""


CASES = [
    (lambda: nn.Module(1), TypeError, "takes 1 positional argument but 2 were given"),
    (lambda: nn.Module(size=1), TypeError, "unexpected keyword argument 'size'"),
    (assign_before_init(nn.Parameter(X(1))), AttributeError, r"before Module.__init__\(\) call"),
    (assign_before_init(nn.ReLU()), AttributeError, r"before Module.__init__\(\) call"),
    (lambda: Empty()(), NotImplementedError, r'missing the required "forward"'),
    (lambda: nn.ReLU().nonsense, AttributeError, "'ReLU' object has no attribute 'nonsense'"),
    (lambda: nn.ReLU().register_parameter("a.b", None), KeyError, 'can\'t contain "."'),
    (lambda: nn.ReLU().register_parameter("", None), KeyError, "empty string"),
    (lambda: nn.ReLU().register_parameter("forward", None), KeyError, "already exists"),
    (lambda: nn.ReLU().register_parameter("x", X(1)), TypeError, "cannot assign"),
    (lambda: nn.ReLU().register_buffer("x", 3), TypeError, "cannot assign"),
    (lambda: nn.ReLU().add_module("x", 3), TypeError, "is not a Module subclass"),
    (lambda: setattr(nn.Linear(1, 1), "weight", X(1)), TypeError, "as parameter 'weight'"),
    (lambda: setattr(nn.Sequential(nn.ReLU()), "0", 3), TypeError, "as child module '0'"),
    (lambda: setattr(nn.BatchNorm1d(1), "running_mean", 3), TypeError, "as buffer 'running_mean'"),
    (lambda: nn.Linear(1, 1).get_submodule("x"), AttributeError, "has no attribute `x`"),
    (lambda: nn.Linear(1, 1).get_parameter("in_features"), AttributeError, "is not an nn.Parameter"),
    (lambda: nn.Linear(1, 1).get_buffer("weight"), AttributeError, "is not a buffer"),
    (lambda: nn.ReLU().train("yes"), ValueError, "expected to be boolean"),
    (lambda: nn.Linear(1, 1).to(torsh.int64), TypeError, "only accepts floating point or complex"),
    (lambda: nn.Linear(1, 1).load_state_dict([1]), TypeError, "dict-like"),
    (lambda: nn.Sequential(nn.ReLU())[3], IndexError, "out of range"),
    (lambda: nn.Linear(3, 2)(X(2, 4)), RuntimeError, "2x4"),
    (lambda: nn.Conv2d(3, 4, 2, groups=2), ValueError, "divisible by groups"),
    (lambda: nn.Conv2d(2, 4, 2, padding_mode="nonsense"), ValueError, "padding_mode"),
    (lambda: nn.Conv2d(2, 4, 2, stride=2, padding="same"), ValueError, "strided"),
    (lambda: nn.Conv2d(2, 4, 2)(X(1, 3, 5, 5)), RuntimeError, "channels"),
    (lambda: nn.ConvTranspose2d(2, 4, 2)(X(1, 2, 5, 5), output_size=(50, 50)), ValueError, "valid sizes"),
    (lambda: nn.BatchNorm2d(3)(X(2, 3)), ValueError, "expected 4D input"),
    (lambda: nn.BatchNorm1d(3)(X(1, 3)), ValueError, "more than 1 value per channel"),
    (lambda: nn.GroupNorm(2, 3), ValueError, "divisible"),
    (lambda: nn.Dropout(1.5), ValueError, "between 0 and 1"),
    (lambda: nn.Embedding(3, 2, padding_idx=3), AssertionError, "within num_embeddings"),
    (lambda: nn.Bilinear(0, 1, 1), ValueError, "in1_features must be > 0"),
    (lambda: nn.MultiMarginLoss(p=3), ValueError, "only p == 1 and p == 2"),
    (lambda: nn.AdaptiveLogSoftmaxWithLoss(4, 5, [3, 2]), ValueError, "cutoffs should be a sequence of unique"),
    (lambda: nn.AdaptiveLogSoftmaxWithLoss(16, 5, [2])(X(1, 16), torsh.tensor([7])), RuntimeError, "Target values should be in"),
    (lambda: nn.LinearCrossEntropyOptions(chunking_method="x"), ValueError, "chunking_method"),
    # recurrent
    (lambda: nn.LSTM(0, 3), ValueError, "input_size must be greater than zero"),
    (lambda: nn.LSTM(2, 3.5), TypeError, "hidden_size should be of type int"),
    (lambda: nn.LSTM(2, 3, bias=1), TypeError, "bias should be of type bool"),
    (lambda: nn.LSTM(2, 3, proj_size=3), ValueError, "smaller than hidden_size"),
    (lambda: nn.GRU(2, 3, proj_size=2), ValueError, "only supported for LSTM"),
    (lambda: nn.RNN(2, 3, nonlinearity="sin"), ValueError, "Unknown nonlinearity"),
    (lambda: nn.GRU(2, 3, dropout=2), ValueError, "number in range"),
    (lambda: nn.GRU(2, 3)(X(4, 1, 5)), RuntimeError, "Expected 2, got 5"),
    (lambda: nn.GRU(2, 3)(X(4)), ValueError, "2D or 3D"),
    (lambda: nn.GRU(2, 3)(X(4, 1, 2), X(1, 2, 3)), RuntimeError, "Expected hidden size"),
    (lambda: nn.LSTM(2, 3)(X(4, 1, 2), (X(1, 1, 3), X(1, 1, 4))), RuntimeError, r"hidden\[1\]"),
    (lambda: nn.GRU(2, 3)(X(4, 1, 2, dtype=torsh.float64)), ValueError, "does not match weight dtype"),
    (lambda: nn.GRUCell(2, 3)(X(1, 4)), RuntimeError, "inconsistent input_size"),
    (lambda: nn.LSTMCell(2, 3)(X(1, 1, 1)), ValueError, "1D or 2D"),
    (lambda: rnn.pack_padded_sequence(X(3, 2), [1, 3]), RuntimeError, "sorted in decreasing order"),
    (lambda: rnn.pack_padded_sequence(X(3, 2), [3, 0]), RuntimeError, "greater than 0"),
    (lambda: rnn.pack_padded_sequence(X(3, 2), [3]), RuntimeError, "batch_size"),
    (lambda: rnn.pad_packed_sequence(rnn.pack_sequence([X(3)]), total_length=2), ValueError, "total_length"),
    (lambda: rnn.pad_sequence([X(3)], padding_side="top"), ValueError, "padding_side"),
    # attention
    (lambda: nn.MultiheadAttention(0, 1), ValueError, "greater than 0"),
    (lambda: nn.MultiheadAttention(5, 2), AssertionError, "divisible by num_heads"),
    (lambda: nn.MultiheadAttention(4, 2)(X(3, 4), X(3, 1, 4), X(3, 1, 4)), AssertionError, "expected `key` and `value` to be 2-D"),
    (lambda: nn.MultiheadAttention(4, 2)(X(3, 1, 5), X(3, 1, 4), X(3, 1, 4)), AssertionError, "embedding dimension of 4"),
    (lambda: nn.MultiheadAttention(4, 2)(X(3, 1, 4), X(3, 1, 4), X(2, 1, 4)), AssertionError, "does not match value shape"),
    (lambda: nn.MultiheadAttention(4, 2)(*[X(3, 1, 4)] * 3, attn_mask=X(2, 3)), RuntimeError, "2D attn_mask"),
    (lambda: nn.MultiheadAttention(4, 2)(*[X(3, 1, 4)] * 3, attn_mask=X(3, 3, dtype=torsh.int64)), AssertionError, "only bool and float"),
    (lambda: nn.MultiheadAttention(4, 2)(*[X(3, 1, 4)] * 3, is_causal=True), RuntimeError, "Need attn_mask"),
    (lambda: nn.TransformerEncoderLayer(4, 2, activation="sin"), RuntimeError, "relu/gelu"),
    (lambda: nn.Transformer(4, 2, 1, 1, 8, batch_first=True)(X(2, 3, 4), X(3, 3, 4)), RuntimeError, "batch number"),
    (lambda: nn.Transformer(4, 2, 1, 1, 8, batch_first=True)(X(2, 3, 5), X(2, 3, 4)), RuntimeError, "feature number"),
    # utils
    (lambda: parametrize.register_parametrization(nn.Linear(1, 1), "x", nn.ReLU()), ValueError, "does not have a parameter"),
    (lambda: parametrize.register_parametrization(nn.Linear(2, 2), "weight", nn.Flatten(0)), ValueError, "may not change the shape"),
    (lambda: parametrize.remove_parametrizations(nn.Linear(1, 1), "weight"), ValueError, "does not have a parametrization"),
    (lambda: nn.utils.remove_weight_norm(nn.Linear(1, 1)), ValueError, "weight_norm of 'weight' not found"),
    (lambda: nn.utils.remove_spectral_norm(nn.Linear(1, 1)), ValueError, "spectral_norm of 'weight' not found"),
    (lambda: nn.utils.skip_init(nn.ReLU), RuntimeError, "'device' arg"),
    (lambda: nn.utils.fuse_conv_bn_eval(nn.Conv1d(1, 1, 1), nn.BatchNorm1d(1)), AssertionError, "only for eval"),
    (lambda: nn.utils.get_total_norm([torsh.tensor([float("nan")])], error_if_nonfinite=True), RuntimeError, "non-finite"),
    (lambda: nn.utils.vector_to_parameters([1], []), TypeError, "expected torsh.Tensor"),
    # lazy
    (lambda: nn.LazyLinear(2).weight.shape, RuntimeError, "uninitialized parameter"),
    (lambda: nn.LazyConv2d(2, 1)(X(2)), RuntimeError, "Expected 3D"),
]


@pytest.mark.filterwarnings("ignore:enable_nested_tensor is True:UserWarning")
@pytest.mark.parametrize("case", range(len(CASES)))
def test_error(case):
    call, error, text = CASES[case]
    with pytest.raises(error, match=text):
        call()
