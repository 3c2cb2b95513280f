"""Automatic mixed precision; see :class:`torsh.autocast`."""
from torsh.autograd.autocast import autocast, custom_bwd, custom_fwd, is_autocast_available

__all__ = ["autocast", "custom_bwd", "custom_fwd", "is_autocast_available"]
