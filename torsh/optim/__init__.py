"""Optimizers with PyTorch's names, arguments, update rules and state. See :class:`Optimizer`."""
from typing import Any

from torsh.optim import lr_scheduler
from torsh.optim.adadelta import Adadelta
from torsh.optim.adafactor import Adafactor
from torsh.optim.adagrad import Adagrad
from torsh.optim.adam import Adam
from torsh.optim.adamax import Adamax
from torsh.optim.adamw import AdamW
from torsh.optim.asgd import ASGD
from torsh.optim.lbfgs import LBFGS
from torsh.optim.muon import Muon
from torsh.optim.nadam import NAdam
from torsh.optim.optimizer import Optimizer
from torsh.optim.radam import RAdam
from torsh.optim.rmsprop import RMSprop
from torsh.optim.rprop import Rprop
from torsh.optim.sgd import SGD
from torsh.optim.sparse_adam import SparseAdam

__all__ = ["ASGD", "Adadelta", "Adafactor", "Adagrad", "Adam", "AdamW", "Adamax", "LBFGS", "Muon", "NAdam", "Optimizer",
           "RAdam", "RMSprop", "Rprop", "SGD", "SparseAdam", "lr_scheduler", "swa_utils"]


def __getattr__(name: str) -> Any:
    if name == "swa_utils":         # needs torsh.nn, which optimizers do not
        import importlib
        return importlib.import_module("torsh.optim.swa_utils")
    raise AttributeError(f"module 'torsh.optim' has no attribute {name!r}")
