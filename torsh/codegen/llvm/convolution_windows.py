"""Windows of a convolution's input, copied right into packed panels: what im2col would write, without ever being stored.

Positions (the windows, in the order of the result's elements, over all batch items) run along the lanes of a vector. A vector
is cut in *runs*, in which neighbouring positions read neighbouring elements; what lies in the padding is masked. Of one
element of the kernel ("tap"), runs and masks are the same for all channels, so that channels are the inner loop.
"""
from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from torsh.codegen.llvm.gemm_shape import Shape, arguments
from torsh.codegen.llvm.template_builder import Builder, Module, Operand, ignore, mangled

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

RUNS = (2, 4)            # in registers; vectors of more runs are copied lane by lane
WIDEST_SPREAD = 32       # lanes up to which every second element can be taken from two vectors
# to[channel * taps + number of the tap][width] = the windows at ``position`` and the following ones: ``count`` of them, zeros
# in the other lanes. x: the first channel of the first batch item; table: of the taps, as ``tap_table`` writes it.
WINDOWS = ("ptr params", "ptr x", "i64 position", "i64 count", "ptr to", "i64 width", "ptr table", "i64 taps", "i64 channels")
WINDOW_FUNCTIONS = ("windows", "tap_table", "copy_lines")
TAP_TABLE = ("ptr params", "ptr table", "i64 tap", "i64 taps")
# Of an entry: where the tap is, in elements (i64), its distance per dimension (i32), and where it is in the weight (i64).
TAP_BYTES, WEIGHT_PLACE = 32, 24


def write_windows(module: Module, shape: Shape, parameters: Sequence[str]) -> None:
    """A library, the functions ``windows`` and ``tap_table`` (see above), for calls with these parameter words."""
    _write_tap_table(module, parameters)
    lanes = shape.lanes
    b = Builder(module, "windows", arguments(WINDOWS))
    runs = b.stack(16 * max(lanes, RUNS[-1]))
    word = b.words(parameters)
    found, where = _write_runs(b, word, runs, lanes)
    step = b.mul(word["stride2"], word["x_strides2"])
    taps = partial(_write_taps, b, shape, word, where)

    inside = b.both(b.equal(found, 1), b.equal("%count", lanes), *_all_inside(b, word, where, lanes))
    # Each way is written once: (elements that neighbours are apart, most runs; 1: all of them is inside of the input).
    ways = [(apart, most) for apart in (1, 2) for most in (1, *RUNS) if apart == 1 or lanes <= WIDEST_SPREAD]
    done = b.label()
    for apart, most in ways:
        this, following = b.label(), b.label()
        suits = b.both(b.equal(step, apart), inside if most == 1 else b.less(found, most + 1))
        b.do(f"br i1 {suits}, label %{this}, label %{following}")
        b.place(this)
        if most == 1:
            _write_taps(b, shape, word, (), partial(_in_one_run, b, shape, word, runs, apart))
        else:
            taps(partial(_in_runs, b, shape, word, runs, most, apart))
        b.do(f"br label %{done}")
        b.place(following)
    taps(partial(_lane_by_lane, b, shape, word, runs, found, step))
    b.do(f"br label %{done}")
    b.place(done)
    b.finish()


def _write_runs(b: Builder, word: Mapping[str, str], runs: str, lanes: int) -> tuple[str, list[str]]:
    """Cut the vector in runs: (number of runs, the lanes' coordinates in the input, without padding, of the first tap).

    runs: per run, where lane 0 would be, in elements, and the mask of its lanes.
    """
    counts = [word[f"counts{d}"] for d in range(3)]
    rest, x = b.div("%position", counts[2]), b.rem("%position", counts[2])
    rest, y = b.div(rest, counts[1]), b.rem(rest, counts[1])
    item, z = b.div(rest, counts[0]), b.rem(rest, counts[0])
    vector = f"<{lanes} x i32>"
    iota = "<" + ", ".join(f"i32 {lane}" for lane in range(lanes)) + ">"
    along = b(f"mul {vector} {iota}, {_wide(b, lanes, word['stride2'])}")
    top, body, end = b.label(), b.label(), b.label()
    start = b.block
    b.do(f"br label %{top}")
    b.place(top)
    at = len(b.lines)
    lane, number, here = "%lane", "%number", ("%item", "%z", "%y", "%x_")
    old = ("%at_z", "%at_y", "%at_x")
    b.do(f"br i1 {b.less(lane, '%count')}, label %{body}, label %{end}")
    b.place(body)
    length = b.min(b.sub(counts[2], here[3]), b.sub("%count", lane))
    first = [b.sub(b.mul(c, word[f"stride{d}"]), word[f"padding{d}"])
             for d, c in enumerate((here[1], here[2], b.sub(here[3], lane)))]
    offset = b.mul(here[0], word["x_batch"])
    for d in range(3):
        offset = b.add(offset, b.mul(first[d], word[f"x_strides{d}"]))
    mask = b(f"shl i64 {b(f'lshr i64 -1, {b.sub(64, length)}')}, {lane}")
    entry = b.at(runs, b.mul(number, 2), "i64")
    b.store("i64", offset, entry, 8)
    b.store("i64", mask, b.at(entry, 1, "i64"), 8)
    splats = [_wide(b, lanes, value) for value in first]
    splats[2] = b(f"add {vector} {splats[2]}, {along}")
    since = b(f"icmp uge {vector} {iota}, {_wide(b, lanes, lane)}")
    new = [b(f"select <{lanes} x i1> {since}, {vector} {value}, {vector} {before}")
           for value, before in zip(splats, old, strict=True)]
    rows = b.add(here[2], 1)
    wraps = b.equal(rows, counts[1])
    planes = b.add(here[1], b(f"zext i1 {wraps} to i64"))
    ends = b.equal(planes, counts[0])
    following = (b.add(lane, length), b.add(number, 1), b.add(here[0], b(f"zext i1 {ends} to i64")), b.select(ends, 0, planes),
                 b.select(wraps, 0, rows), 0)
    b.do(f"br label %{top}")
    b.lines[at:at] = [
        *[f"  {name} = phi i64 [ {value}, %{start} ], [ {fresh}, %{b.block} ]" for name, value, fresh in zip(
            (lane, number, *here), (0, 0, item, z, y, x), following, strict=True)],
        *[f"  {name} = phi {vector} [ zeroinitializer, %{start} ], [ {fresh}, %{b.block} ]"
          for name, fresh in zip(old, new, strict=True)]]
    b.place(end)
    origin = b.load("i64", runs, 8)

    def nothing(entry: str) -> None:
        b.store("i64", origin, b.at(runs, b.mul(entry, 2), "i64"), 8)
        b.store("i64", 0, b.at(runs, b.add(b.mul(entry, 2), 1), "i64"), 8)

    b.loop(number, RUNS[-1], 1, nothing)
    return number, list(old)


def _all_inside(b: Builder, word: Mapping[str, str], where: Sequence[str], lanes: int) -> list[str]:
    """Conditions: no tap of the windows, which are in one run, lies in the padding."""
    result = []
    for d, coordinates in enumerate(where):
        ends = [b(f"sext i32 {b(f'extractelement <{lanes} x i32> {coordinates}, i64 {lane}')} to i64") for lane in (0, lanes - 1)]
        reach = b.mul(b.sub(word[f"kernel{d}"], 1), word[f"dilation{d}"])
        backwards = b.less(reach, 0)
        low, high = b.select(backwards, reach, 0), b.select(backwards, 0, reach)
        result += [b.less(-1, b.add(ends[0], low)), b.less(b.add(ends[1], high), word[f"sizes{d}"])]
    return result


def _write_tap_table(module: Module, parameters: Sequence[str]) -> None:
    """The table of ``taps`` elements of the kernel from ``tap`` on."""
    b = Builder(module, "tap_table", arguments(TAP_TABLE))
    word = b.words(parameters)

    def entry(number: str) -> None:
        tap = b.add("%tap", number)
        rest, x = b.div(tap, word["kernel2"]), b.rem(tap, word["kernel2"])
        z, y = b.div(rest, word["kernel1"]), b.rem(rest, word["kernel1"])
        at = b.at("%table", b.mul(number, TAP_BYTES), "i8")
        offset: Operand = 0
        in_weight: Operand = 0
        for d, place in enumerate((z, y, x)):
            in_weight = b.add(in_weight, b.mul(place, word.get(f"w_kernel{d}", 0)))
            shift = b.mul(place, word[f"dilation{d}"])
            offset = b.add(offset, b.mul(shift, word[f"x_strides{d}"]))
            b.store("i32", b(f"trunc i64 {shift} to i32"), b.at(at, 2 + d, "i32"), 4)
        b.store("i64", offset, at, 8)
        b.store("i64", in_weight, b.at(at, WEIGHT_PLACE, "i8"), 8)

    b.loop(0, "%taps", 1, entry)
    b.finish()


def _write_taps(b: Builder, shape: Shape, word: Mapping[str, str], where: Sequence[str],
                copy: Callable[[Operand, str, str], None]) -> None:
    """For every tap, ``copy(offset of the tap, mask of the lanes that are no padding, where to)``.

    where: coordinates of the lanes; none if no lane is padding.
    """
    lanes, kind = shape.lanes, shape.number.kind
    vector = f"<{lanes} x i32>"
    sizes = [_wide(b, lanes, word[f"sizes{d}"]) for d in range(len(where))]

    def tap(number: str) -> None:
        entry = b.at("%table", b.mul(number, TAP_BYTES), "i8")
        valid = bits = ""
        for d, coordinates in enumerate(where):
            shift = b.splat("i32", lanes, b.load("i32", b.at(entry, 2 + d, "i32"), 4))
            inside = b(f"icmp ult {vector} {b(f'add {vector} {coordinates}, {shift}')}, {sizes[d]}")
            valid = b(f"and <{lanes} x i1> {valid}, {inside}") if valid else inside
        if where:
            bits = b(f"bitcast <{lanes} x i1> {valid} to i{lanes}")
            bits = bits if lanes == 64 else b(f"zext i{lanes} {bits} to i64")
        copy(b.load("i64", entry, 8), bits, b.at("%to", b.mul(number, "%width"), kind))

    b.loop(0, "%taps", 1, tap)


def _wide(b: Builder, lanes: int, value: Operand) -> str:
    """A vector of 32-bit integers with a 64-bit value in all lanes."""
    return b.splat("i32", lanes, b(f"trunc i64 {value} to i32"))


def _lane_mask(b: Builder, lanes: int, bits: str) -> str:
    """64 bits as a mask of lanes."""
    return b(f"bitcast i{lanes} {bits if lanes == 64 else b(f'trunc i64 {bits} to i{lanes}')} to <{lanes} x i1>")


def _merged(b: Builder, shape: Shape, at: str, mask: str, old: str) -> str:
    """The elements of the mask; ``old`` in other lanes; as they are stored."""
    lanes, kind = shape.lanes, shape.number.stored
    vector, name = f"<{lanes} x {kind}>", f"@llvm.masked.load.v{lanes}{mangled(kind)}.p0"
    b.module.declare(f"{vector} {name}(ptr, i32, <{lanes} x i1>, {vector})")
    return b(f"call {vector} {name}(ptr {at}, i32 1, <{lanes} x i1> {mask}, {vector} {old})")


def _in_one_run(b: Builder, shape: Shape, word: Mapping[str, str], runs: str, apart: int, offset: Operand, _: str,
                to: str) -> None:
    """One tap of all channels, where all lanes are inside of the input."""
    number, lanes = shape.number, shape.lanes
    start = b.at("%x", b.add(b.load("i64", runs, 8), offset), number.stored)
    row = b.mul("%taps", "%width")
    but_last = "<" + ", ".join(f"i1 {int(lane < lanes - 1)}" for lane in range(lanes)) + ">"

    def channel(_: str, shift: str, to: str) -> list[str]:
        at = b.at(start, shift, number.stored)
        _ask(b, shape, at, apart)
        value = b.load(f"<{lanes} x {number.stored}>", at, number.stored_bytes)
        if apart == 2:
            second = _merged(b, shape, b.at(at, lanes, number.stored), but_last, "zeroinitializer")
            value = b.shuffle(number.stored, lanes, value, second, range(0, 2 * lanes, 2))
        shape.values.store(b, number.value(b, value, lanes), to, lanes)
        return [str(b.add(shift, word["x_channel"])), b.at(to, row, number.kind)]

    b.loop(0, "%channels", 1, channel, [("i64", 0), ("ptr", to)])


def _ask(b: Builder, shape: Shape, at: str, apart: int) -> None:
    """Prefetch what the next panel but one reads."""
    b.prefetch(b.at(at, 2 * apart * shape.columns, shape.number.stored))


def _in_runs(b: Builder, shape: Shape, word: Mapping[str, str], runs: str, count: int, apart: int, offset: Operand, valid: str,
             to: str) -> None:
    """One tap of all channels, from ``count`` runs of elements that lie 1 or 2 apart."""
    number, lanes = shape.number, shape.lanes
    starts, masks = [], []
    for run in range(count):
        entry = b.at(runs, 2 * run, "i64")
        starts.append(b.at("%x", b.add(b.load("i64", entry, 8), offset), number.stored))
        bits = b(f"and i64 {b.load('i64', b.at(entry, 1, 'i64'), 8)}, {valid}")
        if apart == 1:
            masks.append([_lane_mask(b, lanes, bits)])
        else:
            bits = _spread(b, bits)
            masks.append([_lane_mask(b, lanes, part) for part in (bits, b(f"lshr i64 {bits}, {lanes}"))])
    row = b.mul("%taps", "%width")

    def channel(_: str, shift: str, to: str) -> list[str]:
        _ask(b, shape, b.at(starts[-1], shift, number.stored), apart)
        parts = ["zeroinitializer"] * apart
        for start, chosen in zip(starts, masks, strict=True):
            at = b.at(start, shift, number.stored)
            parts = [_merged(b, shape, b.at(at, part * lanes, number.stored), mask, old)
                     for part, (mask, old) in enumerate(zip(chosen, parts, strict=True))]
        value = parts[0] if apart == 1 else b.shuffle(number.stored, lanes, parts[0], parts[1],
                                                                range(0, 2 * lanes, 2))
        shape.values.store(b, number.value(b, value, lanes), to, lanes)
        return [str(b.add(shift, word["x_channel"])), b.at(to, row, number.kind)]

    b.loop(0, "%channels", 1, channel, [("i64", 0), ("ptr", to)])


def _spread(b: Builder, bits: str) -> str:
    """The low 32 bits with zeros between them."""
    for shift, kept in ((16, 0x0000FFFF0000FFFF), (8, 0x00FF00FF00FF00FF), (4, 0x0F0F0F0F0F0F0F0F), (2, 0x3333333333333333),
                        (1, 0x5555555555555555)):
        doubled = b(f"or i64 {bits}, {b(f'shl i64 {bits}, {shift}')}")
        bits = b(f"and i64 {doubled}, {kept}")
    return bits


def _lane_by_lane(b: Builder, shape: Shape, word: Mapping[str, str], runs: str, found: str, step: Operand, offset: Operand,
                  valid: str, to: str) -> None:
    """One tap of all channels, in any layout."""
    number, values, lanes = shape.number, shape.values, shape.lanes
    row = b.mul("%taps", "%width")

    def clear(channel: str) -> None:
        values.store(b, "zeroinitializer", b.at(to, b.mul(channel, row), number.kind), lanes)

    b.loop(0, "%channels", 1, clear)

    def run(entry: str) -> None:
        words = b.at(runs, b.mul(entry, 2), "i64")
        start = b.at("%x", b.add(b.load("i64", words, 8), offset), number.stored)
        bits = b(f"and i64 {b.load('i64', b.at(words, 1, 'i64'), 8)}, {valid}")

        def lane(position: str) -> None:
            def channel(_: str, source: str, target: str) -> list[str]:
                values.store(b, number.load(b, source), target)
                return [b.at(source, word["x_channel"], number.stored), b.at(target, row, number.kind)]

            taken = b(f"trunc i64 {b(f'lshr i64 {bits}, {position}')} to i1")
            b.when(taken, lambda: ignore(b.loop(0, "%channels", 1, channel, [
                ("ptr", b.at(start, b.mul(position, step), number.stored)), ("ptr", b.at(to, position, number.kind))])))

        b.loop(0, lanes, 1, lane)

    b.loop(0, found, 1, run)
