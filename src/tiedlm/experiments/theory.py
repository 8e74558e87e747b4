r"""Figure 1: does training with the augmented loss drive W into the span of the embedding?

Each run trains a network on 20,000 contiguous words of Penn Treebank with

.. math:: J_{tot} = \beta \tau^2 |V| J_{aug} + (1 - \beta) J

The rows of the embedding keep norm 1, and there is no dropout. The vocabulary is the whole text's.
After training, the run measures the distance between the column spaces of W and L^T.

J_aug does not change when a constant is added to all scores of a token. So J_aug does not determine
whether the span of W contains the constant vector, and the span of L^T need not contain it. One
principal angle stays free, which keeps the distance of d columns above 0 by up to d^-1/2: 0.058 at
d = 300. The distance of the centred matrices can reach 0.

The soft target is detached, as in the paper's proof. With a gradient through the target, the word
vectors themselves collapse into fewer directions, which lowers J_aug just as well.

The paper does not describe its optimiser. Here W starts small and is trained by SGD with momentum.
Everything that J_aug adds to W then lies in the span of L^T, and the initial value decays wherever
the hidden states are not 0. Adam trains the other parameters. It would not do for W, because it
rescales every element separately, which leads out of the span. The gradient of W has a clip of its
own, far above its norms in a normal training (docs/experiments.md lists the alternatives tried).

Source: Inan et al. (2017), Figure 1.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tiedlm.data.streams import batch_streams
from tiedlm.evaluation.subspace import principal_angles, share_outside, subspace_distance
from tiedlm.experiments.paper import SIZES
from tiedlm.model import LanguageModel
from tiedlm.training.build import build_model
from tiedlm.training.hardware import arithmetic_of, device_of, threads_of
from tiedlm.training.outcomes import Stopped
from tiedlm.training.run import environment
from tiedlm.training.settings import Settings
from tiedlm.training.step import Objective

WORDS = 20_000
MEASURE_EVERY = 10  # epochs

Point = tuple[float, float]  # beta, temperature


@dataclass(frozen=True)
class TheoryRun:
    """One run of Figure 1.

    Args:
        point: beta and temperature.
        seed: seed of the weights and of the position in the text.
        epochs: passes over the words.
        lr: Adam's learning rate for the network; it decays linearly to a thousandth.
        embedding_lr: Adam's learning rate for L; it decays in the same way.
        decoder_lr: SGD's learning rate for W; it is constant.
        decoder_clip: largest norm of W's gradient; larger gradients are scaled down to it.
        decoder_init: W is initialised uniformly between minus and plus this value.
        changes: changes to the settings, such as threads and precision.
    """

    point: Point
    seed: int
    epochs: int = 100
    lr: float = 0.003
    embedding_lr: float = 0.0003
    decoder_lr: float = 0.2
    decoder_clip: float = 20.0
    decoder_init: float = 0.03
    changes: Mapping[str, Any] = field(default_factory=lambda: {"threads": 1})

    def name(self) -> str:
        """Return the name of the result file."""
        beta, temperature = self.point
        return f"beta{beta:g}-tau{temperature:g}-seed{self.seed}.json"

    def settings(self) -> Settings:
        """Return the settings of the run. Those of SGD are not used; see :meth:`optimizers`."""
        beta, temperature = self.point
        tokens, vocab_size = SIZES["ptb"]
        share = WORDS / tokens
        return Settings(
            recipe="figure1",
            data="ptb",
            fraction=share,
            skip=random.Random(self.seed).uniform(0, 1 - share),
            vocab_from="whole",
            d_embed=300,
            d_hidden=300,
            alpha=beta * temperature**2 * vocab_size,
            ce_weight=1 - beta,
            temperature=temperature,
            target_grad=False,
            unit_norm=True,
            epochs=self.epochs,
            lr=self.lr,
            seed=self.seed,
        ).replace(**self.changes)


def optimizers(model: LanguageModel, run: TheoryRun) -> tuple[torch.optim.Adam, torch.optim.SGD]:
    """Return the optimizers of the network and of W."""
    embedding, decoder = model.embedding.weight, model.decoder.weight
    others = [p for p in model.parameters() if p is not embedding and p is not decoder]
    network = [{"params": others, "lr": run.lr}, {"params": [embedding], "lr": run.embedding_lr}]
    return (
        torch.optim.Adam(network, fused=True),
        torch.optim.SGD([decoder], lr=run.decoder_lr, momentum=0.9),
    )


def train_theory_run(
    run: TheoryRun, should_stop: Callable[[], bool] = lambda: False
) -> dict[str, Any]:
    """Train a run to its end and measure it.

    Args:
        run: the run to train.
        should_stop: called before every step; True stops the training.

    Returns:
        The settings and the environment; the distance, at the end and after every tenth epoch; the
        distance of the matrices with columns centred over the vocabulary; the distance of W from
        the span of L^T and the constant vector, and the share of W's squared norm outside of that
        span; the principal angles in degrees; the last epoch's mean J and tau^2 |V| J_aug; and the
        number of steps that clipped W's gradient.

    Raises:
        Stopped: if a stop was requested; nothing is kept.
    """
    settings = run.settings()
    with threads_of(settings):
        return _train_and_measure(run, settings, should_stop)


def _train_and_measure(
    run: TheoryRun, settings: Settings, should_stop: Callable[[], bool]
) -> dict[str, Any]:
    started = time.monotonic()
    corpus = settings.load_corpus(progress=False)
    device = device_of(settings)
    model = build_model(settings, corpus, resumes=False)
    torch.nn.init.uniform_(model.decoder.weight, -run.decoder_init, run.decoder_init)
    model.to(device)
    streams_BS = torch.from_numpy(batch_streams(corpus.train, settings.batch_size)).to(device)
    with arithmetic_of(settings, device):
        ran_in = environment()
        course = _train(model, run, settings, streams_BS, should_stop)
    scale = settings.temperature**2 * len(corpus.vocabulary)
    classifier_VD, embedding_VD = (
        weight.detach().double() for weight in (model.decoder.weight, model.embedding.weight)
    )
    angles = principal_angles(classifier_VD, embedding_VD)
    centred = [weight_VD - weight_VD.mean(0) for weight_VD in (classifier_VD, embedding_VD)]
    widened = torch.cat([embedding_VD, embedding_VD.new_ones(len(embedding_VD), 1)], 1)
    return {
        "beta": run.point[0],
        "temperature": run.point[1],
        "seed": run.seed,
        "settings": settings.to_dict(),
        "words": len(corpus.train),
        "vocabulary": len(corpus.vocabulary),
        "distance": course.distances[-1],
        "centred_distance": subspace_distance(*centred),
        "distance_besides_constant": subspace_distance(classifier_VD, widened),
        "share_outside": share_outside(classifier_VD, widened),
        "distances": course.distances,
        "principal_angles_degrees": [round(angle, 4) for angle in angles.rad2deg().tolist()],
        "clipped_steps": course.clipped,
        "ce": course.ce_sum / course.windows,
        "scaled_aug": scale * course.aug_sum / course.windows,
        "seconds": time.monotonic() - started,
        "environment": ran_in,
    }


class _Course(NamedTuple):
    """The measurements of one training.

    Args:
        distances: distances of the column spaces, after every tenth epoch and the last.
        clipped: number of steps that clipped W's gradient.
        ce_sum: sum of J over the windows of the last epoch.
        aug_sum: sum of J_aug over these windows.
        windows: number of windows in an epoch.
    """

    distances: list[float]
    clipped: int
    ce_sum: float
    aug_sum: float
    windows: int


def _train(
    model: LanguageModel,
    run: TheoryRun,
    settings: Settings,
    streams_BS: Tensor,
    should_stop: Callable[[], bool],
) -> _Course:
    """Train the network and W together, each with its own optimizer and clip."""
    objective = Objective(model, settings)
    starts = range(0, streams_BS.shape[1] - 1, settings.bptt)
    of_network, of_decoder = optimizers(model, run)
    total = len(starts) * settings.epochs
    schedule = torch.optim.lr_scheduler.LinearLR(of_network, 1.0, 1e-3, total)
    network = [p for group in of_network.param_groups for p in group["params"]]
    distances, clipped, ce_sum, aug_sum = [], 0, 0.0, 0.0
    for epoch in range(1, settings.epochs + 1):
        state, ce_sum, aug_sum = None, 0.0, 0.0
        for start in starts:
            if should_stop():
                raise Stopped("stopped before its end; nothing of it is kept")
            piece_BT = streams_BS[:, start : start + settings.bptt + 1]
            loss, ce, aug, state = objective(piece_BT[:, :-1], piece_BT[:, 1:], state)
            model.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network, settings.clip)
            norm = torch.nn.utils.clip_grad_norm_([model.decoder.weight], run.decoder_clip)
            clipped += int(norm > run.decoder_clip)
            of_network.step()
            of_decoder.step()
            schedule.step()
            model.normalize_word_vectors()
            ce_sum, aug_sum = ce_sum + ce.item(), aug_sum + aug.item()
        if epoch % MEASURE_EVERY == 0 or epoch == settings.epochs:
            distances.append(subspace_distance(model.decoder.weight, model.embedding.weight))
    return _Course(distances, clipped, ce_sum, aug_sum, len(starts))
