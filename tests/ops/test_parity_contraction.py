"""Matrix products, einsum and softmax against PyTorch."""
from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

import numpy as np  # noqa: E402
from torch_gradients import compare, normal  # noqa: E402

from torsh.core.errors import ShapeMismatchError  # noqa: E402
from torsh.ops.common import apply  # noqa: E402
from torsh.ops.contraction import (  # noqa: E402
    bilinear_expr,
    einsum_expr,
    linear_expr,
    matmul_expr,
    tensordot_expr,
)

F = torch.nn.functional
SHAPES = [((3,), (3,)), ((2, 3), (3,)), ((3,), (3, 4)), ((2, 3), (3, 4)), ((5, 2, 3), (3, 4)), ((2, 3), (5, 3, 4)),
          ((5, 2, 3), (5, 3, 4)), ((5, 1, 2, 3), (4, 3, 6)), ((3,), (5, 3, 4)), ((5, 2, 3), (3,)), ((2, 30, 3), (3, 4)),
          ((4, 3), (2, 3, 50)), ((1, 2, 3), (6, 3, 2)), ((2, 0), (0, 3)), ((0, 3), (3, 2))]


@pytest.mark.parametrize("a, b", SHAPES)
def test_matmul(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    """All combinations of ranks."""
    compare(matmul_expr, torch.matmul, normal(*a), normal(*b, seed=1), message=f"{a} {b}")


@pytest.mark.parametrize("dtype", ["float16", "float32", "int8", "int64", "complex64"])
def test_matmul_dtypes(dtype: str) -> None:
    """Halves are summed in float32, integers wrap around."""
    a, b = (normal(4, 9) * 20).astype(dtype), (normal(9, 5, seed=1) * 20).astype(dtype)
    compare(matmul_expr, torch.matmul, a, b)


def test_matmul_errors() -> None:
    """PyTorch's words."""
    for a, b in (((2, 3), (4, 5)), ((2, 3), (4,)), ((3,), (4,)), ((2, 2, 3), (2, 4, 5)), ((), (3,))):
        with pytest.raises(RuntimeError) as theirs:
            torch.matmul(torch.ones(a), torch.ones(b))
        with pytest.raises(ShapeMismatchError) as mine:
            compare(matmul_expr, torch.matmul, normal(*a), normal(*b))
        if (a, b) != ((2, 3), (4,)):
            assert str(mine.value) == str(theirs.value)


@pytest.mark.parametrize("shape", [(3,), (2, 3), (4, 2, 3), (0, 3)])
def test_linear(shape: tuple[int, ...]) -> None:
    """With and without a bias."""
    compare(linear_expr, F.linear, normal(*shape), normal(5, 3), normal(5), message=str(shape))
    compare(lambda x, w: linear_expr(x, w), F.linear, normal(*shape), normal(5, 3), message=str(shape))
    compare(lambda x, w: linear_expr(x, w), F.linear, normal(*shape), normal(3), message=str(shape))


def test_bilinear_and_tensordot() -> None:
    """Products with three operands, and with several contracted dimensions."""
    compare(bilinear_expr, F.bilinear, normal(4, 2, 3), normal(4, 2, 5), normal(6, 3, 5), normal(6))
    a, b = normal(2, 3, 4), normal(4, 5, 3)
    compare(lambda x, y: tensordot_expr(x, y, (1, -1), (2, 0)), lambda x, y: torch.tensordot(x, y, ([1, 2], [2, 0])), a, b)
    compare(lambda x, y: tensordot_expr(x, y, (), ()), lambda x, y: torch.tensordot(x, y, 0), a, b)


EQUATIONS = {
    "ij,jk->ik": ((2, 3), (3, 4)), "ij,jk": ((2, 3), (3, 4)), "bij,bjk->bik": ((5, 2, 3), (5, 3, 4)), "ii->i": ((3, 3),),
    "ii": ((3, 3),), "ij->ji": ((2, 3),), "ij->": ((2, 3),), "ba": ((2, 3),), "i,j->ij": ((2,), (3,)),
    "bi,bi->b": ((4, 3), (4, 3)), "...ij,...jk->...ik": ((5, 2, 3), (5, 3, 4)), "i...,j...->ij...": ((2, 3), (4, 3)),
    "...ij,jk": ((5, 6, 2, 3), (3, 4)), "ik,kjl,il->ij": ((2, 3), (3, 4, 5), (2, 5)), "bhqd,bhkd->bhqk":
    ((2, 3, 4, 5), (2, 3, 6, 5)), "ij,ij->j": ((3, 4), (1, 4)), "iij,jk->ik": ((3, 3, 2), (2, 5)), "a,a,a->a":
    ((3,), (3,), (3,)), "i,ij,j->": ((3,), (3, 4), (4,)), "... i, i -> ...": ((2, 3), (3,)), "ij,kj->ijk": ((2, 3), (4, 3))}


@pytest.mark.parametrize("equation", sorted(EQUATIONS))
def test_einsum(equation: str) -> None:
    """Permutations, diagonals, sums, batches, ellipses and several operands."""
    arrays = [normal(*s, seed=i) for i, s in enumerate(EQUATIONS[equation])]
    compare(lambda *e: einsum_expr(equation, e), lambda *t: torch.einsum(equation, *t), *arrays, message=equation)


@pytest.mark.parametrize("equation", ["ij,jk->im", "ij", "i,j,k->i", "i->ii", "i.j,k", "ij,ik->i"])
def test_einsum_errors(equation: str) -> None:
    """Equations that fit nothing are RuntimeErrors."""
    with pytest.raises(RuntimeError):
        torch.einsum(equation, torch.ones(2, 3, 1), torch.ones(3, 4))
    with pytest.raises(RuntimeError):
        compare(lambda *e: einsum_expr(equation, e), lambda *t: t[0], normal(2, 3, 1), normal(3, 4))


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_softmax(name: str, dtype: str) -> None:
    """Along every dimension, with infinities, of numbers and of nothing."""
    theirs = getattr(torch, name)
    for dim in (0, 1, 2):
        compare(lambda e, d=dim: apply(name, e, attr=d), lambda t, d=dim: theirs(t, d), (normal(3, 4, 5) * 9).astype(dtype))
    x = np.array([[1, -np.inf, 3], [-np.inf, -np.inf, -np.inf], [np.inf, 0, 1], [100, 0, -100]], dtype)
    compare(lambda e: apply(name, e, attr=1), lambda t: theirs(t, 1), x, gradient=False)
    compare(lambda e: apply(name, e, attr=0), lambda t: theirs(t, 0), np.array(2.5, dtype))
    compare(lambda e: apply(name, e, attr=0), lambda t: theirs(t, 0), np.zeros((0, 3), dtype))
