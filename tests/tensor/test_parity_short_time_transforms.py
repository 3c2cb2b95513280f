"""torsh.stft and torsh.istft against PyTorch."""
from __future__ import annotations

import warnings

import pytest

torch = pytest.importorskip("torch")

import numpy as np  # noqa: E402

import torsh  # noqa: E402

RNG = np.random.default_rng(0)
SIGNAL = RNG.standard_normal((2, 40)).astype(np.float32)
WINDOW = np.hanning(17)[:-1].astype(np.float32)


@pytest.mark.parametrize("call", [
    "stft(x, 16)", "stft(x, 16, return_complex=True)", "stft(x, 16, window=w, return_complex=False)",
    "stft(x[0], 16, window=w, return_complex=True)", "stft(x[None], 16, window=w, return_complex=True)",
    "stft(x, 16, 3, window=w, return_complex=True, center=False)", "stft(x, 50, window=w, return_complex=True, center=False)",
    "stft(x, 16, 0, window=w, return_complex=True)", "stft(x, 16, win_length=17, window=w, return_complex=True)",
    "stft(x, 16, win_length=11, window=w[:11], return_complex=True)", "stft(x, 16, win_length=12, return_complex=True)",
    "stft(x, 16, window=w, return_complex=True, onesided=False, normalized=True)",
    "stft(x + 0j, 16, window=w, onesided=True)", "stft(x + 0j, 16, window=w)", "stft(x * 1j, 16, window=w, return_complex=False)",
    "stft(x.long(), 16, window=w, return_complex=True)", "stft(x.double(), 16, window=w, return_complex=True)",
    "stft(x, 16, window=w + 0j, return_complex=True)", "stft(x, 15, win_length=7, window=w[:7], return_complex=True)",
    "stft(x, 16, win_length=8, window=w[:8], return_complex=True, center=False, align_to_window=True)",
    "stft(x, 16, win_length=9, return_complex=True, center=False, align_to_window=True)",
    "stft(x, 16, 5, window=w, return_complex=True, pad_mode='constant')", "stft(x.half(), 16, window=w, return_complex=True)",
    "istft(s, 16, window=w)", "istft(s, 16)", "istft(s, 16, window=w, length=30)", "istft(s, 16, window=w, length=50)",
    "istft(s, 16, window=w, length=200)", "istft(s, 16, window=w, center=False)", "istft(s, 16, window=w, return_complex=True)",
    "istft(s, 16, window=w, onesided=False)", "istft(s, 18, window=w)", "istft(t.view_as_real(s), 16, window=w)",
    "istft(s[0], 16, window=w)", "istft(s[None], 16, window=w)", "istft(s, 16, 0, window=w)", "istft(s, 16, 20, window=w)",
    "istft(s, 16, win_length=12, window=w[:12])", "istft(s[..., :0], 16, window=w)", "istft(s, 16, window=w + 0j)",
    "istft(s, 16, window=w.double())", "istft(s, 16, window=w, normalized=True)"])
def test_like_pytorch(call: str) -> None:
    spectrum = torch.stft(torch.from_numpy(SIGNAL), 16, window=torch.from_numpy(WINDOW), return_complex=True).numpy()
    results = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for t in (torsh, torch):
            given = {"t": t, "x": t.from_numpy(SIGNAL), "w": t.from_numpy(WINDOW), "s": t.from_numpy(spectrum)}
            try:
                out = eval("t." + call, given)
                results.append((str(out.dtype).rpartition(".")[2], out.resolve_conj().numpy()))
            except Exception as error:
                results.append(error)
    got, want = results
    if isinstance(want, Exception):
        assert isinstance(got, type(want)), (got, want)
        return
    assert got[0] == want[0]
    np.testing.assert_allclose(got[1], want[1], atol=1e-5)
