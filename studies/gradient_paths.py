"""Split the gradient of a tied embedding by path: input, output, soft target.

A tied embedding is used three times in a step: to read words, to score them, and to make the soft
target. Its gradient is the sum of the three parts.

Shape letters: B streams, T steps, V vocabulary, E embedding width.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from tiedlm.data import Corpus
from tiedlm.data.streams import batch_streams
from tiedlm.loss import augmented_cross_entropy
from tiedlm.model import LanguageModel
from tiedlm.training.settings import Settings


class PathNorms(NamedTuple):
    """Mean norms of the embedding's gradient, by path and in total; the mean is over windows."""

    input: float
    output: float
    soft_target: float
    total: float


def embedding_gradients(
    model: LanguageModel,
    inputs_BT: Tensor,
    targets_BT: Tensor,
    alpha: float,
    temperature: float,
    target_grad: bool = True,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradient ``(V, E)`` of ``J + alpha J_aug`` by input, output and soft target.

    Raises:
        ValueError: if the model is not tied.
    """
    if not model.config.tied:
        raise ValueError("model: expected a tied one; an untied embedding is only read")
    weight = model.embedding.weight.detach()
    for_input, for_output, for_target = (weight.clone().requires_grad_() for _ in range(3))
    vectors_TBE = torch.nn.functional.embedding(inputs_BT.t(), for_input)
    hidden_TBH, _ = model.network.forward_time_major(vectors_TBE, None)
    loss = augmented_cross_entropy(
        model.decoder.project(hidden_TBH),
        for_output,
        targets_BT.t(),
        bias=model.decoder.bias,
        embedding=for_target,
        alpha=alpha,
        temperature=temperature,
        target_grad=target_grad,
    ).loss
    uses = (for_input, for_output, for_target)
    grads = torch.autograd.grad(loss, uses, allow_unused=True)
    by_input, by_output, by_target = (
        torch.zeros_like(weight) if g is None else g.detach() for g in grads
    )
    return by_input, by_output, by_target


def path_norms(
    model: LanguageModel, settings: Settings, corpus: Corpus, windows: int = 20, seed: int = 0
) -> PathNorms:
    """Return the mean norms over windows of the training text, with dropout as in training.

    Each window is read from the all-zero state.

    Args:
        model: a trained, tied model.
        settings: the settings of its run, for the loss, the batch and the window.
        corpus: the corpus of its run.
        windows: the number of windows, spread evenly over the text.
        seed: the seed of the dropout masks.
    """
    streams_BS = torch.from_numpy(batch_streams(corpus.train, settings.batch_size)).long()
    last = streams_BS.shape[1] - settings.bptt - 1
    norms = []
    with torch.random.fork_rng(), model.mode(training=True):
        torch.manual_seed(seed)
        for start in np.linspace(0, last, windows).astype(int):
            piece_BT = streams_BS[:, start : start + settings.bptt + 1]
            grads = embedding_gradients(
                model, piece_BT[:, :-1], piece_BT[:, 1:],
                settings.alpha, settings.temperature, settings.target_grad,
            )  # fmt: skip
            total = torch.stack(grads).sum(0)
            norms.append([float(g.norm()) for g in (*grads, total)])
    return PathNorms(*(float(column.mean()) for column in np.array(norms).T))
