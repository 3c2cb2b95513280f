"""Numbers that remember how they came about, so that a computation on sizes can be repeated for other sizes.

A :class:`Dim` behaves as an integer and writes on a :class:`Tape` what is done with it. Every decision that is taken on its
value (a comparison, a truth value, its use as an index or as a plain number) is noted as a condition. :meth:`Tape.function`
makes a Python function of the tape: from other inputs to the results, or to None where a condition does not hold.

This is how a compiled program's schedule is computed anew for new shapes without compiling again: the compiler runs once on
Dims. A use that this class does not know of is no silent error: Python asks for ``__index__``, which notes the exact value.
"""
from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any, Final

_SYMBOLS: Final = {"add": "+", "sub": "-", "mul": "*", "floordiv": "//", "mod": "%", "and": "&", "or": "|", "xor": "^",
                   "lshift": "<<", "rshift": ">>"}
_COMPARISONS: Final = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}


class Tape:
    """What was computed from the inputs, and the conditions under which the same would be done for other inputs."""

    def __init__(self) -> None:
        self.body: list[str] = []                  # of the function: what was done, in order
        self.names: dict[str, str] = {}            # of values
        self.conditions: set[str] = set()
        self.quotients: dict[int, Quotient] = {}   # by value

    def input(self, position: int, value: int) -> Dim:
        """Input number ``position``, which is ``value`` this time."""
        return Dim(self, self.name(f"v[{position}]"), value)

    def name(self, line: str) -> str:
        """The variable that holds the value of a line."""
        found = self.names.get(line)
        if found is None:
            found = self.names[line] = f"t{len(self.names)}"
            self.body.append(f" {found} = {line}")
        return found

    def quotient(self, dim: Dim) -> Quotient | float:
        """The floating-point number of a Dim; one for all Dims that are equal (under that condition). Small ones are exact."""
        if not dim > 2:
            return float(dim.exact())
        known = self.quotients.setdefault(dim.value, Quotient(dim))
        return known if known.dim == dim else Quotient(dim)

    def condition(self, text: str) -> None:
        """The tape stands for inputs for which this holds."""
        if text not in self.conditions:
            self.conditions.add(text)
            self.body.append(f" if not ({text}): return None")

    def function(self, results: Sequence[Any]) -> Callable[[Sequence[int]], tuple[Any, ...] | None]:
        """The function from inputs to results (Dims, Quotients or plain numbers), or to None where a condition fails."""
        values = ", ".join([r.node if isinstance(r, Dim) else f"float({r.node})" if isinstance(r, Quotient) else repr(r)
                            for r in results])
        source = "\n".join(["def f(v):", *self.body, f" return ({values},)"])
        namespace: dict[str, Any] = {}
        exec(source, namespace)             # the text is made of the operators above and of integers
        return namespace["f"]  # type: ignore[no-any-return]


class Dim:
    """An integer on a tape."""

    __slots__ = ("tape", "node", "value")

    def __init__(self, tape: Tape, node: str, value: int) -> None:
        self.tape = tape
        self.node = node
        self.value = value

    def exact(self) -> int:
        """The plain value; from now on the tape only stands for inputs that give the same."""
        self.tape.condition(f"{self.node} == {self.value}")
        return self.value

    __index__ = exact
    __int__ = exact

    def __float__(self) -> float:
        return float(self.exact())

    def __bool__(self) -> bool:
        self.tape.condition(self.node if self.value else f"not {self.node}")
        return bool(self.value)

    def __hash__(self) -> int:
        return hash(self.value)

    def __repr__(self) -> str:
        return f"<{self.node} = {self.value}>"

    def __neg__(self) -> Any:
        return Dim(self.tape, self.tape.name(f"-{self.node}"), -self.value)

    def __abs__(self) -> Any:
        return self if _compare("ge", operator.ge, self, 0) else -self

    def __gt__(self, other: object) -> bool:
        return _compare("gt", operator.gt, self, other)

    def __eq__(self, other: object) -> bool:
        return _compare("eq", operator.eq, self, other)

    def __ne__(self, other: object) -> bool:
        return _compare("ne", operator.ne, self, other)

    def bit_length(self) -> int:
        """As of the exact value."""
        return self.exact().bit_length()


class Quotient:
    """A floating-point number made of a Dim: a divisor of a mean. Anything but its use as it is asks for the exact value."""

    __slots__ = ("dim",)

    def __init__(self, dim: Dim) -> None:
        self.dim = dim

    @property
    def node(self) -> str:
        """The variable on the tape."""
        return self.dim.node

    def __float__(self) -> float:
        return float(self.dim.exact())

    def __repr__(self) -> str:
        return f"<float of {self.dim.node} on {id(self.dim.tape)}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Quotient) and other.dim.tape is self.dim.tape and other.node == self.node

    def __hash__(self) -> int:
        return hash(self.node)


def _operand(other: Any) -> tuple[str, int] | None:
    if type(other) is Dim:
        return other.node, other.value
    return (f"({other})" if other < 0 else str(int(other)), int(other)) if isinstance(other, int) else None


def _arithmetic(name: str, function: Callable[[int, int], int]) -> tuple[Any, Any]:
    symbol = _SYMBOLS[name]

    def make(tape: Tape, a: tuple[str, int], b: tuple[str, int]) -> Any:
        return Dim(tape, tape.name(f"{a[0]} {symbol} {b[0]}"), function(a[1], b[1]))

    def forward(self: Dim, other: Any) -> Any:
        b = _operand(other)
        if b is None:
            return NotImplemented
        if type(other) is int:
            if (other == 1 and name in ("mul", "floordiv")) or (other == 0 and name in ("add", "sub")):
                return self
            if other == 0 and name == "mul":
                return 0
        return make(self.tape, (self.node, self.value), b)

    def backward(self: Dim, other: Any) -> Any:
        a = _operand(other)
        if a is None:
            return NotImplemented
        if type(other) is int and ((other == 1 and name == "mul") or (other == 0 and name == "add")):
            return self
        return 0 if type(other) is int and other == 0 and name == "mul" else make(self.tape, a, (self.node, self.value))
    return forward, backward


def _compare(name: str, function: Callable[[Any, Any], bool], self: Dim, other: object) -> bool:
    b = _operand(other)
    if b is None:
        return NotImplemented
    outcome = function(self.value, b[1])
    if b[0] != self.node:
        text = f"{self.node} {_COMPARISONS[name]} {b[0]}"
        self.tape.condition(text if outcome else f"not {text}")
    return outcome


def _comparison(name: str) -> Any:
    function = getattr(operator, name)
    return lambda self, other: _compare(name, function, self, other)


for _name in _SYMBOLS:
    _forward, _backward = _arithmetic(_name, getattr(operator, _name if _name not in ("and", "or") else _name + "_"))
    setattr(Dim, f"__{_name}__", _forward)
    setattr(Dim, f"__r{_name}__", _backward)
for _name in ("lt", "le", "ge"):
    setattr(Dim, f"__{_name}__", _comparison(_name))
