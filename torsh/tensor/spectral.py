"""Short-time Fourier transforms."""
from __future__ import annotations

import warnings
from typing import NamedTuple

from torsh.core.errors import DTypeError, ShapeMismatchError
from torsh.graph.handle import expr_of
from torsh.ops.expr import TABLE, emit1
from torsh.tensor.creation import ones
from torsh.tensor.function import NAMESPACES, function, tensor_operand
from torsh.tensor.tensor import Tensor

_SMALLEST_ENVELOPE = 1e-11


class _Frames(NamedTuple):
    """How a signal is cut into frames."""

    n_fft: int
    hop: int
    window_length: int

    def error(self, name: str, input: Tensor, message: str) -> ShapeMismatchError:
        """An error that says what the function was called with."""
        return ShapeMismatchError(f"{name}({input.dtype.name}{list(input.shape)}, n_fft={self.n_fft}, hop_length={self.hop}, "
                                  f"win_length={self.window_length}) : {message}")


def _frames(n_fft: int, hop_length: int | None, win_length: int | None) -> _Frames:
    return _Frames(n_fft, n_fft // 4 if hop_length is None else hop_length, n_fft if win_length is None else win_length)


def _padded(input: Tensor, pad: list[int], mode: str = "constant") -> Tensor:
    from torsh.functional.padding import pad as pad_tensor
    return pad_tensor(input, pad, mode) if any(pad) else input


def _whole_window(window: Tensor | None, frames: _Frames, like: Tensor) -> Tensor | None:
    """The window in the middle of a frame; None for one of ones."""
    left = (frames.n_fft - frames.window_length) // 2
    if window is None:
        if frames.window_length == frames.n_fft:
            return None
        window = ones(frames.window_length, dtype=like.dtype.to_real())
    return _padded(window, [left, frames.n_fft - frames.window_length - left])


def _check_signal(input: Tensor, frames: _Frames, window: Tensor | None) -> None:
    if input.dtype.category < 2:
        raise frames.error("stft", input, "expected a tensor of floating point or complex values")
    if input.ndim not in (1, 2):
        raise frames.error("stft", input, "expected a 1D or 2D tensor")
    length = input.shape[-1]
    if not 0 < frames.n_fft <= length:
        raise frames.error("stft", input, f"expected 0 < n_fft < {length}, but got n_fft={frames.n_fft}")
    if frames.hop <= 0:
        raise frames.error("stft", input, f"expected hop_length > 0, but got hop_length={frames.hop}")
    if not 0 < frames.window_length <= frames.n_fft:
        raise frames.error("stft", input, f"expected 0 < win_length <= n_fft, but got win_length={frames.window_length}")
    if window is not None and tuple(window.shape) != (frames.window_length,):
        raise frames.error("stft", input, f"expected a 1D window tensor of size equal to win_length={frames.window_length}, but "
                                          f"got window with size {list(window.shape)}")


@function("stft", out=False)
def stft(input: Tensor, n_fft: int, hop_length: int | None = None, win_length: int | None = None, window: Tensor | None = None,
         center: bool = True, pad_mode: str = "reflect", normalized: bool = False, onesided: bool | None = None,
         return_complex: bool | None = None, align_to_window: bool | None = None) -> Tensor:
    """Fourier transforms of windowed frames of signals.

    Args:
        input: (L,) or (B, L), floating point or complex.
        n_fft: size of a frame. hop_length: distance of frames, n_fft // 4 by default.
        window: (win_length,), of which n_fft is the default; it lies in the middle of a frame.
        center: pad by n_fft // 2 at both ends, so that frame t is centred at ``t * hop_length``.
        normalized: divide by the square root of n_fft.
        onesided: only the first half of the spectrum; the default for real signals and windows.
        return_complex: without, a last dimension of size 2 for real and imaginary parts.
        align_to_window: without ``center``, frame t's window (not the frame) begins at ``t * hop_length``.

    Returns: (B, frequencies, frames), complex of the dtype of signal and window.

    Raises: RuntimeError for sizes that do not fit together, integers, or a one-sided transform of complex numbers.

    Source: Allen, "Short term spectral analysis, synthesis, and modification by discrete Fourier transform" (1977).

    >>> torsh.stft(torsh.ones(32), 8, window=torsh.ones(8), return_complex=True).shape
    torsh.Size([5, 17])
    """
    tensor_operand(input, "stft")
    frames = _frames(n_fft, hop_length, win_length)
    if center and align_to_window is not None:
        raise ShapeMismatchError("stft align_to_window should only be set when center = false")
    if center:
        lead = 3 - input.ndim
        whole = input.reshape((1,) * lead + tuple(input.shape))  # type: ignore[attr-defined]
        input = _padded(whole, [n_fft // 2] * 2, pad_mode).reshape((*input.shape[:-1], -1))  # type: ignore[attr-defined]
    if window is None:
        warnings.warn("A window was not provided. A rectangular window will be applied, which is known to cause spectral leakage. "
                      "Other windows such as torsh.hann_window are recommended to reduce spectral leakage.", stacklevel=3)
    _check_signal(input, frames, window)
    complex_numbers = input.is_complex() or (window is not None and window.is_complex())  # type: ignore[attr-defined]
    if return_complex is None and not complex_numbers:
        raise DTypeError("stft requires the return_complex parameter be given for real inputs, and will further require that "
                         "return_complex=True in a future PyTorch release.")
    if onesided and complex_numbers:
        raise DTypeError("Cannot have onesided output if window or input is complex")
    if align_to_window:
        left = (n_fft - frames.window_length) // 2
        input = _padded(input, [left, n_fft - frames.window_length - left])
    cut = input.unfold(-1, n_fft, frames.hop)  # type: ignore[attr-defined]
    whole_window = _whole_window(window, frames, input)
    cut = cut if whole_window is None else cut * whole_window
    from torsh import fft
    transform = fft.fft if complex_numbers or onesided is False else fft.rfft
    out = transform(cut, norm="ortho" if normalized else None).transpose(-1, -2)  # type: ignore[attr-defined]
    return NAMESPACES[""]["view_as_real"](out) if not complex_numbers and not return_complex or return_complex is False else out


def _overlap_add(frames: Tensor, hop: int) -> Tensor:
    """Signals (B, L) from frames (B, T, n), each ``hop`` after the one before."""
    batch, count, n = frames.shape
    length = n + hop * (count - 1)
    return Tensor(emit1(TABLE["view_accumulate"], expr_of(frames), ((batch, length), (("unfold", (1, n, hop)),))))


def _check_spectrum(input: Tensor, frames: _Frames, window: Tensor | None, onesided: bool, return_complex: bool) -> None:
    if not input.dtype.is_complex:
        raise DTypeError("istft requires a complex-valued input tensor matching the output from stft with return_complex=True.")
    if input.numel() == 0:  # type: ignore[attr-defined]
        raise frames.error("istft", input, "input tensor cannot be empty.")
    if input.ndim not in (2, 3):
        raise frames.error("istft", input, f"expected a tensor with 3 or 4 dimensions, but got {input.ndim + 1}")
    expected, text = (frames.n_fft // 2 + 1, "n_fft / 2 + 1") if onesided else (frames.n_fft, "n_fft")
    if input.shape[-2] != expected:
        raise frames.error("istft", input, "expected the frequency dimension (3rd to the last) of the input tensor to match "
                                           f"{text} when onesided={onesided}, but got {input.shape[-2]}")
    if not 0 < frames.hop <= frames.window_length:
        raise frames.error("istft", input, "expected 0 < hop_length <= win_length")
    if not 0 < frames.window_length <= frames.n_fft:
        raise frames.error("istft", input, "expected 0 < win_length <= n_fft")
    if window is not None and tuple(window.shape) != (frames.window_length,):
        raise frames.error("istft", input, "Invalid window shape. window has to be 1D and length of `win_length`")
    if return_complex and onesided:
        raise DTypeError("Cannot have onesided output if window or input is complex")
    if not return_complex and window is not None and window.dtype.is_complex:
        raise DTypeError("Complex windows are incompatible with return_complex=False")


@function("istft", out=False)
def istft(input: Tensor, n_fft: int, hop_length: int | None = None, win_length: int | None = None, window: Tensor | None = None,
          center: bool = True, normalized: bool = False, onesided: bool | None = None, length: int | None = None,
          return_complex: bool = False) -> Tensor:
    """Inverse of :func:`stft`: windowed frames added up, and divided by the sum of squared windows.

    Args:
        input: (frequencies, frames) or (B, frequencies, frames), complex; the other arguments are those of ``stft``.
        length: of the signals; what the frames do not reach is zero.

    Returns: (L,) or (B, L), real unless ``return_complex``.

    Raises: RuntimeError for sizes that do not fit together, or windows that leave a part of the signal out.

    Source: Griffin and Lim, "Signal estimation from modified short-time Fourier transform" (1984).

    >>> w = torsh.ones(8)
    >>> torsh.istft(torsh.stft(torsh.ones(32), 8, window=w, return_complex=True), 8, window=w).shape
    torsh.Size([32])
    """
    tensor_operand(input, "istft")
    if window is None:
        warnings.warn("A window was not provided. A rectangular window will be applied. Please provide the same window used by stft "
                      "to make the inversion lossless.", stacklevel=3)
    frames = _frames(n_fft, hop_length, win_length)
    half = onesided if onesided is not None else input.shape[-2] != n_fft
    _check_spectrum(input, frames, window, half, return_complex)
    single = input.ndim == 2
    spectrum = (input[None] if single else input).transpose(1, 2)  # type: ignore[attr-defined]
    from torsh import fft
    norm = "ortho" if normalized else None
    cut = fft.ifft(spectrum, norm=norm) if return_complex else fft.irfft(spectrum[..., :n_fft // 2 + 1], n=n_fft, norm=norm)
    whole = _whole_window(window, frames, input)
    if whole is None:
        whole = ones(n_fft, dtype=input.dtype.to_real())
    signal = _overlap_add(cut * whole, frames.hop)
    envelope = _overlap_add((whole * whole).expand(1, cut.shape[1], n_fft), frames.hop)
    signal = _unwindowed(input, frames, signal, envelope, center, length)
    return signal[0] if single else signal


def _unwindowed(input: Tensor, frames: _Frames, signal: Tensor, envelope: Tensor, center: bool, length: int | None) -> Tensor:
    """Signals without the windows' influence, cut (or padded) to where they begin and end."""
    reached = signal.shape[-1]
    start = frames.n_fft // 2 if center else 0
    end = start + length if length is not None else reached - start
    signal, envelope = signal[:, start:end], envelope[:, start:end]
    if float(envelope.abs().min()) <= _SMALLEST_ENVELOPE:  # type: ignore[attr-defined]
        raise frames.error("istft", input, "window overlap add min: 1")
    signal = signal / envelope
    if end > reached:
        warnings.warn("The length of signal is shorter than the length parameter. Result is being padded with zeros in the tail. "
                      "Please check your center and hop_length settings.", stacklevel=4)
        signal = _padded(signal, [0, end - reached])
    return signal
