"""Draw the pictures of docs/idea.md from the four models of a demo.

    make demo
    python -m studies.idea runs/demo [--word years] [--out docs/images]

Three pictures show the trained models: what the losses ask for, where they push, and how many
parameters a model has. For the fourth picture the program trains a classifier of twelve words in
two dimensions. It shows why the word vectors and the classifier come together.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from studies.inside import gradients
from tiedlm import LanguageModel, load
from tiedlm.analysis.plots import FAINT, INK, STYLES, require_matplotlib, save_png
from tiedlm.evaluation.perplexity import hidden_windows
from tiedlm.evaluation.subspace import subspace_distance, unit_rows
from tiedlm.files import read_json
from tiedlm.loss.reference import divergence, log_softened
from tiedlm.training.settings import Settings

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TARGET, SIMILAR, FAR = "#D55E00", "#0072B2", "#888888"
TEMPERATURES = (2.0, 5.0, 20.0)
SIMILAR_WORDS, FAR_WORDS = 5, 3
COMMON_WORDS = 100  # of a push, targets that are among the most frequent words are left out
COSINES = (-0.2, -0.1, 0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
TOY_WORDS, TOY_STEPS, TOY_TEMPERATURE = 12, 3000, 10.0


class Text(NamedTuple):
    """A model in float64, and the hidden states and targets of a held-out text."""

    model: LanguageModel
    hidden_NH: Tensor
    targets_N: Tensor
    settings: Settings


def read(folder: Path, tokens: int = 5000) -> Text:
    """Read the first words of a run's validation text with its model."""
    model, settings = load(folder).double(), Settings.of_run(folder)
    ids = settings.load_corpus(progress=False).valid[: tokens + 1]
    parts = zip(*hidden_windows(model, ids), strict=True)
    hidden_NH, targets_N = (torch.cat(part) for part in parts)
    return Text(model, hidden_NH, targets_N, settings)


def chosen_words(scores_V: Tensor, index: int) -> list[int]:
    """Return a word, the words with the highest scores beside it, and some with middling ones."""
    order = [i for i in scores_V.argsort(descending=True).tolist() if i != index]
    step = len(order) // (FAR_WORDS + 1)
    far = [order[step * (n + 1)] for n in range(FAR_WORDS)]
    return [index, *order[:SIMILAR_WORDS], *far]


def targets_and_predictions(
    text: Text, word: str
) -> tuple[list[str], list[tuple[str, Tensor, Tensor]]]:
    """Return words, and for each loss its target and the prediction of the words.

    The prediction is the mean over the places of the text where the word comes next.

    Returns:
        The words, and ``(title, target, prediction)`` with a number for each word.
    """
    model = text.model
    assert model.vocabulary is not None
    index = int(model.vocabulary.encode([word])[0])
    vectors_VE, classifier_VE = model.embedding.weight.detach(), model.decoder.weight.detach()
    here_N = text.targets_N == index
    if not here_N.any():
        raise SystemExit(f"{word!r} is not in the text that was read")
    scores_NV = text.hidden_NH[here_N] @ classifier_VE.t()
    logits_NV = scores_NV if model.decoder.bias is None else scores_NV + model.decoder.bias.detach()
    soft_scores_V = vectors_VE @ vectors_VE[index]
    chosen = chosen_words(soft_scores_V, index)
    one_hot_V = functional.one_hot(torch.tensor(index), len(vectors_VE)).double()
    panels = [("one-hot", one_hot_V[chosen], logits_NV.softmax(-1).mean(0)[chosen])]
    for tau in TEMPERATURES:
        soft_V = log_softened(soft_scores_V, tau).exp()
        predicted_V = log_softened(scores_NV, tau).exp().mean(0)
        panels.append((f"soft, tau = {tau:g}", soft_V[chosen], predicted_V[chosen]))
    return model.vocabulary.decode(chosen), panels


def draw_targets(text: Text, word: str, path: Path) -> None:
    """Draw the one-hot target of a word beside its soft targets."""
    from matplotlib.figure import Figure

    words, panels = targets_and_predictions(text, word)
    colours = [TARGET] + [SIMILAR] * SIMILAR_WORDS + [FAR] * FAR_WORDS
    figure = Figure(figsize=(11, 4.6), layout="constrained", facecolor="white")
    rows = range(len(words))
    for axes, (title, target, predicted) in zip(
        figure.subplots(1, 4, sharey=True), panels, strict=True
    ):
        axes.barh(rows, target.tolist(), color=colours, height=0.66)
        axes.plot(
            predicted.tolist(),
            rows,
            "o",
            color="white",
            markeredgecolor=INK,
            markersize=6,
            clip_on=False,
        )
        largest = max(float(target.max()), float(predicted.max()))
        for row, value in zip(rows, target.tolist(), strict=True):
            at = max(value, float(predicted[row]))
            axes.annotate(percent(value), (at, row), (8, 0), textcoords="offset points",
                          va="center", size=11, color=INK)  # fmt: skip
        axes.set_xlim(0, 1.5 * largest)
        plain(axes, title)
        axes.set_yticks(rows, words, size=13)
    figure.axes[0].invert_yaxis()
    figure.supxlabel(
        f"What the losses ask for when the next word is \N{LEFT DOUBLE QUOTATION MARK}{word}"
        "\N{RIGHT DOUBLE QUOTATION MARK} (bars), and what the model predicts (circles).\n"
        "Blue: the most similar words. Grey: other words. Each panel has a scale of its own.",
        size=12, color=INK,
    )  # fmt: skip
    save_png(figure, path)


def percent(share: float) -> str:
    """Return a share with two digits: 45%, 0.40%, 0.035%."""
    if share in (0, 1):
        return f"{share:.0%}"
    return f"{100 * share:.2g}%" if share >= 0.001 else f"{100 * share:.3f}%"


def plain(axes: Axes, title: str) -> None:
    """Give axes a title and no frame and no numbers."""
    axes.set_title(title, loc="left", size=13, color=INK)
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.spines["left"].set_color(FAINT)
    axes.tick_params(axis="y", length=0, pad=9, labelcolor=INK)
    axes.set_xticks([])


def pushes(text: Text) -> tuple[list[str], list[float], list[float], float]:
    """Return where the losses push the scores of the wrong words, by similarity to the target.

    A push is minus the gradient with respect to a score: equation (9) of docs/loss.md.

    Returns:
        The bands of similarity; the mean push of cross-entropy and of AL in each; and the sum of
        the absolute pushes of AL, divided by the sum of the absolute pushes of cross-entropy.
    """
    model = text.model
    assert model.vocabulary is not None
    keep_N = text.targets_N >= COMMON_WORDS
    hidden_NE, targets_N = text.hidden_NH[keep_N], text.targets_N[keep_N]
    vectors_VE, classifier_VE = model.embedding.weight.detach(), model.decoder.weight.detach()
    units_VE = unit_rows(vectors_VE)
    edges = torch.tensor(COSINES, dtype=torch.float64)
    sums, counts, sizes = torch.zeros(2, len(edges) + 1), torch.zeros(len(edges) + 1), [0.0, 0.0]
    gamma, tau = text.settings.alpha / text.settings.temperature, text.settings.temperature
    for hidden, targets in zip(hidden_NE.split(100), targets_N.split(100), strict=True):
        scores = hidden @ classifier_VE.t()
        logits = scores if model.decoder.bias is None else scores + model.decoder.bias.detach()
        hot = functional.one_hot(targets, len(vectors_VE))
        soft = log_softened(vectors_VE[targets] @ vectors_VE.t(), tau).exp()
        by_ce, by_aug = gradients(scores, logits, soft, targets, tau)
        both = -by_ce, -gamma * by_aug
        band = torch.bucketize(units_VE[targets] @ units_VE.t(), edges)[hot == 0]
        counts += torch.bincount(band, minlength=len(counts))
        for n, push in enumerate(both):
            sums[n] += torch.bincount(band, push[hot == 0], minlength=len(counts))
            sizes[n] += float(push.abs().sum())
    names = [f"{a:g} to {b:g}" for a, b in itertools.pairwise(COSINES)]
    bands = [f"below {COSINES[0]:g}", *names, f"above {COSINES[-1]:g}"]
    means = (sums / counts.clamp(min=1)).tolist()
    return [b.replace("-", "\N{MINUS SIGN}") for b in bands], *means, sizes[1] / sizes[0]


def draw_pushes(text: Text, path: Path) -> None:
    """Draw where the losses push the wrong words, by similarity to the right one."""
    from matplotlib.figure import Figure

    bands, ce, aug, share = pushes(text)
    figure = Figure(figsize=(11, 4.6), layout="constrained", facecolor="white")
    titles = "cross-entropy", f"AL (all its pushes together: {share:.1%} of cross-entropy's)"
    for axes, title, values in zip(
        figure.subplots(1, 2, sharey=True), titles, (ce, aug), strict=True
    ):
        colours = [SIMILAR if value > 0 else TARGET for value in values]
        axes.barh(range(len(bands)), values, color=colours, height=0.7)
        plain(axes, title)
        axes.spines["left"].set_visible(False)
        axes.axvline(0, color=INK, linewidth=0.8)
        axes.margins(x=0.08)
        axes.set_yticks(range(len(bands)), bands, size=12)
    figure.axes[0].set_ylabel("similarity to the right word (cosine)", size=12, color=INK)
    figure.supxlabel(
        "Where the losses push the score of a wrong word: orange down, blue up.\n"
        "Each panel has a scale of its own.", size=12, color=INK,
    )  # fmt: skip
    save_png(figure, path)


def draw_parameters(results: dict[str, Any], path: Path) -> None:
    """Draw what the parameters of the four models are, with their perplexities."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.6), layout="constrained", facecolor="white")
    axes = figure.subplots()
    width, types = results["settings"]["d_embed"], results["corpus"]["types"]
    models = results["models"]
    largest = max(model["parameters"] for model in models.values())
    for row, (name, model) in enumerate(models.items()):
        tied = model["tied"]
        rest = model["parameters"] - types * width * (1 if tied else 2)
        parts = [("L, also as W" if tied else "L", types * width, SIMILAR), ("network", rest, FAR)]
        parts += [] if tied else [("W", types * width, TARGET)]
        left = 0
        for words, size, colour in parts:
            axes.barh(
                row, size, left=left, color=colour, height=0.66, edgecolor="white", linewidth=2
            )
            axes.text(left + size / 2, row, words, ha="center", va="center", color="white", size=13)
            left += size
        axes.text(
            left + 0.015 * largest,
            row,
            f"{left / 1e6:.2f} million",
            va="center",
            size=12,
            color=INK,
        )
        axes.text(1.38 * largest, row, f"{model['test_ppl']:.1f}", va="center", ha="right",
                  size=14, weight="bold", color=STYLES[name].colour)  # fmt: skip
    axes.text(1.38 * largest, -0.75, "test perplexity", va="center", ha="right", size=12, color=INK)
    axes.set_xlim(0, 1.4 * largest)
    axes.set_ylim(len(models) - 0.5, -1.1)
    plain(axes, "")
    axes.spines["left"].set_visible(False)
    axes.set_yticks(range(len(models)), [STYLES[name].label for name in models], size=13)
    save_png(figure, path)


def train_toy(steps: int = TOY_STEPS, seed: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    """Train a classifier with the augmented loss alone, for words on a circle.

    The hidden states are free: one for each word. So only the loss decides where W goes.

    Returns:
        The word vectors and the classifier before and after training, each ``(words, 2)``.
    """
    torch.manual_seed(seed)
    angles = torch.arange(TOY_WORDS, dtype=torch.float64) * 2 * torch.pi / TOY_WORDS
    vectors_VD = torch.stack([angles.cos(), angles.sin()], dim=1)
    classifier_VD = torch.randn(TOY_WORDS, 2, dtype=torch.float64)
    classifier_VD -= classifier_VD.mean(0)  # a softmax ignores what all rows have in common
    before_VD = classifier_VD.clone()
    hidden_VD = torch.randn(TOY_WORDS, 2, dtype=torch.float64)
    both = [classifier_VD.requires_grad_(), hidden_VD.requires_grad_()]
    optimizer = torch.optim.Adam(both, lr=0.01)
    log_soft_VV = log_softened(vectors_VD @ vectors_VD.t(), TOY_TEMPERATURE)
    for _ in range(steps):
        scores_VV = hidden_VD @ classifier_VD.t()
        loss = divergence(log_soft_VV, log_softened(scores_VV, TOY_TEMPERATURE)).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return vectors_VD, before_VD, classifier_VD.detach()


def draw_toy(path: Path) -> None:
    """Draw word vectors and classifier of the toy, before and after training."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    vectors_VD, before_VD, after_VD = train_toy()
    figure = Figure(figsize=(11, 4.3), layout="constrained", facecolor="white")
    before, after = (subspace_distance(w_VD, vectors_VD) for w_VD in (before_VD, after_VD))
    panels = (
        ("the word vectors, L", vectors_VD),
        (f"the classifier W, before\n(distance {before:.2f})", before_VD),
        (f"W after training with AL only\n(distance {after:.2f})", after_VD),
    )
    colours = [colormaps["twilight"](0.16 + 0.68 * n / TOY_WORDS) for n in range(TOY_WORDS)]
    for axes, (title, points_VD) in zip(figure.subplots(1, 3), panels, strict=True):
        closed = torch.cat([points_VD, points_VD[:1]])
        axes.plot(*closed.t().tolist(), color=FAINT, zorder=0)
        axes.scatter(*points_VD.t().tolist(), s=320, color=colours)
        for n, point in enumerate(points_VD.tolist()):
            axes.annotate(str(n + 1), point, ha="center", va="center", color="white", size=10,
                          weight="bold")  # fmt: skip
        axes.set_title(title, loc="left", size=13, color=INK)
        axes.set_aspect("equal", adjustable="datalim")
        axes.margins(0.15)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_color(FAINT)
    save_png(figure, path)


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw the pictures."""
    parser = argparse.ArgumentParser("python -m studies.idea", description=__doc__.split("\n")[0])
    parser.add_argument("demo", type=Path, metavar="DEMO", help="folder of `tiedlm demo`")
    parser.add_argument("--word", default="years", help="the right word (default: years)")
    parser.add_argument("--out", type=Path, default=Path("docs/images"), help="folder of pictures")
    args = parser.parse_args(arguments)
    require_matplotlib()
    args.out.mkdir(parents=True, exist_ok=True)
    draw_targets(read(args.demo / "vd-lstm-real"), args.word, args.out / "idea-targets.png")
    draw_pushes(read(args.demo / "vd-lstm-al"), args.out / "idea-pushes.png")
    draw_parameters(read_json(args.demo / "results.json"), args.out / "idea-parameters.png")
    draw_toy(args.out / "idea-toy.png")


if __name__ == "__main__":
    main()
