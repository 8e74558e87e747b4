"""How strong and how warm should the augmented loss be? RE with other gamma and temperature.

On the text, model and schedule of ``semantic.py --long``, whose RE and REAL (gamma 0.65 and 2.6,
temperature 20) it shares where ``--out`` is the same. The paper takes gamma from 0.5 to 0.8 and
says that moderate changes of either do no harm. ``python benchmarks/strength.py --out
runs/semantic-long`` trains what is missing (stopped, it goes on), prints the table and writes it to
``results/``.
"""

from __future__ import annotations

from semantic import BASE, REAL, STRONG, STRONG_REAL, jobs
from study import command, finished, paired, study_parser, train
from tiedlm.experiments.comparison import cell
from tiedlm.experiments.parallel import Job
from tiedlm.experiments.reproduce import markdown_table
from tiedlm.experiments.results import keep
from tiedlm.files import read_json, write_text
from tiedlm.training.run_files import RESULT

PAPER = (0.65, 20.0)
SHARED = {(0.0, 20.0): BASE, PAPER: REAL, (STRONG, 20.0): STRONG_REAL}
# gamma, temperature; alpha is their product. Gamma 0 is RE.
GRID = (
    (0.0, 20.0), (0.25, 20.0), PAPER, (1.3, 20.0), (2.6, 20.0), (5.2, 20.0), (0.65, 5.0),
    (0.65, 50.0),
)  # fmt: skip


def table(found: dict[tuple[float, float, int], Job]) -> str:
    """Return the table in Markdown: means over seeds, differences from RE paired by seed."""

    def values(gamma: float, temperature: float, key: str) -> dict[int, float]:
        return {
            seed: read_json(job.out / RESULT)[key]
            for (g, t, seed), job in found.items()
            if (g, t) == (gamma, temperature)
        }

    base = values(*GRID[0], "test_ppl")
    body = []
    for gamma, temperature in GRID:
        valid, test = (values(gamma, temperature, key) for key in ("valid_ppl", "test_ppl"))
        if not test:
            continue
        pairs = [test[seed] - base[seed] for seed in test if seed in base]
        body.append(
            (
                f"{gamma:g}", f"{temperature:g}" if gamma else "-", str(cell(list(valid.values()))),
                str(cell(list(test.values()))), paired(pairs) if gamma and pairs else "-",
            )
        )  # fmt: skip
    return markdown_table(
        ("gamma", "temperature", "validation", "test", "test, against RE, paired"), body
    )


def main() -> None:
    """Train, print, write."""
    parser = study_parser(__doc__, seeds=1, precision=True)
    parser.add_argument("--show", action="store_true", help="train nothing")
    options = parser.parse_args()
    shared = jobs(options.out, options.seeds, options.precision, long=True)[1]
    found = {}
    for gamma, temperature in GRID:
        for seed in range(1, options.seeds + 1):
            real = shared[REAL, seed]
            if (gamma, temperature) in SHARED:
                job = shared[SHARED[gamma, temperature], seed]
            else:
                changes = {"alpha": gamma * temperature, "temperature": temperature}
                name = f"gamma{gamma:g}-tau{temperature:g}-seed{seed}"
                job = Job(real.settings.replace(**changes), options.out / name)
            found[gamma, temperature, seed] = job
    if not options.show:
        train(list(found.values()), options)
    found = finished(found)
    if not found:
        raise SystemExit("no run of this study is finished")
    text = table(found)
    print(text)
    folder = keep([job.out for job in found.values()], "strength", options.results, command())
    write_text(folder / "table.md", text)
    print(folder)


if __name__ == "__main__":
    main()
