"""Which settings train the strongest small model in an evening on two cores?

Searches around one set of settings, a change at a time: an AWD-LSTM with reused embeddings and the
augmented loss on Penn Treebank. To afford the search, the models are smaller and train for fewer
epochs than an evening allows: 8 to 9 million parameters, 10 epochs. Short trainings prefer less
dropout than long ones. So the last step is with whole evenings: the recipe `ptb-evening` on both
cores, and what was tried instead of it. One evening is spent on WikiText-2. Its vocabulary is three
times as large, which leaves a narrower network. AL would cost there three quarters of a step more,
and we spend that time on more epochs instead.

Only validation decides, and the table has no test perplexities. The same command resumes what was
stopped. Each time it prints the table of the finished runs and writes it to results/.

    python -m studies.evening --precision bf16 --budget 120 [--trials base gamma-0]
"""

from __future__ import annotations

import argparse
from typing import Any

from studies.harness import add_parts, keep_table, start, trained_or_kept, training_parser
from tiedlm.experiments.parallel import Job
from tiedlm.experiments.recipes import get_recipe
from tiedlm.experiments.reproduce import markdown_table
from tiedlm.files import read_json
from tiedlm.training.run_files import RESULT
from tiedlm.training.settings import Settings

NAME = "evening"
_RATE = 30 / 35  # AWD-LSTM's rate for windows of 35 steps, whose losses we sum

BASE = Settings(
    data="ptb", network="awd_lstm", d_embed=400, d_hidden=400, n_layers=3, tied=True,
    decoder_bias=True, init_range=0.1, options={"dropout_output": 0.35, "dropconnect": 0.3},
    dropout_words=0.05, dropout_input=0.3, dropout_hidden=0.2, ar=35, tar=17.5,
    alpha=13.0, temperature=20.0, target_grad=True,
    lr=_RATE, lr_min=_RATE / 50, schedule="cosine", warmup=200, clip=0.25 * 35,
    weight_decay=1.2e-6 * 35, epochs=10, threads=1,
)  # fmt: skip

_DROPOUTS = ("dropout_words", "dropout_input", "dropout_hidden")


def scaled_dropout(factor: float) -> dict[str, Any]:
    """Return the changes that multiply all dropout by a factor."""
    return {
        **{name: factor * getattr(BASE, name) for name in _DROPOUTS},
        "options": {name: factor * value for name, value in BASE.options.items()},
    }


TRIALS: dict[str, dict[str, Any]] = {  # the most telling first
    "base": {},
    "gamma-0": {"alpha": 0.0},
    "gamma-2.6": {"alpha": 52.0},
    "adam": {"optimizer": "adam", "lr": 3e-3, "lr_min": 3e-3 / 50},
    "dropout-0.67": scaled_dropout(0.67),
    "weaker-ar": {"ar": 7, "tar": 3.5},
    "rate-2": {"lr": 2 * _RATE, "lr_min": 2 * _RATE / 50},
    "averaged": {"schedule": "exponential", "lr_decay": 1.0, "average_from": 7},
    "bptt-70": {"bptt": 70, "lr": _RATE / 2, "lr_min": _RATE / 100, "clip": 0.25 * 70, "ar": 70,
                "tar": 35, "weight_decay": 1.2e-6 * 70},
    "lstm": {"network": "lstm", "d_embed": 500, "d_hidden": 500, "n_layers": 2, "options": {},
             "dropout_words": 0.0, "dropout_input": 0.4, "dropout_hidden": 0.4, "ar": 0, "tar": 0},
}  # fmt: skip

EVENINGS: dict[str, Settings] = {
    "evening-25": get_recipe("ptb-evening").replace(
        epochs=25, dropout_words=0.05, dropout_input=0.3, dropout_hidden=0.2,
        options={"dropout_output": 0.35, "dropconnect": 0.3},
        patience=40, lr_decay=1.0,  # without effect, but its run has them
    ),
    "evening-34": get_recipe("ptb-evening"),
    "wikitext-2": get_recipe("wikitext-2-evening"),
}  # fmt: skip
ALL = {name: BASE.replace(**changes) for name, changes in TRIALS.items()} | {
    name: settings.replace(threads=2) for name, settings in EVENINGS.items()
}


def make_job(trial: str, options: argparse.Namespace) -> Job:
    """Return the run of a trial or of a whole evening."""
    return Job(ALL[trial].replace(precision=options.precision), options.out / trial)


def table(found: dict[str, Job]) -> str:
    """Return the table of the finished trials in Markdown, the best first for each text."""
    rows = []
    for name, job in found.items():
        result, settings = read_json(job.out / RESULT), job.settings
        cells = (
            name, settings.data, f"{result['valid_ppl']:.2f}", f"{result['parameters']:,}",
            str(settings.epochs), str(settings.threads), f"{result['seconds'] / 3600:.2f}",
        )  # fmt: skip
        rows.append((settings.data, result["valid_ppl"], cells))
    body = [cells for _, _, cells in sorted(rows)]
    return markdown_table(
        ("trial", "text", "validation", "parameters", "epochs", "cores", "hours on them"), body
    )


def main() -> None:
    """Train the missing trials, print the table of the finished ones and write it."""
    parser = training_parser(NAME, __doc__, seeds=None, precision=True, show=True)
    add_parts(parser, trials=ALL)
    options = parser.parse_args()
    jobs = {name: make_job(name, options) for name in ALL}
    found = trained_or_kept(NAME, jobs, options.trials, options)
    keep_table(NAME, [job.out for job in found.values()], options, table(found))


if __name__ == "__main__":
    start(main)
