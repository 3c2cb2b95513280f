"""How a function of the API is declared: once, with all its spellings.

::

    @function("add", inplace=True)
    def add(input, other, *, alpha=1): ...

declares ``torsh.add``, ``Tensor.add``, ``Tensor.add_`` and the ``out=`` argument. The rules of ``out=`` and of in-place
operations (shapes, dtypes, leaves, overlapping memory) stand here and nowhere else.
"""
from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np

from torsh.core.dtype import DType
from torsh.core.errors import ArgumentTypeError, AutogradError, DTypeError, ShapeMismatchError
from torsh.core.promotion import SCALAR_TYPE_NAMES
from torsh.graph.handle import DETACH, Handle, expr_of, make_view, make_views, requires_grad, synchronise_handle, write
from torsh.graph.window import NODE_LIMIT, flush, scalar_expr, tensor_of
from torsh.ops.autocast import AUTOCAST
from torsh.ops.expr import TABLE, AutocastMemo, Expr, emit1, recording, under_autocast

# {namespace: {name: function}}: "" is torsh itself, "linalg" is torsh.linalg ...
NAMESPACES: Final[dict[str, dict[str, Callable[..., Any]]]] = {}
# Methods of Tensor, attached by torsh.tensor once all families are loaded.
METHODS: Final[dict[str, Callable[..., Any]]] = {}
NUMBER: Final = (bool, int, float, complex)


def scalar_type_name(dtype: DType) -> str:
    """PyTorch's name of a dtype in error messages ("Float", "Long", ...)."""
    return SCALAR_TYPE_NAMES[dtype.name]


def function(name: str, *, namespace: str = "", method: bool | str = True, inplace: bool = False, out: bool = True,
             recall: bool = False, views: bool = False,
             aliases: tuple[str, ...] = ()) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Declare a function of the API under ``name`` (and ``aliases``), see the module's docstring.

    namespace: where the function lives ("" for torsh itself; None for methods only). method: also a method of Tensor
    (a string: under that name). inplace: also ``name_``. out: accepts ``out=``. recall: see :func:`recalled`; views: see
    :func:`viewed`.
    """
    def declare(fn: Callable[..., Any]) -> Callable[..., Any]:
        public = accepting_out(fn, name) if out else fn
        public = recalled(fn, public) if recall else viewed(public) if views else public
        for label in (name, *aliases):
            if namespace is not None:
                NAMESPACES.setdefault(namespace, {})[label] = public
            if method:
                METHODS[method if isinstance(method, str) and label == name else label] = public
            if inplace:
                changed = in_place(fn, label + "_")
                METHODS[label + "_"] = changed
                if namespace == "" and label in _FUNCTIONS_WITH_INPLACE:
                    NAMESPACES.setdefault("", {})[label + "_"] = changed
        return public
    return declare


# PyTorch has these in-place forms as functions too.
_FUNCTIONS_WITH_INPLACE: Final = frozenset(
    "abs acos acosh asin asinh atan atanh ceil clamp clamp_max clamp_min cos cosh deg2rad erf erfc exp exp2 expm1 fill floor "
    "frac i0 log log10 log1p log2 logit nan_to_num neg negative rad2deg reciprocal relu round rsqrt sigmoid sin sinc sinh "
    "sqrt square tan tanh trunc fix zero dropout alpha_dropout feature_dropout celu selu rrelu threshold xlogy addmv "
    "arccos arccosh arcsin arcsinh arctan arctanh absolute clip conj_physical detach embedding_renorm index_put "
    "ldexp resize_as".split())


def recorded(build: Callable[..., Expr], operands: tuple[Any, ...], options: tuple[Any, ...] = ()) -> Any:
    """The tensor of ``build(*expressions of the operands, *options)``, see :func:`recorded_expr`."""
    return tensor_of(recorded_expr(build, operands, options))


def recorded_all(build: Callable[..., tuple[Expr, ...]], operands: tuple[Any, ...], options: tuple[Any, ...] = ()) -> tuple[
        Any, ...]:
    """:func:`recorded` for several results."""
    found: Any = recorded_expr(build, operands, options)  # type: ignore[arg-type]
    return tuple([tensor_of(e) for e in found])


def recorded_expr(build: Callable[..., Expr], operands: tuple[Any, ...], options: tuple[Any, ...] = ()) -> Expr:
    """``build(*expressions of the operands, *options)``: one look-up where the same has been recorded before.

    ``build`` checks its arguments and makes the expression. It runs once for the same expressions and options, so it must
    not draw run-time numbers. operands: tensors, expressions or None; options: values (lists count as tuples).
    """
    window = recording.window
    if len(window.pending) > NODE_LIMIT:
        flush()
        window = recording.window
    token = window.token
    try:
        args = tuple([t if t is None else t._expr if t._token is token else synchronise_handle(t) for t in operands])
    except AttributeError:                  # an expression, or something that is no tensor
        args = tuple([operand_of(build, i, t) for i, t in enumerate(operands)])
    memo = recording.memo
    key = (build, args, options)
    try:
        found = memo.get(key)
    except TypeError:
        options = hashable(options)
        key = (build, args, options)
        found = memo.get(key)
    if found is None:
        name = build.__name__.strip("_").removesuffix("_expr")
        if memo.__class__ is AutocastMemo and name in AUTOCAST:
            found = under_autocast(memo, name, args, lambda *cast: build(*cast, *options))
        else:
            found = build(*args, *options)
        memo[key] = found
    return found


def recorded_two(build: Callable[..., Expr], input: Any, other: Any) -> Any:
    """:func:`recorded` for two operands, the shortest way: on the path of small matrix products."""
    window = recording.window
    token = window.token
    if not isinstance(input, Handle) or not isinstance(other, Handle) or len(window.pending) > NODE_LIMIT:
        return recorded(build, (input, other))
    a = input._expr if input._token is token else synchronise_handle(input)
    b = other._expr if other._token is token else synchronise_handle(other)
    found = recording.memo.get((build, (a, b), ()))
    return tensor_of(recorded_expr(build, (input, other)) if found is None else found)


class Several(NamedTuple):
    """What :func:`recalled` remembers of a function with several results."""

    kind: Any
    exprs: tuple[Expr, ...]


def recalled(fn: Callable[..., Any], public: Callable[..., Any] | None = None) -> Callable[..., Any]:
    """A function of one tensor (its first argument) and options, or of options alone, that remembers its results.

    Its checks and rules run once for an expression and options; then a call is one look-up. Only results that are nothing but
    expressions are remembered: no views, no autograd leaves, nothing that depends on numbers of the call.

    public: what runs where nothing is remembered, ``fn`` by default; it may take options (``out``) that ``fn`` does not.
    """
    general = fn if public is None else public

    @functools.wraps(general)
    def look_up(*args: Any, **kwargs: Any) -> Any:
        window = recording.window
        token = window.token
        try:
            t = args[0]
            if isinstance(t, Handle):
                e = t._expr if t._token is token else synchronise_handle(t)
                key: Any = (fn, e, args[1:], *kwargs.items()) if kwargs else (fn, e, args[1:])
            else:
                key = (fn, args, *kwargs.items())
            found: Any = recording.memo.get(key)
        except (IndexError, TypeError):         # no arguments; or a list, which cannot be looked up
            return general(*args, **kwargs)
        if found is not None:
            if len(window.pending) > NODE_LIMIT:
                flush()
                return look_up(*args, **kwargs)
            if found.__class__ is Expr:
                return tensor_of(found)
            return found.kind(*[tensor_of(e) for e in found.exprs])
        memo, numbers = recording.memo, len(window.scalars)
        result = general(*args, **kwargs)
        if window.token is token and recording.window is window and len(window.scalars) == numbers:
            value = remembered(result, token, (*args[1:], *kwargs.values()), args[0])
            if value is not None:
                memo[key] = value
        return result
    return look_up


def remembered(result: Any, token: Any, options: tuple[Any, ...], first: Any) -> Any:
    """What :func:`recalled` keeps of a result, or None."""
    if any(isinstance(o, Handle) for o in options):
        return None
    several = isinstance(result, tuple)
    for r in result if several else (result,):
        if not isinstance(r, Handle) or r is first or r._token is not token or r._root is not None or r._storage is not None \
                or r._leaf_grad or r._extra or r._home is not None:
            return None
    if not several:
        return result._expr
    kind: Any = type(result) if hasattr(result, "_fields") else _tuple
    return Several(kind, tuple([r._expr for r in result]))


def _tuple(*values: Any) -> tuple[Any, ...]:
    return values


_CHAINS: Final[dict[Any, Any]] = {}
_MOST_CHAINS: Final = 8192


def viewed(fn: Callable[..., Any]) -> Callable[..., Any]:
    """A function that makes views of its first argument, and remembers which for a layout and options.

    What the views are must follow from shape and strides alone. Other results than views are not remembered.
    """
    @functools.wraps(fn)
    def look_up(*args: Any, **kwargs: Any) -> Any:
        try:
            t = args[0]
            root = t._root
            if root is None:
                key: Any = (fn, t._expr.shape, None, args[1:])
            else:
                key = (fn, root._expr.shape, t._chain, args[1:])
            if kwargs:
                key += tuple(kwargs.items())
            found = _CHAINS.get(key)
        except (IndexError, AttributeError, TypeError):     # no tensor, or a list, which cannot be looked up
            return fn(*args, **kwargs)
        if found is None:
            result = fn(*args, **kwargs)
            found = chains_of(t, result, (*args[1:], *kwargs.values()))
            if found is not None:
                if len(_CHAINS) >= _MOST_CHAINS:
                    _CHAINS.clear()
                _CHAINS[key] = found
            return result
        if found.__class__ is list:
            return tuple([make_views(t, chain) for chain in found])
        if len(found) == 1:
            op, attr = found[0]
            return make_view(t, op, attr)
        return make_views(t, found)
    return look_up


def chains_of(t: Any, result: Any, options: tuple[Any, ...]) -> Any:
    """The view ops (or a list of them, for several results) that lead from a tensor to its views; None for other results."""
    if any(isinstance(o, (Handle, DType)) for o in options):
        return None
    several = isinstance(result, tuple)
    root, before = (t, ()) if t._root is None else (t._root, t._chain)
    found = []
    for r in result if several else (result,):
        if not isinstance(r, Handle) or r is t or r._root is not root or r._chain[:len(before)] != before:
            return None
        found.append(tuple([(op, attr) for op, attr in r._chain[len(before):] if op is not DETACH()]))
    if not all(found):
        return None
    return found if several else found[0]


def operand_of(build: Callable[..., Expr], position: int, value: Any) -> Expr | None:
    """An operand of :func:`recorded` as an expression; PyTorch's error, in the names of its caller, for anything else."""
    if value is None or isinstance(value, Expr):
        return value
    if not isinstance(value, Handle):
        caller: Any = sys._getframe()
        while caller.f_code.co_filename == __file__:
            caller = caller.f_back
        code = caller.f_code
        name = build.__name__ if "<locals>" in code.co_qualname else code.co_name
        for number, argument in enumerate(code.co_varnames[:code.co_argcount], 1):
            if caller.f_locals[argument] is value:
                tensor_operand(value, name.strip("_"), number, argument)
    return tensor_operand(value, build.__name__.strip("_"), position + 1, list(inspect.signature(build).parameters)[position])


def hashable(options: Any) -> Any:
    """Sequences of options as tuples."""
    return tuple([hashable(o) for o in options]) if isinstance(options, (tuple, list)) else options


# Functions whose ``out=`` has to have the result's dtype.
EXACT_OUT: Final = frozenset("aminmax complex gather index_select kthvalue masked_select max min median mode polar scatter "
                             "scatter_add sort take take_along_dim topk".split())


def accepting_out(fn: Callable[..., Any], name: str) -> Callable[..., Any]:
    """The function with the argument ``out``."""
    @functools.wraps(fn)
    def with_out(*args: Any, out: Any = None, **kwargs: Any) -> Any:
        if len(recording.window.pending) > NODE_LIMIT:
            flush()
        if out is None:
            return fn(*args, **kwargs)
        return store_out(fn, name, args, kwargs, out)
    return with_out


def store_out(fn: Callable[..., Any], name: str, args: Any, kwargs: Any, out: Any) -> Any:
    """Run with ``out=``: results are cast into the given tensors, which take the results' shapes."""
    outs = out if isinstance(out, (tuple, list)) else (out,)
    for o in outs:
        if not isinstance(o, Handle):
            raise ArgumentTypeError(f"{name}(): argument 'out' must be Tensor, not {type(o).__name__}")
    if recording.grad_enabled and any(isinstance(a, Handle) and requires_grad(a) for a in (*args, *kwargs.values(), *outs)):
        raise AutogradError(f"{name}(): functions with out=... arguments don't support automatic differentiation, but one of "
                            "the arguments requires grad.")
    if name in EXACT_OUT or name in ("cat", "concat", "concatenate"):
        check_separate((*args, *kwargs.values()), outs)
    result = fn(*args, **kwargs)
    results = result if isinstance(result, (tuple, list)) else (result,)
    if len(results) != len(outs):
        raise ArgumentTypeError(f"{name}(): expected a tuple of {len(results)} tensors for 'out', got {len(outs)}")
    for o, r in zip(outs, results, strict=True):
        store(o, r, name)
    if not isinstance(result, (tuple, list)):
        return out
    return type(result)(*outs) if hasattr(result, "_fields") else type(result)(outs)


def check_separate(args: Any, outs: Any) -> None:
    """Raise PyTorch's error for ``out=`` tensors that share memory with an argument."""
    flat = [a for arg in args for a in (arg if isinstance(arg, (tuple, list)) else (arg,)) if isinstance(a, Handle)]
    roots = {id(a if a._root is None else a._root) for a in flat}
    if any(id(o if o._root is None else o._root) in roots for o in outs):
        raise ShapeMismatchError("unsupported operation: some elements of the input tensor and the written-to tensor refer to a "
                                 "single memory location. Please clone() the tensor before performing the operation.")


def store(target: Any, result: Any, name: str) -> None:
    """Put a result into an ``out=`` tensor."""
    e = expr_of(result)
    check_cast(e.dtype, target.dtype, name)
    check_overlap(target)
    if e.dtype is not target.dtype:
        if name in EXACT_OUT:
            raise DTypeError(f"Expected out tensor to have dtype {e.dtype.name}, but got {target.dtype.name} instead")
        e = emit1(TABLE["cast"], e, target.dtype.name)
    if e.shape != expr_of(target).shape:
        target._resize_for_out(e.shape)
    write(target, e)


def check_cast(have: DType, want: DType, name: str) -> None:
    """Raise PyTorch's error if a result may not be stored in a tensor of dtype ``want``."""
    if have.category > want.category:
        raise DTypeError(f"{name}: result type {scalar_type_name(have)} can't be cast to the desired output type "
                         f"{scalar_type_name(want)}")


def in_place(fn: Callable[..., Any], name: str) -> Callable[..., Any]:
    """The in-place form of a function."""
    def changed(self: Any, *args: Any, **kwargs: Any) -> Any:
        check_writable(self)
        return assign(self, fn(self, *args, **kwargs), name)
    changed.__name__ = changed.__qualname__ = name
    changed.__doc__ = f"In-place form of :func:`torsh.{name[:-1]}`; returns the tensor itself."
    return changed


def assign(self: Any, result: Any, name: str) -> Any:
    """Store a result in ``self``, in place."""
    e = expr_of(result)
    own = expr_of(self)
    if e.shape != own.shape:
        raise ShapeMismatchError(f"{name}: output with shape {list(own.shape)} doesn't match the broadcast shape "
                                 f"{list(e.shape)}")
    if e.dtype is not own.dtype:
        check_cast(e.dtype, own.dtype, name)
        e = emit1(TABLE["cast"], e, own.dtype.name)
    write(self, e)
    return self


def check_writable(t: Any, idempotent: bool = False) -> None:
    """Raise PyTorch's errors for in-place operations on leaves, and on memory that overlaps itself (unless idempotent)."""
    if recording.grad_enabled:
        if t._leaf_grad:
            raise AutogradError("a leaf Variable that requires grad is being used in an in-place operation.")
        root = t._root
        if root is not None and root._leaf_grad and requires_grad(t):
            raise AutogradError("a view of a leaf Variable that requires grad is being used in an in-place operation.")
    if not idempotent:
        check_overlap(t)


_OVERLAPPING: Final = frozenset(("expand", "as_strided", "unfold"))       # views that may show an element several times


def check_overlap(t: Any) -> None:
    """Raise PyTorch's error for writes to memory of which one element is several elements of the tensor."""
    if t._root is None:
        return
    for op, _ in t._chain:
        if op.name in _OVERLAPPING and t._overlaps():
            raise ShapeMismatchError("unsupported operation: more than one element of the written-to tensor refers to a single "
                                     "memory location. Please clone() the tensor before performing the operation.")


def operand(value: Any, name: str, position: int = 2, argument: str = "other") -> Expr:
    """The expression of a tensor or a Python number."""
    if isinstance(value, Handle):
        return expr_of(value)
    kind = type(value)
    if kind in NUMBER:
        return scalar_expr(value)
    if isinstance(value, np.generic):
        return scalar_expr(value.item())
    if isinstance(value, NUMBER):
        return scalar_expr(NUMBER[max(i for i, n in enumerate(NUMBER) if isinstance(value, n))](value))  # type: ignore[arg-type]
    raise ArgumentTypeError(f"{name}(): argument '{argument}' (position {position}) must be Tensor or Number, "
                            f"not {type(value).__name__}")


def invalid_combination(name: str, *values: Any) -> ArgumentTypeError:
    """PyTorch's error for arguments of which at least one has to be a tensor."""
    return ArgumentTypeError(f"{name}() received an invalid combination of arguments - got "
                             f"({', '.join(type(v).__name__ for v in values)}), but expected at least one Tensor")


def tensor_operand(value: Any, name: str, position: int = 1, argument: str = "input") -> Expr:
    """The expression of an argument that has to be a tensor."""
    if isinstance(value, Handle):
        return expr_of(value)
    raise ArgumentTypeError(f"{name}(): argument '{argument}' (position {position}) must be Tensor, not {type(value).__name__}")
