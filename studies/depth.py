"""Does depth help a recurrent highway network of four million parameters?

Trains RHN of depth 2, 3 and 5 beside an LSTM on the whole of Penn Treebank. The widths are chosen
so that each has about four million parameters. All are tied, with a bias. All train for 20 epochs,
with a learning rate that falls as a cosine to a fiftieth of where it began. The LSTM has the rate
and the dropout of `ptb-small-re`. RHN has Adam, and weaker dropout than `ptb-rhn-10`. `rhn-2-sgd`
is the control: it has SGD with the rate of that recipe, which is too slow for 20 epochs.

The same command resumes what was stopped. Finished runs that are kept in results/ are not trained
again, so that several evenings share the work. Each time the program prints the table of the
finished models and writes it to results/.

    python -m studies.depth --precision bf16 --jobs 1 --budget 120 [--models lstm rhn-2]
"""

from __future__ import annotations

import argparse

from studies.harness import add_parts, keep_table, start, trained_or_kept, training_parser
from tiedlm.experiments.comparison import seed_mean
from tiedlm.experiments.parallel import Job
from tiedlm.experiments.recipes import get_recipe
from tiedlm.experiments.reproduce import markdown_table
from tiedlm.files import read_json
from tiedlm.training.build import model_config
from tiedlm.training.run_files import RESULT
from tiedlm.training.settings import Settings

VOCAB_SIZE = 10_000

_LSTM = get_recipe("ptb-small-re").replace(schedule="cosine", lr_min=0.02, epochs=20)
_RHN = _LSTM.replace(
    network="rhn", n_layers=1, optimizer="adam", lr=2e-3, lr_min=4e-5, warmup=200, clip=10,
    init_range=0.04, dropout_words=0.1, dropout_input=0.4, dropout_hidden=0.2,
)  # fmt: skip
_AUTHORS_RATE = {"optimizer": "sgd", "lr": 0.2, "lr_min": 0.004, "warmup": 0}
WIDTHS = {"lstm": 276, "rhn-2": 332, "rhn-3": 316, "rhn-5": 296, "rhn-2-sgd": 332}


def model_settings(name: str) -> Settings:
    """Return the settings of a model, named as in :data:`WIDTHS`."""
    width = WIDTHS[name]
    base = _LSTM
    if name != "lstm":
        depth = int(name.split("-")[1])
        base = _RHN.replace(options={"depth": depth, "dropout_output": 0.4})
    if name.endswith("-sgd"):
        base = base.replace(**_AUTHORS_RATE)
    return base.replace(d_embed=width, d_hidden=width)


def parameters(name: str) -> int:
    """Return the number of parameters of a model on Penn Treebank."""
    return model_config(model_settings(name), VOCAB_SIZE).num_params()


def all_jobs(options: argparse.Namespace) -> dict[tuple[str, int], Job]:
    """Return the runs by model and seed."""
    return {
        (name, seed): Job(
            model_settings(name).replace(seed=seed, threads=1, precision=options.precision),
            options.out / f"{name}-seed{seed}",
        )
        for seed in range(1, options.seeds + 1)
        for name in WIDTHS
    }


def table(found: dict[tuple[str, int], Job]) -> str:
    """Return the table of means over seeds in Markdown."""
    body = []
    for name, width in WIDTHS.items():
        results = [
            read_json(job.out / RESULT) for (which, _), job in found.items() if which == name
        ]
        if results:
            means = (
                str(seed_mean([result[key] for result in results]))
                for key in ("valid_ppl", "test_ppl")
            )
            hours = sum(result["seconds"] for result in results) / len(results) / 3600
            body.append(
                (
                    name,
                    str(width),
                    f"{parameters(name):,}",
                    *means,
                    str(len(results)),
                    f"{hours:.1f}",
                )
            )
    return markdown_table(
        ("model", "width", "parameters", "validation", "test", "seeds", "hours"), body
    )


def main() -> None:
    """Train the missing runs, print the table of the finished ones and write it."""
    parser = training_parser("depth", __doc__, seeds=1, precision=True, show=True)
    add_parts(parser, models=WIDTHS)
    options = parser.parse_args()
    jobs = all_jobs(options)
    wanted = [key for key in jobs if key[0] in options.models]
    found = trained_or_kept("depth", jobs, wanted, options)
    keep_table("depth", [job.out for job in found.values()], options, table(found))


if __name__ == "__main__":
    start(main)
