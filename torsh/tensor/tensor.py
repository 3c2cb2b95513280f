"""The Tensor class: state, properties, autograd methods and exchange; the families of functions attach the rest."""
from __future__ import annotations

import ctypes
import gc
from math import prod
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from torsh.autograd.backward import run_backward
from torsh.autograd.functions import backward
from torsh.backend.base import Storage, address_of
from torsh.core.device import device as Device
from torsh.core.dtype import DType
from torsh.core.errors import ArgumentTypeError, AutogradError, DTypeError, ShapeMismatchError
from torsh.core.size import Size
from torsh.graph.handle import Handle, expr_of, make_view, materialised, root_of, write
from torsh.graph.handle import requires_grad as needs_grad
from torsh.graph.window import Window, shared_storage, storage_of
from torsh.ops.expr import LEAF_OP, TABLE, Expr, emit1, leaf, no_grad_recording, placeholder_of, recording

_CPU = Device("cpu")


class Tensor(Handle):
    """A multi-dimensional array that records what is done with it.

    Operations return at once; values are computed when they are needed (``item()``, ``numpy()``, printing,
    ``optimizer.step()``, :func:`torsh.synchronize`). Views alias their base and in-place operations are seen by all views.

    Example::

        >>> import torsh
        >>> x = torsh.tensor([1.0, 2.0], requires_grad=True)
        >>> (x * x).sum().backward()
        >>> x.grad
        tensor([2., 4.])
    """

    __slots__ = ("__dict__",)
    __array_priority__ = 1000

    if TYPE_CHECKING:                       # the families of functions attach methods and operators when they load
        def __getattr__(self, name: str) -> Any: ...
        def __add__(self, other: Any) -> Any: ...
        def __radd__(self, other: Any) -> Any: ...
        def __sub__(self, other: Any) -> Any: ...
        def __rsub__(self, other: Any) -> Any: ...
        def __mul__(self, other: Any) -> Any: ...
        def __rmul__(self, other: Any) -> Any: ...
        def __truediv__(self, other: Any) -> Any: ...
        def __rtruediv__(self, other: Any) -> Any: ...
        def __floordiv__(self, other: Any) -> Any: ...
        def __mod__(self, other: Any) -> Any: ...
        def __pow__(self, other: Any) -> Any: ...
        def __rpow__(self, other: Any) -> Any: ...
        def __and__(self, other: Any) -> Any: ...
        def __or__(self, other: Any) -> Any: ...
        def __xor__(self, other: Any) -> Any: ...
        def __lt__(self, other: Any) -> Any: ...
        def __le__(self, other: Any) -> Any: ...
        def __gt__(self, other: Any) -> Any: ...
        def __ge__(self, other: Any) -> Any: ...
        def __matmul__(self, other: Any) -> Any: ...
        def __getitem__(self, other: Any) -> Any: ...
        def __lshift__(self, other: Any) -> Any: ...
        def __rshift__(self, other: Any) -> Any: ...
        def __setitem__(self, index: Any, value: Any) -> None: ...
        def __eq__(self, other: object) -> Any: ...  # type: ignore[override]
        def __ne__(self, other: object) -> Any: ...  # type: ignore[override]
        def __hash__(self) -> int: ...
        def __neg__(self) -> Any: ...
        def __invert__(self) -> Any: ...
        def __len__(self) -> int: ...
        def __iter__(self) -> Any: ...
        def __int__(self) -> int: ...
        def __float__(self) -> float: ...
        def __index__(self) -> int: ...

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """``Tensor(expr)`` is internal; ``Tensor(2, 3)`` and ``Tensor([..])`` make float32 tensors as in PyTorch."""
        return object.__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if len(args) == 1 and type(args[0]) is Expr:
            Handle.__init__(self, args[0])
            return
        from torsh.tensor.creation import legacy_constructor
        adopt(self, legacy_constructor(*args, **kwargs))

    # ---- properties --------------------------------------------------------------------------------------------------

    @property
    def shape(self) -> Size:
        """Sizes of all dimensions."""
        return Size(self._expr.shape)

    @property
    def dtype(self) -> DType:
        """Element type."""
        return self._expr.dtype

    @property
    def device(self) -> Device:
        """Where the tensor lives."""
        return _CPU

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self._expr.shape)

    @property
    def requires_grad(self) -> bool:
        """Are gradients recorded for this tensor?"""
        return needs_grad(self)

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        self.requires_grad_(value)

    @property
    def is_leaf(self) -> bool:
        """True if no recorded operation made this tensor (as far as gradients go)."""
        return self._leaf_grad or not needs_grad(self)

    @property
    def grad(self) -> Tensor | None:
        """Accumulated gradient, or None."""
        return self._grad  # type: ignore[no-any-return]

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        if value is not None:
            if not isinstance(value, Tensor):
                raise ArgumentTypeError(f"assigned grad expected to be a Tensor or None but got grad of type "
                                        f"{type(value).__name__}")
            if value is self:
                raise AutogradError("can't assign Variable as its own grad")
            if value._expr.shape != self._expr.shape:
                raise ShapeMismatchError(f"assigned grad has data of a different size: expected {list(self.shape)}, got "
                                         f"{list(value.shape)}")
            if value._expr.dtype is not self._expr.dtype:
                raise DTypeError(f"assigned grad has data of a different type: expected {self.dtype}, got {value.dtype}")
        self._grad = value

    @grad.deleter
    def grad(self) -> None:
        self._grad = None

    @property
    def data(self) -> Tensor:
        """The same memory without gradient history."""
        return self.detach()

    @data.setter
    def data(self, value: Tensor) -> None:
        if not self._leaf_grad and value._expr.shape == self._expr.shape and value._expr.dtype is self._expr.dtype \
                and needs_grad(self):
            with no_grad_recording():       # in the middle of a graph: the graph stays, its value changes
                write(self, expr_of(value))
        else:
            adopt(self, value)

    @property
    def grad_fn(self) -> Any:
        """The operation that made this tensor, for display and truth tests; None for leaves."""
        if not needs_grad(self) or self._leaf_grad:
            return None
        from torsh.autograd.node import Node
        return Node(self)

    @property
    def _base(self) -> Tensor | None:
        return self._root  # type: ignore[no-any-return]

    @property
    def _version_counter(self) -> int:
        return root_of(self)._version  # type: ignore[no-any-return]

    # ---- autograd ----------------------------------------------------------------------------------------------------

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Record gradients for this tensor from now on; returns the tensor."""
        if requires_grad:
            if self.dtype.category < 2:
                raise AutogradError("only Tensors of floating point and complex dtype can require gradients")
            if not self._leaf_grad and not needs_grad(self):
                self._leaf_grad = True
                if self._root is not None or self._storage is None:
                    # Pending or a view: mark the gradient target inside of the window.
                    if self._root is None:
                        write(self, expr_of(self))
                    else:
                        self._version = -1
                self._token = None if self._storage is not None or self._root is not None else self._token
        elif not self._leaf_grad and needs_grad(self):
            raise AutogradError("you can only change requires_grad flags of leaf variables. If you want to use a computed "
                                "variable in a subgraph that doesn't require differentiation use var_no_grad = var.detach().")
        elif self._leaf_grad:
            self._leaf_grad = False
            if self._storage is not None or self._root is not None:
                self._token = None
                self._version = -1 if self._root is not None else self._version
            else:
                self._expr = emit1(TABLE["detach"], self._expr)
        return self

    def backward(self, gradient: Tensor | None = None, retain_graph: bool | None = None, create_graph: bool = False,
                 inputs: Any = None) -> None:
        """Accumulate gradients of this tensor into the leaves that it depends on (into ``inputs`` only, if given)."""
        backward(self, gradient, retain_graph, create_graph, inputs=inputs)

    def detach(self) -> Tensor:
        """A view of the same memory without gradient history."""
        return make_view(self, TABLE["detach"], None, Tensor)  # type: ignore[no-any-return]

    def detach_(self) -> Tensor:
        """Forget the gradient history of this tensor."""
        if self._root is not None:
            raise AutogradError("Can't detach views in-place. Use detach() instead.")
        self._leaf_grad = False
        self._history = None
        if self._storage is None:
            self._expr = emit1(TABLE["detach"], expr_of(self))
        else:
            self._token = None
        return self

    def retain_grad(self) -> None:
        """Keep the gradient of this intermediate tensor in ``.grad``."""
        if not needs_grad(self):
            raise AutogradError("can't retain_grad on Tensor that has requires_grad=False")
        if not self._leaf_grad:
            mark_cut(self)["retain"] = True

    @property
    def retains_grad(self) -> bool:
        """Does :meth:`retain_grad` hold for this tensor?"""
        return bool(self._extra and "retain" in self._extra)

    def register_hook(self, hook: Any) -> Any:
        """Call ``hook(grad)`` whenever a gradient of this tensor is computed; it may return another gradient."""
        if not needs_grad(self):
            raise AutogradError("cannot register a hook on a tensor that doesn't require gradient")
        return add_hook(mark_cut(self), "hooks", hook)

    def register_post_accumulate_grad_hook(self, hook: Any) -> Any:
        """Call ``hook(tensor)`` after a gradient was accumulated into this leaf."""
        if not self._leaf_grad:
            raise AutogradError("post accumulate grad hooks cannot be registered on non-leaf tensors")
        if self._extra is None:
            self._extra = {}
        return add_hook(self._extra, "post_accumulate", hook)

    # ---- memory ------------------------------------------------------------------------------------------------------

    def _geometry(self) -> tuple[tuple[int, ...], tuple[int, ...], int]:
        """(shape, strides, offset) in elements, relative to the root's storage."""
        root = self._root
        if root is None:
            shape = self._expr.shape
            return shape, contiguous_strides(shape), 0
        shape = root._expr.shape
        geometry = (shape, contiguous_strides(shape), 0)
        for op, attr in self._chain:
            geometry = op.geometry(attr, *geometry)  # type: ignore[misc]
        return geometry

    def _overlaps(self) -> bool:
        """May two elements of this tensor share memory?"""
        shape, strides, _ = self._geometry()
        reach = 1
        for stride, n in sorted((abs(s), n) for s, n in zip(strides, shape, strict=True) if n > 1):
            if stride < reach:
                return True
            reach = stride * (n - 1) + reach
        return False

    def stride(self, dim: int | None = None) -> Any:
        """Steps between neighbouring elements, in elements: of one dimension or of all."""
        strides = self._geometry()[1]
        return strides if dim is None else strides[dim]

    def storage_offset(self) -> int:
        """Position of the first element in the storage."""
        return self._geometry()[2]

    def is_contiguous(self, memory_format: Any = None) -> bool:
        """Do the elements lie in memory in the order of the dimensions?"""
        shape, strides, _ = self._geometry()
        if memory_format is not None and getattr(memory_format, "order", None) is not None:
            order = memory_format.order(len(shape))
            if order is None:
                return False
            shape, strides = tuple(shape[d] for d in order), tuple(strides[d] for d in order)
        if 0 in shape:
            return True
        return all(n == 1 or s == c for n, s, c in zip(shape, strides, contiguous_strides(shape), strict=True))

    def _ndarray(self) -> np.ndarray[Any, Any]:
        """A NumPy array over this tensor's memory."""
        root = self if self._root is None else self._root
        storage = storage_of(root)
        shape, strides, offset = self._geometry()
        size = self.dtype.itemsize
        interface = ArrayInterface(storage, storage.pointer + offset * size if storage.nbytes else 0, shape,
                                   tuple(s * size for s in strides), size)
        raw = np.asarray(interface) if storage.nbytes else np.empty(shape, np.dtype(f"V{size}"))
        return raw.view(self.dtype.numpy)

    def data_ptr(self) -> int:
        """Address of the first element."""
        root = self if self._root is None else self._root
        storage = shared_storage(root)
        return storage.pointer + self._geometry()[2] * self.dtype.itemsize

    def numpy(self, *, force: bool = False) -> np.ndarray[Any, Any]:
        """A NumPy array that shares this tensor's memory.

        Raises RuntimeError if the tensor requires grad (use ``detach()`` or ``force=True``), TypeError for bfloat16.
        """
        if needs_grad(self) and not force:
            raise AutogradError("Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead.")
        if self.dtype.name == "bfloat16":
            raise ArgumentTypeError("Got unsupported ScalarType BFloat16: convert with .float() first")
        root = self if self._root is None else self._root
        shared_storage(root)
        return self._ndarray()

    def item(self) -> Any:
        """The single element as a Python number."""
        if prod(self._expr.shape) != 1:
            raise ShapeMismatchError(f"a Tensor with {self.numel()} elements cannot be converted to Scalar")
        reader = _READERS.get(self._expr.dtype.name)
        if reader is None or self._root is not None:
            array = self._ndarray()
            return array.item() if self.dtype.name != "bfloat16" else float(array.reshape(())[()])
        return reader(storage_of(self).pointer).value

    def tolist(self) -> Any:
        """Nested lists of Python numbers."""
        array = self._ndarray()
        return (array.astype(np.float32) if self.dtype.name == "bfloat16" else array).tolist()

    def numel(self) -> int:
        """Number of elements."""
        n = 1
        for s in self._expr.shape:
            n *= s
        return n

    nelement = numel

    def dim(self) -> int:
        """Number of dimensions."""
        return len(self._expr.shape)

    ndimension = dim

    def size(self, dim: int | None = None) -> Any:
        """All sizes, or the size of one dimension."""
        if dim is None:
            return Size(self._expr.shape)
        from torsh.core.shape import normalise_dim
        return self._expr.shape[normalise_dim(dim, self.ndim)]

    def element_size(self) -> int:
        """Bytes per element."""
        return self.dtype.itemsize

    def _resize_for_out(self, shape: tuple[int, ...]) -> None:
        """Give an ``out=`` tensor another shape; its old contents are lost."""
        if self._root is not None:
            raise ShapeMismatchError(f"output with shape {list(self.shape)} is a view and can't be resized to {list(shape)}")
        if self.numel():
            import warnings
            warnings.warn(f"An output with one or more elements was resized since it had shape {list(self.shape)}, which does "
                          f"not match the required output shape {list(shape)}.", UserWarning, stacklevel=4)
        if self._storage is not None:
            self._storage = None
            recording.window.pending.append(self)
        self._home = None
        self._expr = emit1(TABLE["expand"], constant_zero(self.dtype), shape) if shape else constant_zero(self.dtype)
        self._token = recording.window.token


class ArrayInterface:
    """Gives NumPy an address, and keeps its storage alive."""

    __slots__ = ("__array_interface__", "storage")

    def __init__(self, storage: Storage, address: int, shape: tuple[int, ...], strides: tuple[int, ...],
                 itemsize: int) -> None:
        self.storage = storage
        self.__array_interface__ = {"version": 3, "shape": shape, "typestr": f"|V{itemsize}", "data": (address, False),
                                    "strides": strides}


# How a single number of a dtype is read from memory.
_READERS: Final[dict[str, Any]] = {
    "float32": ctypes.c_float.from_address, "float64": ctypes.c_double.from_address, "int64": ctypes.c_int64.from_address,
    "int32": ctypes.c_int32.from_address, "bool": ctypes.c_bool.from_address}




def constant_zero(dtype: DType) -> Expr:
    """The constant 0 of a dtype."""
    from torsh.ops.expr import constant
    return constant(False if dtype.category == 0 else 0 if dtype.category == 1 else 0.0, dtype)


def contiguous_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides of a row-major array, in elements (PyTorch's convention: sizes of 0 count as 1)."""
    strides = []
    step = 1
    for n in reversed(shape):
        strides.append(step)
        step *= max(n, 1)
    return tuple(reversed(strides))


def mark_cut(t: Any) -> dict[str, Any]:
    """Make backward stop by at this tensor; returns the dict for its hooks."""
    if t._extra is None:
        t._extra = {}
    if not t._leaf_grad and t._history is None:
        e = expr_of(t)
        if e.op is not LEAF_OP:
            recording.window.cuts[e] = t
    return t._extra  # type: ignore[no-any-return]


def add_hook(extra: dict[str, Any], kind: str, hook: Any) -> Any:
    """Register a hook; the returned handle removes it."""
    from torsh.core.hooks import RemovableHandle
    hooks = extra.setdefault(kind, {})
    handle = RemovableHandle(hooks)
    hooks[handle.id] = hook
    return handle


def adopt(t: Any, source: Any) -> None:
    """Let ``t`` stand for the same memory as ``source`` from now on (``t.data = source``, ``Parameter(source)``)."""
    flag = t._leaf_grad if hasattr(t, "_leaf_grad") else False
    if not hasattr(t, "_grad"):
        t._grad = None
        t._extra = None
    t._leaf_grad = flag
    t._history = None
    t._home = None
    detach = TABLE["detach"]
    if source._root is None and source._version == 0:
        # Nobody else looks at this memory yet: take it over, and make the source a view of it.
        e = source._expr
        t._root, t._storage, t._version = None, source._storage, 1
        t._home = source._home
        t._expr, t._token = e, source._token
        if t._storage is None:
            e = expr_of(source)
            t._expr = emit1(detach, e) if e.requires_grad else e
            t._token = recording.window.token
            recording.window.pending.append(t)
        elif source._leaf_grad or source._history is not None:
            t._expr, t._token = placeholder_of(e), None
        if source._leaf_grad or source._history is not None or source._home is not None or \
                (source._storage is None and expr_of(source).requires_grad):
            t._version = 1
        source._storage, source._home = None, None
        source._root, source._chain, source._version = t, ((detach, None),), -1
        source._token = None
        if flag:
            remark_leaf(t)
        return
    root = root_of(source)
    if root is t:
        return
    t._storage = None
    t._root = root
    t._chain = (*(source._chain if source._root is not None else ()), (detach, None))
    t._expr = placeholder_of(source._expr)
    t._token = None
    t._version = -1


def become(t: Any, view: Any) -> Any:
    """Let a tensor take the shape of a view of it (``t_``, ``squeeze_`` ...); returns the tensor."""
    if view is t:
        return t
    if view._root is not t:
        t._chain, t._expr, t._token, t._version = view._chain, view._expr, view._token, view._version
        return t
    # The memory moves to a hidden root, of which both the tensor and its former views are views.
    root = object.__new__(Tensor)
    root._leaf_grad, root._grad, root._extra = False, None, None
    for name in ("_expr", "_token", "_storage", "_version", "_home", "_history"):
        setattr(root, name, getattr(t, name))
    root._root = None
    if root._storage is None:
        recording.window.pending.append(root)
    t._storage, t._home, t._history = None, None, None
    leaves = recording.window.leaves
    for position, leaf_handle in enumerate(leaves):
        if leaf_handle is t:
            leaves[position] = root         # gradients go on behind it
    if t._version:                          # nobody notes a tensor's views: the collector knows them
        for other in gc.get_referrers(t):
            if isinstance(other, Handle) and other._root is t:
                other._root = root
    t._root, t._chain, t._expr, t._token, t._version = root, view._chain, view._expr, None, -1
    return t


def remark_leaf(t: Any) -> None:
    """Make the window see a handle that has just become an autograd leaf."""
    if t._storage is not None:
        t._token = None
    else:
        write(t, expr_of(t))


def make_subclass(cls: Any, data: Tensor, requires_grad: bool = False) -> Any:
    """A tensor of class ``cls`` that shares ``data``'s memory and is an autograd leaf."""
    t = object.__new__(cls)
    t._leaf_grad = False
    adopt(t, data)
    if requires_grad:
        t.requires_grad_(True)
    return t


def from_storage(storage: Storage, shape: tuple[int, ...], dtype: DType) -> Tensor:
    """A tensor over a contiguous storage."""
    return materialised(Tensor, storage, leaf(-1, shape, dtype, False))  # type: ignore[no-any-return]


def from_array(array: np.ndarray[Any, Any], dtype: DType) -> Tensor:
    """A tensor that takes over a contiguous NumPy array which nobody else will use."""
    if not array.flags.c_contiguous:
        array = np.require(array, requirements="C")      # ascontiguousarray would add a dimension to scalars
    storage = Storage(address_of(array), array.nbytes, array)
    return from_storage(storage, array.shape, dtype)


Window.tensor_class = Tensor
__all__ = ["Tensor", "from_array", "from_storage", "make_subclass", "run_backward"]
