"""Compute the effects of AL, RE and REAL on test perplexity, beside the paper's.

Source: Inan et al. (2017), Tables 1 and 2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from tiedlm.experiments.cells import NO_BIAS, Cell, table1, table2
from tiedlm.experiments.comparison import mean_log_ratio
from tiedlm.experiments.recipes import TIED, VARIANTS
from tiedlm.experiments.reproduce import Found, runs_of
from tiedlm.training.settings import Settings

# Suffixes of the recipes without and with each addition.
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
    """Return the session to compare and the ``(other, base)`` test perplexities of shared seeds.

    The session is the second if both cells have it for a shared seed, otherwise the first.
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
    """Format the relative difference in test perplexity: the paper's, then ours.

    Ours is the mean of ``log(other / base)`` over the shared seeds, with its 95% interval. Both
    cells are compared after the same number of sessions.
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
    """Return one row for each corpus and size of Tables 1 and 2, with columns as in :data:`HEADER`.

    If tied cells without a bias exist, they get a second row.
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
