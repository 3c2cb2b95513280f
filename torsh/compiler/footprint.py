"""Which memory a step of a plan reads and writes, from its parameters alone: for the verifier and for explain()."""
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Final

from torsh.compiler import convolution, depthwise, fft, templates, winograd
from torsh.compiler.attention import (
    BACKWARD_OPERANDS,
    BACKWARD_PARAMETERS,
    BACKWARD_RESULTS,
    FORWARD_PARAMETERS,
    FORWARD_RESULTS,
)
from torsh.compiler.kernel import Call, LoopKernel, TemplateKernel
from torsh.compiler.plan import ArrayRef, HostStep
from torsh.core.dtype import dtype_by_name
from torsh.core.errors import CompileError
from torsh.core.shape import contiguous_strides
from torsh.ops.define import wide
from torsh.ops.fourier_primitives import COLUMNS, FROM_HALF, FROM_REAL, HALVES, ROWS, TO_HALF


@dataclass(slots=True)
class Region:
    """A strided set of elements in memory.

    slot: table word of the memory. offset: of the first element, in bytes. extents, strides: of the walk over it, strides
    in bytes. write: is it written? all_of_it: False where only data decide which of the elements are touched. access: number
    of the loop kernel's access, or -1.
    """

    slot: int
    offset: int
    itemsize: int
    extents: tuple[int, ...]
    strides: tuple[int, ...]
    write: bool = False
    all_of_it: bool = True
    access: int = -1

    @property
    def bounds(self) -> tuple[int, int]:
        """First byte and the byte behind the last one; (offset, offset) if there are no elements."""
        if 0 in self.extents:
            return self.offset, self.offset
        reaches = [(n - 1) * s for n, s in zip(self.extents, self.strides, strict=True)]
        low = sum(r for r in reaches if r < 0)
        return self.offset + low, self.offset + sum(r for r in reaches if r > 0) + self.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of different elements (those of overlapping windows counted once)."""
        if 0 in self.extents:
            return 0
        low, high = self.bounds
        walked = self.itemsize * prod([n for n, s in zip(self.extents, self.strides, strict=True) if s])
        return min(walked, high - low)


def regions(step: Call | HostStep) -> list[Region]:
    """What a step reads and writes."""
    if isinstance(step, HostStep):
        arrays = [a for a in step.args if isinstance(a, ArrayRef)]
        return [*[_array(a, False) for a in arrays], _array(step.out, True)]
    if isinstance(step.kernel, LoopKernel):
        return loop_regions(step)
    return _TEMPLATES[step.kernel.name](step)


def bytes_moved(step: Call | HostStep) -> tuple[int, int]:
    """(bytes read, bytes written), roughly: where data decide what is touched, as many elements as there are positions."""
    read = written = 0
    touched = regions(step)
    scattered = {r.slot for r in touched if r.write and not r.all_of_it}
    most = 0
    if scattered:                       # scatter, index_put: as much as there is in the source
        most = max([r.nbytes for r in touched if not r.write and r.slot not in scattered], default=0)
    elif isinstance(step, Call) and isinstance(step.kernel, LoopKernel):
        most = prod(step.params[:step.kernel.grid + step.kernel.inner]) * max([r.itemsize for r in touched], default=0)
    for r in touched:
        whole = r.all_of_it and r.slot not in scattered
        count = r.nbytes if whole else min(r.nbytes, most)
        if r.write:
            written += count
        else:
            read += count
    return read, written


def _array(a: ArrayRef, write: bool) -> Region:
    size = a.dtype.itemsize
    return Region(a.buffer.slot, a.buffer.offset, size, a.shape, tuple([s * size for s in contiguous_strides(a.shape)]), write)


# ---- loop kernels ------------------------------------------------------------------------------------------------------

@dataclass(slots=True)
class LoopParameters:
    """The parameters of a loop kernel's call by meaning; ``strides``: per access over all axes."""

    extents: tuple[int, ...]
    buffers: list[tuple[int, int]]
    offsets: list[int]
    strides: list[tuple[int, ...]]
    indirect: list[list[tuple[int, int]]]
    scalars: list[int]


def loop_parameters_of(call: Call) -> LoopParameters:
    """Parse the parameters of a loop kernel's call; raises CompileError if their number is wrong."""
    kernel = call.kernel
    assert isinstance(kernel, LoopKernel)
    axes = kernel.grid + kernel.inner
    expected = axes + 2 * len(kernel.buffers) + kernel.scalars + sum(
        [1 + a.axes.bit_count() + 2 * a.indirect for a in kernel.accesses])
    if len(call.params) != expected:
        raise CompileError(f"the call has {len(call.params)} parameters where its kernel reads {expected}")
    words = iter(call.params)
    extents = tuple([next(words) for _ in range(axes)])
    buffers = [(next(words), next(words)) for _ in kernel.buffers]
    offsets, strides, indirect = [], [], []
    for a in kernel.accesses:
        offsets.append(next(words))
        strides.append(tuple([next(words) if a.axes >> k & 1 else 0 for k in range(axes)]))
        indirect.append([(next(words), next(words)) for _ in range(a.indirect)])
    return LoopParameters(extents, buffers, offsets, strides, indirect, list(words))


def loop_regions(call: Call) -> list[Region]:
    """Regions of a loop kernel, one per access to memory."""
    kernel = call.kernel
    assert isinstance(kernel, LoopKernel)
    p = loop_parameters_of(call)
    stored = {v.attr for v in kernel.values if v.op == "store"}
    result = []
    for number, a in enumerate(kernel.accesses):
        if a.buffer < 0:
            continue
        slot, offset = p.buffers[a.buffer]
        size = kernel.buffers[a.buffer].itemsize
        extents = (*p.extents, *[bound for _, bound in p.indirect[number]])
        strides = [s * size for s in (*p.strides[number], *[s for s, _ in p.indirect[number]])]
        result.append(Region(slot, offset + p.offsets[number] * size, size, extents, tuple(strides), number in stored,
                             not a.indirect, number))
    return result


# ---- templates ---------------------------------------------------------------------------------------------------------

def named(names: Sequence[str], params: Sequence[int]) -> dict[str, Any]:
    """Parameters of a template by name (``name[n]``: a tuple of n words)."""
    result: dict[str, Any] = {}
    position = 0
    for name in names:
        if name.endswith("]"):
            name, count = name[:-1].split("[")
            result[name] = tuple(params[position:position + int(count)])
            position += int(count)
        else:
            result[name] = params[position]
            position += 1
    if position > len(params):
        raise CompileError(f"the call has {len(params)} parameters where its template reads {position}")
    result["rest"] = tuple(params[position:])
    return result


def _region(p: dict[str, Any], name: str, size: int, walk: Sequence[tuple[int, int]], write: bool = False,
            all_of_it: bool = True) -> Region:
    """walk: (extent, stride in elements) pairs."""
    return Region(p[f"{name}_slot"], p[f"{name}_offset"], size, tuple([n for n, _ in walk]),
                  tuple([s * size for _, s in walk]), write, all_of_it)


def _options(call: Call) -> tuple[Any, ...]:
    assert isinstance(call.kernel, TemplateKernel)
    return call.kernel.options


def _matmul(call: Call) -> list[Region]:
    p = named(templates.MATMUL_PARAMETERS, call.params)
    size, left, right = (dtype_by_name(name).itemsize for name in _options(call))
    sizes = {"a": left, "b": right, "c": size}
    batch = p["batch"]

    def operand(name: str, rows: int, columns: int, write: bool = False) -> Region:
        walk = [*zip(batch, p[f"{name}_batch"], strict=True), (rows, p[f"{name}_row"]), (columns, p[f"{name}_column"])]
        return _region(p, name, sizes[name], walk, write)
    result = [operand("a", p["m"], p["k"]), operand("b", p["k"], p["n"]), operand("c", p["m"], p["n"], True)]
    if p["accumulate"]:
        result.append(operand("c", p["m"], p["n"]))
    if p["has_bias"]:
        result.append(_region(p, "bias", size, [(p["m"], p["bias_row_stride"]), (p["n"], p["bias_stride"])]))
    return result


def _phases(call: Call) -> Iterator[dict[str, Any]]:
    """The parameters of each phase of a convolution."""
    words = convolution.word_count(convolution.CONVOLUTION_PARAMETERS)
    for number in range(call.params[0]):
        yield named(convolution.CONVOLUTION_PARAMETERS, call.params[1 + number * words:])


def _convolution(call: Call) -> list[Region]:
    size = dtype_by_name(_options(call)[0]).itemsize
    result = []
    for p in _phases(call):
        batch, groups, rows = p["batch"], p["groups"], p["rows"]
        w = [(groups, p["w_group"]), (rows, p["w_row"]), (p["channels"], p["w_channel"]),
             *zip(p["kernel"], p["w_kernel"], strict=True)]
        c = [(batch, p["c_batch"]), (groups, p["c_group"]), (rows, p["c_row"]), *zip(p["counts"], p["c_strides"], strict=True)]
        result += [_region(p, "w", size, w), _region(p, "x", size, convolution.touched(p)), _region(p, "c", size, c, True)]
        if p["has_bias"]:
            result.append(_region(p, "bias", size, [(groups * rows, p["bias_stride"])]))
    return result


def _convolution_weight(call: Call) -> list[Region]:
    p = named(convolution.WEIGHT_PARAMETERS, call.params)
    dtype = dtype_by_name(_options(call)[0])
    batch, groups, rows = (p["batch"], p["g_batch"]), (p["groups"], p["g_group"]), (p["rows"], p["g_row"])
    count = p["parts"] * p["groups"] * p["rows"] * p["channels"] * p["taps"]
    return [_region(p, "g", dtype.itemsize, [batch, groups, rows, (prod(p["counts"]), 1)]),
            _region(p, "x", dtype.itemsize, convolution.touched(p)), _region(p, "c", wide(dtype).itemsize, [(count, 1)], True)]


def _planes(p: dict[str, Any]) -> list[tuple[int, int]]:
    """The walk over the input of Winograd's convolutions."""
    return [(p["batch"], p["x_batch"]), (p["groups"], p["x_group"]), (p["channels"], p["x_channel"]), (p["lines"], p["x_line"]),
            (p["columns"], 1)]


def _winograd_gradient(call: Call) -> list[Region]:
    p = named(winograd.GRADIENT_PARAMETERS, call.params)
    g = [(p["batch"], p["g_batch"]), (p["groups"], p["g_group"]), (p["rows"], p["g_row"]), (p["c_lines"] * p["c_columns"], 1)]
    count = p["parts"] * p["groups"] * p["rows"] * p["channels"] * 9
    return [_region(p, "g", 4, g), _region(p, "x", 4, _planes(p)), _region(p, "c", 4, [(count, 1)], True)]


def _winograd(call: Call) -> list[Region]:
    p = named(winograd.PARAMETERS, call.params)
    batch, groups, rows = p["batch"], p["groups"], p["rows"]
    plane = p["c_lines"] * p["c_columns"]
    result = [_region(p, "u", 4, [(winograd.weight_count(groups, rows, p["channels"]), 1)]), _region(p, "x", 4, _planes(p)),
              _region(p, "c", 4, [(batch * groups * rows * plane, 1)], True)]
    if p["has_bias"]:
        result.append(_region(p, "bias", 4, [(groups * rows, p["bias_stride"])]))
    return result


def _winograd_weights(call: Call) -> list[Region]:
    p = named(winograd.WEIGHT_PARAMETERS, call.params)
    w = [(p["groups"], p["w_group"]), (p["rows"], p["w_row"]), (p["channels"], p["w_channel"]), (3, p["w_line"]), (3, p["w_column"])]
    return [_region(p, "w", 4, w), _region(p, "u", 4, [(winograd.weight_count(p["groups"], p["rows"], p["channels"]), 1)], True)]


def _depthwise(call: Call) -> list[Region]:
    p = named(depthwise.DEPTHWISE_PARAMETERS, call.params)
    size = dtype_by_name(_options(call)[0]).itemsize
    groups, rows = p["groups"], p["rows"]
    w = [(groups, p["w_group"]), (rows, p["w_row"]), *zip(p["kernel"], p["w_kernel"], strict=True)]
    result = [_region(p, "w", size, w), _region(p, "x", size, convolution.touched(p)),
              _region(p, "c", size, [(p["batch"] * groups * rows * prod(p["counts"]), 1)], True)]
    if p["has_bias"]:
        result.append(_region(p, "bias", size, [(groups * rows, p["bias_stride"])]))
    return result


def _depthwise_weight(call: Call) -> list[Region]:
    p = named(depthwise.DEPTHWISE_WEIGHT_PARAMETERS, call.params)
    dtype = dtype_by_name(_options(call)[0])
    g = [(p["batch"], p["g_batch"]), (p["groups"], p["g_group"]), (p["rows"], p["g_row"]), (prod(p["counts"]), 1)]
    return [_region(p, "g", dtype.itemsize, g), _region(p, "x", dtype.itemsize, convolution.touched(p)),
            _region(p, "c", wide(dtype).itemsize, [(p["groups"] * p["rows"] * p["taps"], 1)], True)]


def _attention(call: Call) -> list[Region]:
    """Both templates; masked keys count as read."""
    backward = call.kernel.name == "attention_backward"  # type: ignore[union-attr]
    p = named(BACKWARD_PARAMETERS if backward else FORWARD_PARAMETERS, call.params)
    dtype, mask, dropout = _options(call)
    size = dtype_by_name(dtype).itemsize
    wide, items = max(size, 4), prod(p["batch"])
    queries, keys, inner, width = p["queries"], p["keys"], p["size"], p["width"]
    extents = {"query": (queries, inner), "key": (keys, inner), "value": (keys, width), "mask": (queries, keys),
               "logsumexp": (queries, 1), "delta": (queries, 1), "g": (queries, width), "out": (queries, width)}
    result = []
    for name in BACKWARD_OPERANDS if backward else BACKWARD_OPERANDS[:4]:
        if name != "mask" or mask != "none":
            walk = [*zip(p["batch"], p[f"{name}_batch"], strict=True), (extents[name][0], p[f"{name}_row"]),
                    (extents[name][1], p[f"{name}_column"])]
            bytes_of = 1 if mask == "bool" and name == "mask" else wide if name in ("logsumexp", "delta") else size
            result.append(_region(p, name, bytes_of, walk))
    result += [_region(p, name, 8, [(1, 1)]) for name in ("chance", "seed", "offset") if dropout]
    for name in BACKWARD_RESULTS if backward else FORWARD_RESULTS:
        if p[f"has_{name}"]:
            count = items * prod(extents[name]) * (p["chunks"] if backward and name == "query" else 1)
            stored = size if name == "out" else wide
            result.append(_region(p, f"{name}_gradient" if backward else name, stored, [(count, 1)], True))
    return result


def _scan(call: Call) -> list[Region]:
    p = named(templates.SCAN_PARAMETERS, call.params)
    size = dtype_by_name(_options(call)[0]).itemsize
    extents = (p["outer"], p["length"], p["inner"])
    source = zip(extents, (p["src_outer"], p["src_length"], p["src_inner"]), strict=True)
    return [_region(p, "src", size, list(source)),
            _region(p, "out", size, list(zip(extents, contiguous_strides(extents), strict=True)), True)]


def _selection(call: Call) -> list[Region]:
    p = named(templates.SELECTION_PARAMETERS, call.params)
    size = dtype_by_name(_options(call)[0]).itemsize
    return [_region(p, "src", size, [(p["rows"] * p["length"], 1)]), _region(p, "out", 8, [(p["rows"] * p["count"], 1)], True)]


def _sum_of_bags(call: Call) -> list[Region]:
    p = named(templates.BAGS_PARAMETERS, call.params)
    size = dtype_by_name(_options(call)[0]).itemsize
    result = [_region(p, "index", 8, [(p["count"], 1)]), _region(p, "starts", 8, [(p["bags"], 1)]),
              _region(p, "table", size, [(p["rows"] * p["width"], 1)], False, False),
              _region(p, "out", size, [(p["bags"] * p["width"], 1)], True)]
    return [*result, _region(p, "each", size, [(p["count"], 1)])] if p["has_each"] else result


def _fourier(call: Call) -> list[Region]:
    """The table counts as read, as far as its head."""
    p = named(fft.FOURIER_PARAMETERS, call.params)
    dtype, kind, paired, layout, part, _ = _options(call)
    size = dtype_by_name(dtype).itemsize
    n = p["n"]
    planes = 2 * (n // 2 if paired else n)
    from_complex, to_complex = kind not in (FROM_REAL, TO_HALF), kind != FROM_HALF

    def numbers(name: str, count: int, complex_numbers: bool, write: bool) -> Region:
        lanes = [(p["inner"], 1 + complex_numbers)] if layout == "columns" else []
        walk = [*zip(p["extents"], p[f"{name}_strides"], strict=True), (count, p["src_step" if name == "src" else "out_step"]), *lanes]
        return _region(p, name, size, [*walk, *([(2, 1)] if complex_numbers else [])], write)

    source = numbers("src", p["given"], from_complex, False)
    if part in (ROWS, HALVES):
        source = numbers("src", planes, False, False)
    result = numbers("out", n // 2 + 1 if kind == TO_HALF else n, to_complex, True)
    if part == COLUMNS or (part == ROWS and kind != FROM_HALF and paired):
        result = numbers("out", planes, False, True)
    return [source, result, Region(p["table"], 0, 8, (fft.PLAN,), (8,))]


def _both(p: dict[str, Any], size: int, walk: Sequence[tuple[int, int]]) -> list[Region]:
    """What is written where data say: read and written."""
    return [_region(p, "out", size, walk), _region(p, "out", size, walk, True, False)]


def _scatter(call: Call) -> list[Region]:
    p = named(templates.SCATTER_PARAMETERS, call.params)
    size = dtype_by_name(_options(call)[0]).itemsize

    def walk(name: str) -> list[tuple[int, int]]:
        return list(zip(p["extents"], p[name], strict=True))
    return [_region(p, "index", 8, walk("index_strides")), _region(p, "src", size, walk("src_strides")),
            *_both(p, size, [*walk("out_strides"), (p["size"], p["index_step"])])]


def _index_put(call: Call) -> list[Region]:
    dtype, _, count = _options(call)
    size = dtype_by_name(dtype).itemsize
    p = named(templates.INDEX_PUT_PARAMETERS, call.params)
    rest = p["rest"]
    indices = []
    for _ in range(count):
        index = named(templates.INDEX_PUT_PER_INDEX, rest)
        indices.append(index)
        rest = index["rest"]
    positions = p["index_extents"]
    result = [Region(i["slot"], i["offset"], 8, positions, tuple([8 * s for s in i["strides"]])) for i in indices]
    source = [*zip(positions, p["src_index_strides"], strict=True), *zip(p["rest_extents"], p["src_rest_strides"], strict=True)]
    out = [*[(i["size"], i["out_stride"]) for i in indices], *zip(p["rest_extents"], p["out_rest_strides"], strict=True)]
    return [*result, _region(p, "src", size, source), *_both(p, size, out)]


def _fill(call: Call) -> list[Region]:
    p = named(templates.FILL_PARAMETERS, call.params)
    return [_region(p, "out", _options(call)[0], [(p["count"], 1)], True)]


def _copy(call: Call) -> list[Region]:
    p = named(templates.COPY_PARAMETERS, call.params)           # count: bytes
    return [_region(p, "src", 1, [(p["count"], 1)]), _region(p, "out", 1, [(p["count"], 1)], True)]


def _transpose(call: Call) -> list[Region]:
    p = named(templates.TRANSPOSE_PARAMETERS, call.params)
    size = _options(call)[0]
    return [_region(p, "src", size, list(zip(p["extents"], p["src_strides"], strict=True))),
            _region(p, "out", size, list(zip(p["extents"], p["out_strides"], strict=True)), True)]


_TEMPLATES: Final[dict[str, Callable[[Call], list[Region]]]] = {
    "matmul": _matmul, "convolution": _convolution, "convolution_weight": _convolution_weight,
    "depthwise": _depthwise, "depthwise_weight": _depthwise_weight, "winograd": _winograd, "winograd_weights": _winograd_weights,
    "winograd_gradient": _winograd_gradient,
    "attention": _attention, "attention_backward": _attention,
    "fourier": _fourier, "scan": _scan, "selection": _selection, "sum_of_bags": _sum_of_bags,
    "scatter": _scatter, "index_put": _index_put, "fill": _fill, "copy": _copy,
    "transpose_copy": _transpose}


def flops(step: Call | HostStep) -> int:
    """Rough number of arithmetic operations of a step."""
    if isinstance(step, HostStep):
        return prod(step.out.shape)
    if isinstance(step.kernel, LoopKernel):
        return sum(_stage_flops(step, step.kernel))
    if step.kernel.name == "matmul":
        p = named(templates.MATMUL_PARAMETERS, step.params)
        return 2 * prod(p["batch"]) * p["m"] * p["n"] * p["k"]
    if step.kernel.name == "convolution":
        return sum([_products(p) for p in _phases(step)])
    if step.kernel.name == "convolution_weight":
        return _products(named(convolution.WEIGHT_PARAMETERS, step.params))
    if step.kernel.name in ("winograd", "winograd_gradient"):
        p = named(winograd.PARAMETERS if step.kernel.name == "winograd" else winograd.GRADIENT_PARAMETERS, step.params)
        tiles = winograd.tiles_of(p["c_lines"], p["c_columns"])
        return 2 * winograd.POINTS * p["batch"] * p["groups"] * p["rows"] * p["channels"] * tiles
    if step.kernel.name == "depthwise":
        return _products(named(depthwise.DEPTHWISE_PARAMETERS, step.params))
    if step.kernel.name == "depthwise_weight":
        return _products(named(depthwise.DEPTHWISE_WEIGHT_PARAMETERS, step.params))
    if step.kernel.name == "fourier":
        p = named(fft.FOURIER_PARAMETERS, step.params)
        share = 1 + bool(step.kernel.options[2])
        return 5 * prod(p["extents"]) * p["inner"] * p["n"] * p["n"].bit_length() // share
    if step.kernel.name == "attention":
        p = named(FORWARD_PARAMETERS, step.params)
        return 2 * prod(p["batch"]) * p["queries"] * p["keys"] * (p["size"] + p["width"]) // (1 + p["causal"])
    if step.kernel.name == "attention_backward":
        p = named(BACKWARD_PARAMETERS, step.params)
        return 2 * prod(p["batch"]) * p["queries"] * p["keys"] * (3 * p["size"] + 2 * p["width"]) // (1 + p["causal"])
    return 0


def _products(p: dict[str, Any]) -> int:
    """Operations of a convolution with these parameters."""
    return 2 * prod([p[name] for name in ("batch", "groups", "rows", "channels", "taps")]) * prod(p["counts"])


_FREE: Final = frozenset(("load", "store", "index_load", "constant", "scalar", "iota", "cast"))


def _stage_flops(call: Call, kernel: LoopKernel) -> Iterator[int]:
    extents = call.params[:kernel.grid + kernel.inner]
    for stage in kernel.stages:
        points = prod(extents if stage.loop else extents[:kernel.grid])
        yield points * sum([kernel.values[p].op not in _FREE for p in stage.body])
