"""Tied language models.

The augmented loss and the reused embeddings of H. Inan, K. Khosravi and R. Socher, "Tying Word
Vectors and Word Classifiers: A Loss Framework for Language Modeling" (ICLR 2017), exact and fast.
Importing this package is cheap: PyTorch is imported when a name that needs it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tiedlm.data.vocabulary import Vocabulary
    from tiedlm.loss import AugmentedCrossEntropy, LossOutput, augmented_cross_entropy
    from tiedlm.model import LanguageModel, ModelConfig
    from tiedlm.networks import VariationalLSTM
    from tiedlm.training.run import load

__version__ = "0.1.0"

_HOMES = {
    "AugmentedCrossEntropy": "tiedlm.loss",
    "LanguageModel": "tiedlm.model",
    "LossOutput": "tiedlm.loss",
    "ModelConfig": "tiedlm.model",
    "VariationalLSTM": "tiedlm.networks",
    "Vocabulary": "tiedlm.data.vocabulary",
    "augmented_cross_entropy": "tiedlm.loss",
    "load": "tiedlm.training.run",
}

__all__ = [
    "AugmentedCrossEntropy",
    "LanguageModel",
    "LossOutput",
    "ModelConfig",
    "VariationalLSTM",
    "Vocabulary",
    "augmented_cross_entropy",
    "load",
]


_MODULES = ("arithmetic", "loss", "matmul", "native")  # named in full in the documentation


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"tiedlm.{name}")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'tiedlm' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
