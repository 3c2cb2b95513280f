"""Random number generators: a seed and a count of what was drawn.

ToRSh's numbers come from Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011): a pure
function of (seed, offset, element), so they do not depend on threads or on how programs are fused. The sequence differs from
PyTorch's Mersenne Twister.
"""
from __future__ import annotations

import os
from typing import Any

import numpy as np

from torsh.core.device import device as Device
from torsh.core.dtype import uint8

_MASK = (1 << 63) - 1


class Generator:
    """A source of random numbers for ``generator=`` arguments.

    Example::

        >>> import torsh
        >>> g = torsh.Generator().manual_seed(7)
        >>> torsh.equal(torsh.rand(3, generator=g), torsh.rand(3, generator=g.manual_seed(7)))
        True
    """

    def __init__(self, device: Any = "cpu") -> None:
        self._device = Device(device)
        self._seed = 67280421310721
        self._offset = 0

    @property
    def device(self) -> Device:
        """The generator's device."""
        return self._device

    def manual_seed(self, seed: int) -> Generator:
        """Start over from a seed; returns the generator."""
        self._seed = int(seed) & _MASK
        self._offset = 0
        return self

    def seed(self) -> int:
        """Start over from a seed of the system's; returns the seed."""
        self.manual_seed(int.from_bytes(os.urandom(8), "little"))
        return self._seed

    def initial_seed(self) -> int:
        """The seed that the generator started from."""
        return self._seed

    def get_state(self) -> Any:
        """The state as a uint8 tensor."""
        from torsh.tensor.tensor import from_array
        return from_array(np.array([self._seed, self._offset], np.int64).view(np.uint8).copy(), uint8)

    def set_state(self, state: Any) -> None:
        """Continue from a state of :meth:`get_state`."""
        self._seed, self._offset = (int(v) for v in np.ascontiguousarray(state.numpy()).view(np.int64))

    def draw(self) -> tuple[int, int]:
        """(seed, offset) for the next random operation; advances the generator."""
        offset = self._offset
        self._offset += 1
        return self._seed, offset


default_generator = Generator()


def manual_seed(seed: int) -> Generator:
    """Seed the default generator; returns it."""
    return default_generator.manual_seed(seed)
