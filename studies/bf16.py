"""Does bfloat16 in the matrix products change the perplexity?

Trains REAL on Penn Treebank's first 22.5% in float32 and in bfloat16, with the same seeds. The same
command resumes what was stopped. When all runs are finished it prints the table and writes it to
results/. The float32 runs are also runs of studies.target_grad: with its --out they are shared.

    python -m studies.bf16 --out runs/target-grad
"""

from __future__ import annotations

from studies.harness import run_study, start, training_parser
from studies.target_grad import PTB
from tiedlm.experiments.comparison import seed_mean
from tiedlm.experiments.parallel import Job
from tiedlm.experiments.recipes import get_recipe
from tiedlm.files import read_json


def table(found: dict[tuple[str, int], Job]) -> str:
    """Return the table of means over seeds in Markdown."""
    lines = ["| products | validation | test |", "|---|---|---|"]
    for precision, name in (("auto", "float32"), ("bf16", "bfloat16")):
        results = [
            read_json(job.out / "result.json") for (p, _), job in found.items() if p == precision
        ]
        cells = (
            seed_mean([result[key] for result in results]) for key in ("valid_ppl", "test_ppl")
        )
        lines.append(f"| {name} | " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Train the missing runs, print the table and write it."""
    options = training_parser("bf16", __doc__, seeds=2).parse_args()
    found = {}
    for seed in range(1, options.seeds + 1):
        settings = get_recipe("ptb-small-real").replace(**PTB, seed=seed, threads=1)
        name = f"ptb-small-real-seed{seed}"
        found["auto", seed] = Job(settings, options.out / name)
        bf16 = settings.replace(precision="bf16")
        found["bf16", seed] = Job(bf16, options.out / f"{name}-bf16")
    run_study("bf16", list(found.values()), options, lambda: table(found))


if __name__ == "__main__":
    start(main)
