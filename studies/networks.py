"""Does the augmented loss carry over to other networks?

Trains VD, AL, RE and REAL with gamma 0.65 and 2.6 as an LSTM, RHN, GRU, AWD-LSTM and Transformer.
The texts are the demo's and Penn Treebank's first 22.5%. The models are small and the schedules
short, so that the whole table takes some 12 hours on one core. Compare the models of a network
with each other, not with published perplexities.

All cells are tuned by the same search for the strength of dropout: the augmented loss is a
regulariser too, so a baseline with too little dropout would be unfair. Seed 1 trains the network's
settings with all dropout times 1 and times 0.5. Then it takes further factors of :data:`POINTS`
until both neighbours of the best one are tried. Validation decides which is best; the test text
does not. The chosen setting is then trained with seeds 2 to N. Only these count: seed 1 chose, so
its numbers are too good.

The same command resumes what was stopped. --texts, --networks and --cells train a part, so that
several evenings share the work. Finished runs that are kept in results/ are not trained again. With
--show the program trains nothing, and says how long the missing runs may take.

It prints four tables of each text (studies/network_tables.py): each cell, the changes over all
networks, the log of the search, and the models from inside, such as norms and the size of the
gradients. A text's tables and runs are kept in a folder of their own.

    python -m studies.networks --precision bf16 --jobs 1 --budget 120
"""

from __future__ import annotations

import argparse
import itertools
import math
import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from studies import network_tables as tables
from studies.harness import (
    add_parts,
    keep_table,
    kept_measurements,
    start,
    train,
    training_parser,
    with_kept,
)
from studies.network_tables import Cell, Point, Runs
from tiedlm.errors import UserError
from tiedlm.experiments.parallel import Job
from tiedlm.experiments.recipes import get_recipe
from tiedlm.experiments.reproduce import markdown_table
from tiedlm.files import read_json, write_text
from tiedlm.training.outcomes import Diverged
from tiedlm.training.run_files import RESULT
from tiedlm.training.settings import Settings

NAME = "networks"
KEPT = f"{NAME}-*"  # names of its folders in results/, without the date

_DEMO = get_recipe("demo")
TEXTS: dict[str, dict[str, Any]] = {  # the cheaper first
    "demo": {name: getattr(_DEMO, name) for name in ("data", "fraction", "min_count")}
    | {"epochs": 14},
    "ptb": {"data": "ptb", "fraction": 0.225, "min_count": 2, "epochs": 10},
}
WORDS = {"demo": 59_667, "ptb": 209_145}  # of training
# Training words a second on one core of docs/performance.md with bf16, VD and AL together.
SPEEDS = {
    "demo": {
        "lstm": 17_000,
        "gru": 15_000,
        "transformer": 10_000,
        "awd-lstm": 17_000,
        "rhn": 17_000,
    },
    "ptb": {"lstm": 12_000, "gru": 11_000, "transformer": 8_000, "awd-lstm": 12_000, "rhn": 12_000},
}

# All networks share the width, the text's epochs and a learning rate that rises for 100 updates and
# then falls as a cosine to a fiftieth. How high it rises was chosen for each network by short runs
# of VD on the demo's text (docs/experiments.md). :data:`RATES` has the exceptions.
_SHARED = Settings(
    d_embed=100, d_hidden=100, decoder_bias=True, schedule="cosine", warmup=100, threads=1,
    temperature=20.0, target_grad=True,
)  # fmt: skip
NETWORKS = {
    "lstm": _SHARED.replace(network="lstm", lr=2.0, dropout_input=0.3, dropout_hidden=0.3),
    "gru": _SHARED.replace(network="gru", lr=1.0, dropout_input=0.3, dropout_hidden=0.3),
    "transformer": _SHARED.replace(
        network="transformer", optimizer="adam", lr=3e-3, clip=8.75, init_range=0.05,
        dropout_input=0.3, dropout_hidden=0.2,
        options={"n_heads": 2, "memory": 70, "dropout_output": 0.3},
    ),
    "awd-lstm": _SHARED.replace(
        network="awd_lstm", lr=1.0, clip=8.75, ar=7, tar=3.5,
        dropout_words=0.05, dropout_input=0.3, dropout_hidden=0.2,
        options={"dropout_output": 0.3, "dropconnect": 0.2},
    ),
    "rhn": _SHARED.replace(
        network="rhn", n_layers=1, lr=2.0, init_range=0.05, dropout_input=0.3, dropout_hidden=0.2,
        options={"depth": 3, "dropout_output": 0.3},
    ),
}  # fmt: skip
# On Penn Treebank these need less than the network's own rate: RHN diverges with it, and VD of the
# Transformer is far worse.
RATES = {("ptb", "rhn"): 1.0, ("ptb", "transformer"): 1e-3}
MODELS = {  # tied, gamma
    "VD": (False, 0.0), "AL-0.65": (False, 0.65), "AL-2.6": (False, 2.6),
    "RE": (True, 0.0), "REAL-0.65": (True, 0.65), "REAL-2.6": (True, 2.6),
}  # fmt: skip
POINTS = (0.125, 0.25, 0.5, 1.0, 1.5, 2.0)  # factors on all dropout
FIRST_POINTS = (1.0, 0.5)  # where each search begins
SEARCH_SEED = 1
DIVERGED = "diverged.txt"  # in the folder of a run that cannot finish


def make_job(cell: Cell, point: Point, seed: int, options: argparse.Namespace) -> Job:
    """Return one run: a network's settings with all its dropout scaled."""
    text, network, model = cell
    tied, gamma = MODELS[model]
    base = NETWORKS[network]
    dropped = {
        name: round(point * getattr(base, name), 6)
        for name in ("dropout_input", "dropout_hidden", "dropout_words")
    }
    of_network = {  # dropout_output and dropconnect are options
        name: round(point * value, 6) if name.startswith("drop") else value
        for name, value in base.options.items()
    }
    rate = RATES.get((text, network), base.lr)
    settings = base.replace(
        **TEXTS[text], **dropped, options=of_network, tied=tied, alpha=gamma * base.temperature,
        lr=rate, lr_min=rate / 50, seed=seed, precision=options.precision,
    )  # fmt: skip
    return Job(settings, options.out / f"{text}-{network}-{model}-dropout{point:g}-seed{seed}")


def search_jobs(cells: Iterable[Cell], options: argparse.Namespace) -> Runs:
    """Return the runs that the search may need."""
    pairs = itertools.product(cells, POINTS)
    return {(c, point): make_job(c, point, SEARCH_SEED, options) for c, point in pairs}


def counted_jobs(chosen: Mapping[Cell, Point], options: argparse.Namespace) -> Runs:
    """Return the runs that count: each cell's chosen setting with the other seeds."""
    return {
        (cell, seed): make_job(cell, point, seed, options)
        for cell, point in chosen.items()
        for seed in range(SEARCH_SEED + 1, options.seeds + 1)
    }


def tried_points(search: Runs, found: Runs, gone: set[str]) -> dict[Cell, dict[Point, float]]:
    """Return the validation perplexities of the search, by cell and point.

    Args:
        search: all runs that the search may need.
        found: the finished ones.
        gone: names of the runs that diverged; their perplexity is infinite.
    """
    tried: dict[Cell, dict[Point, float]] = {cell: {} for cell, _ in search}
    for (cell, point), job in search.items():
        if (cell, point) in found:
            tried[cell][point] = read_json(found[cell, point].out / RESULT)["valid_ppl"]
        elif job.out.name in gone:
            tried[cell][point] = math.inf
    return tried


def next_points(tried: Mapping[Point, float]) -> list[Point]:
    """Return the points that a search needs next; none once it is over."""
    first = [point for point in FIRST_POINTS if point not in tried]
    if first:
        return first
    best = POINTS.index(min(tried, key=tried.__getitem__))
    return [point for point in POINTS[max(0, best - 1) : best + 2] if point not in tried]


def choices(tried: Mapping[Cell, Mapping[Point, float]]) -> dict[Cell, Point]:
    """Return the point with the best validation perplexity, for each cell whose search is over."""
    return {
        cell: min(points, key=points.__getitem__)
        for cell, points in tried.items()
        if not next_points(points) and min(points.values()) < math.inf
    }


def diverged(options: argparse.Namespace) -> set[str]:
    """Return the names of the runs that diverged, of --out and of the kept results."""
    here = (path.parent.name for path in options.out.glob(f"*/{DIVERGED}"))
    before = (kept(text, options).get("diverged", []) for text in TEXTS)
    return {*here, *itertools.chain.from_iterable(before)}


def kept(text: str, options: argparse.Namespace) -> dict[str, Any]:
    """Return the measurements of a text that are kept."""
    return kept_measurements(name_of(text), argparse.Namespace(results=options.results, show=True))


def name_of(text: str) -> str:
    """Return the name of a text's folder in ``results/``, without the date."""
    return f"{NAME}-{text}"


class Progress(NamedTuple):
    """How far some cells are.

    Args:
        tried: validation perplexities of the search, by cell and point.
        chosen: the point of each cell whose search is over.
        counting: the finished runs of the chosen points with the other seeds.
        finished: all finished runs.
        gone: names of the runs that diverged, of all cells.
    """

    tried: dict[Cell, dict[Point, float]]
    chosen: dict[Cell, Point]
    counting: Runs
    finished: Runs
    gone: set[str]


def progress(cells: Iterable[Cell], options: argparse.Namespace) -> Progress:
    """Return how far these cells are, with the runs of --out and the kept ones."""
    search, gone = search_jobs(cells, options), diverged(options)
    found = with_kept(KEPT, search, options.results)
    tried = tried_points(search, found, gone)
    chosen = choices(tried)
    counting = with_kept(KEPT, counted_jobs(chosen, options), options.results)
    return Progress(tried, chosen, counting, found | counting, gone)


def train_missing(jobs: Runs, options: argparse.Namespace, deadline: float) -> bool:
    """Train the runs that have no result, and return whether none is left.

    A run that diverges is marked and left out; the others go on.
    """
    known = with_kept(KEPT, jobs, options.results)
    while True:
        gone = diverged(options)
        missing = [j for key, j in jobs.items() if key not in known and j.out.name not in gone]
        left = argparse.Namespace(jobs=options.jobs, budget=(deadline - time.monotonic()) / 60)
        try:
            return not missing or train(missing, left)
        except Diverged as error:
            print(f"{error.out} diverged and is left out")
            write_text(error.out / DIVERGED, f"{error}\n")


def train_group(cells: Sequence[Cell], options: argparse.Namespace, deadline: float) -> bool:
    """Search and repeat the cells of a network, and return whether nothing is left to do."""
    search = search_jobs(cells, options)
    while True:
        now = progress(cells, options)
        wanted = {
            (cell, point): search[cell, point]
            for cell in cells
            for point in next_points(now.tried[cell])
        }
        if not wanted:
            return train_missing(counted_jobs(now.chosen, options), options, deadline)
        if not train_missing(wanted, options, deadline):
            return False


def hours(text: str, network: str) -> float:
    """Estimate the hours of one run on one core, from the speeds that were measured."""
    return WORDS[text] * TEXTS[text]["epochs"] / SPEEDS[text][network] / 3600


def cost_table(missing_runs: Mapping[Cell, int], finished: Runs) -> str:
    """Return the hours that the missing runs may take on one core.

    If runs of the same text and network are finished, their mean time is used, else the estimate.
    """
    body, total = [], 0.0
    for text, network in dict.fromkeys(cell[:2] for cell in missing_runs):
        group = [cell for cell in missing_runs if cell[:2] == (text, network)]
        missing = sum(missing_runs[cell] for cell in group)
        times = [
            read_json(job.out / RESULT)["seconds"] / 3600
            for (cell, _), job in finished.items()
            if cell[:2] == (text, network)
        ]
        cost = missing * (statistics.fmean(times) if times else hours(text, network))
        total += cost
        body.append((text, network, str(missing), f"{cost:.1f}"))
    body.append(("all", "", "", f"{total:.1f}"))
    return markdown_table(("text", "network", "missing runs, at least", "hours on one core"), body)


def arguments() -> argparse.Namespace:
    """Return the flags."""
    parser = training_parser(NAME, __doc__, seeds=3, precision=True, show=True)
    add_parts(parser, texts=TEXTS, networks=NETWORKS, cells=MODELS)
    return parser.parse_args()


def show_cost(cells: Sequence[Cell], options: argparse.Namespace) -> None:
    """Print what the missing runs of these cells may cost."""
    now = progress(cells, options)
    counted = counted_jobs(now.chosen, options)
    over = [
        key[0] for key, job in counted.items() if key in now.counting or job.out.name in now.gone
    ]
    missing = {
        cell: len(next_points(now.tried[cell])) + options.seeds - 1 - over.count(cell)
        for cell in cells
    }
    print(cost_table(missing, now.finished))


def report(text: str, options: argparse.Namespace) -> bool:
    """Print and keep the tables of a text, and return whether a run of it is finished."""
    now = progress(itertools.product([text], NETWORKS, MODELS), options)
    if not now.finished:
        return False
    inside = tables.insides(now.counting, now.chosen, kept(text, options).get("inside", {}))
    parts = (
        tables.table(now.counting, now.chosen),
        tables.over_networks(now.counting, now.chosen),
        tables.search_table(now.tried, POINTS, now.chosen),
        tables.inside_table(inside, now.chosen),
    )
    page = "\n".join(parts)
    gone = sorted(name for name in now.gone if name.startswith(f"{text}-"))
    page += f"\nDiverged: {', '.join(gone)}\n" if gone else ""
    runs = [job.out for job in now.finished.values()]
    keep_table(name_of(text), runs, options, page, {"diverged": gone, "inside": inside})
    return True


def main() -> None:
    """Train the missing runs, network by network, print the tables and write them."""
    options = arguments()
    deadline = time.monotonic() + 60 * options.budget
    cells = list(itertools.product(options.texts, options.networks, options.cells))
    for group in () if options.show else dict.fromkeys(cell[:2] for cell in cells):
        if not train_group([cell for cell in cells if cell[:2] == group], options, deadline):
            break

    if options.show:
        show_cost(cells, options)
    if not any([report(text, options) for text in options.texts]) and not options.show:
        raise UserError(f"no run of this study is finished in {options.out}")


if __name__ == "__main__":
    start(main)
