"""The README's figure and table from ``results/``: Penn Treebank, small models, beside the paper.

python benchmarks/ptb_figure.py writes docs/images/ptb-small.png and the README's table.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from tiedlm.analysis.plots import STYLES
from tiedlm.files import atomic_path, read_json, write_text

ROOT = Path(__file__).parents[1]
# Table 1 of the paper: validation, test.
PAPER = {"vd-lstm": (92.6, 87.3), "vd-lstm-real": (86.3, 82.7)}
MODELS = {"ptb-small": "vd-lstm", "ptb-small-real": "vd-lstm-real"}
SCHEDULES = {"short": "short schedule (9 epochs)", "long": "the paper's schedule"}


def found_results() -> dict[tuple[str, str], dict[str, Any]]:
    """Return the newest results by (model, schedule)."""
    newest = {}
    for path in sorted((ROOT / "results").glob("*_ptb-small*/metrics.json")):
        metrics = read_json(path)
        schedule = path.parent.name.rpartition("-")[2]
        if metrics.get("recipe") in MODELS and schedule in SCHEDULES:
            newest[MODELS[metrics["recipe"]], schedule] = metrics
    return newest


def draw(found: dict[tuple[str, str], dict[str, Any]], path: Path) -> None:
    """Draw the validation curves, with the paper's final values as lines."""
    figure = Figure(figsize=(8, 4.2), layout="constrained")
    axes = figure.add_subplot()
    last = max(len(metrics["curve"]) for metrics in found.values())
    for (model, schedule), metrics in found.items():
        label, colour = STYLES[model]
        epochs = [line["epoch"] for line in metrics["curve"]]
        values = [line["valid_ppl"] for line in metrics["curve"]]
        style = "-" if schedule == "long" else (0, (4, 2))
        axes.plot(epochs, values, color=colour, linestyle=style, linewidth=2,
                  label=f"{label}, {SCHEDULES[schedule]}: {min(values):.1f}")  # fmt: skip
    for model, (valid, _) in PAPER.items():
        label, colour = STYLES[model]
        axes.axhline(valid, color=colour, linewidth=1, linestyle=":",
                     label=f"{label}, paper: {valid}")  # fmt: skip
    axes.set_xlim(1, last)
    axes.set_ylim(80, 180)
    axes.set_xlabel("epoch")
    axes.set_ylabel("validation perplexity")
    axes.set_title("Penn Treebank, small models, 1 seed", loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150)


def table(found: dict[tuple[str, str], dict[str, Any]]) -> str:
    """Return the README's table: measured beside the paper's."""
    lines = [
        "| Penn Treebank, small | schedule | measured: validation / test | paper: validation / test | parameters |",  # noqa: E501
        "|---|---|---|---|---|",
    ]
    for (model, schedule), metrics in sorted(found.items()):
        valid, test = PAPER[model]
        epochs = len(metrics["curve"])
        lines.append(
            f"| {STYLES[model][0]} | {SCHEDULES[schedule]}, {epochs} epochs | "
            f"{metrics['valid_ppl']:.1f} / {metrics['test_ppl']:.1f} (1 seed) | {valid} / {test} | "
            f"{metrics['parameters'] / 1e6:.1f}M |"
        )
    return "\n".join(lines)


def main() -> None:
    """Write the figure and the table."""
    found = found_results()
    draw(found, ROOT / "docs" / "images" / "ptb-small.png")
    readme = ROOT / "README.md"
    text = re.sub(
        r"(<!-- results: begin -->\n).*?(<!-- results: end -->)",
        lambda match: f"{match[1]}{table(found)}\n{match[2]}",
        readme.read_text(encoding="utf-8"),
        flags=re.DOTALL,
    )
    write_text(readme, text)


if __name__ == "__main__":
    main()
