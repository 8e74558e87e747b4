"""Define the runs behind the paper's tables, and estimate what each costs."""

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

# Matrix arithmetic per second of a training step on two cores of the machine of
# docs/performance.md, from its table: between 1.7e11 (REAL, d = 200) and 3.2e11 (d = 1500).
FLOPS = 2.5e11

# Tied models as the paper writes them, by the end of a cell's name; the recipes' have a bias.
NO_BIAS = "-b0"
WITHOUT_BIAS = {suffix + NO_BIAS: f"{VARIANTS[suffix]}, b = 0" for suffix in TIED}

# Strengths of AL, alpha / tau, beside the recipes' 0.65: the paper has 0.5 to 0.8 on Penn Treebank.
OTHER_GAMMAS = {"ptb-small-al": (0.8, 2.6), "ptb-small-real": (5.2,)}


@dataclass(frozen=True)
class Cell:
    """A cell of a table: one row of the paper, trained with one or several seeds.

    Args:
        name: of the cell, unique in its table.
        settings: of its first session; the seed is not fixed.
        paper: what the paper reports.
        sessions: 2 where the paper trains again from the best weights (footnote 4).
        beside: it is beside the paper's rows, not one of them, and is named in full.
    """

    name: str
    settings: Settings
    paper: Published
    sessions: int = 1
    beside: bool = False

    def folder(self, seed: int, session: int = 1) -> str:
        """Return the name of a run folder."""
        return f"{self.name}-seed{seed}" + (f"-session{session}" if session > 1 else "")

    def hours(self) -> float:
        """Estimate what a session of one seed takes, in hours on two CPU cores."""
        settings = self.settings
        tokens, vocab_size = SIZES[settings.data]
        config = ModelConfig(
            vocab_size=vocab_size,
            d_embed=settings.d_embed,
            d_hidden=settings.d_hidden,
            n_layers=settings.n_layers,
            tied=True,
        )
        # Three products of two operations for each weight of the recurrence and the classifier.
        operations = 6 * config.num_params() * tokens * settings.fraction * settings.epochs
        return operations / FLOPS / 3600


def table1() -> list[Cell]:
    """Return the cells of Table 1 in the paper's order, then some WITHOUT_BIAS and OTHER_GAMMAS."""
    cells = [
        Cell(name, get_recipe(name), paper, 2 if name.startswith("ptb-small") else 1)
        for name, paper in TABLE1.items()
    ]
    return [*cells, *_without_bias(cells), *_other_gammas(cells)]


def _without_bias(cells: list[Cell]) -> list[Cell]:
    """Return the small and medium tied cells of Penn Treebank, without their bias."""
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
    """Return some cells with another strength of the augmented loss."""
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

    The paper does not say how much they drop. As much as Penn Treebank's models, whose text is as
    long: with WikiText-2's own 0.2 the baseline ends further above the paper (docs/experiments.md).
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
    """Return the cells that are named; ``ptb-small*`` names the paper's whose name begins so.

    Those beside the paper's are named in full.

    Raises:
        UserError: for a name that no cell has.
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
    """Return the runs of some cells: every first session, then every second one.

    Args:
        cells: what is to be trained.
        seeds: of each cell.
        out: the folder that holds the run folders.
        changes: settings that do not change the result but how it is computed.
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
    """Return the settings that all runs of a cell share, from the settings of one run."""
    return same_run.of_cell(Settings.from_dict(settings))


def which_run(settings: Settings) -> Settings:
    """Return the settings that name one run of a cell: with its seed and its session."""
    of_cell = same_run.of_cell(settings)
    return of_cell.replace(seed=settings.seed, init_from=settings.init_from)


def is_finished(job: Job) -> bool:
    """Tell whether a run has its result.

    Raises:
        UserError: if its folder holds the result of other settings, as one from before a recipe
            changed.
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
