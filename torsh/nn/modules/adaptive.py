"""Softmax over many classes, the rare ones in clusters."""
from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

from torsh.core.errors import InvalidArgumentError, ShapeMismatchError
from torsh.functional.common import T
from torsh.nn import functional as F
from torsh.nn.modules.container import ModuleList, Sequential
from torsh.nn.modules.linear import Linear
from torsh.nn.modules.module import Module


class _ASMoutput(NamedTuple):
    output: Any
    loss: Any


class AdaptiveLogSoftmaxWithLoss(Module):
    """Log softmax over ``n_classes`` classes sorted by frequency (Grave et al., 2017).

    The first ``cutoffs[0]`` classes and the clusters of the others are the outputs of ``head``; each cluster is a pair of linear
    layers in ``tail``, with a hidden size that is ``div_value`` times smaller than that of the one before.
    Returns (output, loss): the log probability of every target (N), and the negative mean of them.

    Example::

        >>> import torsh
        >>> layer = torsh.nn.AdaptiveLogSoftmaxWithLoss(16, 20, cutoffs=[5, 10])
        >>> layer(torsh.randn(3, 16), torsh.tensor([0, 7, 19])).output.shape
        torsh.Size([3])
    """

    def __init__(self, in_features: int, n_classes: int, cutoffs: Sequence[int], div_value: float = 4.0, head_bias: bool = False,
                 device: Any = None, dtype: Any = None) -> None:
        super().__init__()
        bounds = list(cutoffs)
        if not bounds:
            raise InvalidArgumentError("cutoffs should be a sequence of length larger than 0")
        if bounds != sorted(set(bounds)) or bounds[0] <= 0 or bounds[-1] > n_classes - 1 or any(int(c) != c for c in bounds):
            raise InvalidArgumentError("cutoffs should be a sequence of unique, positive integers sorted in an increasing order, where "
                                       "each value is between 1 and n_classes-1")
        self.in_features, self.n_classes, self.cutoffs = in_features, n_classes, [*bounds, n_classes]
        self.div_value, self.head_bias = div_value, head_bias
        self.shortlist_size, self.n_clusters = bounds[0], len(bounds)
        self.head_size = self.shortlist_size + self.n_clusters
        options = {"device": device, "dtype": dtype}
        self.head = Linear(in_features, self.head_size, bias=head_bias, **options)
        self.tail = ModuleList()
        for i, (low, high) in enumerate(itertools.pairwise(self.cutoffs), 1):
            hidden = int(in_features // div_value ** i)
            self.tail.append(Sequential(Linear(in_features, hidden, bias=False, **options),
                                        Linear(hidden, high - low, bias=False, **options)))

    def reset_parameters(self) -> None:
        """Draw new parameters."""
        self.head.reset_parameters()
        for layer in self.tail.modules():
            if isinstance(layer, Linear):
                layer.reset_parameters()

    def forward(self, input_: Any, target_: Any) -> _ASMoutput:
        """Log probabilities of the targets and the loss; input (N, in_features) and target (N), or both without N."""
        _check_target(input_, target_)
        batched = target_.dim() > 0
        input, target = (input_, target_) if batched else (input_.unsqueeze(0), target_.unsqueeze(0))
        output = input.new_zeros(target.shape[0])
        column, used = target, 0
        # Only the rows of a cluster go through its layers, so the values of the targets have to be known here.
        for i, (low, high) in enumerate(itertools.pairwise([0, *self.cutoffs])):
            rows = ((target >= low) & (target < high)).nonzero().squeeze(1)
            used += rows.shape[0]
            if i and rows.shape[0]:
                logprob = F.log_softmax(self.tail[i - 1](input.index_select(0, rows)), dim=1)
                chosen = logprob.gather(1, (target.index_select(0, rows) - low).unsqueeze(1)).squeeze(1)
                output = output.index_copy(0, rows, chosen)
                column = column.index_fill(0, rows, self.shortlist_size + i - 1)
        if used != target.shape[0]:
            raise ShapeMismatchError(f"Target values should be in [0, {self.n_classes - 1}], but values in range "
                                     f"[{target.min().item()}, {target.max().item()}] were found. ")
        output = output + F.log_softmax(self.head(input), dim=1).gather(1, column.unsqueeze(1)).squeeze(1)
        return _ASMoutput(output if batched else output.squeeze(0), -output.mean())

    def _get_full_log_prob(self, input: Any, head_output: Any) -> Any:
        head = F.log_softmax(head_output, dim=1)
        parts = [head[:, :self.shortlist_size]]
        for i, pair in enumerate(self.tail):
            parts.append(F.log_softmax(pair(input), dim=1) + head[:, self.shortlist_size + i].unsqueeze(1))
        return T["cat"](parts, 1)

    def log_prob(self, input: Any) -> Any:
        """Log probabilities of all classes: (N, in_features) to (N, n_classes)."""
        return self._get_full_log_prob(input, self.head(input))

    def predict(self, input: Any) -> Any:
        """The most probable class of every row: (N, in_features) to (N); clusters are looked into only where they are the best."""
        head_output = self.head(input)
        best = head_output.argmax(1)
        rows = (best >= self.shortlist_size).nonzero().squeeze(1)
        if not rows.shape[0]:
            return best
        full = self._get_full_log_prob(input.index_select(0, rows), head_output.index_select(0, rows))
        return best.index_copy(0, rows, full.argmax(1))


def _check_target(input: Any, target: Any) -> None:
    if target.dim() > 1:
        raise ShapeMismatchError("0D or 1D target tensor expected, multi-target not supported")
    if target.dim() == 1 and input.shape[0] != target.shape[0]:
        raise ShapeMismatchError("Input and target should have the same size in the batch dimension.")
    if input.dim() != target.dim() + 1:
        raise ShapeMismatchError(f"{target.dim()}D target tensor expects {target.dim() + 1}D input tensors, but found inputs with size "
                                 f"{input.size()}")
