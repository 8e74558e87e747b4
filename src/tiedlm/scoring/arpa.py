"""Mix an n-gram model with the neural one, through the ``kenlm`` package."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tiedlm.errors import UserError, require

Floats = npt.NDArray[np.float64]


def load_arpa(path: Path) -> Any:
    """Load an ARPA or KenLM binary file as a KenLM model.

    Raises:
        UserError: if the package is not installed, or the file is missing or not such a model.
    """
    kenlm = require("kenlm", "kenlm", "--arpa")
    if not path.is_file():
        raise UserError(f"{path} does not exist; expected an ARPA or KenLM binary file")
    quiet = kenlm.Config()
    quiet.show_progress = False
    quiet.arpa_complain = kenlm.ARPALoadComplain.NONE
    try:
        return kenlm.LanguageModel(str(path), quiet)
    except (OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path} is not an ARPA or KenLM binary file: {reason}") from error


def word_log_probs(arpa: Any, words: Sequence[str]) -> Floats:
    """Return the log-probability in nats of each word and of the final ``</s>``, ``(n + 1,)``.

    An unknown word gets the probability of the model's own ``<unk>``.
    """
    scores = arpa.full_scores(" ".join(words), bos=True, eos=True)
    return np.array([score[0] for score in scores]) * math.log(10)


class Mixture:
    """Mix an n-gram model into a neural one, and count the words it does not know.

    Args:
        arpa: the model from :func:`load_arpa`.
        weight: its share of the mixture, strictly between 0 and 1.

    Attributes:
        words: number of words mixed so far, without the ends of sentences.
        unknown: how many of them the n-gram model does not know.
    """

    def __init__(self, arpa: Any, weight: float) -> None:
        self._arpa = arpa
        self._weight = weight
        self.words = self.unknown = 0

    def __call__(self, words: Sequence[str], neural: Floats) -> Floats:
        """Return the mixed log-probabilities of a sentence's words and of its end."""
        self.words += len(words)
        self.unknown += sum(word not in self._arpa for word in words)
        return interpolate(neural, word_log_probs(self._arpa, words), self._weight)


def interpolate(neural: Floats, arpa: Floats, arpa_weight: float) -> Floats:
    r"""Mix two models word by word: :math:`\log((1 - \lambda) p_{neural} + \lambda p_{arpa})`.

    Args:
        neural: ``(n,)`` log-probabilities of the neural model.
        arpa: ``(n,)`` log-probabilities of the same words under the n-gram model.
        arpa_weight: lambda, strictly between 0 and 1.
    """
    return np.logaddexp(math.log(1 - arpa_weight) + neural, math.log(arpa_weight) + arpa)
