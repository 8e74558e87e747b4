"""Make Figure 2, Table 3 and predictions from existing runs."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tiedlm.errors import UserError
from tiedlm.experiments.cells import NO_BIAS, WITHOUT_BIAS, Cell, table1
from tiedlm.experiments.paper import TABLE3
from tiedlm.experiments.recipes import VARIANTS
from tiedlm.experiments.reproduce import Found, runs_of
from tiedlm.training.run_files import RESULT
from tiedlm.training.settings import Settings

SIZES = ("large", "medium", "small")  # widest first
MODELS = {**VARIANTS, **WITHOUT_BIAS}  # by suffix of the cell's name


def _cells(size: str) -> dict[str, Cell]:
    """Return the Penn Treebank cells of a size, by suffix of the name."""
    cells = {cell.name: cell for cell in table1()}
    names = {suffix: f"ptb-{size}{suffix}" for suffix in MODELS}
    return {suffix: cells[name] for suffix, name in names.items() if name in cells}


def figure2_models(
    size: str, found: Sequence[tuple[Settings, Found]], session: int = 1
) -> dict[str, Any]:
    """Return the kept runs of a size and session in the format of :func:`plot_curves`."""
    models = {}
    for suffix, cell in _cells(size).items():
        runs = runs_of(cell, found, session)
        if runs:
            others = [run.metrics["curve"] for run in runs[1:]]
            models[f"vd-lstm{suffix}"] = {**runs[0].metrics, "others": others}
    return models


def draw_figure2(found: Sequence[tuple[Settings, Found]], out: Path) -> list[Path]:
    """Draw Figure 2 for every size and session with at least two kept models.

    Raises:
        UserError: if no size and session has two.
    """
    from tiedlm.analysis.plots import plot_curves

    paths = []
    for (size, session), models in figure2_curves(found).items():
        out.mkdir(parents=True, exist_ok=True)
        paths.append(out / f"figure2-{size}{'-session2' if session == 2 else ''}.png")
        plot_curves(models, paths[-1], f"{size}, session {session}")
    return paths


def figure2_curves(
    found: Sequence[tuple[Settings, Found]],
) -> dict[tuple[str, int], dict[str, Any]]:
    """Return the models of every size and session with at least two kept models.

    Raises:
        UserError: if no size and session has two.
    """
    every = {
        (size, session): figure2_models(size, found, session)
        for size in reversed(SIZES)
        for session in (1, 2)
    }
    curves = {which: models for which, models in every.items() if len(models) > 1}
    if not curves:
        raise UserError(
            "figure2 is drawn from table1's runs, and no two models of a size are kept: run "
            "`tiedlm reproduce table1 --only 'ptb-small*'` first"
        )
    return curves


TABLE3_HEADER = ("model", "parameters", "validation", "test")


def table3_rows(found: Sequence[tuple[Settings, Found]]) -> list[tuple[str, str, str, str]]:
    """Return the rows of Table 3: published models and the paper's, then ours."""
    rows = [
        (row.model, row.parameters, "-" if row.valid is None else f"{row.valid}", f"{row.test}")
        for row in TABLE3
    ]
    for size in reversed(SIZES):
        for suffix, cell in _cells(size).items():
            runs = runs_of(cell, found, 2) or runs_of(cell, found, 1)
            for run in runs[:1]:
                metrics = run.metrics
                rows.append(
                    (
                        f"{MODELS[suffix]}, {size} (ours, seed {run.seed}, session {run.session})",
                        f"{metrics['parameters'] / 1e6:.1f}M",
                        f"{metrics['valid_ppl']:.1f}",
                        f"{metrics['test_ppl']:.1f}",
                    )
                )
    return rows


def find_pair(out: Path, seed: int = 1) -> tuple[Path, Path]:
    """Return the finished baseline and REAL run folders of the widest size that has both.

    Both runs are from the same session, the second if both have it. The REAL run is the recipe's
    in either session, otherwise the one without a bias.

    Raises:
        UserError: if no size has both.
    """
    for size in SIZES:
        cells = _cells(size)
        reals = [cells[end] for end in ("-real", "-real" + NO_BIAS) if end in cells]
        for real, session in itertools.product(reals, (2, 1)):
            pair = (out / cells[""].folder(seed, session), out / real.folder(seed, session))
            if all((run / RESULT).is_file() for run in pair):
                return pair
    raise UserError(
        f"predictions compare a finished VD-LSTM with a finished REAL, and {out} has no such pair: "
        "run `tiedlm reproduce table1 --only ptb-small --only ptb-small-real` first"
    )
