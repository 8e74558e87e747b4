"""The floor of a training step: its matrix products, forward and backward, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import chain
from typing import NamedTuple

import torch
from torch import Tensor

from tiedlm.matmul import matmul, multiplier
from tiedlm.networks import network_options
from tiedlm.training.settings import Settings

NETWORKS = ("lstm", "awd_lstm", "gru", "elman", "rhn", "transformer")


class Weights(NamedTuple):
    """The shapes ``(outputs, inputs)`` of a network's weights, by how they are multiplied.

    Args:
        at_once: weights that are multiplied with all words of a window in one product.
        by_step: weights that are multiplied once per step, one layer after the other. The gradient
            of each weight is one product.
        attended: keys that a word's attention reads in a layer; 0 for a recurrent network.
    """

    at_once: list[tuple[int, int]]
    by_step: list[list[tuple[int, int]]]
    attended: int = 0


def weights(settings: Settings) -> Weights:
    """Return the weights of a network that settings ask for."""
    width, inputs = settings.d_hidden, settings.d_embed
    options = network_options(settings.network, settings.options)
    widths = [inputs] + [width] * (settings.n_layers - 1)
    if settings.network == "transformer":
        inner = options.d_inner or -(-8 * width // 3)
        layer = [(3 * width, width), (width, width), (2 * inner, width), (width, inner)]
        return Weights(layer * settings.n_layers, [], options.memory + settings.bptt)
    if settings.network == "rhn":
        states = [[(2 * width, width)] * options.depth] * settings.n_layers
        return Weights([(2 * width, before) for before in widths], states)
    if settings.network == "awd_lstm":
        last = options.d_last or (inputs if settings.tied else width)
        own = [width] * (settings.n_layers - 1) + [last]
        at_once = [(4 * after, before) for after, before in zip(own, widths, strict=True)]
        return Weights(at_once, [[(4 * after, after)] for after in own])
    gates = {"lstm": 4, "gru": 3, "elman": 1}[settings.network]
    states = [[(gates * width, width)]] * settings.n_layers
    return Weights([(gates * width, before) for before in widths], states)


class GemmFloor:
    """The matrix products of a step, forward and backward, and nothing else.

    Args:
        shape: the network and its widths, batch and steps.
        vocab: number of words; 0 leaves the classifier out.
        settings: with settings, products have their arithmetic and take the way that this package
            measured to be fastest. None takes PyTorch's usual way.
    """

    def __init__(self, shape: Settings, vocab: int, settings: Settings | None = None) -> None:
        self.settings = settings
        self.batch, self.bptt = shape.batch_size, shape.bptt
        found = weights(shape)
        self.at_once = [torch.randn(size) for size in found.at_once]
        self.by_step = [[torch.randn(size) for size in layer] for layer in found.by_step]
        if vocab:
            self.at_once.append(torch.randn(vocab, shape.d_embed))
        sides = {side for weight in chain(self.at_once, *self.by_step) for side in weight.shape}
        self.words = {side: torch.randn(self.batch * self.bptt, side) for side in sides}
        self.attention: list[Callable[[], object]] = []
        if found.attended:
            self._attend(shape, found.attended)

    def _attend(self, shape: Settings, keys: int) -> None:
        """Prepare attention's products: two forward, four backward."""
        count = network_options(shape.network, shape.options).n_heads
        shaped = partial(torch.randn, shape.batch_size * count)
        query, key = (shaped(length, shape.d_hidden // count) for length in (shape.bptt, keys))
        scores = shaped(shape.bptt, keys)
        to_scores = partial(torch.bmm, query, key.transpose(1, 2))
        to_queries = partial(torch.bmm, scores, key)
        to_keys = partial(torch.bmm, scores.transpose(1, 2), query)
        self.attention = [to_scores, to_queries, to_keys] * 2 * shape.n_layers

    @torch.no_grad()
    def __call__(self) -> None:
        """Multiply once."""
        for weight in self.at_once:
            outputs, inputs = (self.words[side] for side in weight.shape)
            self._multiply(inputs, weight.t())
            self._multiply(outputs, weight)
            self._multiply(outputs.t(), inputs)
        for layer in self.by_step:
            self._recur(layer)
            self._recur([weight.t() for weight in layer])  # backward
        for weight in chain(*self.by_step):
            outputs, inputs = (self.words[side] for side in weight.shape)
            self._multiply(outputs.t(), inputs)
        for product in self.attention:
            product()

    def _multiply(self, a: Tensor, b: Tensor) -> Tensor:
        """Compute one product."""
        out = a.new_empty(len(a), b.shape[1])
        return torch.mm(a, b, out=out) if self.settings is None else matmul(a, b, out)

    def _recur(self, layer: list[Tensor]) -> None:
        """Compute the products of a recurrence, one for each weight and step."""
        a = self.words[layer[0].shape[1]][: self.batch]
        multiply = [
            partial(torch.mm, mat2=weight_PK.t())
            if self.settings is None
            else multiplier(weight_PK, len(a))
            for weight_PK in layer
        ]
        for _ in range(self.bptt):
            for product in multiply:
                product(a)
