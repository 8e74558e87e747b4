"""Do tying and the augmented loss help for sub-word pieces?

Trains VD, RE and REAL on words and on 2,000, 8,000 and 16,000 pieces of byte-pair encoding, on the
demo's text and on WikiText-2's first 10%. All read the same text: the words of the corpus,
separated by blanks, with the text's own <unk>. So every model predicts the same words, and all
perplexities are per word. Numbers that compare words with pieces have one limit left: a word model
knows its words in advance, while pieces may spell others. The vocabulary of words is that of the
whole training text, so that no word of WikiText-2 becomes <unk> that was not <unk> before.

The same command resumes what was stopped. --texts, --units and --models train a part. With --show
the program trains nothing.

    python -m studies.pieces --texts demo --units words bpe-2k --budget 120
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from studies.harness import (
    add_parts,
    differences,
    keep_table,
    paired,
    start,
    trained,
    training_parser,
    with_interval,
)
from tiedlm.data import load_corpus
from tiedlm.data.prepare import write_corpus
from tiedlm.experiments.parallel import Job
from tiedlm.experiments.recipes import get_recipe
from tiedlm.experiments.reproduce import markdown_table
from tiedlm.files import read_json
from tiedlm.training.run_files import RESULT, perplexity_of_result

Cell = tuple[str, str, str]  # text, unit, model
Runs = dict[tuple[Cell, int], Job]

NAME = "pieces"
TEXTS = ("demo", "wikitext-2")
UNITS: dict[str, dict[str, Any]] = {
    "words": {"min_count": 1},
    "bpe-2k": {"pieces": "bpe", "vocab_size": 2000},
    "bpe-8k": {"pieces": "bpe", "vocab_size": 8000},
    "bpe-16k": {"pieces": "bpe", "vocab_size": 16_000},
}
MODELS = {"VD": "", "RE": "-re", "REAL": "-real"}  # suffix of the recipe
SHARE = 0.1  # of WikiText-2


def text_settings(text: str, options: argparse.Namespace) -> dict[str, Any]:
    """Return the settings that name a text of words separated by blanks.

    The demo's text is raw. It is written once as the words that the demo trains on, so that words
    and pieces have the same text. With --show it is not written, since nothing is trained on it.
    """
    if text == "wikitext-2":
        return {"data": text, "fraction": SHARE, "vocab_from": "whole"}
    folder = Path(options.out, "texts", text)
    if not options.show and not (folder / "prepared.json").is_file():
        demo = get_recipe("demo")
        corpus = load_corpus(
            demo.data, fraction=demo.fraction, min_count=demo.min_count, progress=False
        )
        write_corpus(corpus, folder)
    return {"data": str(folder.resolve())}


def make_job(cell: Cell, seed: int, options: argparse.Namespace) -> Job:
    """Return one run of a cell."""
    text, unit, model = cell
    of_text = text_settings(text, options)
    if unit != "words":  # pieces are trained on the part of the text that is in use
        of_text.pop("vocab_from", None)
    settings = get_recipe("small" + MODELS[model]).replace(
        **of_text, **UNITS[unit], tokenize=False, seed=seed, threads=1, precision=options.precision
    )
    return Job(settings, options.out / f"{text}-{unit}-{model}-seed{seed}")


def by_seed(found: Mapping[tuple[Cell, int], Job], cell: Cell, part: str) -> dict[int, float]:
    """Return the perplexity per word of each seed of a cell."""
    return {
        seed: perplexity_of_result(read_json(job.out / RESULT), part)
        for (c, seed), job in found.items()
        if c == cell
    }


def table(found: Mapping[tuple[Cell, int], Job]) -> str:
    """Return the perplexities per word of each cell, with differences paired by seed."""
    body = []
    for cell in dict.fromkeys(cell for cell, _ in found):
        text, unit, model = cell
        valid, test = (by_seed(found, cell, part) for part in ("valid", "test"))
        base = by_seed(found, (text, unit, "VD"), "test") if model != "VD" else {}
        pairs = differences(test, base)
        result = read_json(next(job.out for (c, _), job in found.items() if c == cell) / RESULT)
        body.append(
            (
                *cell, f"{result['parameters']:,}", str(len(test)),
                with_interval(list(valid.values())), with_interval(list(test.values())),
                paired(pairs) if pairs else "-",
            )
        )  # fmt: skip
    return markdown_table(
        (
            "text", "unit", "model", "parameters", "seeds", "validation, per word",
            "test, per word", "test, against VD, paired",
        ),
        body,
    )  # fmt: skip


def arguments() -> argparse.Namespace:
    """Return the flags."""
    parser = training_parser(NAME, __doc__, seeds=1, precision=True, show=True)
    add_parts(parser, texts=TEXTS, units=UNITS, models=MODELS)
    return parser.parse_args()


def main() -> None:
    """Train the missing runs, print the table and keep it."""
    options = arguments()
    cells = itertools.product(options.texts, options.units, options.models)
    jobs = {
        (cell, seed): make_job(cell, seed, options)
        for cell, seed in itertools.product(cells, range(1, options.seeds + 1))
    }
    found = trained(NAME, jobs, list(jobs.values()), options)
    keep_table(NAME, [job.out for job in found.values()], options, table(found))


if __name__ == "__main__":
    start(main)
