"""Schedules for new shapes without compiling: the compiler run once on symbolic sizes.

Programs that differ only in integers (sizes, bounds of slices, shapes of views) have one *skeleton*. When a skeleton is met
again with other integers, the compiler runs on :class:`~torsh.core.symbolic.Dim` numbers in their place. What comes out is the
plan as a function of the integers, and the conditions under which it holds; further programs of that skeleton evaluate the
function. A skeleton may have several such templates, for several ranges of sizes.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from torsh.compiler.kernel import Call
from torsh.compiler.lower import lowering_table
from torsh.compiler.plan import Plan
from torsh.core.symbolic import Tape
from torsh.ops.common import number
from torsh.ops.expr import CONSTANT_OP, LEAF_OP, SCALAR_OP, Expr, recording

MOST_TEMPLATES: Final = 12         # of one skeleton
MOST_SKELETONS: Final = 1024
MOST_NODES: Final = 8000
NODES_A_MEETING: Final = 400        # a template costs about three compilations: larger programs have to be met more often


class Skeleton:
    """A program without its integers: ``key`` identifies it, ``numbers`` are the integers in order."""

    __slots__ = ("key", "numbers", "order")

    def __init__(self, outputs: Sequence[Expr], in_place: Sequence[tuple[int, int]]) -> None:
        self.numbers: list[int] = []
        self.order: list[Expr] = []
        positions: dict[Expr, int] = {}
        parts: list[Any] = []
        stack: list[tuple[Expr, bool]] = [(e, False) for e in reversed(outputs)]
        while stack:
            e, done = stack.pop()
            if e in positions:
                continue
            if not done and e.args:
                stack.append((e, True))
                stack.extend([(a, False) for a in reversed(e.args) if a not in positions])
                continue
            positions[e] = len(positions)
            self.order.append(e)
            parts.append(self._part(e, positions))
        self.key = (tuple(parts), tuple([positions[e] for e in outputs]), tuple(in_place))

    def _part(self, e: Expr, positions: dict[Expr, int]) -> Any:
        if e.op is LEAF_OP:
            self.numbers.extend(e.shape)
            return e.op, e.attr, len(e.shape), e.dtype
        if is_size(e):
            self.numbers.append(int(e.attr[0]))  # type: ignore[index]
            return CONSTANT_OP, e.dtype
        if e.op in (SCALAR_OP, CONSTANT_OP):
            return e
        return e.op, self.hollow(e.attr), *[positions[a] for a in e.args]

    def hollow(self, attr: Any) -> Any:
        """An attribute without its integers."""
        if type(attr) is int:
            self.numbers.append(attr)
            return int
        if isinstance(attr, tuple):
            return type(attr), *[self.hollow(a) for a in attr]
        return attr


def is_size(e: Expr) -> bool:
    """Is this a constant that gradient rules may have made of a size: a whole number above 2, as floating point?"""
    if e.op is not CONSTANT_OP or e.dtype.category != 2:
        return False
    value: float = e.attr[0]  # type: ignore[index]
    return 2 < value < 1e15 and float(value).is_integer()


def filled(attr: Any, numbers: Any) -> Any:
    """An attribute with integers from an iterator."""
    if type(attr) is int:
        return next(numbers)
    if isinstance(attr, tuple):
        items = [filled(a, numbers) for a in attr]
        return type(attr)(*items) if hasattr(attr, "_fields") else tuple(items)
    return attr


def symbolic_outputs(skeleton: Skeleton, outputs: Sequence[Expr], tape: Tape) -> list[Expr]:
    """The program over symbolic integers."""
    numbers = iter([tape.input(k, n) for k, n in enumerate(skeleton.numbers)])
    made: dict[Expr, Expr] = {}
    for e in skeleton.order:
        if e.op is LEAF_OP:
            shape: Any = tuple([next(numbers) for _ in e.shape])
            made[e] = Expr(LEAF_OP, (), e.attr, shape, e.dtype, False)
        elif is_size(e):
            made[e] = number(next(numbers), e.dtype)
        elif e.op in (SCALAR_OP, CONSTANT_OP):
            made[e] = e
        else:
            attr, args = filled(e.attr, numbers), tuple([made[a] for a in e.args])
            shape, dtype = e.op.infer(attr, *args)  # type: ignore[misc]
            made[e] = Expr(e.op, args, attr, shape, dtype, False)
    return [made[e] for e in outputs]


class separate_tables:
    """Expressions made inside are not shared with those made elsewhere (they are symbolic)."""

    def __enter__(self) -> None:
        self.saved = recording.memo, recording.no_grad_memo, recording.grad_enabled, lowering_table.table
        recording.memo = recording.no_grad_memo = {}
        recording.grad_enabled = False
        lowering_table.table = {}

    def __exit__(self, *exc: object) -> None:
        recording.memo, recording.no_grad_memo, recording.grad_enabled, lowering_table.table = self.saved


class Template:
    """A plan as a function of the skeleton's integers."""

    __slots__ = ("function", "calls", "leaves", "scalars", "outputs", "constants", "in_place", "tables")

    def __init__(self, plan: Plan, tape: Tape) -> None:
        steps: list[Any] = plan.steps
        self.calls: list[tuple[Call, int]] = [(step, len(step.params)) for step in steps]
        self.leaves, self.scalars, self.in_place = plan.leaves, plan.scalars, plan.in_place
        self.tables = plan.tables               # their sizes are conditions
        self.outputs, self.constants = len(plan.output_bytes), len(plan.constants)
        numbers: list[Any] = [plan.scratch_bytes, *plan.output_bytes, *plan.constants]
        for step in steps:
            numbers += (step.units, step.cost, *step.params)
        self.function = tape.function(numbers)

    def plan(self, numbers: Sequence[int]) -> Plan | None:
        """The plan for other integers, or None if it would be another one."""
        found = self.function(numbers)
        if found is None:
            return None
        position = 1 + self.outputs + self.constants
        constants = found[1 + self.outputs:position]
        calls: list[Any] = []
        for call, count in self.calls:
            units, cost = found[position:position + 2]
            position += 2
            calls.append(Call(call.kernel, found[position:position + count], units, cost, call.label, pieces=call.pieces,
                              prepares=call.prepares, prepared=call.prepared))
            position += count
        return Plan(calls, found[0], self.leaves, found[1:1 + self.outputs], self.scalars, constants, self.tables, self.in_place)


class Templates:
    """Templates by skeleton."""

    def __init__(self) -> None:
        self.known: dict[Any, list[Template] | None] = {}
        self.missed: dict[Any, int] = {}        # how often no template held

    def find(self, skeleton: Skeleton) -> Plan | None:
        """The plan of a program whose skeleton has a template that holds for its integers."""
        templates = self.known.get(skeleton.key) or []
        for place, template in enumerate(templates):
            plan = template.plan(skeleton.numbers)
            if plan is not None:
                if place:               # the next sizes are often like these
                    templates.insert(0, templates.pop(place))
                return plan
        return None

    def wants(self, skeleton: Skeleton) -> bool:
        """Is it worth to make a template? Not when a skeleton is met first, nor when there are many."""
        if skeleton.key not in self.known:
            if len(self.known) >= MOST_SKELETONS:
                self.known.clear()
                self.missed.clear()
            self.known[skeleton.key] = []
            self.missed[skeleton.key] = 0
            return False
        templates = self.known[skeleton.key]
        if templates is None or len(templates) >= MOST_TEMPLATES or len(skeleton.order) > MOST_NODES:
            return False
        self.missed[skeleton.key] += 1
        return self.missed[skeleton.key] > len(skeleton.order) // NODES_A_MEETING

    def add(self, skeleton: Skeleton, plan: Plan, tape: Tape) -> None:
        """Keep a plan over symbolic integers, if it is made of calls only."""
        if all(isinstance(step, Call) for step in plan.steps):
            templates = self.known[skeleton.key]
            assert templates is not None
            templates.append(Template(plan, tape))
        else:
            self.refuse(skeleton)

    def refuse(self, skeleton: Skeleton) -> None:
        """Make no templates of this skeleton."""
        self.known[skeleton.key] = None

