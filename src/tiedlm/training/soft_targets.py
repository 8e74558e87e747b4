"""Choose the vectors from which soft targets are computed: the model's own, or a control.

The paper computes the soft target from the model's own embedding. The controls (``--soft-target``)
test whether the augmented loss gains from the meaning of these vectors, or whether any smooth
target would do. In this file the vectors are called rows, because each is the row of a word.

Source: the reviewers' question about Inan et al. (2017).

Shape letters: V vocabulary, E embedding width.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from tiedlm.data import Corpus
from tiedlm.data.streams import count_ids
from tiedlm.data.tokenizer import UNK
from tiedlm.errors import UserError
from tiedlm.model import LanguageModel
from tiedlm.training.run import load
from tiedlm.training.run_files import RESULT
from tiedlm.training.settings import Settings

AVERAGE_DECAY = 0.999  # per step, so the average covers about a thousand steps
BAND = 50  # words of similar frequency
_LARGE = 30.0  # the constant c in the rows of "unigram"


class TargetSource(nn.Module):
    r"""The rows from which the soft target is computed.

    ``y~ = softmax(rows rows[target] / tau)``, where the rows are, by ``settings.soft_target``:

    - "own": the embedding itself, as in the paper;
    - "permuted": the embedding's rows, each given to another word: no meaning, same geometry;
    - "permuted-band": the same, but exchanged only among words of similar frequency. Their vectors
      have similar norms and directions, just because of the frequency;
    - "permuted-grad", "permuted-band-grad": the two above, with a gradient as for "own";
    - "uniform": zeros, so that y~ is uniform;
    - "smoothing": uniform at ``tau`` 1, and y^ includes the classifier's bias, as for no other
      source. With ``alpha`` e / (1 - e) the loss is that of label smoothing by e, divided by 1 - e.
      It needs no rows;
    - "unigram": ``y~ ~ p^(1 / tau)`` with the frequencies p of the training text;
    - "average": a moving average of the embedding over the steps;
    - "frozen": the embedding of the finished run ``settings.soft_target_from``, by word.

    With "own", "permuted-grad" and "permuted-band-grad" a gradient flows through the rows into the
    embedding, unless ``settings.target_grad`` is false. With the others there is none.

    Args:
        model: the model that is trained.
        settings: of the run.
        corpus: its training text and vocabulary.
        resumes: whether the run continues from a checkpoint. The checkpoint has the rows of
            "frozen", which :meth:`remember` restores, so the other run is not read.

    Raises:
        UserError: for a run that cannot be loaded.
    """

    rows: Tensor | None
    order: Tensor | None

    def __init__(
        self, model: LanguageModel, settings: Settings, corpus: Corpus, resumes: bool = False
    ) -> None:
        super().__init__()
        self.source = settings.soft_target
        weight = model.embedding.weight.detach()
        rows = order = None
        if self.source.startswith("permuted"):
            generator = torch.Generator().manual_seed(settings.seed)
            order = torch.arange(len(weight))
            bands = frequency_bands(corpus) if "band" in self.source else [order]
            for words in bands:
                # All words form one cycle, so no word keeps its own row.
                cycle = words[torch.randperm(len(words), generator=generator)]
                order[cycle] = cycle.roll(1)
        elif self.source == "uniform":
            rows = weight.new_zeros(len(weight), 1)
        elif self.source == "unigram":
            counts = count_ids(corpus.train, len(weight))
            scores = torch.from_numpy(np.log(np.maximum(counts, 1))).to(weight.dtype)
            # With c + s / c as the row of each word, the score of a word for the target t is
            # (c + s / c)(c + t / c) = c^2 + t + s + s t / c^2. The first two terms are equal for
            # all words, and the last one is small. So y~ is softmax(s / tau).
            rows = (_LARGE + (scores - scores.mean()) / _LARGE).unsqueeze(1)
        elif self.source == "average":
            rows = weight.clone()
        elif self.source == "frozen":
            assert settings.soft_target_from is not None
            self._elsewhere = partial(frozen_rows, Path(settings.soft_target_from), corpus)
            rows = None if resumes else self._elsewhere().to(weight.dtype)
        self.register_buffer("rows", rows)
        self.register_buffer("order", order)

    def forward(self, weight: Tensor) -> Tensor:
        """Return the rows, given the embedding ``(V, E)``."""
        if self.order is not None:
            rows = weight if self.source.endswith("grad") else weight.detach()
            return rows[self.order]
        return weight if self.rows is None else self.rows

    def update(self, weight: Tensor) -> None:
        """Update the moving average after a step."""
        if self.source == "average":
            assert self.rows is not None
            self.rows.lerp_(weight.detach(), 1 - AVERAGE_DECAY)

    def memory(self) -> dict[str, Tensor]:
        """Return the rows that only a checkpoint can preserve.

        The rows of "average" come from earlier steps. The rows of "frozen" come from another run,
        which may be trained further before this run is resumed.
        """
        if self.source not in ("average", "frozen"):
            return {}
        assert self.rows is not None
        return {"rows": self.rows}

    def remember(self, memory: Mapping[str, Tensor], like: Tensor) -> None:
        """Restore the rows that :meth:`memory` gave to a checkpoint.

        Args:
            memory: of the checkpoint.
            like: whose type and device the rows have: the embedding.

        Raises:
            UserError: if an old checkpoint lacks the frozen vectors and their run cannot be loaded.
        """
        if "rows" in memory:
            self.rows = memory["rows"].to(like).clone()
        elif self.source == "frozen":
            self.rows = self._elsewhere().to(like)


def frequency_bands(corpus: Corpus) -> list[Tensor]:
    """Return the words in order of training frequency, cut into bands of about 50."""
    counts = count_ids(corpus.train, len(corpus.vocabulary))
    by_frequency = np.argsort(-counts, kind="stable")
    bands = np.array_split(by_frequency, max(1, len(by_frequency) // BAND))
    return [torch.from_numpy(words) for words in bands]


def frozen_rows(folder: Path, corpus: Corpus) -> Tensor:
    """Return the word vectors of a finished run, in the order of a corpus's vocabulary.

    A word that the run does not know gets the vector of ``<unk>``.
    """
    if not (folder / RESULT).is_file():
        raise UserError(f"--soft-target-from {folder} is not a finished run: it has no {RESULT}")
    with torch.random.fork_rng(devices=[]):  # making a model draws random weights
        earlier = load(folder)
    known = earlier.vocabulary
    assert known is not None
    if UNK not in known and any(word not in known for word in corpus.vocabulary.words):
        raise UserError(
            f"--soft-target-from {folder} lacks words of this corpus and has no {UNK} for them"
        )
    ids = torch.from_numpy(np.asarray(known.encode(list(corpus.vocabulary.words)), dtype=np.int64))
    return earlier.embedding.weight.detach()[ids].clone()
