"""Does bfloat16 in the matrix products change the perplexity? REAL on PTB's first 22.5%.

``python benchmarks/bf16.py --out runs/target-grad`` trains float32 and bfloat16 with the same seeds
(stopped, it goes on; the float32 runs are those of ``target_grad.py``), prints the table and writes
it to ``results/``.
"""

from __future__ import annotations

from study import run_study, study_parser
from target_grad import PTB
from tiedlm.experiments.comparison import seed_mean
from tiedlm.experiments.parallel import Job
from tiedlm.experiments.recipes import get_recipe
from tiedlm.files import read_json


def table(found: dict[tuple[str, int], Job]) -> str:
    """Return the table in Markdown: means over seeds."""
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
    """Train, print, write."""
    options = study_parser(__doc__, seeds=2).parse_args()
    found = {}
    for seed in range(1, options.seeds + 1):
        settings = get_recipe("ptb-small-real").replace(**PTB, seed=seed, threads=1)
        name = f"ptb-small-real-seed{seed}"
        found["auto", seed] = Job(settings, options.out / name)
        bf16 = settings.replace(precision="bf16")
        found["bf16", seed] = Job(bf16, options.out / f"{name}-bf16")
    run_study("bf16", list(found.values()), options, lambda: table(found))


if __name__ == "__main__":
    main()
