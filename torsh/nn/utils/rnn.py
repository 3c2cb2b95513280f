"""Sequences of different lengths: padded with a value, or packed without any padding."""
from __future__ import annotations

from typing import Any, NamedTuple

from torsh.core.dtype import int64
from torsh.core.errors import ArgumentTypeError, InvalidArgumentError, ShapeMismatchError
from torsh.functional.common import T
from torsh.graph.handle import Handle
from torsh.tensor.creation import tensor


class _Packed(NamedTuple):
    data: Any
    batch_sizes: Any
    sorted_indices: Any
    unsorted_indices: Any


class PackedSequence(_Packed):
    """Sequences of different lengths without padding.

    ``data``: all steps, the first steps of all sequences first. ``batch_sizes``: how many sequences reach each step (int64, on
    the CPU). ``sorted_indices``, ``unsorted_indices``: the order from longest to shortest and back, or None. Made by
    :func:`pack_padded_sequence` and :func:`pack_sequence`.
    """

    __slots__ = ()

    def __new__(cls, data: Any, batch_sizes: Any = None, sorted_indices: Any = None, unsorted_indices: Any = None) -> Any:
        """A packed sequence from its parts."""
        if unsorted_indices is None:
            unsorted_indices = invert_permutation(sorted_indices)
        if batch_sizes is None:
            if not (isinstance(data, (list, tuple)) and len(data) == 2):
                raise AssertionError("Expected data to be a list or tuple of length 2")
            data, batch_sizes = data
        elif batch_sizes.device.type != "cpu":
            raise InvalidArgumentError("batch_sizes should always be on CPU. Instances of PackedSequence should never be created "
                                       "manually. They should be instantiated by functions like pack_sequence and "
                                       "pack_padded_sequences in nn.utils.rnn.")
        return super().__new__(cls, data, batch_sizes, sorted_indices, unsorted_indices)

    def to(self, *args: Any, **kwargs: Any) -> PackedSequence:
        """The sequence with ``data`` moved or cast."""
        data = self.data.to(*args, **kwargs)
        return self if data is self.data else PackedSequence(data, self.batch_sizes, self.sorted_indices, self.unsorted_indices)

    def cpu(self, *args: Any, **kwargs: Any) -> PackedSequence:
        """The sequence on the CPU."""
        return self.to("cpu", *args, **kwargs)

    def cuda(self, *args: Any, **kwargs: Any) -> PackedSequence:
        """The sequence on a CUDA device; raises where there is none."""
        return self.to("cuda", *args, **kwargs)

    def _cast(self, name: str) -> PackedSequence:
        return PackedSequence(getattr(self.data, name)(), self.batch_sizes, self.sorted_indices, self.unsorted_indices)

    def double(self) -> PackedSequence:
        """The sequence in float64."""
        return self._cast("double")

    def float(self) -> PackedSequence:
        """The sequence in float32."""
        return self._cast("float")

    def half(self) -> PackedSequence:
        """The sequence in float16."""
        return self._cast("half")

    def long(self) -> PackedSequence:
        """The sequence in int64."""
        return self._cast("long")

    def int(self) -> PackedSequence:
        """The sequence in int32."""
        return self._cast("int")

    def pin_memory(self) -> PackedSequence:
        """The sequence in page-locked memory."""
        return self._cast("pin_memory")

    @property
    def is_cuda(self) -> bool:
        """Is the data on a CUDA device?"""
        return bool(self.data.is_cuda)

    def is_pinned(self) -> bool:
        """Is the data in page-locked memory?"""
        return bool(self.data.is_pinned())


def invert_permutation(permutation: Any) -> Any:
    """The permutation that undoes another one; None stays None."""
    return None if permutation is None else permutation.argsort(0)


def _lengths(lengths: Any) -> list[int]:
    if isinstance(lengths, Handle):
        return [int(n) for n in lengths.tolist()]  # type: ignore[attr-defined]
    return [int(n) for n in lengths]


def pack_padded_sequence(input: Any, lengths: Any, batch_first: bool = False, enforce_sorted: bool = True) -> PackedSequence:
    """Pack padded sequences (T, B, *), or (B, T, *) if ``batch_first``, of the given lengths.

    enforce_sorted: the sequences must come longest first; without it they are sorted.

    Example::

        >>> import torsh
        >>> from torsh.nn.utils.rnn import pack_padded_sequence
        >>> packed = pack_padded_sequence(torsh.tensor([[1, 2, 0], [3, 0, 0], [4, 5, 6]]), [2, 1, 3], True, False)
        >>> packed.data.tolist(), packed.batch_sizes.tolist()
        ([4, 1, 3, 5, 2, 6], [3, 2, 1])
    """
    sizes = _lengths(lengths)
    order = None
    if not enforce_sorted:
        positions = sorted(range(len(sizes)), key=lambda i: -sizes[i])
        order = tensor(positions, dtype=int64)
        input = input.index_select(0 if batch_first else 1, order)
        sizes = [sizes[i] for i in positions]
    x = input.transpose(0, 1) if batch_first else input
    _check_lengths(x, sizes)
    batch_sizes = [sum(n > t for n in sizes) for t in range(sizes[0])]
    data = T["cat"]([x[t, :b] for t, b in enumerate(batch_sizes)])
    return PackedSequence(data, tensor(batch_sizes, dtype=int64), order, None)


def _check_lengths(x: Any, sizes: list[int]) -> None:
    if len(sizes) != x.shape[1]:
        raise ShapeMismatchError(f"Expected `len(lengths)` to be equal to batch_size, but got {len(sizes)} (batch_size={x.shape[1]})")
    if any(a < b for a, b in zip(sizes, sizes[1:], strict=False)):
        raise ShapeMismatchError("`lengths` array must be sorted in decreasing order when `enforce_sorted` is True. You can pass "
                                 "`enforce_sorted=False` to pack_padded_sequence and/or pack_sequence to sidestep this requirement "
                                 "if you do not need ONNX exportability.")
    if sizes and sizes[-1] <= 0:
        raise ShapeMismatchError("Length of all samples has to be greater than 0, but found an element in 'lengths' that is <= 0")
    if sizes[0] > x.shape[0]:
        raise ShapeMismatchError(f"pack_padded_sequence: a length of {sizes[0]} is more than the {x.shape[0]} steps of the input")


def pad_packed_sequence(sequence: PackedSequence, batch_first: bool = False, padding_value: float = 0.0,
                        total_length: int | None = None) -> tuple[Any, Any]:
    """The padded sequences (T, B, *), or (B, T, *) if ``batch_first``, and their lengths (B), in their original order."""
    batch_sizes = sequence.batch_sizes.tolist()
    steps, batch = len(batch_sizes), batch_sizes[0]
    if total_length is not None:
        if total_length < steps:
            raise InvalidArgumentError("Expected total_length to be at least the length of the longest sequence in input, but got "
                                       f"total_length={total_length} and max sequence length being {steps}")
        steps = total_length
    rest = tuple(sequence.data.shape[1:])
    rows = []
    for part in sequence.data.split(batch_sizes):
        missing = batch - part.shape[0]
        rows.append(T["cat"]([part, part.new_full((missing, *rest), padding_value)]) if missing else part)
    rows += [sequence.data.new_full((batch, *rest), padding_value)] * (steps - len(rows))
    padded = T["stack"](rows, 1 if batch_first else 0)
    lengths = tensor([sum(b > i for b in batch_sizes) for i in range(batch)], dtype=int64)
    if sequence.unsorted_indices is not None:
        padded = padded.index_select(0 if batch_first else 1, sequence.unsorted_indices)
        lengths = lengths[sequence.unsorted_indices]
    return padded, lengths


def pad_sequence(sequences: Any, batch_first: bool = False, padding_value: float = 0.0, padding_side: str = "right") -> Any:
    """Stack sequences (L, *) of different lengths to (T, B, *), or (B, T, *) if ``batch_first``.

    Example::

        >>> import torsh
        >>> from torsh.nn.utils.rnn import pad_sequence
        >>> pad_sequence([torsh.tensor([1, 2]), torsh.tensor([3])], batch_first=True).tolist()
        [[1, 2], [3, 0]]
    """
    if not isinstance(sequences, (list, tuple, Handle)):
        raise ArgumentTypeError(f"pad_sequence: Expected iterable for input sequences, but got arg of type: {type(sequences)}")
    if padding_side not in ("left", "right"):
        raise InvalidArgumentError(f"Expected padding_side to be one of left or right, but got {padding_side}.")
    items = list(sequences)  # type: ignore[arg-type]
    if not items:
        raise ShapeMismatchError("received an empty list of sequences")
    longest = max(s.shape[0] for s in items)
    rows = []
    for s in items:
        missing = longest - s.shape[0]
        if missing:
            filler = s.new_full((missing, *s.shape[1:]), padding_value)
            s = T["cat"]([s, filler] if padding_side == "right" else [filler, s])
        rows.append(s)
    return T["stack"](rows, 0 if batch_first else 1)


def unpad_sequence(padded_sequences: Any, lengths: Any, batch_first: bool = False) -> list[Any]:
    """The sequences (L, *) of a padded batch."""
    x = padded_sequences if batch_first else padded_sequences.transpose(0, 1)
    return [row[:n] for row, n in zip(x, _lengths(lengths), strict=True)]


def pack_sequence(sequences: Any, enforce_sorted: bool = True) -> PackedSequence:
    """Pack sequences (L, *) of different lengths."""
    lengths = [s.shape[0] for s in sequences]
    return pack_padded_sequence(pad_sequence(sequences), lengths, enforce_sorted=enforce_sorted)


def unpack_sequence(packed_sequences: PackedSequence) -> list[Any]:
    """The sequences (L, *) of a packed sequence, in their original order."""
    padded, lengths = pad_packed_sequence(packed_sequences, batch_first=True)
    return unpad_sequence(padded, lengths, batch_first=True)


__all__ = ["PackedSequence", "invert_permutation", "pack_padded_sequence", "pack_sequence", "pad_packed_sequence", "pad_sequence",
           "unpack_sequence", "unpad_sequence"]
