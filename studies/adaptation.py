"""At which rate should a model learn while it reads?

Prints the perplexity of the first sentences of the validation text for several learning rates. The
sentences are read once from <eos> each, and once as one document. The table is in docs/scoring.md.


    python -m studies.adaptation RUN [RUN ...] [--sentences 300]
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from studies.harness import show_table, start, study_parser
from tiedlm import load
from tiedlm.arithmetic import arithmetic
from tiedlm.experiments.reproduce import markdown_table
from tiedlm.scoring import score_in_order
from tiedlm.scoring.text import Sentence
from tiedlm.training.settings import Settings

RATES = (None, 0.3, 1.0, 2.0, 5.0, 10.0, 20.0)


def first_sentences(run: Path, count: int) -> list[Sentence]:
    """Return the first sentences of a run's validation text."""
    corpus = Settings.of_run(run).load_corpus(progress=False)
    words, ids = corpus.vocabulary.words, np.asarray(corpus.valid)
    ends = np.flatnonzero(ids == corpus.vocabulary.eos_id)[:count] + 1
    parts = np.split(ids[: ends[-1]], ends[:-1])
    return [
        Sentence(number, number, tuple(words[i] for i in part), part)
        for number, part in enumerate(parts, start=1)
    ]


@arithmetic(kernels=True)
def perplexity(run: Path, sentences: list[Sentence], carry_state: bool, lr: float | None) -> float:
    """Return the perplexity of the sentences, read in order by a fresh copy of the model."""
    model = load(run).double()
    assert model.vocabulary is not None
    start = model.vocabulary.eos_id
    scored = score_in_order(model, sentences, start=start, carry_state=carry_state, adapt_lr=lr)
    surprisals = np.concatenate([one.surprisal for one in scored])
    return math.exp(surprisals.mean())


def main() -> None:
    """Measure the perplexities, print the table and write it."""
    parser = study_parser("adaptation", __doc__, out="folder for table.md")
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--sentences", type=int, default=300)
    options = parser.parse_args()
    body = []
    for run in options.runs:
        sentences = first_sentences(run, options.sentences)
        for name, carry_state in (("by sentence", False), ("document", True)):
            values = (f"{perplexity(run, sentences, carry_state, lr):.1f}" for lr in RATES)
            body.append((f"{run.name}, {name}", *values))
    header = ("", *("none" if lr is None else f"{lr:g}" for lr in RATES))
    show_table(markdown_table(header, body), options.out)


if __name__ == "__main__":
    start(main)
