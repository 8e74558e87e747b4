"""How strong and how warm should the augmented loss be, and is it semantic when it is strong?

RE with other gamma and temperature, with the model's own soft target, with and without its
gradient, and with two that mean nothing, on the text, model and schedule of ``semantic.py --long``,
whose runs at the paper's gamma and temperature it shares where ``--out`` is the same. The paper
takes gamma from 0.5 to 0.8 and says that moderate changes of either do no harm. ``python
benchmarks/strength.py --out runs/semantic-long`` trains what is missing (stopped, it goes on),
prints the table of what there is and writes it to ``results/``.
"""

from __future__ import annotations

from semantic import BASE, REAL, jobs
from study import differences, keep_table, paired, study_parser, trained, values_by_seed
from tiedlm.experiments.comparison import cell
from tiedlm.experiments.parallel import Job
from tiedlm.experiments.reproduce import markdown_table

# Soft target, gamma, temperature; alpha is the product of the two. Gamma 0 is RE.
Point = tuple[str, float, float]
RE: Point = ("none", 0.0, 20.0)
OWN: tuple[Point, ...] = (
    *(("own", gamma, 20.0) for gamma in (0.25, 0.65, 1.3, 2.6, 5.2, 10.4)),
    ("own", 0.65, 5.0), ("own", 0.65, 50.0),
)  # fmt: skip
DETACHED: tuple[Point, ...] = tuple(("detached", gamma, 20.0) for gamma in (0.65, 5.2))
UNIFORM: tuple[Point, ...] = tuple(("uniform", gamma, 20.0) for gamma in (0.65, 2.6, 5.2, 10.4))
PERMUTED: tuple[Point, ...] = tuple(("permuted", gamma, 20.0) for gamma in (0.65, 5.2))
GRID = (RE, *OWN, *DETACHED, *UNIFORM, *PERMUTED)
# Those that are runs of semantic.py, and which run of it another strength of a target changes.
SHARED = {
    RE: BASE, ("own", 0.65, 20.0): REAL, ("detached", 0.65, 20.0): "own, detached",
    ("uniform", 0.65, 20.0): "uniform", ("permuted", 0.65, 20.0): "permuted rows",
}  # fmt: skip
OF_TARGET = {target: name for (target, _, _), name in SHARED.items()}


def table(found: dict[tuple[Point, int], Job]) -> str:
    """Return the table in Markdown: means over seeds, differences from RE paired by seed."""
    base = values_by_seed(found, (RE,), "test_ppl")
    body = []
    for point in GRID:
        target, gamma, temperature = point
        valid, test = (
            values_by_seed(found, (point,), value) for value in ("valid_ppl", "test_ppl")
        )
        if not test:
            continue
        pairs = differences(test, base)
        body.append(
            (
                target, f"{gamma:g}", f"{temperature:g}" if gamma else "-",
                str(cell(list(valid.values()))), str(cell(list(test.values()))),
                paired(pairs) if gamma and pairs else "-",
            )
        )  # fmt: skip
    return markdown_table(
        ("soft target", "gamma", "temperature", "validation", "test", "test, against RE, paired"),
        body,
    )


def main() -> None:
    """Train, print, write."""
    options = study_parser(__doc__, seeds=1, precision=True, show=True).parse_args()
    shared = jobs(options.out, options.seeds, options.precision, long=True)[1]
    found = {}
    for point in GRID:
        target, gamma, temperature = point
        for seed in range(1, options.seeds + 1):
            job = shared[OF_TARGET[target], seed]
            if point not in SHARED:
                changes = {"alpha": gamma * temperature, "temperature": temperature}
                name = f"gamma{gamma:g}-tau{temperature:g}-seed{seed}"
                settings = job.settings.replace(**changes)
                prefix = "" if target == "own" else f"{target}-"
                job = Job(settings, options.out / (prefix + name))
            found[point, seed] = job
    found = trained(found, list(found.values()), options)
    keep_table("strength", [job.out for job in found.values()], options, table(found))


if __name__ == "__main__":
    main()
