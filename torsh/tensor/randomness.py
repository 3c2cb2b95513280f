"""Functions that draw random numbers."""
from __future__ import annotations

from typing import Any

from torsh.core.dtype import DType, get_default_dtype, int64
from torsh.core.errors import InvalidArgumentError, ShapeMismatchError, UnsupportedDTypeError
from torsh.graph.handle import Handle, expr_of
from torsh.graph.window import scalar_expr
from torsh.ops.expr import TABLE, Expr, emit, emit1, emit2
from torsh.tensor.creation import finish, sizes
from torsh.tensor.function import METHODS, NAMESPACES, assign, check_writable, function, operand
from torsh.tensor.generator import Generator, default_generator, manual_seed
from torsh.tensor.tensor import Tensor


def seeds(generator: Generator | None) -> tuple[Expr, Expr]:
    """(seed, offset) expressions of the next draw; run-time numbers, so that programs are shared between draws."""
    seed, offset = (generator or default_generator).draw()
    return scalar_expr(seed), scalar_expr(offset)


def floating(dtype: DType, name: str) -> DType:
    """The dtype in which numbers are drawn; an error unless it is floating."""
    if dtype.category < 2:
        raise UnsupportedDTypeError(f'"{name}" not implemented for \'{dtype.name}\'')
    return dtype


def uniform_expr(shape: tuple[int, ...], dtype: DType, generator: Generator | None = None) -> Expr:
    """Numbers in [0, 1)."""
    if dtype.is_complex:
        part = dtype.to_real()
        return emit(TABLE["complex"], (uniform_expr(shape, part, generator), uniform_expr(shape, part, generator)))
    return emit(TABLE["uniform"], seeds(generator), (shape, dtype.name))


def normal_expr(shape: tuple[int, ...], dtype: DType, generator: Generator | None = None) -> Expr:
    """Numbers of mean 0 and variance 1."""
    if dtype.is_complex:
        part = dtype.to_real()
        scale = scalar_expr(0.5 ** 0.5)
        both = (emit2(TABLE["mul"], normal_expr(shape, part, generator), scale),
                emit2(TABLE["mul"], normal_expr(shape, part, generator), scale))
        return emit(TABLE["complex"], both)
    return emit(TABLE["normal"], seeds(generator), (shape, dtype.name))


@function("rand", method=False)
def rand(*size: Any, generator: Generator | None = None, dtype: DType | None = None, layout: Any = None, device: Any = None,
         requires_grad: bool = False, pin_memory: bool = False) -> Tensor:
    """Numbers drawn evenly from [0, 1)."""
    dtype = floating(dtype or get_default_dtype(), "rand")
    return finish(Tensor(uniform_expr(sizes(size, "rand"), dtype, generator)), requires_grad, device)


@function("randn", method=False)
def randn(*size: Any, generator: Generator | None = None, dtype: DType | None = None, layout: Any = None, device: Any = None,
          requires_grad: bool = False, pin_memory: bool = False) -> Tensor:
    """Numbers drawn from the normal distribution of mean 0 and variance 1."""
    dtype = floating(dtype or get_default_dtype(), "randn")
    return finish(Tensor(normal_expr(sizes(size, "randn"), dtype, generator)), requires_grad, device)


@function("randint", method=False)
def randint(*args: Any, low: int | None = None, high: int | None = None, size: Any = None,
            generator: Generator | None = None, dtype: DType | None = None, layout: Any = None, device: Any = None,
            requires_grad: bool = False, pin_memory: bool = False) -> Tensor:
    """Integers drawn evenly from [low, high): ``randint(high, size)`` or ``randint(low, high, size)``."""
    rest = list(args)
    if size is None:
        size = rest.pop()
    if high is None:
        high = rest.pop()
    if low is None:
        low = rest.pop() if rest else 0
    if not low < high:  # type: ignore[operator]
        raise ShapeMismatchError(f"random_ expects 'from' to be less than 'to', but got from={low} >= to={high}")
    return finish(Tensor(integers((low, high), sizes((size,), "randint"), dtype or int64, generator)), requires_grad, device)


def integers(limits: tuple[Any, Any], shape: tuple[int, ...], dtype: DType, generator: Generator | None) -> Expr:
    """Integers in [low, high)."""
    low, high = (scalar_expr(int(v)) for v in limits)
    e = emit(TABLE["randint"], (*seeds(generator), low, high), shape)
    return e if dtype is int64 else emit1(TABLE["cast"], e, dtype.name)


@function("randperm", method=False)
def randperm(n: int, *, generator: Generator | None = None, dtype: DType | None = None, layout: Any = None,
             device: Any = None, requires_grad: bool = False, pin_memory: bool = False) -> Tensor:
    """The numbers 0 ... n - 1 in random order."""
    if n < 0:
        raise ShapeMismatchError(f"n must be non-negative, got {n}")
    e = emit(TABLE["randperm"], seeds(generator), n)
    dtype = dtype or int64
    return finish(Tensor(e if dtype is int64 else emit1(TABLE["cast"], e, dtype.name)), requires_grad, device)


def _like(name: str, maker: Any) -> None:
    def like(input: Tensor, *args: Any, dtype: DType | None = None, **options: Any) -> Tensor:
        options.pop("memory_format", None)
        return maker(*args, input._expr.shape, dtype=dtype or input._expr.dtype, **options)  # type: ignore[no-any-return]
    like.__name__ = name + "_like"
    like.__doc__ = f"``torsh.{name}`` with the size and dtype of ``input``."
    function(name + "_like", method=False, out=False)(like)


_like("rand", rand)
_like("randn", randn)


@function("randint_like", method=False, out=False)
def randint_like(input: Tensor, *limits: Any, low: int | None = None, high: int | None = None, dtype: DType | None = None,
                 **options: Any) -> Tensor:
    """``torsh.randint`` with the size and dtype of ``input``."""
    options.pop("memory_format", None)
    bounds = [v for v in (low, *limits, high) if v is not None]
    bounds = [b.item() if isinstance(b, Handle) else b for b in bounds]  # type: ignore[attr-defined]
    return randint(*bounds, tuple(input._expr.shape), dtype=dtype or input._expr.dtype, **options)  # type: ignore[no-any-return]


@function("bernoulli")
def bernoulli(input: Tensor, p: Any = None, *, generator: Generator | None = None) -> Tensor:
    """1 with the probability that each element gives, else 0."""
    floating(input.dtype, "bernoulli")
    chance = expr_of(input) if p is None else operand(p, "bernoulli")
    u = uniform_expr(input._expr.shape, get_default_dtype(), generator)
    return Tensor(emit1(TABLE["cast"], emit2(TABLE["lt"], u, chance), input.dtype.name))


@function("normal", method=False)
def normal(mean: Any = 0.0, std: Any = 1.0, size: Any = None, *, generator: Generator | None = None,
           dtype: DType | None = None, device: Any = None, requires_grad: bool = False, layout: Any = None,
           pin_memory: bool = False) -> Tensor:
    """Normal numbers of the given means and standard deviations (tensors or numbers)."""
    from torsh.core.shape import broadcast_shapes
    if isinstance(std, (int, float)) and std < 0:
        raise ShapeMismatchError(f"normal expects std >= 0.0, but found std {std}")
    if size is not None:
        shape, kind = tuple(size), dtype or get_default_dtype()
    else:
        tensors = [t for t in (mean, std) if isinstance(t, Handle)]
        shape = broadcast_shapes(*[t._expr.shape for t in tensors])
        kind = tensors[0]._expr.dtype
    draw = Tensor(normal_expr(tuple(shape), floating(kind, "normal"), generator))
    return finish(draw * std + mean, requires_grad, device)


@function("poisson", method=False, out=False)
def poisson(input: Tensor, generator: Generator | None = None) -> Tensor:
    """Poisson numbers with the rates that the elements give."""
    import numpy as np

    from torsh.tensor.tensor import from_array
    floating(input.dtype, "poisson")
    source = np.random.Generator(np.random.Philox((generator or default_generator).draw()))
    rates = input.detach()._ndarray().astype(np.float64)
    if (rates < 0).any():
        raise ShapeMismatchError("invalid Poisson rate, expected rate to be non-negative")
    return from_array(np.asarray(source.poisson(rates)).astype(input.dtype.numpy), input.dtype)


@function("multinomial")
def multinomial(input: Tensor, num_samples: int, replacement: bool = False, *, generator: Generator | None = None) -> Tensor:
    """Positions drawn with the probabilities of each row."""
    floating(input.dtype, "multinomial")
    if input.ndim not in (1, 2):
        raise ShapeMismatchError("prob_dist must be 1 or 2 dim")
    if num_samples <= 0:
        raise ShapeMismatchError("cannot sample n_sample <= 0 samples")
    if not replacement and num_samples > input.shape[-1]:
        raise ShapeMismatchError("cannot sample n_sample > prob_dist.size(-1) samples without replacement")
    p = input.detach()
    if bool(((p < 0) | ~p.isfinite()).any()):
        raise ShapeMismatchError("probability tensor contains either `inf`, `nan` or element < 0")
    if bool((p.sum(-1) <= 0).any()):
        raise ShapeMismatchError("invalid multinomial distribution (sum of probabilities <= 0)")
    if not replacement:
        noise = Tensor(uniform_expr(p._expr.shape, p.dtype, generator))
        keys = -(1 - noise).log() / p                      # exponential races: the smallest arrive first
        return keys.topk(num_samples, -1, largest=False).indices  # type: ignore[no-any-return]
    cumulative = p.cumsum(-1)
    draws = Tensor(uniform_expr((*p._expr.shape[:-1], num_samples), p.dtype, generator)) * cumulative[..., -1:]
    return NAMESPACES[""]["searchsorted"](cumulative, draws, right=True).clamp(max=p.shape[-1] - 1)  # type: ignore[no-any-return]


# ---- in place ----------------------------------------------------------------------------------------------------------

def _fill_with(self: Tensor, e: Expr, name: str) -> Tensor:
    check_writable(self)
    if e.dtype is not self.dtype:
        e = emit1(TABLE["cast"], e, self.dtype.name)
    return assign(self, Tensor(e), name)  # type: ignore[no-any-return]


def uniform_(self: Tensor, from_: float = 0, to: float = 1, *, generator: Generator | None = None, **options: Any) -> Tensor:
    """Fill with numbers drawn evenly from [from, to)."""
    low = options.get("from", from_)
    if low > to:
        raise ShapeMismatchError(f"uniform_ expects to return a [from, to) range, but found from={low} > to={to}")
    u = Tensor(uniform_expr(self._expr.shape, floating(self.dtype, "uniform_"), generator))
    return _fill_with(self, expr_of(u * (to - low) + low), "uniform_")


def normal_(self: Tensor, mean: float = 0, std: float = 1, *, generator: Generator | None = None) -> Tensor:
    """Fill with normal numbers."""
    if std < 0:
        raise ShapeMismatchError(f"normal expects std >= 0.0, but found std {std}")
    n = Tensor(normal_expr(self._expr.shape, floating(self.dtype, "normal_"), generator))
    return _fill_with(self, expr_of(n * std + mean), "normal_")


def bernoulli_(self: Tensor, p: Any = 0.5, *, generator: Generator | None = None) -> Tensor:
    """Fill with 1 of probability ``p``, else 0."""
    u = uniform_expr(self._expr.shape, get_default_dtype(), generator)
    return _fill_with(self, emit2(TABLE["lt"], u, operand(p, "bernoulli_")), "bernoulli_")


def random_(self: Tensor, from_: int = 0, to: int | None = None, *, generator: Generator | None = None,
            **options: Any) -> Tensor:
    """Fill with integers from [from, to); ``random_(to)`` starts at 0."""
    low = options.get("from", from_)
    if to is None:
        if low == 0:
            mantissa = {"float32": 24, "float64": 53, "float16": 11, "bfloat16": 8}.get(self.dtype.name)
            low, to = 0, 2**mantissa + 1 if mantissa else 2 if self.dtype.category == 0 else \
                2 ** (8 * self.dtype.itemsize - int(self.dtype.is_signed)) - (self.dtype.itemsize == 8)
        else:
            low, to = 0, low
    if low >= to:
        raise ShapeMismatchError(f"random_ expects 'from' to be less than 'to', but got from={low} >= to={to}")
    return _fill_with(self, integers((low, to), self._expr.shape, int64, generator), "random_")


def exponential_(self: Tensor, lambd: float = 1, *, generator: Generator | None = None) -> Tensor:
    """Fill with exponentially distributed numbers."""
    if lambd <= 0:
        raise ShapeMismatchError(f"exponential_ expects lambda > 0.0, but found lambda={lambd}")
    u = Tensor(uniform_expr(self._expr.shape, floating(self.dtype, "exponential_"), generator))
    return _fill_with(self, expr_of(-(1 - u).log() / lambd), "exponential_")


def geometric_(self: Tensor, p: float, *, generator: Generator | None = None) -> Tensor:
    """Fill with geometrically distributed numbers (number of trials, at least 1)."""
    import math
    if not 0 < p < 1:
        raise ShapeMismatchError(f"geometric_ expects p to be in (0, 1), but got p={p}")
    u = Tensor(uniform_expr(self._expr.shape, get_default_dtype(), generator))
    return _fill_with(self, expr_of(((1 - u).log() / math.log1p(-p)).ceil().clamp(min=1)), "geometric_")


def cauchy_(self: Tensor, median: float = 0, sigma: float = 1, *, generator: Generator | None = None) -> Tensor:
    """Fill with numbers of the Cauchy distribution."""
    import math
    if sigma <= 0:
        raise ShapeMismatchError(f"cauchy_ expects sigma > 0.0, but found sigma={sigma}")
    u = Tensor(uniform_expr(self._expr.shape, floating(self.dtype, "cauchy_"), generator))
    return _fill_with(self, expr_of((math.pi * (u - 0.5)).tan() * sigma + median), "cauchy_")


def log_normal_(self: Tensor, mean: float = 1, std: float = 2, *, generator: Generator | None = None) -> Tensor:
    """Fill with numbers whose logarithms are normal."""
    if std <= 0:
        raise ShapeMismatchError(f"log_normal_ expects std > 0.0, but found std={std}")
    n = Tensor(normal_expr(self._expr.shape, floating(self.dtype, "log_normal_"), generator))
    return _fill_with(self, expr_of((n * std + mean).exp()), "log_normal_")


METHODS.update({"uniform_": uniform_, "normal_": normal_, "bernoulli_": bernoulli_, "random_": random_,
                "exponential_": exponential_, "geometric_": geometric_, "cauchy_": cauchy_, "log_normal_": log_normal_})


def initial_seed() -> int:
    """The seed of the default generator."""
    return default_generator.initial_seed()


def get_rng_state() -> Any:
    """The state of the default generator."""
    return default_generator.get_state()


def set_rng_state(state: Any) -> None:
    """Continue the default generator from a state."""
    default_generator.set_state(state)


_PUBLIC: dict[str, Any] = {"manual_seed": manual_seed, "seed": default_generator.seed, "initial_seed": initial_seed,
                       "get_rng_state": get_rng_state, "set_rng_state": set_rng_state, "Generator": Generator,
                       "default_generator": default_generator}
NAMESPACES[""].update(_PUBLIC)
__all__ = ["InvalidArgumentError", "seeds", "uniform_expr", "normal_expr", "rand", "randn"]
