"""Which way each product of a training step takes on this machine."""

from __future__ import annotations

import torch

from tiedlm.matmul.kinds import kind_of
from tiedlm.matmul.weights import WINDOW, measured_layout
from tiedlm.native.routes import Choice


def measured_products(d_hidden: int, rows: int = 20, vocab: int = 10_000) -> dict[str, Choice]:
    """Return how the products of a training step are computed; measure new kinds first.

    Args:
        d_hidden: width of the embedding and of every layer.
        rows: number of streams, of 35 words each.
        vocab: number of words.

    Returns:
        What the product is for -> the choice.
    """
    h_NH, W_VH = torch.empty(rows * WINDOW, d_hidden), torch.empty(vocab, d_hidden)
    grad_NV, w_GH = torch.empty(len(h_NH), vocab), torch.empty(4 * d_hidden, d_hidden)
    products = {
        "scores": kind_of(h_NH, W_VH.t(), h_NH.dtype),
        "gradient of hidden": kind_of(grad_NV, W_VH, h_NH.dtype),
        "gradient of the classifier": kind_of(grad_NV.t(), h_NH, h_NH.dtype),
    }
    layer = kind_of(h_NH, w_GH.t(), h_NH.dtype)
    return {
        **{name: kind.choice() for name, kind in products.items() if kind},
        **({"input of a layer": layer.choice_with_bias()} if layer else {}),
        "recurrent step": measured_layout(w_GH, rows),
        "recurrent step, backward": measured_layout(w_GH.t(), rows),
    }
