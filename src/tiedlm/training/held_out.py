"""Measure a model on the held-out texts of its run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from tiedlm.arithmetic import arithmetic
from tiedlm.data import Corpus
from tiedlm.errors import UserError
from tiedlm.evaluation import evaluate
from tiedlm.evaluation.subspace import subspace_distance
from tiedlm.model import LanguageModel
from tiedlm.training.distributed import Ranks
from tiedlm.training.outcomes import check_finite, stopped
from tiedlm.training.text_units import TextUnits
from tiedlm.tying import is_tied

PARTS = ("valid", "test")


def check_parts(corpus: Corpus) -> None:
    """Refuse a corpus whose held-out texts are too short for a perplexity.

    Raises:
        UserError: naming the text and its length.
    """
    for part in PARTS:
        if len(getattr(corpus, part)) < 2:
            raise UserError(
                f"the {part} text of {corpus.name} has {len(getattr(corpus, part))} tokens; a "
                "perplexity needs at least two"
            )


class HeldOut:
    """The held-out texts of a run. The first rank reads them, and all ranks get its numbers.

    Args:
        corpus: the text of the run.
        units: converts perplexities per piece to perplexities per word.
        out: the run folder, for messages.
        ranks: the processes of the run.
        device: the device of this process.
    """

    def __init__(
        self, corpus: Corpus, units: TextUnits, out: Path, ranks: Ranks, device: torch.device
    ) -> None:
        self.corpus = corpus
        self.units = units
        self.out = out
        self.ranks = ranks
        self.device = device

    def perplexity(self, model: LanguageModel, part: str) -> float:
        """Return the perplexity of a text per token."""
        ids = getattr(self.corpus, part)
        return self.ranks.on_first(lambda: evaluate(model, ids).perplexity, self.device)

    def checked(
        self, model: LanguageModel, part: str, epoch: int, prefix: str = ""
    ) -> tuple[float, dict[str, float]]:
        """Return the perplexity of a text per token, and for pieces the measures per word.

        Args:
            model: the model.
            part: valid or test.
            epoch: whose weights the model has, for messages.
            prefix: of the names of the measures per word.

        Raises:
            Diverged: if the perplexity, per token or per word, exceeds any number.
        """
        ppl = self.perplexity(model, part)
        found = self.units.per_word(part, ppl)
        text = "validation" if part == "valid" else part
        check_finite(self.out, epoch, text, ppl if found is None else found.word_perplexity)
        return ppl, {} if found is None else found.numbers(prefix)

    def distance(self, model: LanguageModel) -> dict[str, float]:
        """Return the subspace distance of an untied model, on the first rank only."""
        if is_tied(model.embedding, model.decoder) or not self.ranks.is_first:
            return {}
        return {
            "subspace_distance": subspace_distance(model.decoder.weight, model.embedding.weight)
        }

    def final(
        self, model: LanguageModel, epoch: int, should_stop: Callable[[], bool]
    ) -> dict[str, float]:
        """Return the perplexities of the best model on both texts, and the measures per word.

        Raises:
            Stopped: if somebody asked the run to stop.
            Diverged: as :meth:`checked`.
        """
        measured: dict[str, float] = {}
        for part in PARTS:
            if self.ranks.on_first(lambda: float(should_stop()), self.device):
                raise stopped(self.out, f"before the perplexity of its {part} text was measured")
            with arithmetic(precision="fp32"):  # as `tiedlm evaluate` does
                ppl, by_word = self.checked(model, part, epoch, f"{part}_")
            measured |= {f"{part}_ppl": ppl, **by_word}
        return measured
