"""Write the demo's report, a page that explains and compares four models, and its two pictures.

The Jinja template ``report.html`` holds the page's words and style. All numbers on the page come
from the results, and all text from the results is escaped.
"""

from __future__ import annotations

import base64
import math
import shlex
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from tiedlm.analysis.plots import STYLES, plot_bars, plot_curves
from tiedlm.data import EOS, UNK
from tiedlm.experiments import findings
from tiedlm.files import readable, write_text

PARTS = {"train": "training", "valid": "validation", "test": "test"}
SIDE_BY_SIDE = ("vd-lstm", "vd-lstm-real")
# Of a model: whether it is tied, and whether its loss is augmented.
IDEAS = {
    (False, False): "",
    (False, True): ", augmented loss",
    (True, False): ", reused embedding",
    (True, True): ", both",
}


# Network -> its name as a model with variational dropout, its short name and what that means.
NETWORKS = {
    "lstm": ("VD-LSTM", "LSTM", "long short-term memory"),
    "gru": ("VD-GRU", "GRU", "gated recurrent units"),
    "rhn": ("VD-RHN", "RHN", "recurrent highway network"),
    "transformer": ("VD-Transformer", "Transformer", "Transformer"),
}


def for_network(text: str, network: str) -> str:
    """Return a text about the LSTM, or the name of a folder, for another network."""
    for ours, theirs in zip(NETWORKS["lstm"], NETWORKS[network], strict=True):
        text = text.replace(ours, theirs)
    return text.replace("vd-lstm", f"vd-{network}")


def write_report(results: Mapping[str, Any], folder: Path) -> Path:
    """Write ``curves.png``, ``perplexity.png`` and a self-contained ``report.html``.

    Args:
        results: contents of the demo's ``results.json``: corpus, models, phrases, settings,
            environment and seconds.
        folder: the folder of the run folders, where the files are written.

    Returns:
        The path of the page.

    Raises:
        UserError: if matplotlib is missing or a file cannot be written.
    """
    curves, bars, page = (folder / n for n in ("curves.png", "perplexity.png", "report.html"))
    network = results["settings"].get("network", "lstm")
    plot_curves(results["models"], curves, baseline=NETWORKS[network][0])
    plot_bars(results["models"], bars, baseline=NETWORKS[network][0])
    next_seed = results["models"]["vd-lstm"]["seed"] + 1
    values = {
        **_corpus_values(results["corpus"]),
        **_setting_values(results),
        **_finding_values(results, network),
        **_commands(folder, next_seed, network),
        "curves_src": _inline(curves),
        "bars_src": _inline(bars),
    }
    template = resources.files("tiedlm.experiments").joinpath("report.html")
    text = for_network(template.read_text(encoding="utf-8"), network)
    html = _environment().from_string(text).render(values)
    write_text(page, html)
    return page


def _environment() -> Environment:
    """Return a Jinja environment that escapes every value and refuses unknown names."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "ppl": "{:.1f}".format,
        "percent": "{:.1%}".format,
        "thousands": "{:,}".format,
        "probability": _probability,
    }
    environment.globals |= {"dot": _dot, "shown": _shown}
    return environment


def _corpus_values(corpus: Mapping[str, Any]) -> dict[str, Any]:
    """Return the template's values for the text."""
    share = "" if corpus["fraction"] == 1 else f" (the first {corpus['fraction']:.0%})"
    words = f"{corpus['parts']['train']['tokens']:,}"
    return {
        "corpus_name": corpus["name"],
        "text_size": f"{words} words{share}",
        "train_tokens": words,
        "origin": corpus["origin"],
        "split": corpus["split"],
        "types": f"{corpus['types']:,}",
        "parts": {title: corpus["parts"][name] for name, title in PARTS.items()},
    }


def _setting_values(results: Mapping[str, Any]) -> dict[str, Any]:
    """Return the template's values for the settings, the machine and the duration."""
    settings = results["settings"]
    return {
        "settings": settings,
        "environment": results["environment"],
        "width": settings["d_hidden"],
        "n_layers": settings["n_layers"],
        "dropout_input": f"{settings['dropout_input']:g}",
        "dropout_hidden": f"{settings['dropout_hidden']:g}",
        "alpha": f"{settings['alpha']:g}",
        "temperature": f"{settings['temperature']:g}",
        "gamma": f"{settings['alpha'] / settings['temperature']:g}",
        "duration": f"{results['seconds'] / 60:.1f} minutes",
    }


def _finding_values(results: Mapping[str, Any], network: str) -> dict[str, Any]:
    """Return the template's values for the models, the phrases and the findings."""
    corpus, models = results["corpus"], results["models"]
    labels = {name: for_network(STYLES[name].label, network) for name in models}
    valid, test = (for_network(_spoken(models, key), network) for key in ("valid_ppl", "test_ppl"))
    return {
        "models": models,
        "labels": labels,
        "ideas": {name: IDEAS[m["tied"], m["alpha"] > 0] for name, m in models.items()},
        **_groups(models, labels),
        "side_by_side": SIDE_BY_SIDE,
        "lowest": {
            key: f"{min(model[key] for model in models.values()):.1f}"
            for key in ("valid_ppl", "test_ppl")
        },
        "seed": models["vd-lstm"]["seed"],
        "real_test": f"{models['vd-lstm-real']['test_ppl']:.1f}",
        "untied_bias": " + b" if models["vd-lstm"]["has_bias"] else "",
        "tied_bias": " + b" if models["vd-lstm-real"]["has_bias"] else "",
        "bias_note": findings.bias(models),
        "headline": for_network(findings.headline(models), network),
        "verdict": for_network(findings.verdict(models), network),
        "readings": [
            for_network(reading, network)
            for reading in (
                findings.parts(models),
                findings.course(models),
                findings.unfinished(models, labels),
                findings.distance(models, corpus["types"], results["settings"]["d_hidden"]),
                findings.unknown(models, corpus["parts"]["test"]),
            )
        ],
        "phrases": [_phrase(phrase) for phrase in results["phrases"]],
        "phrase_count": for_network(findings.phrase_count(results["phrases"]), network),
        "curves_alt": f"Line chart of validation perplexity by epoch. Best values: {valid}",
        "bars_alt": f"Bar chart. Validation perplexity: {valid} Test perplexity: {test}",
    }


def _groups(models: findings.Models, labels: Mapping[str, str]) -> dict[str, str]:
    """Return the names of the models that are not tied, that are, and with the augmented loss."""
    members = {
        "untied_names": [name for name, model in models.items() if not model["tied"]],
        "tied_names": [name for name, model in models.items() if model["tied"]],
        "augmented_names": [name for name, model in models.items() if model["alpha"] > 0],
    }
    return {
        group: ", ".join(labels[name] for name in names) or "no model"
        for group, names in members.items()
    }


def _phrase(phrase: Mapping[str, Any]) -> dict[str, Any]:
    """Return a phrase with the top words of the two models side by side."""
    tops = [phrase["top"][name] for name in SIDE_BY_SIDE]
    largest = max(word["probability"] for top in tops for word in top)
    return {**phrase, "rows": list(zip(*tops, strict=True)), "largest": largest}


def _shown(word: str) -> Markup:
    """Return a word as HTML, with special words spelled out in plain language."""
    spoken = {UNK: "unknown word", EOS: "end of line"}.get(word)
    return Markup('<span class="unk">{}</span>').format(spoken) if spoken else Markup.escape(word)


def _probability(value: float) -> str:
    """Format a probability as 12.3% or 0.1%, or with two digits if that is too coarse."""
    if value >= 0.001:
        return f"{value:.1%}"
    if value < 1e-6:
        return "<0.0001%"
    return f"{100 * value:.{1 - math.floor(math.log10(100 * value))}f}%"


def _dot(name: str) -> Markup:
    """Return a dot in the colour of a model's curve, to show beside the model's name."""
    return Markup('<span class="dot" style="background:{}"></span>').format(STYLES[name].colour)


def _spoken(models: findings.Models, key: str) -> str:
    """Return the values of all models as a sentence for a picture's alternative text."""
    texts: Sequence[str] = [f"{STYLES[n].label} {m[key]:.1f}" for n, m in models.items()]
    return findings.listed(texts) + "."


def _inline(png: Path) -> str:
    """Return a picture as a data URL."""
    return "data:image/png;base64," + base64.b64encode(png.read_bytes()).decode("ascii")


def _commands(folder: Path, next_seed: int, network: str = "lstm") -> dict[str, list[str]]:
    """Return the commands that the page suggests next."""
    named = folder if folder.name not in ("", "..") else folder.resolve()
    second = named.with_name(f"{named.name}-seed{next_seed}")
    names = [for_network(name, network) for name in SIDE_BY_SIDE]
    runs = [str(place / name) for place in (folder, second) for name in names]
    again = [] if network == "lstm" else ["--network", network]
    use = [
        ["tiedlm", "predict", str(folder / names[-1]), "we must"],
        ["tiedlm", "train", "small-real", "--data", "my.txt", "--out", "runs/mine"],
        ["tiedlm", "predict", "runs/mine", "once upon a"],
    ]
    seed = [
        ["tiedlm", "demo", *again, "--seed", str(next_seed), "--out", str(second)],
        ["tiedlm", "compare", *runs],
    ]
    return {
        "commands_use": [readable(shlex.join(line)) for line in use],
        "commands_seed": [readable(shlex.join(line)) for line in seed],
    }
