"""Does bfloat16 in the matrix products change the perplexity? REAL on PTB's first 22.5%.

``python benchmarks/bf16.py --out runs/target-grad`` trains float32 and bfloat16 with the same seeds
(stopped, it goes on; the float32 runs are those of ``target_grad.py``), prints the table and writes
it to ``results/``.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from target_grad import PTB
from tiedlm.experiments.comparison import cell
from tiedlm.experiments.parallel import Job, train_all
from tiedlm.experiments.recipes import get_recipe
from tiedlm.experiments.results import keep
from tiedlm.files import read_json, write_text
from tiedlm.progress import ProgressView


def main() -> None:
    """Train, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/target-grad"))
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    found = {}
    for seed in range(1, options.seeds + 1):
        settings = get_recipe("ptb-small-real").replace(**PTB, seed=seed, threads=1)
        name = f"ptb-small-real-seed{seed}"
        found["auto", seed] = Job(settings, options.out / name)
        bf16 = settings.replace(precision="bf16")
        found["bf16", seed] = Job(bf16, options.out / f"{name}-bf16")
    with ProgressView() as view:
        train_all(list(found.values()), options.jobs, view)
    lines = ["| products | validation | test |", "|---|---|---|"]
    for precision, name in (("auto", "float32"), ("bf16", "bfloat16")):
        results = [
            read_json(job.out / "result.json") for (p, _), job in found.items() if p == precision
        ]
        cells = (cell([result[key] for result in results]) for key in ("valid_ppl", "test_ppl"))
        lines.append(f"| {name} | " + " | ".join(map(str, cells)) + " |")
    text = "\n".join(lines) + "\n"
    print(text)
    command = "python " + " ".join(sys.argv)
    folder = keep([job.out for job in found.values()], "bf16", options.results, command)
    write_text(folder / "table.md", text)
    print(folder)


if __name__ == "__main__":
    main()
