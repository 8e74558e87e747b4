"""Does `ptb-rhn-10` train as its authors' program does?

Its 500 epochs take days on two cores, and its authors have published no learning curve. So this
study trains the recipe for some epochs. Beside it a second program trains the same network from
the same weights. That program is written from the description of the authors' own: it has
streams, masks, equations, a loss, weight decay, a clip and a rate of its own, and PyTorch's
gradient. So its curve is the one that the authors' program must have. Only the corpus, the first
weights and the evaluation are tiedlm's.

The two draw different dropout masks. Like the authors' program, the second one leaves out the words
after the last full window.

The same command resumes what was stopped, and with more epochs it goes on.

    python -m studies.rhn_curve --precision bf16 --epochs 7 --twin-epochs 1

Shape letters: B streams, T steps, D depth, H width of the state and of the word vectors,
V vocabulary.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor
from torch.nn import functional

from studies.harness import keep_table, kept_measurements, start, trained, training_parser
from tiedlm.data import Corpus
from tiedlm.evaluation.perplexity import evaluate, perplexity
from tiedlm.experiments.parallel import Job
from tiedlm.experiments.recipes import get_recipe
from tiedlm.experiments.reproduce import markdown_table
from tiedlm.files import write_bytes
from tiedlm.model import LanguageModel
from tiedlm.training.build import build_model
from tiedlm.training.run import put_tensors, read_tensors
from tiedlm.training.run_files import read_metrics

NAME = "rhn-curve"
RECIPE = "ptb-rhn-10"
PUBLISHED = (68.3, 66.0)  # validation and test after 500 epochs, from the authors' README
TWIN = "twin.safetensors"
_SAVE_EVERY = 100  # windows

_LAYER = "rhn.layers.0."


@dataclass(frozen=True)
class Procedure:
    """The settings `ptb_sota` of the authors' program rhn_train.py, with its names in comments."""

    batch: int = 20  # batch_size
    steps: int = 35  # num_steps
    rate: float = 0.2  # learning_rate
    decay: float = 1.02  # lr_decay: divides the rate, once an epoch
    constant: int = 20  # max_epoch: epochs before the rate falls
    clip: float = 10.0  # max_grad_norm
    weight_decay: float = 1e-7
    drop_words: float = 0.25  # drop_x
    drop_input: float = 0.75  # drop_i
    drop_state: float = 0.25  # drop_h
    drop_output: float = 0.75  # drop_o

    def rate_in(self, epoch: int) -> float:
        """Return the learning rate of an epoch, counted from 1."""
        return self.rate / self.decay ** max(epoch - self.constant, 0)


class Twin:
    """A recurrent highway network and its training, as its authors' program has them.

    Args:
        weights: tensors by their name in :class:`~tiedlm.model.LanguageModel`. They are updated.
        procedure: how to train.
        seed: of the masks.
        half: whether the matrix products are in bfloat16.
    """

    def __init__(
        self, weights: dict[str, Tensor], procedure: Procedure, seed: int, half: bool = False
    ) -> None:
        self.weights = {name: w.detach().clone().requires_grad_() for name, w in weights.items()}
        self.procedure = procedure
        self.half = half
        self.generator = torch.Generator().manual_seed(seed)

    def epoch(
        self, ids: Tensor, number: int, first: int = 0, state_BH: Tensor | None = None
    ) -> Iterator[tuple[float, Tensor]]:
        """Train for an epoch, from one of its windows on.

        Args:
            ids: the training text. Shape: (N,).
            number: of the epoch, from 1.
            first: number of the first window to read.
            state_BH: the state before it; None is zeros.

        Yields:
            for each window, its summed loss divided by B, and the state after it.
        """
        p = self.procedure
        length = len(ids) // p.batch
        streams_BS = ids[: p.batch * length].view(p.batch, length)
        if state_BH is None:
            width = self.weights["embedding.weight"].shape[1]
            state_BH = self.weights["embedding.weight"].new_zeros(p.batch, width)
        for begin in range(first * p.steps, length - p.steps, p.steps):
            piece_BT = streams_BS[:, begin : begin + p.steps + 1]
            with torch.autocast("cpu", torch.bfloat16, enabled=self.half):
                loss, state_BH = self.loss(piece_BT[:, :-1], piece_BT[:, 1:], state_BH)
            state_BH = state_BH.detach()
            self.update(loss, p.rate_in(number))
            yield loss.item(), state_BH

    def loss(self, x_BT: Tensor, y_BT: Tensor, s_BH: Tensor) -> tuple[Tensor, Tensor]:
        """Return the cross-entropy of a window, summed and divided by B, and its last state."""
        p, w = self.procedure, self.weights
        embedding_VH = w["embedding.weight"]
        streams, width = s_BH.shape
        of_words_BV = self.mask(streams, len(embedding_VH), drop=p.drop_words)
        of_input_BH, of_state_BH, of_output_BH = (
            self.mask(streams, width, drop=drop)
            for drop in (p.drop_input, p.drop_state, p.drop_output)
        )
        steps = [
            (*r_GH.chunk(2), *b_G.chunk(2))
            for r_GH, b_G in zip(
                w[_LAYER + "weight_hh"].unbind(), w[_LAYER + "bias"].unbind(), strict=True
            )
        ]
        w_h_HH, w_t_HH = w[_LAYER + "weight_ih"].chunk(2)
        total = s_BH.new_zeros(())
        for x_B, y_B in zip(x_BT.t(), y_BT.t(), strict=True):
            kept_B1 = of_words_BV.gather(1, x_B[:, None])
            x_BH = embedding_VH[x_B] * kept_B1 * of_input_BH
            for depth, (r_h_HH, r_t_HH, b_h_H, b_t_H) in enumerate(steps):
                h_BH = functional.linear(s_BH * of_state_BH, r_h_HH, b_h_H)
                t_BH = functional.linear(s_BH * of_state_BH, r_t_HH, b_t_H)
                if depth == 0:
                    h_BH = h_BH + functional.linear(x_BH, w_h_HH)
                    t_BH = t_BH + functional.linear(x_BH, w_t_HH)
                h_BH, t_BH = h_BH.to(s_BH.dtype).tanh(), t_BH.to(s_BH.dtype).sigmoid()
                s_BH = (h_BH - s_BH) * t_BH + s_BH
            logits_BV = functional.linear(s_BH * of_output_BH, embedding_VH, w["decoder.bias"])
            log_p_BV = logits_BV.to(s_BH.dtype).log_softmax(1)
            total = total - log_p_BV.gather(1, y_B[:, None]).sum()
        return total / streams, s_BH

    def mask(self, *shape: int, drop: float) -> Tensor:
        """Draw a mask: 0 with probability ``drop``, else ``1 / (1 - drop)``."""
        kept = torch.rand(shape, generator=self.generator) >= drop
        return kept.to(self.weights["embedding.weight"].dtype) / (1 - drop)

    def update(self, loss: Tensor, rate: float) -> None:
        """Take a step of SGD. The squared weights are part of the clipped cost."""
        p, weights = self.procedure, list(self.weights.values())
        cost = loss + p.weight_decay * sum((w.square().sum() / 2 for w in weights), 0.0)
        gradients = torch.autograd.grad(cost, weights)
        norm = math.sqrt(sum(g.square().sum().item() for g in gradients))
        with torch.no_grad():
            for w, g in zip(weights, gradients, strict=True):
                w -= rate * g * min(1.0, p.clip / norm)


@dataclass
class Progress:
    """How far a twin has been trained.

    Args:
        rows: ``train_ppl`` and ``valid_ppl`` of each finished epoch.
        windows: number of windows read in the epoch under way.
        total: sum of their losses.
        state_BH: the state after them; None at the start of an epoch.
    """

    rows: list[dict[str, float]]
    windows: int = 0
    total: float = 0.0
    state_BH: Tensor | None = None


def train_twin(
    model: LanguageModel, corpus: Corpus, epochs: int, path: Path, half: bool
) -> list[dict[str, float]]:
    """Train the twin from the weights of a model, or go on where a file left it.

    Args:
        model: gives the first weights, and then evaluates the twin's.
        corpus: text to train on and to evaluate.
        epochs: number of epochs to train.
        path: file that holds the twin, written every few minutes.
        half: whether the matrix products are in bfloat16.

    Returns:
        ``train_ppl`` and ``valid_ppl`` of each epoch.
    """
    twin = Twin(dict(model.named_parameters()), Procedure(), seed=1, half=half)
    progress = _load(twin, path) if path.is_file() else Progress([])
    ids = torch.from_numpy(corpus.train.astype(np.int64))
    for number in range(len(progress.rows) + 1, epochs + 1):
        for loss, state_BH in twin.epoch(ids, number, progress.windows, progress.state_BH):
            windows, total = progress.windows + 1, progress.total + loss
            progress = Progress(progress.rows, windows, total, state_BH)
            if windows % _SAVE_EVERY == 0:
                _save(twin, progress, path)
                ppl = perplexity(total, windows * twin.procedure.steps)
                print(f"twin  epoch {number}  window {windows}  ppl {ppl:.1f}", flush=True)
        put_tensors(twin.weights, model, path)
        train_ppl = perplexity(progress.total, progress.windows * twin.procedure.steps)
        valid_ppl = evaluate(model, corpus.valid).perplexity
        progress = Progress([*progress.rows, {"train_ppl": train_ppl, "valid_ppl": valid_ppl}])
        _save(twin, progress, path)
    return progress.rows[:epochs]


def _save(twin: Twin, progress: Progress, path: Path) -> None:
    tensors = {name: weight.detach() for name, weight in twin.weights.items()}
    tensors["generator"] = twin.generator.get_state()
    if progress.state_BH is not None:
        tensors["state"] = progress.state_BH
    place = {"rows": progress.rows, "windows": progress.windows, "total": progress.total}
    write_bytes(path, save(tensors, {"place": json.dumps(place)}))


def _load(twin: Twin, path: Path) -> Progress:
    tensors, metadata = read_tensors(path)
    place = json.loads(metadata["place"])
    twin.generator.set_state(tensors.pop("generator"))
    state_BH = tensors.pop("state", None)
    with torch.no_grad():
        for name, weight in twin.weights.items():
            weight.copy_(tensors[name])
    return Progress(place["rows"], place["windows"], place["total"], state_BH)


def table(curve: list[dict[str, Any]], twin: list[dict[str, float]]) -> str:
    """Return the perplexities of each epoch in Markdown, then the published end."""
    body = []
    for number, line in enumerate(curve):
        own = [f"{line[key]:.1f}" for key in ("train_ppl", "valid_ppl")]
        other = ["", ""]
        if number < len(twin):
            other = [f"{twin[number][key]:.1f}" for key in ("train_ppl", "valid_ppl")]
        body.append((str(line["epoch"]), f"{line['lr']:.3f}", *own, *other))
    body.append(("500, published", "", "", f"{PUBLISHED[0]:.1f}", "", ""))
    return markdown_table(
        ("epoch", "rate", "training", "validation", "twin, training", "twin, validation"), body
    )


def make_job(options: argparse.Namespace) -> Job:
    """Return the run of the recipe."""
    settings = get_recipe(RECIPE).replace(
        epochs=options.epochs, threads=1, precision=options.precision
    )
    return Job(settings, options.out / f"{RECIPE}-seed1")


def main() -> None:
    """Train the recipe and its twin, print both curves and write them."""
    parser = training_parser("rhn_curve", __doc__, seeds=None, precision=True, show=True)
    parser.add_argument("--epochs", type=int, default=7, help="of the recipe (default: 7)")
    parser.add_argument("--twin-epochs", type=int, default=1, help="of the twin (default: 1)")
    options = parser.parse_args()
    job = make_job(options)
    found = trained(NAME, {RECIPE: job}, [job], options)
    curve = [line for line in read_metrics(found[RECIPE].out) if "epoch" in line]
    twin = kept_measurements(NAME, options).get("twin", [])
    if not options.show:
        corpus = job.settings.load_corpus()
        model = build_model(job.settings, corpus, resumes=False)
        half = options.precision == "bf16"
        twin = train_twin(model, corpus, options.twin_epochs, options.out / TWIN, half)
    keep_table(NAME, [job.out], options, table(curve, twin), {"twin": twin})


if __name__ == "__main__":
    start(main)
