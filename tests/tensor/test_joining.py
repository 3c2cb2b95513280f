"""Joins of tensors whose values are at hand: they are copied, so that batches of changing samples make no new programs."""
from __future__ import annotations

import numpy as np
import pytest

import torsh
from torsh.graph.window import statistics


def samples(n: int, shape: tuple[int, ...] = (2, 3)) -> list[torsh.Tensor]:
    """Tensors with values."""
    rng = np.random.default_rng(0)
    return [torsh.from_numpy(rng.standard_normal(shape).astype("float32")) for _ in range(n)]


@pytest.mark.parametrize("dim", [0, 1, -1])
@pytest.mark.parametrize("name", ["cat", "stack"])
def test_the_values_are_those_of_a_recorded_join(name: str, dim: int) -> None:
    """Samples, views and transposed views, with and without values."""
    items = [*samples(3), torsh.from_numpy(np.arange(12, dtype="float32").reshape(4, 3))[::2], samples(1, (3, 2))[0].t()]
    recorded = [t * 1 for t in items]
    join = getattr(torsh, name)
    np.testing.assert_array_equal(join(items, dim).numpy(), join(recorded, dim).numpy())


def test_other_samples_are_no_other_program() -> None:
    """A replay buffer: which samples are joined, and how often one of them, changes from step to step."""
    memory = samples(10)
    rng = np.random.default_rng(1)
    weight = torsh.ones(3, 3)
    torsh.synchronize()

    def step() -> float:
        return (torsh.stack([memory[k] for k in rng.integers(0, 10, 6)]) @ weight).sum().item()  # type: ignore[no-any-return]

    step()
    before = statistics["programs"]
    for _ in range(5):
        step()
    assert statistics["programs"] == before


def test_the_copy_is_a_tensor_of_its_own() -> None:
    """Neither writes to the join nor to what was joined are seen by the other."""
    items = samples(4)
    joined = torsh.cat(items)
    items[0].fill_(7.0)
    joined[2:] = 5.0
    assert joined.ne(7.0).all() and items[1].ne(5.0).all()


def test_gradients_flow_where_one_is_needed() -> None:
    """One of the tensors is a parameter."""
    items = samples(4)
    items[2].requires_grad_()
    torsh.stack(items).sum().backward()
    assert items[2].grad.tolist() == [[1.0] * 3] * 2


@pytest.mark.parametrize(("items", "dim"), [(samples(4) + samples(1, (2, 4)), 0), (samples(5), 2), (samples(5), -4)])
def test_errors_are_those_of_a_recorded_join(items: list[torsh.Tensor], dim: int) -> None:
    """Shapes that do not fit, dimensions that do not exist."""
    with pytest.raises((RuntimeError, IndexError)) as found:
        torsh.cat(items, dim)
    with pytest.raises(type(found.value)) as expected:
        torsh.cat([t * 1 for t in items], dim)
    assert str(found.value) == str(expected.value)


def test_numbers_of_several_dtypes_are_promoted() -> None:
    """As in a recorded join."""
    assert torsh.cat([*samples(4), torsh.ones(1, 3, dtype=torsh.float64)]).dtype is torsh.float64
