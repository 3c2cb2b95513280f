"""Calls that bring an operand into another order, and may be left out while the operand does not change (:class:`.kernel.Call`).

A preparation can be *kept* by whoever runs the program if its operand is a leaf that the program does not overwrite: then its
result depends on nothing but that leaf's memory, and on the numbers that :attr:`Preparation.call` has.
"""
from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from torsh.compiler.footprint import Region, regions
from torsh.compiler.kernel import Call, LoopKernel
from torsh.compiler.plan import HostStep, Plan

OPERAND_WORD: Final = 0        # table of a preparation that runs alone
RESULT_WORD: Final = 1


@dataclass(slots=True)
class Preparation:
    """One call that may be left out.

    Attributes: ``number`` of the call among the calls, ``leaf`` (position), ``call`` (the same with the operand in table word
    :data:`OPERAND_WORD` and the result in :data:`RESULT_WORD`), ``consumers`` ((number of the call, position of its operand's
    words) of each that reads the result).
    """

    number: int
    leaf: int
    call: Call
    consumers: list[tuple[int, int]] = field(default_factory=list)

    @property
    def key(self) -> Hashable:
        """Preparations with equal keys make the same of the same memory."""
        return self.call.kernel, self.call.params

    @property
    def nbytes(self) -> int:
        """Size of the result."""
        return max([r.bounds[1] for r in regions(self.call) if r.write], default=0)


def keepable(plan: Plan) -> list[Preparation]:
    """The preparations of a program whose results may be kept."""
    found: list[Preparation] = []
    latest: dict[tuple[int, int], Preparation] = {}
    overwritten = {position for _, position in plan.in_place}
    for number, call in enumerate([s for s in plan.steps if isinstance(s, Call)]):
        if call.prepared >= 0:
            made = latest.get(words(call, call.prepared))
            if made is not None:
                made.consumers.append((number, call.prepared))
        if call.prepares is None:
            continue
        result, (slot, _) = words(call, call.prepares[0]), words(call, call.prepares[1])
        latest.pop(result, None)
        if result[0] == 0 and 0 < slot <= plan.leaves and slot - 1 not in overwritten and not _reads_numbers(call):
            found.append(Preparation(number, slot - 1, alone(call)))
            latest[result] = found[-1]
    return [p for p in found if p.consumers]


def words(call: Call, position: int) -> tuple[int, int]:
    """(table word, byte offset) that stand at a position of a call's parameters."""
    slot, offset = call.params[position:position + 2]
    return slot, offset


def redirected(params: Sequence[int], position: int, slot: int, offset: int) -> tuple[int, ...]:
    """Parameters with other memory at a position."""
    return (*params[:position], slot, offset, *params[position + 2:])


def alone(call: Call) -> Call:
    """A preparation whose table has nothing but its operand and its result; the operand keeps its offset."""
    assert call.prepares is not None
    result, operand = call.prepares
    params = redirected(call.params, operand, OPERAND_WORD, call.params[operand + 1])
    return replace(call, params=redirected(params, result, RESULT_WORD, 0))


def _reads_numbers(call: Call) -> bool:
    """Does the call read Python numbers or constants from the table? Other programs have them elsewhere."""
    return isinstance(call.kernel, LoopKernel) and call.kernel.scalars > 0


# ---- checks ------------------------------------------------------------------------------------------------------------

def position_problem(plan: Plan, step: Call | HostStep) -> str:
    """What is wrong with the positions that ``prepares`` and ``prepared`` give; ``""``: nothing."""
    if isinstance(step, HostStep):
        return ""
    count = 1 + plan.leaves + len(plan.output_bytes)
    for position in (*(step.prepares or ()), *([step.prepared] if step.prepared != -1 else ())):
        if not 0 <= position < len(step.params) - 1 or not 0 <= step.params[position] < count or step.params[position + 1] < 0:
            return f"position {position} of the parameters names no memory"
    return ""


def preparation_problem(plan: Plan, number: int) -> str:
    """What is wrong with the preparation that step ``number`` is or reads; ``""``: nothing. All positions have to be right."""
    step = plan.steps[number]
    if isinstance(step, HostStep):
        return ""
    problem = _result_problem(plan, number, step) if step.prepares is not None else ""
    if not problem and step.prepared >= 0 and _prepared_by(plan, number, step) is None:
        problem = f"reads memory {words(step, step.prepared)}, which no preparation has made"
    return problem


def _result_problem(plan: Plan, number: int, call: Call) -> str:
    """A preparation reads its operand only, and stores a result that only ``prepared`` operands of later calls read."""
    assert call.prepares is not None
    result, operand = call.prepares
    touched = regions(call)
    if any(r.slot != call.params[operand] for r in touched if not r.write):
        return "prepares an operand, but reads more than that"
    if words(call, result) == words(call, operand) or any(r.slot != call.params[result] for r in touched if r.write):
        return "prepares an operand, but writes more than its result"
    region = Region(*words(call, result), 1, (max([r.bounds[1] for r in touched if r.write], default=0) - call.params[result + 1],),
                    (1,), True)
    if any(r.bounds[0] < region.offset for r in touched if r.write):
        return "writes in front of its result"
    consumers = 0
    for later in plan.steps[number + 1:]:
        if isinstance(later, Call) and later.prepared >= 0 and words(later, later.prepared) == words(call, result):
            consumers += 1
            inside = [r for r in regions(later) if not r.write and _overlap(r, region)]
            if any(r.bounds[1] > region.bounds[1] or r.bounds[0] < region.offset for r in inside):
                return f"{later.label} reads more than was prepared for it"
            later = replace(later, params=redirected(later.params, later.prepared, count_of_words(plan), 0))
        after = [r for r in regions(later) if _overlap(r, region)]
        if any(not r.write for r in after):
            return f"{later.label if isinstance(later, Call) else later.op.name} reads its result, and not as a prepared operand"
        if after:
            break
    return "" if consumers else "prepares an operand that no call reads"


def count_of_words(plan: Plan) -> int:
    """The first table word behind all that a plan has."""
    return 1 + plan.leaves + len(plan.output_bytes) + plan.scalars + len(plan.tables) + len(plan.constants)


def _prepared_by(plan: Plan, number: int, call: Call) -> Call | None:
    """The preparation that made the prepared operand of a call, unless something else has been stored there since."""
    place = words(call, call.prepared)
    for earlier in reversed(plan.steps[:number]):
        if isinstance(earlier, Call) and earlier.prepares is not None and words(earlier, earlier.prepares[0]) == place:
            return earlier
        if any(r.write and r.slot == place[0] and r.bounds[0] <= place[1] < r.bounds[1] for r in regions(earlier)):
            return None
    return None


def _overlap(a: Region, b: Region) -> bool:
    (low, high), (first, end) = a.bounds, b.bounds
    return a.slot == b.slot and low < end and first < high


__all__ = ["OPERAND_WORD", "RESULT_WORD", "Preparation", "keepable", "position_problem", "preparation_problem", "words"]
