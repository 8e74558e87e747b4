"""The tables of studies.networks: perplexities, changes over networks, the search, the insides.

Each function makes a table of one text, so all its cells must have the same text.

A change is the logarithm of a ratio of test perplexities, in percent, paired by seed. Two seeds say
little about the noise of one cell. So its 95% interval comes from the deviations of all cells
together.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from studies.harness import differences, has_weights, values_by_seed
from studies.inside import Inside, measure
from tiedlm.experiments.comparison import interval95, t95
from tiedlm.experiments.parallel import Job
from tiedlm.experiments.reproduce import markdown_table

Cell = tuple[str, str, str]  # text, network, model
Point = float  # factor on all dropout
Key = tuple[Cell, Any]  # the second is the point in the search, and then the seed
Runs = dict[Key, Job]

# model -> the models with which it is compared, which differ from it by AL or by RE
COMPARED = {
    "AL-0.65": ("VD",), "AL-2.6": ("VD",), "RE": ("VD",),
    "REAL-0.65": ("VD", "RE"), "REAL-2.6": ("VD", "RE"),
}  # fmt: skip
BASES = ("VD", "RE")


def logarithms(counting: Runs, cell: Cell) -> dict[int, float]:
    """Return the logarithms of a cell's test perplexities by seed, in percent."""
    by_seed = values_by_seed(counting, (cell,), "test_ppl")
    return {seed: 100 * math.log(ppl) for seed, ppl in by_seed.items()}


def changes(counting: Runs, cell: Cell, base: str) -> list[float]:
    """Return the changes from a base model to a cell's, one for each seed that both have."""
    return differences(logarithms(counting, cell), logarithms(counting, (*cell[:2], base)))


def noise(networks: Iterable[Mapping[str, Mapping[int, float]]]) -> tuple[float, int]:
    """Return the standard deviation of a change over seeds, and its degrees of freedom.

    The changes of a network share its models, so they are not independent and cannot be pooled as
    if they were. Instead the values of each network are fitted as the sum of an effect of the model
    and one of the seed. A change is a difference of two values, so it has twice the variance of the
    residuals.

    Args:
        networks: logarithms in percent by model and seed, for each network.
    """
    squares, freedom = 0.0, 0
    for by_model in networks:
        cells = [(m, s, v) for m, by_seed in by_model.items() for s, v in by_seed.items()]
        if not cells:
            continue
        models_N, seeds_N, values_N = map(np.array, zip(*cells, strict=True))
        effects = [of_N[:, None] == np.unique(of_N) for of_N in (models_N, seeds_N)]
        design = np.concatenate(effects, 1).astype(float)
        fit, _, rank, _ = np.linalg.lstsq(design, values_N)
        squares += float(np.square(values_N - design @ fit).sum())
        freedom += len(values_N) - int(rank)
    return (math.sqrt(2 * squares / freedom) if freedom else math.nan), freedom


def with_pooled(sample: list[float], pooled: tuple[float, int]) -> str:
    """Format the mean of a sample, with its 95% interval by a pooled deviation."""
    if not sample:
        return "-"
    deviation, freedom = pooled
    mean = f"{statistics.fmean(sample):+.1f}"
    if not freedom:
        return f"{mean} (1 seed)"
    return f"{mean} ± {t95(freedom) * deviation / math.sqrt(len(sample)):.1f}"


def table(counting: Runs, chosen: Mapping[Cell, Point]) -> str:
    """Return the table of the runs that count, in Markdown."""
    found = {
        (cell, base): changes(counting, cell, base)
        for cell in chosen
        for base in COMPARED.get(cell[2], ())
    }
    networks: dict[str, dict[str, dict[int, float]]] = {}
    for cell in chosen:
        networks.setdefault(cell[1], {})[cell[2]] = logarithms(counting, cell)
    pooled = noise(networks.values())
    body = []
    for cell, point in chosen.items():
        valid, test = (
            values_by_seed(counting, (cell,), name) for name in ("valid_ppl", "test_ppl")
        )
        if test:
            means = (f"{statistics.fmean(part.values()):.2f}" for part in (valid, test))
            against = (with_pooled(found.get((cell, base), []), pooled) for base in BASES)
            body.append((*cell[1:], f"x {point:g}", str(len(test)), *means, *against))
    return markdown_table(
        (
            "network", "model", "dropout", "seeds", "validation", "test",
            "test, % against VD", "test, % against RE",
        ),
        body,
    )  # fmt: skip


def over_networks(counting: Runs, chosen: Mapping[Cell, Point]) -> str:
    """Return the table of changes over the networks, in Markdown.

    Each network gives one number, its mean over seeds. The interval is over these numbers.
    """
    body = []
    for model, bases in COMPARED.items():
        for base in bases:
            cells = (cell for cell in chosen if cell[2] == model)
            samples = [sample for cell in cells if (sample := changes(counting, cell, base))]
            if samples:
                means = [statistics.fmean(sample) for sample in samples]
                half = interval95(means)
                body.append(
                    (
                        model, base, f"{sum(m < 0 for m in means)} of {len(means)}",
                        f"{statistics.fmean(means):+.1f}" + (f" ± {half:.1f}" if half else ""),
                    )
                )  # fmt: skip
    return markdown_table(
        ("model", "against", "networks with a lower test perplexity", "test, %"), body
    )


def search_table(
    tried: Mapping[Cell, Mapping[Point, float]],
    points: Iterable[Point],
    chosen: Mapping[Cell, Point],
) -> str:
    """Return the log of the search: validation perplexities of seed 1, the chosen one in bold."""
    points = [point for point in points if any(point in found for found in tried.values())]
    body = []
    for cell, found in tried.items():
        row = []
        for point in points:
            ppl = found.get(point)
            text = "-" if ppl is None else f"{ppl:.2f}" if math.isfinite(ppl) else "diverged"
            row.append(f"**{text}**" if chosen.get(cell) == point else text)
        if found:
            body.append((*cell[1:], *row))
    return markdown_table(("network", "model", *(f"dropout x {p:g}" for p in points)), body)


def insides(
    counting: Runs, chosen: Mapping[Cell, Point], known: dict[str, list[float]]
) -> dict[str, list[float]]:
    """Return the third table's numbers by cell; keep known ones that come from more seeds.

    Args:
        counting: the finished runs that count.
        chosen: the dropout of each cell.
        known: earlier numbers; of each cell the measurements, then the number of seeds.
    """
    numbers = dict(known)
    for cell in chosen:
        jobs = [job for (own, _), job in counting.items() if own == cell and has_weights(job)]
        if jobs and len(jobs) >= numbers.get("-".join(cell), [0])[-1]:
            means = (statistics.fmean(values) for values in zip(*map(measure, jobs), strict=True))
            numbers["-".join(cell)] = [*means, len(jobs)]
    return numbers


def inside_table(numbers: Mapping[str, list[float]], chosen: Iterable[Cell]) -> str:
    """Return the third table in Markdown."""
    body = []
    for cell in chosen:
        if "-".join(cell) in numbers:
            *means, seeds = numbers["-".join(cell)]
            found = Inside(*means)
            body.append(
                (
                    *cell[1:], f"{found.vectors:.2f}", f"{found.rows:.2f}", f"{found.distance:.3f}",
                    f"{found.choices:.1%}", f"{found.push:.1%}" if found.push else "-",
                    f"{seeds:.0f}",
                )
            )  # fmt: skip
    return markdown_table(
        (
            "network", "model", "norm of a word vector", "norm of a classifier row",
            "subspace distance", "words of a soft target", "push of AL", "seeds",
        ),
        body,
    )  # fmt: skip
