"""What commands that use a trained model share; imported when such a command runs."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from tiedlm import matmul, native, workspace
from tiedlm.data import Vocabulary, tokenize
from tiedlm.model import LanguageModel
from tiedlm.training.hardware import choose_device, default_threads
from tiedlm.training.run import load
from tiedlm.training.run_files import corpus_info


def load_model(run: Path, device: str = "cpu") -> tuple[LanguageModel, Vocabulary]:
    """Load a run's best model and its vocabulary, and choose threads and arithmetic."""
    model = load(run, choose_device(device))
    assert model.vocabulary is not None
    torch.set_num_threads(default_threads())
    matmul.enable_fast_fp32()
    workspace.enable_reuse_of_freed_memory()
    native.enable()
    return model, model.vocabulary


def context_ids(run: Path, vocabulary: Vocabulary, context: str) -> npt.NDArray[np.int32]:
    """Encode a context as a run's corpus has it: tokenized if that was, after a line's end."""
    split = tokenize if corpus_info(run)["tokenizer"] == "tiedlm" else str.split
    words = split(context)
    unknown = [word for word in words if word not in vocabulary]
    if unknown:
        print(f"read as <unk>: {', '.join(dict.fromkeys(unknown))}", file=sys.stderr)
    start = np.array([vocabulary.eos_id], dtype=np.int32)
    return np.concatenate([start, vocabulary.encode(words)])
