"""``torsh.backends``: what programs ask of, and set for, the libraries behind PyTorch.

ToRSh brings its own kernels: these libraries are not there. Settings are kept, so that they can be read back, and change nothing.

Example::

    >>> import torsh
    >>> torsh.backends.cudnn.deterministic = True
    >>> torsh.backends.mps.is_available()
    False
"""
from torsh.backends import cpu, cuda, cudnn, mkl, mkldnn, mps, openmp

__all__ = ["cpu", "cuda", "cudnn", "mkl", "mkldnn", "mps", "openmp"]
