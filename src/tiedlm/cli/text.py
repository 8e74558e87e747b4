"""What commands that read words from the command line share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from tiedlm.model import LanguageModel


def context_ids(model: LanguageModel, context: str) -> npt.NDArray[np.int32]:
    """Encode a context as the model's corpus would have it: after the end of a line."""
    vocabulary = model.vocabulary
    assert vocabulary is not None
    words = vocabulary.encode(context.split())
    return np.concatenate([np.array([vocabulary.eos_id], dtype=np.int32), words])
