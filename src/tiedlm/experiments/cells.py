"""Define the runs behind the paper's tables, and estimate their cost."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tiedlm.errors import UserError
from tiedlm.experiments.paper import SIZES, TABLE1, TABLE2, Published
from tiedlm.experiments.parallel import Job
from tiedlm.experiments.recipes import TIED, VARIANTS, get_recipe
from tiedlm.model import ModelConfig
from tiedlm.training import same_run
from tiedlm.training.run_files import RESULT
from tiedlm.training.settings import Settings

# Floating-point operations per second of a training step on two cores. The machine and the
# table are in docs/performance.md: between 1.7e11 (REAL, d = 200) and 3.2e11 (d = 1500).
FLOPS = 2.5e11

# Suffix of the tied cells without a bias, as in the paper. The tied recipes have a bias.
NO_BIAS = "-b0"
WITHOUT_BIAS = {suffix + NO_BIAS: f"{VARIANTS[suffix]}, b = 0" for suffix in TIED}

# Extra values of gamma = alpha / tau. The recipes use 0.65; the paper uses 0.5 to 0.8 on PTB.
OTHER_GAMMAS = {"ptb-small-al": (0.8, 2.6), "ptb-small-real": (5.2,)}


@dataclass(frozen=True)
class Cell:
    """A cell of a table: one row of the paper, trained with one or more seeds.

    Args:
        name: name of the cell, unique in its table.
        settings: settings of the first session; :func:`jobs_of` sets the seed.
        paper: the perplexities the paper reports.
        sessions: 2 if the paper trains again from the best weights (footnote 4), otherwise 1.
        beside: whether the cell is our addition to the paper's rows. Such a cell must be named in
            full, because patterns do not match it.
    """

    name: str
    settings: Settings
    paper: Published
    sessions: int = 1
    beside: bool = False

    def folder(self, seed: int, session: int = 1) -> str:
        """Return the name of the run folder for a seed and session."""
        return f"{self.name}-seed{seed}" + (f"-session{session}" if session > 1 else "")

    def hours(self) -> float:
        """Estimate the hours that one session of one seed takes on two CPU cores."""
        settings = self.settings
        tokens, vocab_size = SIZES[settings.data]
        config = ModelConfig(
            vocab_size=vocab_size,
            d_embed=settings.d_embed,
            d_hidden=settings.d_hidden,
            n_layers=settings.n_layers,
            tied=True,
        )
        # Forward and backward take three matrix products: six operations per weight and token.
        operations = 6 * config.num_params() * tokens * settings.fraction * settings.epochs
        return operations / FLOPS / 3600


def table1() -> list[Cell]:
    """Return the cells of Table 1 in the paper's order, then our additions to them."""
    cells = [
        Cell(name, get_recipe(name), paper, 2 if name.startswith("ptb-small") else 1)
        for name, paper in TABLE1.items()
    ]
    return [*cells, *_without_bias(cells), *_other_gammas(cells)]


def _without_bias(cells: list[Cell]) -> list[Cell]:
    """Return the small and medium tied cells of Penn Treebank with the bias removed."""
    return [
        dataclasses.replace(
            cell,
            name=cell.name + NO_BIAS,
            settings=cell.settings.replace(decoder_bias=False),
            beside=True,
        )
        for cell in cells
        if cell.settings.tied and cell.name.startswith(("ptb-small", "ptb-medium"))
    ]


def _other_gammas(cells: list[Cell]) -> list[Cell]:
    """Return the cells of :data:`OTHER_GAMMAS`, with other weights of the augmented loss."""
    return [
        dataclasses.replace(
            cell,
            name=f"{cell.name}-gamma{gamma:g}",
            settings=cell.settings.replace(alpha=gamma * cell.settings.temperature),
            beside=True,
        )
        for cell in cells
        for gamma in OTHER_GAMMAS.get(cell.name, ())
    ]


def table2() -> list[Cell]:
    """Return the cells of Table 2: halves of WikiText-2 with the whole text's vocabulary.

    The paper does not give the dropout of these models. They use Penn Treebank's, since its text is
    about as long. With WikiText-2's own 0.2 the baseline ends further above the paper
    (docs/experiments.md).
    """
    drop = get_recipe("ptb-small").dropout_hidden
    return [
        Cell(
            name.replace("wikitext-2", f"wikitext-2-{which}-half"),
            get_recipe(name).replace(
                fraction=0.5,
                skip=0.5 * half,
                vocab_from="whole",
                dropout_input=drop,
                dropout_hidden=drop,
            ),
            papers[half],
        )
        for half, which in enumerate(("first", "second"))
        for name, papers in TABLE2.items()
    ]


def choose(cells: list[Cell], only: list[str]) -> list[Cell]:
    """Select cells by name, or by prefix as in ``ptb-small*``.

    A prefix matches the paper's cells only; our additions must be named in full.

    Raises:
        UserError: if a name matches no cell.
    """
    if not only:
        return cells
    chosen = []
    for pattern in only:
        stem = pattern.removesuffix("*")
        found = [
            cell
            for cell in cells
            if cell.name == pattern
            or (pattern != stem and cell.name.startswith(stem) and not cell.beside)
        ]
        if not found:
            names = ", ".join(cell.name for cell in cells)
            raise UserError(f"--only {pattern!r}: no such cell; there are {names}")
        chosen += [cell for cell in found if cell not in chosen]
    return chosen


def jobs_of(
    cells: list[Cell], seeds: Iterable[int], out: Path, changes: dict[str, Any]
) -> list[Job]:
    """Return the jobs that train some cells: all first sessions, then all second ones.

    Args:
        cells: the cells to train.
        seeds: the seeds of each cell.
        out: the folder that holds the run folders.
        changes: settings that do not change the result, such as the device.
    """
    jobs, seeds = [], list(seeds)
    for session in (1, 2):
        for seed in seeds:
            for cell in cells:
                if session > cell.sessions:
                    continue
                settings = cell.settings.replace(seed=seed, **changes)
                if session == 1:
                    jobs.append(Job(settings, out / cell.folder(seed)))
                    continue
                first = out / cell.folder(seed)
                settings = settings.replace(init_from=str(first))
                jobs.append(Job(settings, out / cell.folder(seed, 2), after=first))
    return jobs


def what_it_is(settings: dict[str, Any]) -> Settings:
    """Return the settings that all runs of a cell share, given the settings of one run."""
    return same_run.of_cell(Settings.from_dict(settings))


def which_run(settings: Settings) -> Settings:
    """Return the settings that identify one run of a cell, including its seed and session."""
    of_cell = same_run.of_cell(settings)
    return of_cell.replace(seed=settings.seed, init_from=settings.init_from)


def is_finished(job: Job) -> bool:
    """Return whether a run has finished.

    Raises:
        UserError: if its folder holds the result of other settings, for example from before a
            recipe changed.
    """
    if not (job.out / RESULT).is_file():
        return False
    holds, wanted = map(which_run, (Settings.of_run(job.out), job.settings))
    changed = same_run.changes(holds, wanted, same_run.OF_CELL | {"seed"})
    if changed:
        raise UserError(
            f"{job.out} holds a finished run with other settings ({'; '.join(changed)}); move it "
            "away, or choose another --out"
        )
    return True
