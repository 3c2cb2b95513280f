"""What an inlined expression reads, and where: the maps of its arguments."""
from __future__ import annotations

from collections.abc import Sequence

from torsh.compiler.affine import Form, Map, broadcast
from torsh.core.shape import broadcast_shapes
from torsh.ops.expr import Expr, Shape


def arguments(e: Expr, forms: Map, axes: int) -> list[tuple[Expr, Map | None]]:
    """The arguments of an inlined expression and their maps; None for what is read at positions that are data."""
    name = e.op.name
    if name == "index":
        source, *indices = e.args
        _, inside = index_maps(e, forms)
        shape = broadcast_shape(indices)
        return [(source, None), *[(i, broadcast(i.shape, shape, inside, axes)) for i in indices]]
    if name == "gather":
        return [(e.args[0], None), (e.args[1], forms)]
    return [(a, broadcast(a.shape, e.shape, forms, axes)) for a in e.args]


def broadcast_shape(exprs: Sequence[Expr]) -> Shape:
    """The common shape."""
    return broadcast_shapes(*[e.shape for e in exprs])


def index_maps(e: Expr, forms: Map) -> tuple[dict[int, Form], Map]:
    """(form per dimension of the source that is not indexed, map of the index tensors) of ``index``."""
    dims: tuple[int, ...] = e.attr  # type: ignore[assignment]
    source, *indices = e.args
    rank = len(broadcast_shape(indices))
    neighbours = dims == tuple(range(dims[0], dims[0] + len(dims)))
    at = dims[0] if neighbours else 0
    rest = iter((*forms[:at], *forms[at + rank:]))
    return {d: next(rest) for d in range(len(source.shape)) if d not in dims}, forms[at:at + rank]


def gather_maps(e: Expr, forms: Map) -> dict[int, Form]:
    """Form per dimension of gather's source other than the gathered one."""
    return {d: form for d, form in enumerate(forms) if d != e.attr}
