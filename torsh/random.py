"""``torsh.random``: the generator that random operations draw from."""
from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from torsh.core.errors import InvalidArgumentError
from torsh.tensor import NAMESPACES
from torsh.tensor.generator import default_generator, manual_seed

initial_seed, get_rng_state, set_rng_state = (NAMESPACES[""][name] for name in ("initial_seed", "get_rng_state", "set_rng_state"))
seed = default_generator.seed


@contextlib.contextmanager
def fork_rng(devices: Any = None, enabled: bool = True, device_type: str = "cpu") -> Iterator[None]:
    """A context after which random numbers go on as if nothing had been drawn in it (all devices of this version: the CPU).

    Example::

        >>> import torsh
        >>> with torsh.random.fork_rng():
        ...     inside = torsh.rand(2)
        >>> bool((torsh.rand(2) == inside).all())
        True
    """
    if devices:
        raise InvalidArgumentError(f"fork_rng: there are no devices {list(devices)}: only the CPU's generator can be forked")
    state = default_generator.get_state() if enabled else None
    try:
        yield
    finally:
        if state is not None:
            default_generator.set_state(state)


__all__ = ["default_generator", "fork_rng", "get_rng_state", "initial_seed", "manual_seed", "seed", "set_rng_state"]
