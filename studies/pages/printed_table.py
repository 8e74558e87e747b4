"""Print the paper's Table 1 as the paper does, with our numbers beside its own: for README.md."""

from __future__ import annotations

from collections.abc import Sequence

from tiedlm.experiments.cells import Cell, table1
from tiedlm.experiments.recipes import VARIANTS
from tiedlm.experiments.reproduce import Found, line_of, markdown_table, runs_of
from tiedlm.training.settings import Settings

CORPORA = {"ptb": "PTB", "wikitext-2": "WikiText-2"}
SIZES = ("small", "medium", "large")


def ours(cell: Cell, found: Sequence[tuple[Settings, Found]]) -> str:
    """Return our perplexities after the last session that was run, with the number of seeds."""
    line = line_of(cell, found)
    runs = [runs_of(cell, found, session) for session in (1, 2)]
    last = bool(runs[1])
    if not runs[last]:
        return "-"
    numbers = line.sessions[last].partition(" (")[0]
    seeds = len(runs[last])
    return f"**{numbers}** <sub>{seeds} {'seed' if seeds == 1 else 'seeds'}</sub>"


def printed_table1(found: Sequence[tuple[Settings, Found]]) -> str:
    """Return Table 1 in Markdown: models down, corpora and sizes across, the paper's above ours."""
    cells = {cell.name: cell for cell in table1()}
    columns = {
        f"{corpus}-{size}": f"{title}, {size}"
        for corpus, title in CORPORA.items()
        for size in SIZES
        if f"{corpus}-{size}" in cells
    }
    rows = []
    for suffix, model in VARIANTS.items():
        of_model = [cells[f"{column}{suffix}"] for column in columns]
        rows.append(
            [
                model.removeprefix("VD-LSTM ") if suffix else model,
                *(f"{line_of(cell, found).paper}<br>{ours(cell, found)}" for cell in of_model),
            ]
        )
    return markdown_table(("validation / test", *columns.values()), rows)
