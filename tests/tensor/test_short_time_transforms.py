"""torsh.stft and torsh.istft: definition, inversion, gradients, errors."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import torsh
from torsh.autograd import gradcheck, gradgradcheck

RNG = np.random.default_rng(0)
SIGNAL = RNG.standard_normal((2, 40))
WINDOW = np.hanning(17)[:-1]


def window(dtype: Any = torsh.float64) -> Any:
    """A window of 16."""
    return torsh.from_numpy(WINDOW).to(dtype)


def test_is_the_transform_of_windowed_frames() -> None:
    got = torsh.stft(torsh.from_numpy(SIGNAL), 16, 5, window=window(), center=False, return_complex=True)
    frames = np.stack([SIGNAL[:, i:i + 16] * WINDOW for i in range(0, 25, 5)], 1)
    np.testing.assert_allclose(got.numpy(), np.fft.rfft(frames).swapaxes(1, 2), atol=1e-12)
    parts = torsh.stft(torsh.from_numpy(SIGNAL), 16, 5, window=window(), center=False, return_complex=False)
    np.testing.assert_array_equal(torsh.view_as_complex(parts).numpy(), got.numpy())


@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.parametrize("onesided", [False, True])
def test_inverse(normalized: bool, onesided: bool) -> None:
    for a in (torsh.from_numpy(SIGNAL), torsh.from_numpy(SIGNAL[0])):
        options = {"window": window(), "normalized": normalized, "onesided": onesided}
        spectrum = torsh.stft(a, 16, 4, return_complex=True, **options)
        assert torsh.allclose(spectrum.istft(16, 4, **options), a)
        assert torsh.allclose(torsh.istft(spectrum, 16, 4, length=30, **options), a[..., :30])
    z = torsh.from_numpy(SIGNAL + 1j * SIGNAL[:, ::-1])
    options = {"window": window(), "normalized": normalized}
    assert torsh.allclose(torsh.istft(z.stft(16, **options), 16, onesided=False, return_complex=True, **options), z)


def test_gradients() -> None:
    a, w = torsh.from_numpy(SIGNAL).requires_grad_(), window().requires_grad_()

    def there(a: Any, w: Any) -> Any:
        return torsh.stft(a, 16, window=w, return_complex=False)

    def back(a: Any) -> Any:
        return torsh.istft(torsh.stft(a, 16, window=window(), return_complex=True).conj(), 16, window=window())
    assert gradcheck(there, (a, w))
    assert gradgradcheck(there, (a, w))
    assert gradcheck(back, (a,))


def test_errors_and_warnings() -> None:
    a, w = torsh.from_numpy(SIGNAL), window()
    for options, message in (({"n_fft": 0}, "expected 0 < n_fft"), ({"hop_length": 0}, "expected hop_length > 0"),
                             ({"win_length": 17}, "expected 0 < win_length <= n_fft"), ({"win_length": 12}, "expected a 1D window"),
                             ({"return_complex": None}, "requires the return_complex parameter"),
                             ({"align_to_window": True}, "align_to_window should only be set")):
        with pytest.raises(RuntimeError, match=message):
            torsh.stft(a, **{"n_fft": 16, "window": w, "return_complex": True, **options})
    with pytest.raises(RuntimeError, match="floating point or complex values"):
        torsh.stft(torsh.arange(40), 16, window=w, return_complex=True)
    with pytest.raises(RuntimeError, match="Cannot have onesided output"):
        torsh.stft(a, 16, window=w + 0j, onesided=True)
    with pytest.warns(UserWarning, match="A window was not provided"):
        spectrum = torsh.stft(a, 16, return_complex=True)
    with pytest.raises(RuntimeError, match="window overlap add min"):
        torsh.istft(spectrum, 16, window=w * 0)
    with pytest.raises(RuntimeError, match="requires a complex-valued input"):
        torsh.istft(a, 16, window=w)
    with pytest.raises(RuntimeError, match="frequency dimension"):
        torsh.istft(spectrum, 18, window=w)
    with pytest.warns(UserWarning, match="padded with zeros"):
        assert torsh.istft(spectrum, 16, window=w, length=60).shape == (2, 60)
