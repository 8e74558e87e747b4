"""Draw the plot of studies.data_size: the gain of each model by size of the text."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tiedlm.analysis.plots import FAINT, STYLES, label_line, new_axes, save_png, spread


def plot_gains(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw how much lower each model's perplexity is than VD-LSTM's, by share of the text.

    A point of several runs has its 95% interval. A point of a single run is hollow and its line is
    dashed, since its distance from the mean is unknown.

    Args:
        rows: one for each "fraction" and "model": its "gain", by what share the perplexity is
            lower, and the ends of the gain's "interval95", or None.
        path: the PNG file.

    Raises:
        UserError: if matplotlib is missing or the file cannot be written.
    """
    figure, axes = new_axes("Test perplexity below VD-LSTM's (bars: 95%; hollow: one run)")
    recipes = {"AL": "vd-lstm-al", "RE": "vd-lstm-re", "REAL": "vd-lstm-real"}
    ends = []
    for number, (model, recipe) in enumerate(recipes.items()):
        own = [row for row in rows if row["model"] == model]
        if not own:
            continue
        # The points stand side by side, so that their intervals do not hide each other.
        xs = [row["fraction"] * 1.03 ** (number - 1) for row in own]
        gains = [row["gain"] for row in own]
        colour = STYLES[recipe].colour
        for left, right in itertools.pairwise(zip(xs, gains, own, strict=True)):
            single = None in (left[2]["interval95"], right[2]["interval95"])
            line = [left[0], right[0]], [left[1], right[1]]
            axes.plot(*line, "--" if single else "-", color=colour)
        for x, row in zip(xs, own, strict=True):
            fill = "white" if row["interval95"] is None else colour
            axes.plot(x, row["gain"], "o", color=colour, markerfacecolor=fill, markersize=5)
            if row["interval95"] is not None:
                axes.plot([x, x], row["interval95"], color=colour, linewidth=1)
        ends.append((f"{model}  {gains[-1]:.1%}", (xs[-1], gains[-1]), colour))
    bottom, top = axes.get_ylim()
    axes.set_ylim(bottom, top)
    heights = spread([(gain - bottom) / (top - bottom) for _, (_, gain), _ in ends])
    for (text, end, colour), height in zip(ends, heights, strict=True):
        label_line(axes, text, end, height, colour)
    axes.axhline(0, color=FAINT)
    axes.set_xscale("log")
    shares = sorted({row["fraction"] for row in rows})
    axes.set_xticks(shares, [f"{share:.1%}".replace(".0%", "%") for share in shares])
    axes.minorticks_off()
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.set_xlabel("share of Penn Treebank's training text, log scale")
    save_png(figure, path)
