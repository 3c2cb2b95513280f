"""Contexts that switch recording of gradients on and off; each also works as a decorator."""
from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any, Final

from torsh.ops.expr import recording


def is_grad_enabled() -> bool:
    """Are gradients being recorded in this thread?"""
    return recording.grad_enabled


def is_inference_mode_enabled() -> bool:
    """Is inference mode on in this thread?"""
    return recording.inference


def _set(enabled: bool) -> None:
    recording.grad_enabled = enabled
    recording.memo = recording.memos[enabled]


_new: Final = object.__new__


class _Mode:
    """A grad mode as a context manager and as a decorator of functions and generators."""

    enabled = True

    _saved: tuple[bool, Any] | None = None      # of each entry that has not been left: grad mode before it, earlier ones

    def __enter__(self) -> Any:
        state = recording.__dict__              # this thread's: one look-up instead of four
        self._saved = (state["grad_enabled"], self._saved)
        state["grad_enabled"] = enabled = self.enabled
        state["memo"] = state["memos"][enabled]
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        state = recording.__dict__
        enabled, self._saved = self._saved  # type: ignore[misc]
        state["grad_enabled"] = enabled
        state["memo"] = state["memos"][enabled]

    def clone(self) -> _Mode:
        """A fresh context of the same kind."""
        return type(self)()

    def __call__(self, fn: Any) -> Any:
        if inspect.isclass(fn):
            fn.__init__ = self(fn.__init__)  # type: ignore[method-assign, misc]
            return fn
        if inspect.isgeneratorfunction(fn):
            @functools.wraps(fn)
            def generator(*args: Any, **kwargs: Any) -> Any:
                inner = fn(*args, **kwargs)
                sent: Any = None
                while True:
                    with self.clone():
                        try:
                            item = inner.send(sent)
                        except StopIteration as stop:
                            return stop.value
                    sent = yield item
            return generator

        @functools.wraps(fn)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with self.clone():
                return fn(*args, **kwargs)
        return wrapped


class no_grad(_Mode):  # noqa: N801 - PyTorch's name
    """No gradients are recorded inside: context manager, decorator, or ``no_grad(function)``.

    Example::

        >>> import torsh
        >>> x = torsh.ones(2, requires_grad=True)
        >>> with torsh.no_grad():
        ...     (x * 2).requires_grad
        False
    """

    enabled = False

    def __new__(cls, fn: Any = None) -> Any:
        """``no_grad(function)`` decorates at once."""
        return _new(cls) if fn is None else _new(cls)(fn)

    if TYPE_CHECKING:
        def __init__(self, fn: Any = None) -> None: ...


class enable_grad(_Mode):  # noqa: N801
    """Gradients are recorded inside, also within :class:`no_grad`."""

    enabled = True

    def __new__(cls, fn: Any = None) -> Any:
        """``enable_grad(function)`` decorates at once."""
        return _new(cls) if fn is None else _new(cls)(fn)

    if TYPE_CHECKING:
        def __init__(self, fn: Any = None) -> None: ...


class set_grad_enabled(_Mode):  # noqa: N801
    """Switch recording of gradients on or off: at once, and for the ``with`` block if used as a context."""

    def __init__(self, mode: bool) -> None:
        self.mode = bool(mode)
        self.previous = recording.grad_enabled
        _set(self.mode)

    def __call__(self, fn: Any) -> Any:
        _set(self.previous)
        return super().__call__(fn)

    def __enter__(self) -> Any:
        _set(self.mode)
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        _set(self.previous)

    def clone(self) -> _Mode:
        """A fresh context of the same kind."""
        return set_grad_enabled(self.mode)


class inference_mode(_Mode):  # noqa: N801
    """Like :class:`no_grad`; also marks that nothing made inside will ever need gradients."""

    def __new__(cls, mode: Any = True) -> Any:
        """``inference_mode(function)`` decorates at once."""
        self = super().__new__(cls)
        if callable(mode) and not isinstance(mode, bool):
            self.__init__(True)  # type: ignore[misc]
            return self(mode)
        return self

    def __init__(self, mode: Any = True) -> None:
        self.mode = bool(mode)
        self._inference: list[bool] = []

    def __enter__(self) -> Any:
        self._saved = (recording.grad_enabled, self._saved)
        self._inference.append(recording.inference)
        recording.inference = self.mode
        if self.mode:
            _set(False)
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        super().__exit__(kind, error, trace)
        recording.inference = self._inference.pop()

    def clone(self) -> _Mode:
        """A fresh context of the same kind."""
        return inference_mode(self.mode)
