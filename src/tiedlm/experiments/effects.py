"""What AL, RE and both do to the test perplexity: the paper's four questions, from its tables.

Source: PAPER sections 3 and 6.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from tiedlm.experiments.cells import NO_BIAS, Cell, table1, table2
from tiedlm.experiments.comparison import mean_log_ratio
from tiedlm.experiments.recipes import TIED, VARIANTS
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


def like_with_like(
    base: Cell, other: Cell, found: Sequence[tuple[Settings, Found]]
) -> tuple[int, list[tuple[float, float]]]:
    """Return a session, and the test perplexities of both, other first, by the seeds they share.

    It is the second session where both have it, else the first.
    """
    for session in (2, 1):
        bases, others = (
            {run.seed: run.metrics["test_ppl"] for run in runs_of(cell, found, session)}
            for cell in (base, other)
        )
        pairs = [(others[seed], bases[seed]) for seed in bases if seed in others]
        if pairs:
            return session, pairs
    return 1, []


def effect(base: Cell, other: Cell, found: Sequence[tuple[Settings, Found]]) -> str:
    """Say by how much a model's test perplexity differs from another's: the paper's, and ours.

    Ours is the mean of ``log(other / base)`` over seeds that both have, after as many sessions of
    the one as of the other, with its 95% interval.
    """
    paper = _percent(math.log(other.paper.test / base.paper.test))
    if not (base.paper.confirmed and other.paper.confirmed):
        paper = f"~{paper}"
    session, pairs = like_with_like(base, other, found)
    if not pairs:
        return f"{paper}; not run"
    mean, ends = mean_log_ratio(pairs)
    text = f"{paper}; **{_percent(mean)}**"
    sessions = ", 2 sessions" if session == 2 else ""
    if ends is None:
        return f"{text} (1 seed{sessions})"
    return f"{text} ({' to '.join(map(_percent, ends))}, {len(pairs)} seeds{sessions})"


def effects(found: Sequence[tuple[Settings, Found]]) -> list[tuple[str, ...]]:
    """Return a row for every text and size of Tables 1 and 2, under :data:`HEADER`.

    Where tied cells without a bias exist there is a row of these too.
    """
    cells = {cell.name: cell for cell in (*table1(), *table2())}
    groups = [name for name in cells if f"{name}-real" in cells]
    rows = []
    for group in groups:
        for ending, title in (("", group), (NO_BIAS, f"{group}, tied with b = 0")):
            names = {s: group + s + (ending if s in TIED else "") for s in VARIANTS}
            if cells.keys() >= set(names.values()):
                pairs = ((cells[names[a]], cells[names[b]]) for a, b in EFFECTS.values())
                rows.append((title, *(effect(base, other, found) for base, other in pairs)))
    return rows


def _percent(log_ratio: float) -> str:
    return f"{math.expm1(log_ratio):+.1%}"
