"""What programs ask and set before they begin: devices, seeds, determinism."""
from __future__ import annotations

import pytest

import torsh

PREAMBLE = """
device = torch.device("cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu")
torch.manual_seed(0)
torch.cuda.manual_seed(0)
torch.cuda.manual_seed_all(0)
torch.random.manual_seed(0)
torch.backends.cudnn.deterministic = True
torch.backends.cudnn.benchmark = False
torch.backends.cuda.matmul.allow_tf32 = True
torch.set_float32_matmul_precision("high")
torch.use_deterministic_algorithms(True, warn_only=True)
torch.set_default_device("cpu")
torch.cuda.empty_cache()
assert str(device) == "cpu" and torch.cuda.device_count() == torch.cuda.memory_allocated() == 0
assert torch.backends.cudnn.deterministic and not torch.backends.cudnn.is_available()
assert torch.get_float32_matmul_precision() == "high" and torch.are_deterministic_algorithms_enabled()
with torch.random.fork_rng():
    inside = torch.rand(3, device=device)
assert (torch.rand(3) == inside).all()
torch.use_deterministic_algorithms(False)
torch.set_float32_matmul_precision("highest")
"""


def test_preamble_of_programs() -> None:
    """The lines that most training scripts begin with."""
    exec(PREAMBLE, {"torch": torsh})


def test_parity_preamble_of_programs() -> None:
    """The same lines hold for PyTorch on a machine without other devices."""
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available() or torch.backends.mps.is_available():
        pytest.skip("another device is there")
    exec(PREAMBLE, {"torch": torch})


def test_what_needs_a_device_says_so() -> None:
    """CUDA functions that have nothing to work on raise."""
    for call in (torsh.cuda.synchronize, torsh.cuda.current_device, torsh.cuda.get_device_name):
        with pytest.raises(RuntimeError, match="not available"):
            call()
    with pytest.raises(RuntimeError, match="not available"):
        torsh.set_default_device("cuda")
    with pytest.raises(ValueError, match="is not one of"):
        torsh.set_float32_matmul_precision("low")
    with pytest.raises(TypeError, match="seed"):
        torsh.cuda.manual_seed("0")
