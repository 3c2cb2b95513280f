"""Promotion rules of families of functions: from the operands' dtypes to the dtypes they are computed in and the result's.

A rule is called as ``rule(name, operands)`` with operands = ((dtype, priority), ...), see
:func:`torsh.core.dtype.result_type`, and gives (one dtype per operand, the result's dtype). It raises PyTorch's errors for
dtypes that a function does not take.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Final

from torsh.core.dtype import DType, bool_, float32, get_default_dtype, result_type
from torsh.core.errors import DTypeError, UnsupportedDTypeError

Operands = tuple[tuple[DType, int], ...]
Rule = Callable[[str, Operands], tuple[tuple[DType, ...], DType]]

SCALAR_TYPE_NAMES: Final = {
    "bool": "Bool", "uint8": "Byte", "int8": "Char", "int16": "Short", "int32": "Int", "int64": "Long", "float16": "Half",
    "bfloat16": "BFloat16", "float32": "Float", "float64": "Double", "complex64": "ComplexFloat",
    "complex128": "ComplexDouble"}


def not_implemented(name: str, dtype: DType) -> UnsupportedDTypeError:
    """PyTorch's error for a dtype that a function does not take."""
    return UnsupportedDTypeError(f"\"{name}_cpu\" not implemented for '{SCALAR_TYPE_NAMES[dtype.name]}'")


def _checked(name: str, dtype: DType, categories: str) -> DType:
    if "bifc"[dtype.category] not in categories:
        raise not_implemented(name, dtype)
    return dtype


def promoting(categories: str = "bifc") -> Rule:
    """Compute in the promoted dtype. categories: letters of those allowed (bool, integer, floating, complex)."""
    def rule(name: str, operands: Operands) -> tuple[tuple[DType, ...], DType]:
        dtype = _checked(name, result_type(operands), categories)
        return (dtype,) * len(operands), dtype
    return rule


def floating(categories: str = "bifc") -> Rule:
    """Like :func:`promoting`, with bool and integers computed in the default floating dtype."""
    def rule(name: str, operands: Operands) -> tuple[tuple[DType, ...], DType]:
        dtype = _checked(name, result_type(operands), categories)
        if dtype.category < 2:
            dtype = get_default_dtype()
        return (dtype,) * len(operands), dtype
    return rule


def scaling(rule: Rule) -> Rule:
    """Like ``rule``, but numbers and 0-dimensional tensors are not rounded to a 16-bit result's dtype before they are used."""
    def scaled(name: str, operands: Operands) -> tuple[tuple[DType, ...], DType]:
        dtypes, result = rule(name, operands)
        if result.category == 2 and result.itemsize == 2:
            dtypes = tuple([float32 if priority < 2 else d for d, (_, priority) in zip(dtypes, operands, strict=True)])
        return dtypes, result
    return scaled


def testing(categories: str = "bifc") -> Rule:
    """Compare in the promoted dtype; the result is bool."""
    def rule(name: str, operands: Operands) -> tuple[tuple[DType, ...], DType]:
        dtype = _checked(name, result_type(operands), categories)
        return (dtype,) * len(operands), bool_
    return rule


def to_real(categories: str = "ifc") -> Rule:
    """Compute in the promoted dtype; the result of complex numbers is real."""
    def rule(name: str, operands: Operands) -> tuple[tuple[DType, ...], DType]:
        dtype = _checked(name, result_type(operands), categories)
        return (dtype,) * len(operands), dtype.to_real()
    return rule


def negation(name: str, operands: Operands) -> tuple[tuple[DType, ...], DType]:
    """The rule of ``neg``: no bool."""
    dtype = operands[0][0]
    if dtype is bool_:
        raise DTypeError("Negation, the `-` operator, on a bool tensor is not supported. If you are trying to invert a "
                         "mask, use the `~` or `logical_not()` operator instead.")
    return (result_type(operands),), result_type(operands)


def subtraction(name: str, operands: Operands) -> tuple[tuple[DType, ...], DType]:
    """The rule of ``sub``: no bool."""
    bools = sum(dtype is bool_ for dtype, _ in operands)
    if bools == 2:
        raise DTypeError("Subtraction, the `-` operator, with two bool tensors is not supported. Use the `^` or "
                         "`logical_xor()` operator instead.")
    if bools:
        raise DTypeError("Subtraction, the `-` operator, with a bool tensor is not supported. If you are trying to invert a "
                         "mask, use the `~` or `logical_not()` operator instead.")
    dtype = result_type(operands)
    return (dtype, dtype), dtype


def choice(name: str, operands: Operands) -> tuple[tuple[DType, ...], DType]:
    """The rule of ``where``: a bool condition, then operands that are promoted."""
    if operands[0][0] is not bool_:
        raise DTypeError(f"where expected condition to be a boolean tensor, but got a tensor with dtype "
                         f"{operands[0][0].name}: compare or cast it to bool first")
    dtype = result_type(operands[1:])
    return (bool_, dtype, dtype), dtype


def same(name: str, operands: Operands) -> tuple[tuple[DType, ...], DType]:
    """All tensors have one real dtype already (heaviside)."""
    dtype = result_type(operands)
    if dtype.is_complex:
        raise DTypeError(f"{name} is not yet implemented for complex tensors.")
    if any(d is not dtype for d, priority in operands if priority):
        raise DTypeError(f"{name} is not yet implemented for tensors with different dtypes.")
    return (dtype,) * len(operands), dtype
