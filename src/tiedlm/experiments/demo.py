"""Train the paper's four models on a short corpus, and write pictures and a report."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tiedlm.analysis.plots import require_matplotlib
from tiedlm.analysis.predictions import distributions, mean_probability, next_words
from tiedlm.cores import available_cores
from tiedlm.data import Corpus
from tiedlm.errors import UserError, did_you_mean
from tiedlm.evaluation.subspace import subspace_distance
from tiedlm.experiments.parallel import Job, train_all
from tiedlm.experiments.recipes import DEMO_NETWORKS, get_recipe
from tiedlm.experiments.report import SIDE_BY_SIDE, for_network, write_report
from tiedlm.files import read_json, write_json
from tiedlm.model import LanguageModel
from tiedlm.progress import ProgressView
from tiedlm.training.hardware import default_arithmetic
from tiedlm.training.run import load
from tiedlm.training.run_files import ENVIRONMENT, read_metrics
from tiedlm.training.settings import Settings

MODELS = {
    "vd-lstm": "demo",
    "vd-lstm-al": "demo-al",
    "vd-lstm-re": "demo-re",
    "vd-lstm-real": "demo-real",
}
PHRASES = 6
PHRASE_LENGTHS = range(5, 16)  # words in a context
COMMON_WORDS = 100  # number of frequent words that are never a phrase's next word


def run_demo(
    out: Path,
    view: ProgressView,
    jobs: int | None = None,
    network: str = "lstm",
    **changes: Any,
) -> Path:
    """Train the four models, measure them, and write ``results.json`` and the report.

    Args:
        out: the output folder, which gets one run folder per model.
        view: shows the progress.
        jobs: number of models trained in parallel; the default is one per core.
        network: the network of the four models, one of ``DEMO_NETWORKS``; each has settings of its
            own.
        changes: settings that replace the recipes' settings, for example for a shorter demo.

    Returns:
        The path of ``report.html``.
    """
    require_matplotlib("demo")  # fail now, not after minutes of training
    started = time.monotonic()
    if network not in DEMO_NETWORKS:
        raise UserError(
            f"--network {network!r}: the demo compares {', '.join(DEMO_NETWORKS)}"
            f"{did_you_mean(network, DEMO_NETWORKS)}"
        )
    changes = DEMO_NETWORKS[network] | changes
    settings = {name: get_recipe(recipe).replace(**changes) for name, recipe in MODELS.items()}
    folders = {name: out / for_network(name, network) for name in MODELS}
    first = settings["vd-lstm"]
    for folder in folders.values():
        if (epochs := len(read_metrics(folder))) > first.epochs:
            raise UserError(
                f"{folder} was trained for {epochs} epochs already; give --epochs {epochs} or "
                "more, or another --out"
            )
    corpus = first.load_corpus()
    # Start the longest trainings first, so that the last two end together.
    order = sorted(MODELS, key=lambda name: settings[name].alpha, reverse=True)
    at_once = jobs or min(len(MODELS), available_cores())
    view.line(
        f"four models, {first.epochs} epochs each of {len(corpus.train):,} words of {corpus.name}, "
        f"{at_once} at once: minutes on two cores; stopped, the same command continues"
    )
    train_all([Job(settings[name], folders[name]) for name in order], at_once, view)
    view.line("measuring the four models")
    with default_arithmetic():
        results = {
            "corpus": {**corpus.info, "types": len(corpus.vocabulary)},
            "settings": first.to_dict()
            | {"alpha": settings["vd-lstm-real"].alpha, "recipe": "demo", "tied": None},
            "models": {name: _measure(folders[name], corpus) for name in MODELS},
            "phrases": _phrases({name: load(folders[name]) for name in SIDE_BY_SIDE}, corpus.test),
            "environment": read_json(folders["vd-lstm"] / ENVIRONMENT),
            "seconds": time.monotonic() - started,
        }
    write_json(out / "results.json", results)
    return write_report(results, out)


def _measure(folder: Path, corpus: Corpus) -> dict[str, Any]:
    """Return a model's numbers for the table, its properties, and its curves."""
    model, settings = load(folder), Settings.of_run(folder)
    metrics = read_metrics(folder)
    unk_id = corpus.vocabulary.unk_id
    assert unk_id is not None
    return {
        **read_json(folder / "result.json"),
        "tied": model.config.tied,
        "has_bias": model.decoder.bias is not None,
        "alpha": settings.alpha,
        "subspace_distance": subspace_distance(model.decoder.weight, model.embedding.weight),
        "mean_p_unk": mean_probability(model, corpus.test, unk_id),
        "tokens_per_second": float(np.median([line["tokens_per_second"] for line in metrics])),
        "curve": [{key: m[key] for key in ("epoch", "train_ppl", "valid_ppl")} for m in metrics],
    }


def choose_phrases(
    ids: npt.NDArray[np.integer], eos_id: int, unk_id: int, count: int = PHRASES
) -> list[tuple[int, int]]:
    """Choose phrases from a text by a fixed rule, so that nobody picks them by hand.

    A phrase begins at the start of a line and has no ``<unk>``. Its next word is the first after
    the fifth word that is not among the most frequent (ids are in order of frequency). Of all lines
    with such a phrase, ``count`` are taken at equal distances.

    Returns:
        ``(start, end)`` pairs: the context is ``ids[start:end]``, the next word ``ids[end]``.
    """
    starts = np.flatnonzero(ids[:-1] == eos_id) + 1
    found = []
    for start in map(int, starts):
        for end in (start + length for length in PHRASE_LENGTHS):
            if end >= len(ids) or any(int(i) in (eos_id, unk_id) for i in ids[start : end + 1]):
                break
            if ids[end] >= COMMON_WORDS:
                found.append((start, end))
                break
    chosen = np.linspace(0, len(found) - 1, min(count, len(found))).round().astype(int)
    return [found[i] for i in chosen]


def _phrases(
    models: dict[str, LanguageModel], ids: npt.NDArray[np.integer]
) -> list[dict[str, Any]]:
    """Return each model's top words after held-out phrases, starting each from a zero state."""
    vocabulary = next(iter(models.values())).vocabulary
    assert vocabulary is not None
    assert vocabulary.unk_id is not None
    phrases = []
    for start, end in choose_phrases(ids, vocabulary.eos_id, vocabulary.unk_id):
        piece = ids[start - 1 : end + 1]  # from the <eos> before the line to the next word
        phrases.append(
            {
                "context": " ".join(vocabulary.decode(ids[start:end])),
                "next": vocabulary.decode(ids[end : end + 1])[0],
                "top": {
                    name: [p._asdict() for p in next_words(model, piece[:-1])]
                    for name, model in models.items()
                },
                "next_probability": {
                    name: _last_probability(model, piece) for name, model in models.items()
                },
            }
        )
    return phrases


def _last_probability(model: LanguageModel, ids: npt.NDArray[np.integer]) -> float:
    *_, (probabilities_TV, targets_T) = distributions(model, ids)
    return float(probabilities_TV[-1, targets_T[-1]])
