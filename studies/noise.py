"""How far apart are runs that differ only in their seed?

Reads from results/ the runs of studies.semantic --long, studies.strength and studies.bias, which
share one text, one schedule and one size. Three seeds of one kind of model say little about the
noise. All kinds together say more, provided that seeds matter equally in each. The table is in
docs/reproduction.md.

The studies pair differences by seed. Pairing helps only if a seed is good or bad for every kind of
model. The last number of the table shows whether this is so: it is the deviation after the mean of
each seed is subtracted.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from studies.harness import add_results, show_table, start, study_parser
from studies.semantic import BASE, jobs
from tiedlm.experiments.cells import what_it_is
from tiedlm.experiments.comparison import t95
from tiedlm.experiments.recipes import get_recipe
from tiedlm.experiments.reproduce import markdown_table
from tiedlm.experiments.results import KeptRun, kept_runs
from tiedlm.training.settings import Settings

# Kinds differ in these settings only. A run with any other difference belongs to another study.
OF_A_KIND = (
    "soft_target", "soft_target_from", "target_grad", "alpha", "temperature", "decoder_bias",
)  # fmt: skip
PARTS = ("valid_ppl", "test_ppl")
FAR = 3.0  # leave out kinds beyond this many times the median deviation

Values = Sequence[Mapping[int, float]]  # a kind's perplexities by seed


def kinds(results: Path, least: int = 2) -> dict[str, dict[str, dict[int, float]]]:
    """Return perplexities by kind, part and seed, for the kinds that have at least some seeds."""
    base = what_it_is(jobs(Path(), 1, "auto", long=True)[1][BASE, 1].settings.to_dict())
    same = {name: getattr(base, name) for name in OF_A_KIND}
    found: dict[str, dict[str, dict[int, float]]] = {}
    for run in kept_runs(results):
        settings = Settings.from_dict(run.config["settings"])
        which = what_it_is(settings.to_dict())
        if which.replace(**same) != base or settings.init_from is not None:
            continue
        parts = found.setdefault(name_of(which), {part: {} for part in PARTS})
        for part in PARTS:
            parts[part].setdefault(settings.seed, run.metrics[part])
    return {name: parts for name, parts in sorted(found.items()) if len(parts["test_ppl"]) >= least}


def name_of(kind: Settings) -> str:
    """Return the name of a kind."""
    name = "RE"
    if kind.alpha:
        detached = kind.soft_target == "own" and not kind.target_grad
        gamma = kind.alpha / kind.temperature
        name = f"{kind.soft_target}{', detached' if detached else ''}"
        name += f", gamma {gamma:.3g}, temperature {kind.temperature:g}"
    return name if kind.decoder_bias else f"{name}, b = 0"


def pooled(values: Values) -> tuple[float, int]:
    """Return the standard deviation within kinds, pooled over them, and its degrees of freedom."""
    freedom = sum(len(of_kind) - 1 for of_kind in values)
    squares = sum(statistics.variance(of_kind.values()) * (len(of_kind) - 1) for of_kind in values)
    return math.sqrt(squares / freedom), freedom


def without_seeds(values: Values) -> float:
    """Return the standard deviation within kinds after subtracting the means of the seeds.

    This is the residual of a two-way layout of the kinds that have all seeds.
    """
    seeds = set().union(*values)
    full = [of_kind for of_kind in values if set(of_kind) == seeds]
    centred = [
        {seed: value - statistics.fmean(of_kind.values()) for seed, value in of_kind.items()}
        for of_kind in full
    ]
    means = {seed: statistics.fmean(of_kind[seed] for of_kind in centred) for seed in seeds}
    squares = sum((of_kind[seed] - means[seed]) ** 2 for of_kind in centred for seed in seeds)
    return math.sqrt(squares / ((len(full) - 1) * (len(seeds) - 1)))


def far_off(values: Mapping[str, Mapping[int, float]]) -> set[str]:
    """Return the kinds whose deviation is more than :data:`FAR` times the median kind's."""
    deviations = {name: statistics.stdev(of_kind.values()) for name, of_kind in values.items()}
    median = statistics.median(deviations.values())
    return {name for name, deviation in deviations.items() if deviation > FAR * median}


def both(numbers: Iterable[float]) -> str:
    """Format a number of the validation text and one of the test text."""
    return " / ".join(f"{number:.2f}" for number in numbers)


def table(results: Path) -> str:
    """Return the table of deviations by kind in Markdown, and a sentence with the pooled ones."""
    found = kinds(results)
    body = []
    for name, parts in found.items():
        deviations = (statistics.stdev(parts[part].values()) for part in PARTS)
        body.append((name, str(len(parts["test_ppl"])), *(f"{d:.2f}" for d in deviations)))
    text = markdown_table(("kind", "seeds", "validation", "test"), body)
    apart = far_off({name: parts["test_ppl"] for name, parts in found.items()})
    values = [[parts[part] for name, parts in found.items() if name not in apart] for part in PARTS]
    deviations, freedoms = zip(*(pooled(of_part) for of_part in values), strict=True)
    halves = [t95(freedoms[0]) * deviation * math.sqrt(2) for deviation in deviations]
    left_out = f" (without {' and '.join(sorted(apart))})" if apart else ""
    everything = (pooled([parts[part] for parts in found.values()])[0] for part in PARTS)
    with_all = f" With all kinds it is {both(everything)}." if apart else ""
    apart_95 = both(half / math.sqrt(3) for half in halves)
    text += (
        f"\nThe pooled deviation{left_out} is {both(deviations)} ({freedoms[0]} degrees of "
        f"freedom).{with_all} If two kinds do not differ, then in 95 of 100 cases their means of "
        f"three seeds differ by less than {apart_95} and two single runs by less than "
        f"{both(halves)}. After subtracting the seeds' means, the deviation is "
        f"{both(map(without_seeds, values))}.\n"
    )
    return text


def of_the_whole_text(runs: Iterable[KeptRun]) -> str:
    """Return how far the first sessions of Table 1's small baseline are apart, in two sentences."""
    baseline = what_it_is(get_recipe("ptb-small").to_dict())
    found = []
    for run in runs:
        settings = Settings.from_dict(run.config["settings"])
        if settings.init_from is None and what_it_is(settings.to_dict()) == baseline:
            found.append(run.metrics)
    if len(found) < 2:
        return ""
    deviations = [statistics.stdev(metrics[part] for metrics in found) for part in PARTS]
    halves = [t95(len(found) - 1) * deviation * math.sqrt(2) for deviation in deviations]
    return (
        f"The {len(found)} first sessions of the small baseline have standard deviations of "
        f"{both(deviations)}. By these alone, two single runs on the whole text differ by less "
        f"than {both(halves)} in 95 of 100 cases (t with {len(found) - 1} degrees of freedom)."
    )


def main() -> None:
    """Print the table and write it."""
    parser = study_parser("noise", __doc__, out="folder for table.md")
    add_results(parser)
    options = parser.parse_args()
    show_table(table(options.results), options.out)


if __name__ == "__main__":
    start(main)
