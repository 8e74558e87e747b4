"""What AL, RE and both do to the test perplexity: the paper's four questions, from its tables.

Source: PAPER sections 3 and 6.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from tiedlm.experiments.cells import Cell, table1, table2
from tiedlm.experiments.comparison import mean_log_ratio
from tiedlm.experiments.reproduce import Found, runs_of
from tiedlm.training.settings import Settings

# What is added, by the recipes without and with it.
EFFECTS = {
    "AL": ("", "-al"),
    "AL, with RE": ("-re", "-real"),
    "RE": ("", "-re"),
    "RE, with AL": ("-al", "-real"),
    "REAL": ("", "-real"),
}
HEADER = ("models", *EFFECTS)


def best_sessions(cell: Cell, found: Sequence[tuple[Settings, Found]]) -> dict[int, Found]:
    """Return the kept runs of a cell by seed; of two sessions the one better on validation."""
    best: dict[int, Found] = {}
    for session in (1, 2):
        for run in runs_of(cell, found, session):
            other = best.get(run.seed)
            if other is None or run.metrics["valid_ppl"] < other.metrics["valid_ppl"]:
                best[run.seed] = run
    return best


def effect(base: Cell, other: Cell, found: Sequence[tuple[Settings, Found]]) -> str:
    """Say by how much a model's test perplexity differs from another's: the paper's, and ours.

    Ours is the mean of ``log(other / base)`` over seeds that both have, with its 95% interval.
    """
    paper = _percent(math.log(other.paper.test / base.paper.test))
    if not (base.paper.confirmed and other.paper.confirmed):
        paper = f"~{paper}"
    bases, others = best_sessions(base, found), best_sessions(other, found)
    pairs = [
        (others[seed].metrics["test_ppl"], bases[seed].metrics["test_ppl"])
        for seed in bases
        if seed in others
    ]
    if not pairs:
        return f"{paper}; not run"
    mean, ends = mean_log_ratio(pairs)
    text = f"{paper}; **{_percent(mean)}**"
    if ends is None:
        return f"{text} (1 seed)"
    return f"{text} ({' to '.join(map(_percent, ends))}, {len(pairs)} seeds)"


def effects(found: Sequence[tuple[Settings, Found]]) -> list[tuple[str, ...]]:
    """Return a row for every text and size of Tables 1 and 2, under :data:`HEADER`."""
    cells = {cell.name: cell for cell in (*table1(), *table2())}
    groups = [name for name in cells if f"{name}-real" in cells]
    return [
        (
            group,
            *(effect(cells[group + a], cells[group + b], found) for a, b in EFFECTS.values()),
        )
        for group in groups
    ]


def _percent(log_ratio: float) -> str:
    return f"{math.expm1(log_ratio):+.1%}"
