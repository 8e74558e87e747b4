"""Plot validation curves and perplexities of the four models as PNG files.

matplotlib is imported only when a plot is drawn, and its global state is not used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tiedlm.errors import require
from tiedlm.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    Models = Mapping[str, Mapping[str, Any]]


class Style(NamedTuple):
    """How a model looks in every plot, in Okabe and Ito's colour-blind-safe colours."""

    label: str
    colour: str
    line: str = "-"


BASELINE = "vd-lstm"
STYLES = {
    BASELINE: Style("VD-LSTM", "#555555"),
    "vd-lstm-al": Style("+ AL", "#009E73"),
    "vd-lstm-re": Style("+ RE", "#0072B2"),
    "vd-lstm-real": Style("+ REAL", "#D55E00"),
}
# Only the curves show the tied models without a classifier bias.
CURVES = {
    **STYLES,
    "vd-lstm-re-b0": STYLES["vd-lstm-re"]._replace(label="+ RE, b = 0", line=":"),
    "vd-lstm-real-b0": STYLES["vd-lstm-real"]._replace(label="+ REAL, b = 0", line=":"),
}

SIZE_INCHES = (6.4, 4.3)  # with 12-point text: readable at the width of a phone
MARGIN_INCHES = 0.12
DPI = 200
INK = "#222222"
FAINT = "#dddddd"
SHOWN_ABOVE_BEST = 1.6  # times the best perplexity; higher epochs are cut off
LABEL_GAP = 0.075  # fraction of the axis: the smallest distance between labels


def require_matplotlib(extra: str = "plots") -> None:
    """Check that matplotlib is installed, before long work that ends in a plot.

    Args:
        extra: name of the pip extra that the error message suggests.

    Raises:
        UserError: if matplotlib is not installed.
    """
    require("matplotlib.figure", extra, "a plot")


def plot_curves(
    models: Models, path: Path, what: str = "", *, baseline: str = STYLES[BASELINE].label
) -> None:
    """Plot validation perplexity by epoch, with one line per model and a dot at its best epoch.

    The axis ends at 1.6 times the best perplexity, or above the worst last epoch. Earlier epochs
    above that are cut off, so that the late epochs are large enough to compare.

    Args:
        models: results by model, with keys of :data:`CURVES`. Each has ``curve`` and
            ``best_epoch``. The curves in an optional ``others`` are other seeds, drawn thin.
        path: the PNG file.
        what: the models and the session, for the title.
        baseline: the name of the first model.

    Raises:
        UserError: if matplotlib is missing or the file cannot be written.
    """
    others = {name: model.get("others", ()) for name, model in models.items()}
    seeds = "thin: other seeds" if any(others.values()) else "one seed"
    about = f", {what} ({seeds})" if what else f" by epoch ({seeds}; lower is better)"
    figure, axes = new_axes("Validation perplexity" + about)
    from matplotlib.ticker import MaxNLocator  # after the check in new_axes

    curves = {
        name: [line["valid_ppl"] for line in model["curve"]] for name, model in models.items()
    }
    bottom, top = shown_range(list(curves.values()))
    axes.set_ylim(bottom, top)
    heights = spread([(curve[-1] - bottom) / (top - bottom) for curve in curves.values()])
    last_epoch = max(model["curve"][-1]["epoch"] for model in models.values())
    for (name, model), height in zip(models.items(), heights, strict=True):
        style, curve = CURVES[name], curves[name]
        epochs = [line["epoch"] for line in model["curve"]]
        axes.plot(epochs, curve, style.line, color=style.colour, linewidth=2)
        for other in others[name]:
            points = [(line["epoch"], line["valid_ppl"]) for line in other]
            axes.plot(*zip(*points, strict=True), style.line, color=style.colour, linewidth=0.8)
        best = epochs.index(model["best_epoch"])
        fill = style.colour if style.line == "-" else "white"
        axes.plot(
            epochs[best], curve[best], "o", color=style.colour, markerfacecolor=fill, markersize=5
        )
        end = (epochs[-1], curve[-1])
        label = baseline if name == BASELINE else style.label
        label_line(axes, f"{label}  {curve[best]:.1f}", end, height, style.colour)
    axes.set_xlim(0.5, last_epoch + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlabel("epoch (dot: best on validation)")
    axes.grid(axis="y", color=FAINT)
    save_png(figure, path)


def plot_bars(models: Models, path: Path, *, baseline: str = STYLES[BASELINE].label) -> None:
    """Plot validation and test perplexity as bars, each with its value.

    The test bars also show the difference from the first model, which a dashed line marks.

    Args:
        models: results by model, with keys of :data:`STYLES`; the baseline comes first. Each has
            ``valid_ppl`` and ``test_ppl``.
        path: the PNG file.
        baseline: the name of the first model.

    Raises:
        UserError: if matplotlib is missing or the file cannot be written.
    """
    figure, axes = new_axes("Perplexity (one seed; lower is better)")
    first = next(iter(models))
    base = models[first]["test_ppl"]
    for row, (name, model) in enumerate(models.items()):
        colour, test = STYLES[name].colour, model["test_ppl"]
        for y, split, fill, ink in (
            (row - 0.2, "validation", (colour, 0.3), INK),
            (row + 0.2, "test", (colour, 1.0), "white"),
        ):
            value = model["valid_ppl"] if split == "validation" else test
            axes.barh(y, value, height=0.38, color="white")  # hides the line behind a faint bar
            axes.barh(y, value, height=0.38, color=[fill])
            _write(axes, split, (0, y), 6, color=ink)
            _write(axes, f"{value:.1f}", (value, y), -6, color=ink, weight="bold", ha="right")
        if name != first:
            change = f"{100 * (test / base - 1):+.1f}%".replace("-", "\N{MINUS SIGN}")
            _write(axes, change, (max(test, base), row + 0.2), 7, color=INK, weight="bold")
    axes.axvline(base, color=INK, linewidth=0.8, linestyle=(0, (4, 3)), zorder=0)
    largest = max(max(model["valid_ppl"], model["test_ppl"]) for model in models.values())
    axes.set_xlim(0, 1.18 * largest)  # room for the differences
    labels = {name: STYLES[name].label for name in models} | {first: baseline}
    axes.set_yticks(range(len(models)), list(labels.values()))
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_color(INK)
    axes.set_xlabel(f"perplexity (dashed: {baseline} on test)")
    save_png(figure, path)


def plot_theory(distances: Mapping[tuple[float, float], Sequence[float]], path: Path) -> None:
    """Plot Figure 1: the distance between the two column spaces against beta and temperature.

    Each run is a dot and a line joins the means. One panel varies beta at temperature 10, the other
    varies the temperature at beta 1.

    Args:
        distances: the distances of the runs, by (beta, temperature).
        path: the PNG file.

    Raises:
        UserError: if matplotlib is missing or the file cannot be written.
    """
    require_matplotlib()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2 * SIZE_INCHES[0], SIZE_INCHES[1]), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    panels = (
        (left, {b: d for (b, t), d in distances.items() if t == 10}, "beta (temperature 10)"),
        (
            right,
            {t: d for (b, t), d in distances.items() if b == 1},
            "temperature, log scale (beta 1)",
        ),
    )
    for axes, found, label in panels:
        xs = sorted(found)
        axes.plot(
            xs, [sum(found[x]) / len(found[x]) for x in xs], color=STYLES["vd-lstm-re"].colour
        )
        for x in xs:
            axes.plot([x] * len(found[x]), found[x], "o", color=INK, markersize=4, alpha=0.5)
        axes.set_xlabel(label, size=12)
        axes.set_ylim(0, 1.05)
        axes.grid(axis="y", color=FAINT)
        axes.spines[["top", "right"]].set_visible(False)
    right.set_xscale("log")
    right.set_xticks(sorted(panels[1][1]), [f"{t:g}" for t in sorted(panels[1][1])], minor=False)
    right.minorticks_off()
    runs = {len(found) for found in distances.values()}
    count = f"{min(runs)}" if len(runs) == 1 else f"{min(runs)} to {max(runs)}"
    noun = "run" if runs == {1} else "runs"
    left.set_title(
        f"Distance between the spaces of W and L^T after training ({count} {noun} per point)",
        loc="left",
    )
    save_png(figure, path)


def shown_range(curves: Sequence[Sequence[float]]) -> tuple[float, float]:
    """Return the ends of a perplexity axis that fits the late epochs of the curves."""
    everything = [value for curve in curves for value in curve]
    best, worst_last = min(everything), max(curve[-1] for curve in curves)
    top = min(max(everything), max(SHOWN_ABOVE_BEST * best, worst_last))
    margin = 0.06 * (top - best) or 0.05 * best  # one flat line has no height of its own
    return best - margin, top + margin


def spread(heights: Sequence[float], gap: float = LABEL_GAP) -> list[float]:
    """Move heights at least ``gap`` apart, in the same order and at most 1."""
    order = sorted(range(len(heights)), key=lambda i: heights[i], reverse=True)
    placed = list(heights)
    ceiling = 1.0
    for i in order:  # downwards: each below the previous one
        placed[i] = ceiling = min(placed[i], ceiling)
        ceiling -= gap
    floor = 0.0
    for i in reversed(order):  # upwards: back inside those pushed below 0
        placed[i] = floor = max(placed[i], floor)
        floor += gap
    return placed


def _write(axes: Axes, text: str, at: tuple[float, float], right: float, **looks: Any) -> None:
    """Write ``text`` ``right`` points to the right of a data point."""
    axes.annotate(text, at, (right, 0), textcoords="offset points", va="center", **looks)


def label_line(axes: Axes, text: str, end: tuple[float, float], height: float, colour: str) -> None:
    """Label a line to the right of the axes, at ``height`` (0 to 1), with a line to its end."""
    axes.annotate(
        text,
        xy=end,
        xytext=(1.04, height),
        textcoords="axes fraction",
        color=colour,
        weight="bold",
        va="center",
        annotation_clip=False,
        arrowprops={"arrowstyle": "-", "color": colour, "relpos": (0, 0.5)},
    )


def new_axes(title: str) -> tuple[Figure, Axes]:
    """Return an empty figure and its axes in the style of all plots.

    Raises:
        UserError: if matplotlib is not installed.
    """
    require_matplotlib()
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    margins = ConstrainedLayoutEngine(w_pad=MARGIN_INCHES, h_pad=MARGIN_INCHES)
    figure = Figure(figsize=SIZE_INCHES, layout=margins, facecolor="white")
    axes = figure.add_subplot(facecolor="white")
    axes.set_title(title, loc="left", size=12, color=INK)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(labelsize=12, labelcolor=INK, color=INK)
    axes.xaxis.label.set(size=12, color=INK)
    return figure, axes


def save_png(figure: Figure, path: Path) -> None:
    """Write a figure to a PNG file atomically."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=DPI)
