"""How do our numbers compare with the paper's?

Generates from results/ alone: docs/reproduction.md with its pictures, docs/questions_appendix.md,
the tables of README.md and docs/questions.md, and results/README.md, the list of all kept runs.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from studies import networks, noise
from studies.harness import start, study_parser
from studies.pages.appendix import appendix
from studies.pages.markers import fill, wrap
from studies.pages.printed_table import printed_table1
from studies.pages.question_tables import tables
from studies.pages.results_index import index
from tiedlm.analysis.plots import STYLES, plot_curves, plot_theory
from tiedlm.errors import UserError
from tiedlm.experiments.cells import table1, table2
from tiedlm.experiments.effects import HEADER, effects
from tiedlm.experiments.figure1 import by_point, distances_by_point
from tiedlm.experiments.findings import headline, verdict
from tiedlm.experiments.reproduce import (
    Found,
    find_results,
    line_of,
    markdown,
    markdown_table,
)
from tiedlm.experiments.reproduce_figures import TABLE3_HEADER, draw_figure2, table3_rows
from tiedlm.files import read_json, write_text
from tiedlm.model import ModelConfig
from tiedlm.training.settings import Settings

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results"

Kept = list[tuple[Settings, Found]]  # the result of find_results

HEAD = """# Reproduction

The paper's tables and figures beside ours. `python -m studies.reproduction` generates this page
from `results/`; nothing in it is written by hand. [questions.md](questions.md) explains what the
numbers show, and [experiments.md](experiments.md) is the log of all measured runs.

- A cell is validation / test perplexity. "difference" is ours minus the paper's, for the last
  session that was run. Hours are estimates on two CPU cores.
- A `~` marks a number of the paper that was noted from memory.
- Tied classifiers have a bias. The rows `-b0` have none, as the paper writes it.
- AL's gamma, alpha / tau, is 0.65 on Penn Treebank unless a name gives another. That is the middle
  of the paper's range (0.5 to 0.8).
- `±` after a mean is the standard deviation over seeds. After a paired difference it is the
  half-width of its 95% interval (t).

"""


QUESTIONS = """
1. Does AL lower perplexity? See the columns "AL" and "AL, with RE". The section on its gain, below,
   asks whether the gain is semantic.
2. Does RE cut parameters and keep or lower perplexity? See the columns "RE" and "RE, with AL", and
   "Parameters" below.
3. How do they compare over the size of the text and of the model? Read down the columns, and see
   "The gain by size of the text" below. The paper finds AL > RE for small models, RE > AL for
   larger ones, and REAL best.
4. Is it the same mechanism on both corpora? Compare the rows of Penn Treebank with those of
   WikiText-2. See "Figure 1" below and the distances in each run's `metrics.jsonl`.

Each cell is the change of test perplexity by the addition that the column names: the paper's, then
**ours** with the 95% interval over seeds if there are several. Second sessions are compared if both
models have one, otherwise first sessions.

"""


def parameters() -> str:
    """Return the table of parameter counts, with and without tying."""
    body = []
    for corpus, vocab in (("Penn Treebank", 10_000), ("WikiText-2", 33_278)):
        for size, width in (("small", 200), ("medium", 650), ("large", 1500)):
            counts = [
                ModelConfig(
                    vocab_size=vocab, d_embed=width, d_hidden=width, tied=tied, decoder_bias=True
                ).num_params()
                for tied in (False, True)
            ]
            body.append(
                (
                    corpus,
                    size,
                    *(f"{c / 1e6:.1f}M" for c in counts),
                    f"{1 - counts[1] / counts[0]:.0%}",
                )
            )
    return markdown_table(("corpus", "size", "untied", "tied (RE)", "fewer"), body)


def newest_file(study: str, name: str) -> Path | None:
    """Return the newest file of this name in a study's results, or None."""
    return max(RESULTS.glob(f"????-??-??_{study}/{name}"), default=None)


def newest(study: str) -> Any:
    """Return the newest metrics of a study, or None."""
    path = newest_file(study, "metrics.json")
    return None if path is None else read_json(path)


# What the paper's figure shows, by (beta, temperature): read off its curves, since it has no table.
FIGURE1 = {(0.0, 10.0): "about 1", (1.0, 10.0): "about 0.06"}


def figure1(images: Path) -> str:
    """Return the table of Figure 1, and draw the figure."""
    study = newest("figure1")
    if study is None:
        return "Not run.\n"
    plot_theory(distances_by_point(study["figure1"]), images / "figure1.png")
    body = []
    for (beta, temperature), runs in sorted(by_point(study["figure1"]).items()):
        distances = [run["distance"] for run in runs]
        angles = [angle for run in runs for angle in run["principal_angles_degrees"]]
        body.append(
            (
                f"{beta:g}", f"{temperature:g}", f"{len(runs)}",
                f"{sum(_learned_nothing(run) for run in runs)}",
                FIGURE1.get((beta, temperature), "-"),
                f"{statistics.fmean(distances):.3f}",
                f"{statistics.median(distances):.3f}",
                f"{min(distances):.3f} to {max(distances):.3f}",
                f"{statistics.fmean(run['centred_distance'] for run in runs):.3f}",
                f"{statistics.fmean(angles):.0f}, {max(angles):.0f}",
                f"{statistics.fmean(run['scaled_aug'] for run in runs):.3g}" if beta else "-",
                f"{statistics.fmean(run['ce'] for run in runs):.3g}" if beta < 1 else "-",
            )
        )  # fmt: skip
    header = (
        "beta", "temperature", "runs", "learned nothing", "the paper", "mean distance", "median",
        "range",
        "mean distance, centred", "principal angles: mean, largest (degrees)",
        "tau^2 V J_aug at the end", "J at the end",
    )  # fmt: skip
    return (
        "![Figure 1](images/figure1.png)\n\n"
        "`beta` is the share of the augmented loss: the models are trained with "
        "`beta tau^2 V J_aug + (1 - beta) J`, where J is cross-entropy and tau the temperature. "
        'The column "the paper" has values that we read off its curves, because it gives no '
        "numbers. At beta 1 the paper's distance is low from temperature 2 on, as ours is.\n\n"
        'A run counts as "learned nothing" if J ended above ln V - 0.1 on its own training text. '
        "Its predictions are then no better than guessing. All columns include such runs.\n\n"
        + markdown_table(header, body)
    )


def _learned_nothing(run: Mapping[str, Any]) -> bool:
    return run["ce"] > math.log(run["vocabulary"]) - 0.1


def monte_carlo_rows() -> list[tuple[str, str, str, str]]:
    """Return the rows of Table 3 for Monte-Carlo dropout."""
    return [
        (
            f"{row['run']} (ours), MC of {row['samples']} samples",
            f"{row['parameters'] / 1e6:.1f}M", "-", f"{row['test_ppl']:.1f}",
        )
        for row in newest("monte-carlo") or []
    ]  # fmt: skip


def table_of(study: str) -> str:
    """Return the newest table of a study in Markdown."""
    path = newest_file(study, "table.md")
    return "Not run.\n" if path is None else path.read_text(encoding="utf-8")


def network_tables() -> dict[str, str]:
    """Return the tables of studies.networks by their names in docs/carry_over.md."""
    found = {}
    for text in networks.TEXTS:
        parts = [f"{part.strip()}\n" for part in table_of(networks.name_of(text)).split("\n\n")]
        # The third is the log of the search. A study that was not run has one line.
        cells, over, _, inside = parts[:4] if len(parts) > 3 else parts[:1] * 4
        found |= {f"{text}-cells": cells, f"{text}-over": over, f"{text}-inside": inside}
    return found


def predictions() -> str:
    """Return the tables of phrases and of prediction statistics."""
    study = newest("predictions")
    if study is None:
        return "Not run: it needs a finished VD-LSTM and a finished REAL of one size.\n"
    text = f"Runs: {', '.join(study['runs'])}.\n\n"
    body = []
    for row in study["phrases"]:
        for name, top in row["top"].items():
            words = escape(", ".join(f"{p['word']} {p['probability']:.2f}" for p in top), False)
            phrase = f"{escape(row['context'], False)} + **{escape(row['next'], False)}**"
            body.append((phrase, name, words, f"{row['p_next'][name]:.3f}"))
    text += markdown_table(("phrase", "model", "most probable next words", "P(next)"), body) + "\n"
    body = []
    for band, values in study["bands"].items():
        for name, value in values.items():
            if name != "tokens":
                low, high = value["difference95"]
                body.append(
                    (f"{band} ({values['tokens']:,})", escape(name, False), f"{value['base']:.4f}",
                     f"{value['other']:.4f}", f"{low:+.4f} to {high:+.4f}")
                )  # fmt: skip
    header = ("targets", "mean of", "VD-LSTM", "REAL", "difference, 95% interval")
    return text + markdown_table(header, body)


def page(found: Kept, images: Path) -> str:
    """Return docs/reproduction.md, and draw its pictures."""
    try:
        pictures = draw_figure2(found, images)
        figure2 = "".join(f"![{path.stem}](images/{path.name})\n" for path in pictures)
    except UserError:
        figure2 = "Not drawn: no two models of a size are finished.\n"
    return (
        HEAD
        + "## Table 1: perplexities\n\n"
        + markdown([line_of(cell, found) for cell in table1()])
        + "\n## Table 2: half of WikiText-2\n\n"
        + markdown([line_of(cell, found) for cell in table2()])
        + "\n## The paper's four questions\n"
        + QUESTIONS
        + markdown_table(HEADER, effects(found))
        + "\n## Table 3: Penn Treebank, beside others\n\n"
        + markdown_table(TABLE3_HEADER, [*table3_rows(found), *monte_carlo_rows()])
        + "\n## Figure 1: the distance of the two spaces\n\n"
        + figure1(images)
        + "\n## Equation 4.3 on trained models\n\n"
        + "The error is the distance of `tau^2 V dJ_aug/dz` from its limit `z - L^T u`, divided "
        + "by the norm of the limit. Both are centred.\n\n"
        + table_of("high-temperature")
        + "\n## Figure 2: validation curves\n\n"
        + figure2
        + "\n## Is the augmented loss's gain semantic?\n\n"
        + "`python -m studies.semantic --long` trains small tied models on Penn Treebank's first "
        + "22.5%, with the paper's schedule of 45 epochs.\n\nThe second table compares each "
        + "soft target with RE, in nats per word, by how often the next word was seen in "
        + "training. Below 0 is better. In brackets is a 95% interval over the test text, for "
        + "each seed. The third table has the norm of the embedding's gradient, for each path of "
        + "the gradient, with its share of the sum of the norms. "
        + '"Label smoothing e" mixes in a share e of the uniform distribution. "Uniform at 1, e" '
        + "is a uniform soft target at temperature 1 with alpha e / (1 - e).\n\n"
        + table_of("semantic-long")
        + "\n### Without a bias in the classifier, 15 epochs\n\n"
        + "This is the study without `--long`, from before the recipes had a bias.\n\n"
        + table_of("semantic-b0")
        + "\n### Without a bias in the classifier, 45 epochs\n\n"
        + table_of("semantic-long-b0")
        + "\n## How much is noise?\n\n"
        + "`python -m studies.noise` computes the standard deviation over seeds of each kind of "
        + "model with several seeds. The runs are those of three studies: soft targets (above), "
        + "the strength of AL and the bias (both below). Gamma is alpha / temperature.\n\n"
        + noise.table(RESULTS)
        + "\n## The strength of the augmented loss\n\n"
        + "`python -m studies.strength` trains REAL on Penn Treebank's first 22.5% for 45 "
        + "epochs, also with other soft targets. Gamma 0 is RE. The second table has means over "
        + "8,000 validation words: the spread over the vocabulary of a token's scores and of its "
        + "target's similarities, the cosine of the two, and the entropy of the prediction.\n\n"
        + table_of("strength")
        + "\n## A bias in the tied classifier\n\n"
        + "`python -m studies.bias` trains small models on Penn Treebank's first 22.5%, for 45 "
        + "epochs.\n\n"
        + table_of("bias")
        + "\n## The gain by size of the text\n\n"
        + "`python -m studies.data_size` trains small models on parts of Penn Treebank with the "
        + "vocabulary of the part. Runs stop after 5 epochs without improvement, except on the "
        + "whole text.\n\n"
        + "![The gain by size of the text](images/data_size.png)\n\n"
        + table_of("data-size")
        + "\n## bfloat16 beside float32\n\n"
        + "`python -m studies.bf16` trains REAL on Penn Treebank's first 22.5%.\n\n"
        + table_of("bf16")
        + "\n## Parameters\n\n"
        + "For medium models the paper gives 20M parameters untied and 14M tied. One matrix of "
        + "10,000 words and 650 units has 6.5M, so our tied model has 13.3M. The paper's 14M may "
        + "be the rounded 20M minus 6.5M.\n\n"
        + parameters()
        + "\n## Predictions\n\n"
        + predictions()
    )


def demo(images: Path) -> str:
    """Return the last lines that `make demo` prints, and draw its curves, from its kept runs."""
    study = newest("demo")
    if study is None:
        return "Not run.\n"
    names = dict(zip(("demo", "demo-al", "demo-re", "demo-real"), STYLES, strict=True))
    models = {names[run["recipe"]]: run for run in study["runs"]}
    plot_curves(models, images / "demo.png")
    return f"```text\n{headline(models)}\n{verdict(models)}\n```\n"


def filled(page: str, new: Mapping[str, str]) -> str:
    """Return a page of the repository with new tables between its markers."""
    return fill((ROOT / page).read_text(encoding="utf-8"), new)


def main() -> None:
    """Write the pages and the pictures."""
    parser = study_parser(
        "reproduction", __doc__, out="folder for README.md, docs/ and results/", default=ROOT
    )
    out = parser.parse_args().out
    found = find_results(RESULTS)
    (out / "docs" / "images").mkdir(parents=True, exist_ok=True)
    pages = {
        "README.md": filled(
            "README.md",
            {"results": printed_table1(found), "demo": demo(out / "docs" / "images")},
        ),
        "docs/questions.md": filled(
            "docs/questions.md", tables(found, RESULTS, newest("predictions"))
        ),
        "docs/carry_over.md": filled("docs/carry_over.md", network_tables()),
        "docs/questions_appendix.md": wrap(appendix(found, RESULTS)),
        "docs/reproduction.md": wrap(page(found, out / "docs" / "images")),
        "results/README.md": index(RESULTS),
    }
    for name, text in pages.items():
        write_text(out / name, text)


if __name__ == "__main__":
    start(main)
