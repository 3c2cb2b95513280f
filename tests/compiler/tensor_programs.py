"""Random programs of tensors, written through views, in place and over shared memory; for any library with PyTorch's API."""
from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

MODULUS = 7


class TensorProgram:
    """One random sequence of statements. The same seed gives the same statements for every library."""

    def __init__(self, lib: Any, seed: int) -> None:
        self.lib = lib
        self.random = np.random.default_rng(seed)
        self.tensors: list[Any] = []
        self.overlapping: list[bool] = []        # may several elements be one in memory?
        self.plain: list[bool] = []              # contiguous in every library?
        self.arrays: list[Any] = []
        self.log: list[str] = []

    def integer(self, low: int, high: int) -> int:
        """A number from low to high, both included."""
        return int(self.random.integers(low, high + 1))

    def chance(self, percent: int) -> bool:
        """True in so many cases of 100."""
        return self.integer(1, 100) <= percent

    def keep(self, t: Any, what: str, overlapping: bool = False, plain: bool = False) -> None:
        """A new variable; sometimes it replaces another, which is then released."""
        self.log.append(f"{what} -> {list(t.shape)}")
        if len(self.tensors) > 8 or self.tensors and self.chance(15):
            k = self.integer(0, len(self.tensors) - 1)
            self.tensors[k], self.overlapping[k], self.plain[k] = t, overlapping, plain
        else:
            self.tensors.append(t)
            self.overlapping.append(overlapping)
            self.plain.append(plain)

    def any(self) -> int:
        """Number of a variable."""
        return self.integer(0, len(self.tensors) - 1)

    def array(self, shape: tuple[int, ...]) -> Any:
        """Small whole numbers."""
        return self.random.integers(-3, 4, shape).astype(np.float32)

    def new(self) -> None:
        """A new tensor, sometimes over NumPy's memory."""
        shape = tuple([self.integer(1, 5) for _ in range(self.integer(1, 3))])
        if self.chance(3):
            shape = (self.integer(30, 50), 130, 3)
        array = self.array(shape)
        if self.chance(30):
            self.arrays.append(array)
            self.keep(self.lib.from_numpy(array), "from_numpy", plain=True)
        else:
            self.keep(self.lib.tensor(array), "tensor", plain=True)

    def view(self) -> None:
        """A view of a variable."""
        k = self.any()
        t, overlapping = self.tensors[k], self.overlapping[k]
        kind = self.integer(0, 9)
        dim = self.integer(0, max(t.dim() - 1, 0))
        if kind <= 2 and t.dim():
            start, step = self.integer(0, t.shape[dim] - 1), self.integer(1, 2)
            index = (slice(None),) * dim + (slice(start, t.shape[dim] if self.chance(60) else start + 1, step),)
            self.keep(t[index], f"{k}[{index}]", overlapping)
        elif kind == 3 and t.dim():
            i = self.integer(0, t.shape[dim] - 1)
            self.keep(t.select(dim, i), f"{k}.select({dim}, {i})", overlapping)
        elif kind == 4 and t.dim() >= 2:
            other = self.integer(0, t.dim() - 1)
            self.keep(t.transpose(dim, other), f"{k}.transpose({dim}, {other})", overlapping)
        elif kind == 5 and t.dim() >= 2:
            shift = self.integer(-1, 1)
            if min(t.shape[0] + min(shift, 0), t.shape[1] - max(shift, 0)) > 0:
                self.keep(t.diagonal(shift), f"{k}.diagonal({shift})", overlapping)
        elif kind == 6:
            self.keep(t.unsqueeze(dim), f"{k}.unsqueeze({dim})", overlapping)
        elif kind == 7 and t.dim():
            size = self.integer(1, t.shape[dim])
            self.keep(t.unfold(dim, size, 1), f"{k}.unfold({dim}, {size}, 1)", overlapping or size > 1)
        elif kind == 8 and prod(t.shape) < 500:
            self.keep(t.expand(2, *t.shape), f"{k}.expand(2, ...)", True)
        elif self.plain[k]:
            self.keep(t.view(-1), f"{k}.view(-1)", overlapping)

    def operand(self, shape: tuple[int, ...]) -> Any:
        """Something that broadcasts to a shape without changing it."""
        fitting = [t for t in self.tensors if len(t.shape) <= len(shape) and all(
            m in (1, n) for m, n in zip(reversed(t.shape), reversed(shape), strict=False))]
        if fitting and self.chance(75):
            return fitting[self.integer(0, len(fitting) - 1)]
        return self.integer(-2, 2) if self.chance(50) else self.lib.tensor(self.array(shape))

    def source(self, t: Any) -> Any:
        """An operand for writing to ``t``: PyTorch refuses those that share some of its memory."""
        found = self.operand(tuple(t.shape))
        return found if isinstance(found, int) or found is t else found.clone()

    def compute(self) -> None:
        """A new value from variables."""
        k = self.any()
        t = self.tensors[k]
        kind = self.integer(0, 8)
        if kind <= 1:
            self.keep((t + self.operand(tuple(t.shape))).remainder(MODULUS), f"{k} + operand")
        elif kind == 2:
            self.keep((t * self.operand(tuple(t.shape))).remainder(MODULUS), f"{k} * operand")
        elif kind == 3 and t.dim():
            dim = self.integer(0, t.dim() - 1)
            self.keep(t.sum(dim, keepdim=self.chance(50)).remainder(MODULUS), f"{k}.sum({dim})")
        elif kind == 4 and t.dim():
            dim = self.integer(0, t.dim() - 1)
            self.keep(t.flip(dim), f"{k}.flip({dim})")
        elif kind == 5 and t.dim():
            dim = self.integer(0, t.dim() - 1)
            self.keep(t.cumsum(dim).remainder(MODULUS), f"{k}.cumsum({dim})")
        elif kind == 6 and t.dim() and prod(t.shape) < 1000:
            self.keep(self.lib.cat([t, t]), f"cat({k}, {k})")
        elif kind == 7 and t.dim() == 2 and max(t.shape) < 60:
            self.keep((t @ t.t()).remainder(MODULUS), f"{k} @ {k}.t()")
        else:
            self.keep(t.clone() if self.chance(50) else t.detach(), f"{k}.clone() or detach()", self.overlapping[k])

    def write(self) -> None:
        """A change in place."""
        k = self.any()
        t = self.tensors[k]
        if self.overlapping[k]:
            return
        kind = self.integer(0, 10)
        self.log.append(f"write {kind} to {k}")
        if kind == 0:
            t.add_(self.source(t)).remainder_(MODULUS)
        elif kind == 1:
            t.mul_(self.source(t)).remainder_(MODULUS)
        elif kind == 2:
            value = self.source(t)
            t.fill_(value) if isinstance(value, int) else t.copy_(value)
        elif kind == 3:
            t.zero_() if self.chance(50) else t.fill_(self.integer(-3, 3))
        elif kind == 4 and t.dim():
            t[self.integer(0, t.shape[0] - 1)] = self.integer(-3, 3)
        elif kind == 5 and t.dim():
            part = t[: self.integer(1, t.shape[0])]
            part += self.source(part)
            t.remainder_(MODULUS)
        elif kind == 6:
            t.masked_fill_(t > self.integer(-2, 2), self.integer(-3, 3))
        elif kind == 7 and t.dim():
            index = self.lib.tensor(self.random.integers(0, t.shape[0], 3))
            t.index_add_(0, index, self.lib.tensor(self.array((3, *t.shape[1:])))).remainder_(MODULUS)
        elif kind == 8 and t.dim():
            index = self.random.permutation(t.shape[0])[:2]
            chosen = self.lib.tensor(index)
            t[chosen] = self.source(t[chosen])
        elif kind == 9 and self.arrays:
            self.lib_synchronize()                # NumPy writes are seen at once, so nothing may be pending
            a = self.arrays[self.integer(0, len(self.arrays) - 1)]
            a[...] = (a + 1) % MODULUS
        else:
            t.clamp_(-2, 2)

    def lib_synchronize(self) -> None:
        """Compute everything now, where that means something."""
        if hasattr(self.lib, "use_backend"):
            self.lib.synchronize()

    def fail(self) -> None:
        """Read at a position that does not exist; everything else goes on."""
        k = self.any()
        t = self.tensors[k]
        if not t.dim():
            return
        self.log.append(f"read {k} outside")
        outside = self.lib.tensor([0, t.shape[0] + self.integer(0, 3)])
        try:
            t[outside].numpy()
        except IndexError:
            return
        raise AssertionError("an index outside was accepted")

    def run(self, statements: int) -> list[Any]:
        """All statements; the values of all variables."""
        self.new()
        seen = []
        for _ in range(statements):
            kind = self.integer(0, 99)
            if kind < 8:
                self.new()
            elif kind < 35:
                self.view()
            elif kind < 60:
                self.compute()
            elif kind < 90:
                self.write()
            elif kind < 92:
                self.fail()
            elif kind < 95:
                self.log.append("synchronize")
                self.lib_synchronize()
            else:
                k = self.any()
                self.log.append(f"look at {k}")
                seen.append(np.array(self.tensors[k].detach().numpy()))
        self.lib_synchronize()
        return [*seen, *[np.array(t.detach().numpy()) for t in self.tensors], *[np.array(a) for a in self.arrays]]
