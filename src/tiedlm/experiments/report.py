"""The demo's report: one page that explains and shows four models, and its two pictures.

The page's words and looks are in ``report.html``; every number on it comes from the results, and
all text of theirs is escaped.
"""

from __future__ import annotations

import base64
import math
import shlex
from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

from tiedlm.analysis.plots import STYLES, plot_bars, plot_curves
from tiedlm.data import EOS, UNK
from tiedlm.experiments import findings
from tiedlm.files import readable, write_text

PARTS = {"train": "training", "valid": "validation", "test": "test"}
SIDE_BY_SIDE = ("vd-lstm", "vd-lstm-real")


def write_report(results: Mapping[str, Any], folder: Path) -> Path:
    """Write ``curves.png``, ``perplexity.png`` and a self-contained ``report.html``.

    Args:
        results: what the demo keeps in ``results.json``: corpus, models, phrases, settings,
            environment and seconds.
        folder: where the run folders are; the files go there.

    Returns:
        The path of the page.

    Raises:
        UserError: if matplotlib is missing or a file cannot be written.
    """
    curves, bars, page = (folder / n for n in ("curves.png", "perplexity.png", "report.html"))
    plot_curves(results["models"], curves)
    plot_bars(results["models"], bars)
    values = {name: escape(text) for name, text in _texts(results).items()}
    values |= _pieces(results) | _commands(folder, results["models"]["vd-lstm"]["seed"] + 1)
    values |= {"curves_src": _inline(curves), "bars_src": _inline(bars)}
    template = resources.files("tiedlm.experiments").joinpath("report.html")
    write_text(page, Template(template.read_text(encoding="utf-8")).substitute(values))
    return page


def _texts(results: Mapping[str, Any]) -> dict[str, str]:
    """Return what stands in the template as plain text."""
    corpus, models, settings = results["corpus"], results["models"], results["settings"]
    return {
        "corpus_name": corpus["name"],
        "text_size": _text_size(corpus),
        "origin": corpus["origin"],
        "split": corpus["split"],
        "types": f"{corpus['types']:,}",
        "train_tokens": f"{corpus['parts']['train']['tokens']:,}",
        "width": str(settings["d_hidden"]),
        "n_layers": str(settings["n_layers"]),
        "dropout_input": f"{settings['dropout_input']:g}",
        "dropout_hidden": f"{settings['dropout_hidden']:g}",
        "alpha": f"{settings['alpha']:g}",
        "temperature": f"{settings['temperature']:g}",
        "gamma": f"{settings['alpha'] / settings['temperature']:g}",
        "seed": str(models["vd-lstm"]["seed"]),
        "real_test": f"{models['vd-lstm-real']['test_ppl']:.1f}",
        "headline": findings.headline(models),
        "verdict": findings.verdict(models),
        "phrase_count": findings.phrase_count(results["phrases"]),
        "curves_alt": "Line chart of validation perplexity by epoch. Best values: "
        + _spoken(models, "valid_ppl"),
        "bars_alt": "Bar chart. Validation perplexity: "
        + _spoken(models, "valid_ppl")
        + " Test perplexity: "
        + _spoken(models, "test_ppl"),
        "duration": f"{results['seconds'] / 60:.1f} minutes",
    }


def _pieces(results: Mapping[str, Any]) -> dict[str, str]:
    """Return what stands in the template as HTML."""
    corpus, models, settings = results["corpus"], results["models"], results["settings"]
    labels = {name: STYLES[name].label for name in models}
    readings = [
        findings.parts(models),
        findings.course(models),
        findings.unfinished(models, labels),
        findings.distance(models, corpus["types"], settings["d_hidden"]),
        findings.unknown(models, corpus["parts"]["test"]),
    ]
    return {
        "dot_base": _dot("vd-lstm"),
        "dot_al": _dot("vd-lstm-al"),
        "dot_re": _dot("vd-lstm-re"),
        "dot_real": _dot("vd-lstm-real"),
        "corpus_rows": "\n".join(_corpus_row(n, corpus["parts"][n]) for n in PARTS),
        "result_rows": _result_rows(models),
        "readings": "\n".join(f"<li>{escape(text)}</li>" for text in readings),
        "phrases": "\n".join(_phrase(phrase) for phrase in results["phrases"]),
        "settings_rows": _detail_rows(settings),
        "environment_rows": _detail_rows(results["environment"]),
    }


def _corpus_row(name: str, part: Mapping[str, int]) -> str:
    return _row(
        PARTS[name],
        f"{part['tokens']:,}",
        f"{part['unk']:,}",
        f"{part['unk'] / part['tokens']:.1%}",
    )


def _result_rows(models: findings.Models) -> str:
    lowest = {
        key: f"{min(model[key] for model in models.values()):.1f}"
        for key in ("valid_ppl", "test_ppl")
    }
    rows = []
    for name, model in models.items():
        cells = [f'<th scope="row">{_dot(name)}{escape(STYLES[name].label)}</th>']
        for key in ("valid_ppl", "test_ppl"):
            text = f"{model[key]:.1f}"
            cells.append(f'<td class="best">{text}</td>' if text == lowest[key] else _cell(text))
        cells += [
            _cell(f"{model['parameters']:,}"),
            _cell(f"{model['subspace_distance']:.3f}"),
            _cell(f"{model['mean_p_unk']:.1%}"),
            _cell(f"{model['tokens_per_second']:,.0f}"),
            _cell(f"{model['best_epoch']} of {model['epochs']}"),
        ]
        rows.append(f"<tr>{''.join(cells)}</tr>")
    return "\n".join(rows)


def _phrase(phrase: Mapping[str, Any]) -> str:
    """Return the top words of two models after one phrase, side by side, as a table."""
    tops = [phrase["top"][name] for name in SIDE_BY_SIDE]
    largest = max(word["probability"] for top in tops for word in top)
    heads = "".join(
        f'<th scope="colgroup" colspan="2" class="words">{escape(STYLES[name].label)}</th>'
        for name in SIDE_BY_SIDE
    )
    rows = []
    for rank, words in enumerate(zip(*tops, strict=True), start=1):
        cells = "".join(
            f'<td class="words">{_word(word["word"], phrase["next"])}</td>'
            f'<td class="p" style="--p:{100 * word["probability"] / largest:.1f}%">'
            f"{_probability(word['probability'])}</td>"
            for word in words
        )
        rows.append(f'<tr><th scope="row" class="rank">{rank}</th>{cells}</tr>')
    followed = "".join(
        f'<td colspan="2"><span class="both">{_word(phrase["next"], phrase["next"])}'
        f"<span>{_probability(phrase['next_probability'][name])}</span></span></td>"
        for name in SIDE_BY_SIDE
    )
    context = " ".join(_word(word) for word in phrase["context"].split())
    return (
        '<div class="phrase"><table>'
        f"<caption>“{context} …” {_word(phrase['next'], phrase['next'])}</caption>"
        '<colgroup><col class="rank"></colgroup>'
        + '<colgroup><col><col class="p"></colgroup>'
        * len(SIDE_BY_SIDE)
        + f'<thead><tr><th scope="col" class="rank">#</th>{heads}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody>"
        f'<tfoot><tr><th scope="row" class="rank"><span aria-hidden="true">▸</span>'
        f'<span class="hidden">the word that followed</span></th>{followed}</tr></tfoot>'
        "</table></div>"
    )


def _word(word: str, followed: str | None = None) -> str:
    """Return a word as HTML: special words in plain language, the one that followed marked."""
    spoken = {UNK: "unknown word", EOS: "end of line"}.get(word)
    shown = escape(word) if spoken is None else f'<span class="unk">{spoken}</span>'
    return f"<mark>{shown}</mark>" if word == followed else shown


def _probability(value: float) -> str:
    """Write a probability as 12.3%, 0.1%, or with two digits where that would be too coarse."""
    if value >= 0.001:
        return f"{value:.1%}"
    if value < 1e-6:
        return "&lt;0.0001%"
    return f"{100 * value:.{1 - math.floor(math.log10(100 * value))}f}%"


def _detail_rows(values: Mapping[str, Any]) -> str:
    return "\n".join(
        f'<tr><th scope="row">{escape(name.replace("_", " "))}</th>'
        f"<td>{escape(str(value))}</td></tr>"
        for name, value in values.items()
        if value is not None
    )


def _row(head: str, *texts: str) -> str:
    return f'<tr><th scope="row">{escape(head)}</th>{"".join(map(_cell, texts))}</tr>'


def _cell(text: str) -> str:
    return f"<td>{escape(text)}</td>"


def _dot(name: str) -> str:
    """Return a dot of a model's colour in the plots; its name stands beside it."""
    return f'<span class="dot" style="background:{STYLES[name].colour}"></span>'


def _spoken(models: findings.Models, key: str) -> str:
    texts: Sequence[str] = [f"{STYLES[n].label} {m[key]:.1f}" for n, m in models.items()]
    return findings.listed(texts) + "."


def _inline(png: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(png.read_bytes()).decode("ascii")


def _text_size(corpus: Mapping[str, Any]) -> str:
    """Say how much was read: ``59,667 words (the first 60%)``."""
    share = "" if corpus["fraction"] == 1 else f" (the first {corpus['fraction']:.0%})"
    return f"{corpus['parts']['train']['tokens']:,} words{share}"


def _commands(folder: Path, next_seed: int) -> dict[str, str]:
    """Return the commands to go on with, one ``<code>`` each."""
    named = folder if folder.name not in ("", "..") else folder.resolve()
    second = named.with_name(f"{named.name}-seed{next_seed}")
    runs = [str(place / name) for place in (folder, second) for name in SIDE_BY_SIDE]
    commands = {
        "commands_use": [
            ["tiedlm", "predict", str(folder / "vd-lstm-real"), "we must"],
            ["tiedlm", "train", "small-real", "--data", "my.txt", "--out", "runs/mine"],
            ["tiedlm", "predict", "runs/mine", "once upon a"],
        ],
        "commands_seed": [
            ["tiedlm", "demo", "--seed", str(next_seed), "--out", str(second)],
            ["tiedlm", "compare", *runs],
        ],
    }
    return {
        name: "\n".join(f"<code>{escape(readable(shlex.join(line)))}</code>" for line in lines)
        for name, lines in commands.items()
    }
