"""``tiedlm compare``: runs side by side, finished or under way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from tiedlm.errors import UserError


def compare(
    *runs: Path,
    json_: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Compare runs: means over seeds, differences to the first, 95% intervals.

    Runs that differ only in their seed become one row. A run that is still going shows its best
    validation perplexity so far.

    Parameters
    ----------
    runs
        Run folders.
    json_
        Print JSON instead of a table.
    """
    from rich.console import Console
    from rich.table import Table

    from tiedlm.experiments.comparison import changed_settings, compare_runs

    if not runs:
        raise UserError("name at least one run folder: `tiedlm compare runs/a runs/b`")
    rows = compare_runs(list(runs))
    changed = changed_settings(rows)
    if json_:
        found = [
            {
                "recipe": row.recipe,
                "runs": [str(run.folder) for run in row.runs],
                "seeds": [run.seed for run in row.runs],
                "finished": all(run.finished for run in row.runs),
                "valid_ppl": row.valid.mean,
                "valid_spread": row.valid.spread,
                "test_ppl": row.test.mean if row.test else None,
                "test_spread": row.test.spread if row.test else None,
                "difference": row.difference,
                "interval95": row.interval,
                "parameters": row.runs[0].parameters,
                "settings": {name: values[index] for name, values in changed.items()},
            }
            for index, row in enumerate(rows)
        ]
        print(json.dumps(found, indent=2))
        return
    table = Table("recipe", "validation", "test", "difference", "parameters", "epochs")
    for row in rows:
        difference = "" if row.difference is None else f"{row.difference:+.2f}"
        if row.difference is not None:
            difference += f" ± {row.interval:.2f}" if row.interval is not None else " (1 seed)"
        parameters = row.runs[0].parameters
        table.add_row(
            row.recipe + ("" if all(run.finished for run in row.runs) else " (running)"),
            str(row.valid),
            str(row.test) if row.test else "-",
            difference,
            f"{parameters:,}" if parameters else "-",
            "/".join(str(run.epochs) for run in row.runs),
        )
    console = Console()
    console.print(table)
    for name, values in changed.items():
        console.print(f"{name}: " + ", ".join(map(str, values)), highlight=False)
