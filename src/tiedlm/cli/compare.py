"""``tiedlm compare``: compare runs side by side, finished or still training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from tiedlm.cli import note
from tiedlm.errors import UserError
from tiedlm.json_text import to_json
from tiedlm.training.run_files import CONFIG, RESULT, read_metrics, runs_inside

if TYPE_CHECKING:
    from tiedlm.experiments.comparison import Row


def compare(
    *runs: Path,
    json_: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Compare runs: means over seeds, differences from the first row, 95% intervals.

    Parameters
    ----------
    runs
        Run folders, or folders of run folders.
    json_
        Print JSON instead of a table.
    """
    from tiedlm.experiments.comparison import changed_settings, compare_runs

    if not runs:
        raise UserError("name at least one run folder: `tiedlm compare runs/a runs/b`")
    rows = compare_runs([one for run in runs for one in _run_folders(run)])
    changed = changed_settings(rows)
    if json_:
        settings = (
            {n: values[index] for n, values in changed.items()} for index in range(len(rows))
        )
        found = [{**_values(row), "settings": own} for row, own in zip(rows, settings, strict=True)]
        print(to_json(found, indent=2))
    else:
        _print_table(rows, changed)


def _values(row: Row) -> dict[str, Any]:
    """Return the JSON object for a row."""
    from tiedlm.experiments.comparison import is_of_pieces

    return {
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
        "shared_seeds": row.shared_seeds,
        "parameters": row.runs[0].parameters,
        "pieces": is_of_pieces(row.runs[0]),
    }


def _print_table(rows: list[Row], changed: dict[str, list[Any]]) -> None:
    """Print the rows, and the settings that differ between them."""
    from rich.table import Table

    from tiedlm.experiments.comparison import same_text
    from tiedlm.progress import table_console

    table = Table("model", "seeds", "validation", "test", "difference", "parameters", "epochs")
    comparable = [same_text(row.runs[0], rows[0].runs[0]) for row in rows]
    for row, is_comparable in zip(rows, comparable, strict=True):
        parameters = row.runs[0].parameters
        table.add_row(
            row.name + ("" if row.runs[0].finished else ", not finished"),
            str(len(row.runs)),
            row.valid.short(),
            row.test.short() if row.test else "-",
            _difference(row) if is_comparable else "other text",
            f"{parameters:,}" if parameters else "-",
            "/".join(str(run.epochs) for run in row.runs),
        )
    for column in table.columns:
        column.overflow = "fold"  # wrap long cells instead of cutting them
    console = table_console()
    console.print(table)
    for line in _legend(rows):
        console.print(line, highlight=False)
    if changed:
        console.print("settings that differ, in the order of the rows:")
    for name, values in changed.items():
        console.print(f"  {name}: " + ", ".join(map(str, values)), highlight=False)
    for line in _remarks(rows, all(comparable)):
        console.print(line)


def _difference(row: Row) -> str:
    """Return the cell with the difference from the first row; empty without one."""
    if row.difference is None:
        return ""
    cell = f"{row.difference:+.2f}"
    if row.interval is not None:
        cell += f" ± {row.interval:.2f}"
    if row.shared_seeds < len(row.runs):
        cell += f" (of {row.shared_seeds} seed{'s' * (row.shared_seeds > 1)})"
    return cell if row.is_of_test else cell + " (validation)"


def _remarks(rows: list[Row], are_comparable: bool) -> list[str]:
    """Return why some perplexities cannot be compared as they are."""
    from tiedlm.experiments.comparison import is_of_pieces

    pieces, found = [is_of_pieces(row.runs[0]) for row in rows], []
    if any(pieces):
        found.append("perplexities of runs of pieces are per word")
    if len(set(pieces)) > 1:
        found.append(
            "words and pieces: no difference is shown between them, because <unk> stands for many "
            "words and pieces spell each"
        )
    if not are_comparable:
        found.append(
            "other text: the corpus or the vocabulary differs from the first row, so the "
            "perplexities cannot be compared"
        )
    return found


def _legend(rows: list[Row]) -> list[str]:
    """Return the legend of the table, for the columns that it has."""
    found = []
    if any(row.valid.spread is not None for row in rows):
        found.append("validation, test: mean ± standard deviation over seeds")
    if any(row.difference is not None for row in rows):
        of_test = any(row.is_of_test for row in rows if row.difference is not None)
        text = "test" if of_test else "validation"
        line = f"difference: in {text} perplexity, from the first row"
        if any(row.interval is not None for row in rows):
            line += "; ± is half of its 95% interval, paired by seed"
        found.append(line)
    return found


def _run_folders(folder: Path) -> list[Path]:
    """Return the run folders inside a folder, or the folder itself if it is a run."""
    if (folder / CONFIG).is_file() or not folder.is_dir():
        return [folder]
    inside = runs_inside(folder)
    found = [run for run in inside if (run / RESULT).is_file() or read_metrics(run)]
    for run in inside:
        if run not in found:
            note(f"{run} is left out: it has no result of an epoch")
    return found or [folder]
