"""Discrete Fourier transforms, as in PyTorch's ``torch.fft``."""
from torsh.fft.frequencies import fft_fftfreq as fftfreq
from torsh.fft.frequencies import fft_fftshift as fftshift
from torsh.fft.frequencies import fft_ifftshift as ifftshift
from torsh.fft.frequencies import fft_rfftfreq as rfftfreq
from torsh.fft.transforms import fft_fft as fft
from torsh.fft.transforms import fft_fft2 as fft2
from torsh.fft.transforms import fft_fftn as fftn
from torsh.fft.transforms import fft_hfft as hfft
from torsh.fft.transforms import fft_hfft2 as hfft2
from torsh.fft.transforms import fft_hfftn as hfftn
from torsh.fft.transforms import fft_ifft as ifft
from torsh.fft.transforms import fft_ifft2 as ifft2
from torsh.fft.transforms import fft_ifftn as ifftn
from torsh.fft.transforms import fft_ihfft as ihfft
from torsh.fft.transforms import fft_ihfft2 as ihfft2
from torsh.fft.transforms import fft_ihfftn as ihfftn
from torsh.fft.transforms import fft_irfft as irfft
from torsh.fft.transforms import fft_irfft2 as irfft2
from torsh.fft.transforms import fft_irfftn as irfftn
from torsh.fft.transforms import fft_rfft as rfft
from torsh.fft.transforms import fft_rfft2 as rfft2
from torsh.fft.transforms import fft_rfftn as rfftn

__all__ = ["fft", "fft2", "fftfreq", "fftn", "fftshift", "hfft", "hfft2", "hfftn", "ifft", "ifft2", "ifftn", "ifftshift", "ihfft",
           "ihfft2", "ihfftn", "irfft", "irfft2", "irfftn", "rfft", "rfft2", "rfftfreq", "rfftn"]
