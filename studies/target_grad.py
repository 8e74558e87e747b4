"""Should the gradient flow through the soft target?

The paper does not say. This study trains AL and REAL with the gradient and without, with several
seeds. The same command resumes what was stopped. When all runs are finished it prints the table and
writes it to results/.
"""

from __future__ import annotations

from pathlib import Path

from studies.harness import paired, run_study, start, training_parser
from tiedlm.experiments.comparison import seed_mean
from tiedlm.experiments.parallel import Job
from tiedlm.experiments.recipes import get_recipe
from tiedlm.files import read_json
from tiedlm.training.settings import Settings

# PTB's first 22.5% with a schedule of 15 epochs: a tenth of an hour per run on one core.
PTB = {"fraction": 0.225, "min_count": 2, "epochs": 15, "decay_after": 5, "lr_decay": 0.75}
CORPORA = {"sotu-short": ("demo", {}), "ptb-22.5%": ("ptb-small", PTB)}
NAMES = {"": "VD-LSTM", "-re": "RE", "-al": "AL", "-real": "REAL"}
STUDIED = ("-al", "-real")


def jobs(
    out: Path, seeds: int, corpora: list[str], models: tuple[str, ...]
) -> dict[tuple[str, str, bool, int], Job]:
    """Return the runs of the study by (corpus, model, target_grad, seed)."""
    found = {}
    for corpus in corpora:
        base, changes = CORPORA[corpus]
        for seed in range(1, seeds + 1):
            for model in models:
                for target_grad in (False, True) if model in STUDIED else (True,):
                    settings: Settings = get_recipe(base + model).replace(
                        **changes, target_grad=target_grad, seed=seed, threads=1
                    )
                    suffix = "" if target_grad else "-detached"
                    name = f"{base}{model}{suffix}-seed{seed}"
                    found[corpus, model, target_grad, seed] = Job(settings, out / name)
    return found


def table(
    found: dict[tuple[str, str, bool, int], Job], corpora: list[str], models: tuple[str, ...]
) -> str:
    """Return the table in Markdown: means over seeds and paired differences with intervals."""

    def values(corpus: str, model: str, target_grad: bool, key: str) -> list[float]:
        return [
            read_json(job.out / "result.json")[key]
            for (c, m, t, _), job in found.items()
            if (c, m, t) == (corpus, model, target_grad)
        ]

    lines = [
        "| corpus | model | gradient through the soft target | validation | test | on - off (test, paired) |",  # noqa: E501
        "|---|---|---|---|---|---|",
    ]
    for corpus in corpora:
        for model in models:
            for on in (False, True) if model in STUDIED else (True,):
                valid, test = (values(corpus, model, on, k) for k in ("valid_ppl", "test_ppl"))
                difference = ""
                if on and model in STUDIED:
                    off = values(corpus, model, False, "test_ppl")
                    pairs = [a - b for a, b in zip(test, off, strict=True)]
                    difference = paired(pairs)
                flag = ("on" if on else "off") if model in STUDIED else "-"
                cells = (corpus, NAMES[model], flag, seed_mean(valid), seed_mean(test), difference)
                lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Train the missing runs, print the table and write it."""
    parser = training_parser("target_grad", __doc__, seeds=3)
    parser.add_argument("--corpora", nargs="+", default=list(CORPORA), choices=list(CORPORA))
    parser.add_argument("--baselines", action="store_true", help="train VD-LSTM and RE too")
    options = parser.parse_args()
    models = tuple(NAMES) if options.baselines else STUDIED
    found = jobs(options.out, options.seeds, options.corpora, models)
    run_study(
        "target-grad", list(found.values()), options, lambda: table(found, options.corpora, models)
    )


if __name__ == "__main__":
    start(main)
