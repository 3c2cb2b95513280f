"""The exception tree of ToRSh.

Every error derives from :class:`TorshError` and from the built-in exception that PyTorch raises in the same place, so
``except RuntimeError`` written for PyTorch keeps working::

    TorshError
    ├── ShapeMismatchError      (RuntimeError)   shapes that do not fit together
    ├── DTypeError              (RuntimeError)   a dtype that an operation cannot take
    │   └── UnsupportedDTypeError (NotImplementedError)  a dtype that an operation is not implemented for
    ├── DeviceMismatchError     (RuntimeError)   tensors on different devices
    ├── DeviceNotAvailableError (RuntimeError)   a device that this machine or build does not have
    ├── OutOfMemoryError        (RuntimeError)   an allocation that the device refused
    ├── AutogradError           (RuntimeError)   misuse of gradients
    ├── LinAlgError             (RuntimeError)   a matrix for which a factorisation or an inverse does not exist
    ├── IndexOutOfRangeError    (IndexError)     an index or dimension outside its range
    ├── InvalidArgumentError    (ValueError)     an argument with an impossible value
    ├── ArgumentTypeError       (TypeError)      an argument of the wrong type
    ├── SerializationError      (RuntimeError)   a file that cannot be read or written
    ├── DistributedError        (RuntimeError)   a failure between processes
    └── CompileError            (RuntimeError)   a program that could not be compiled
"""


class TorshError(Exception):
    """Root of all errors that ToRSh raises on purpose."""


class ShapeMismatchError(TorshError, RuntimeError):
    """Shapes that do not fit together."""


class DTypeError(TorshError, RuntimeError):
    """A dtype that an operation cannot take."""


class UnsupportedDTypeError(DTypeError, NotImplementedError):
    """A dtype that an operation is not implemented for."""


class DeviceMismatchError(TorshError, RuntimeError):
    """Tensors on different devices."""


class DeviceNotAvailableError(TorshError, RuntimeError):
    """A device that this machine or build does not have."""


class OutOfMemoryError(TorshError, RuntimeError):
    """An allocation that the device refused."""


class AutogradError(TorshError, RuntimeError):
    """Misuse of gradients, such as backward through freed history."""


class IndexOutOfRangeError(TorshError, IndexError):
    """An index or a dimension outside its range."""


class LinAlgError(TorshError, RuntimeError):
    """A matrix for which a factorisation or an inverse does not exist."""


# What depends on data, and is found only when programs run.
DATA_ERRORS = (IndexOutOfRangeError, LinAlgError)


class InvalidArgumentError(TorshError, ValueError):
    """An argument with an impossible value."""


class ArgumentTypeError(TorshError, TypeError):
    """An argument of the wrong type."""


class SerializationError(TorshError, RuntimeError):
    """A file that cannot be read or written."""


class DistributedError(TorshError, RuntimeError):
    """A failure between processes."""


class CompileError(TorshError, RuntimeError):
    """A program that could not be compiled."""
