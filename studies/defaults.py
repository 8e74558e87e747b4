"""Does what helped in the search for the evening's recipe help `small-real` and `medium-real` too?

Trains a recipe for one's own text with the paper's settings, and with one group of changes at a
time, on three texts: the demo's text and parts of Penn Treebank and WikiText-2. A change that
lowers the validation perplexity on all three is fit to become the recipe's default. The table
marks it.

The same command resumes what was stopped. Each time it prints the table of the finished runs and
writes it to results/.

    python -m studies.defaults --precision bf16 --budget 120 [--recipes small-real] [--texts ptb]
"""

from __future__ import annotations

import argparse
import itertools
from typing import Any

from studies.harness import add_parts, keep_table, start, trained_or_kept, training_parser
from studies.pages.appendix import percent
from tiedlm.experiments.parallel import Job
from tiedlm.experiments.recipes import get_recipe
from tiedlm.experiments.reproduce import markdown_table
from tiedlm.files import read_json
from tiedlm.training.run_files import RESULT

NAME = "defaults"
RECIPES = ("small-real", "medium-real")
TEXTS: dict[str, dict[str, Any]] = {
    "demo": {"data": "sotu-short"},
    "ptb": {"data": "ptb", "fraction": 0.225, "min_count": 2},
    "wikitext-2": {"data": "wikitext-2", "fraction": 0.1, "min_count": 2},
}


def _of_evening(*names: str) -> dict[str, Any]:
    return {name: getattr(get_recipe("evening"), name) for name in names}


# Batches are a third of those of `evening`, and so is the warm-up; the rate is a little lower.
_ADAM = _of_evening("optimizer", "schedule", "clip", "weight_decay") | {
    "lr": 3e-3, "lr_min": 3e-5, "warmup": 200, "epochs": 25
}  # fmt: skip
_AWD = _of_evening(
    "network", "options", "dropout_words", "dropout_input", "dropout_hidden", "ar", "tar"
)
# The change of nothing: the settings before any of these changes became a default.
BASE = "paper"
CHANGES: dict[str, dict[str, Any]] = {
    BASE: {},
    "adam": _ADAM,
    "gamma-2.6": {"alpha": 52.0},
    "awd": _ADAM | _AWD,
    "adam-gamma-2.6": _ADAM | {"alpha": 52.0},
}

Cell = tuple[str, str, str]  # recipe, text, change


def make_job(cell: Cell, options: argparse.Namespace) -> Job:
    """Return the run of a recipe on a text with a change."""
    recipe, text, change = cell
    settings = get_recipe(recipe).replace(
        **{"alpha": get_recipe("ptb-" + recipe).alpha, **TEXTS[text], **CHANGES[change]},
        threads=1,
        precision=options.precision,
    )
    return Job(settings, options.out / "-".join(cell))


def table(found: dict[Cell, Job]) -> str:
    """Return validation perplexities, a row for each recipe and change, in Markdown."""
    results = {cell: read_json(job.out / RESULT) for cell, job in found.items()}
    body = []
    for recipe, change in itertools.product(RECIPES, CHANGES):
        here = {text: results.get((recipe, text, change)) for text in TEXTS}
        if not any(here.values()):
            continue
        texts = [
            _cell(result, results.get((recipe, text, BASE)) if change != BASE else None)
            for text, result in here.items()
        ]
        hours = sum(result["seconds"] for result in here.values() if result) / 3600
        body.append((recipe, change, *texts, f"{hours:.2f}", _verdict(recipe, change, results)))
    head = ("recipe", "change", *TEXTS, "hours on one core", "helps on all three")
    return markdown_table(head, body)


def _cell(result: dict[str, Any] | None, base: dict[str, Any] | None) -> str:
    if result is None:
        return "-"
    text = f"{result['valid_ppl']:.2f}"
    if base is None:
        return text
    return f"{text} ({percent(result['valid_ppl'] / base['valid_ppl'])})"


def _verdict(recipe: str, change: str, results: dict[Cell, dict[str, Any]]) -> str:
    helps = [
        results[recipe, text, change]["valid_ppl"] < results[recipe, text, BASE]["valid_ppl"]
        for text in TEXTS
        if {(recipe, text, change), (recipe, text, BASE)} <= results.keys()
    ]
    if change == BASE or len(helps) < len(TEXTS):
        return "-"
    return "yes" if all(helps) else "no"


def main() -> None:
    """Train the missing runs, print the table of the finished ones and write it."""
    parser = training_parser(NAME, __doc__, seeds=None, precision=True, show=True)
    add_parts(parser, recipes=RECIPES, texts=TEXTS, changes=CHANGES)
    options = parser.parse_args()
    jobs = {cell: make_job(cell, options) for cell in itertools.product(RECIPES, TEXTS, CHANGES)}
    wanted = itertools.product(options.recipes, options.texts, options.changes)
    found = trained_or_kept(NAME, jobs, wanted, options)
    keep_table(NAME, [job.out for job in found.values()], options, table(found))


if __name__ == "__main__":
    start(main)
