"""The Transformer's equations in float64 NumPy, word by word, with every loop written out."""

import numpy as np
import pytest
import torch

from tiedlm.networks.transformer import Transformer, TransformerOptions


def norm(x, gain):
    return gain * x / np.sqrt(np.mean(x**2) + 1e-5)


def rotate(x_D, position):
    half = len(x_D) // 2
    turned = np.empty_like(x_D)
    for i in range(half):
        angle = position * 10_000.0 ** (-i / half)
        turned[i] = x_D[i] * np.cos(angle) - x_D[i + half] * np.sin(angle)
        turned[i + half] = x_D[i + half] * np.cos(angle) + x_D[i] * np.sin(angle)
    return turned


def attend(query_H, keys_SH, values_SH, position, memory, heads):
    """Return what the word at ``position`` reads; the positions are those in the whole text."""
    width = len(query_H) // heads
    first = max(0, position - memory)
    parts = []
    for head in range(heads):
        own = slice(head * width, (head + 1) * width)
        query_D = rotate(query_H[own], position)
        scores = [
            query_D @ rotate(keys_SH[j][own], j) / np.sqrt(width)
            for j in range(first, position + 1)
        ]
        shares = np.exp(scores) / np.exp(scores).sum()
        values = (values_SH[j][own] for j in range(first, position + 1))
        parts.append(sum(p * value for p, value in zip(shares, values, strict=True)))
    return np.concatenate(parts)


def transformer(x_TE, weights, masks, layers, heads, memory):
    keys, values = ([[] for _ in range(layers)] for _ in range(2))
    outputs = []
    for position, x_E in enumerate(x_TE):
        x_H = weights["weight_input"] @ (masks["input"] * x_E)
        for layer in range(layers):
            own = {name: weights[f"layers.{layer}.{name}"] for name in NAMES}
            normed_H = norm(x_H, own["attention_norm"])
            query_H, key_H, value_H = np.split(own["weight_qkv"] @ normed_H, 3)
            keys[layer].append(key_H)
            values[layer].append(value_H)
            read_H = attend(query_H, keys[layer], values[layer], position, memory, heads)
            x_H = x_H + masks["attention", layer] * (own["weight_out"] @ read_H)
            gate_F, up_F = np.split(own["weight_gate_up"] @ norm(x_H, own["feedforward_norm"]), 2)
            inner_F = masks["inner", layer] * gate_F / (1 + np.exp(-gate_F)) * up_F
            x_H = x_H + masks["feedforward", layer] * (own["weight_down"] @ inner_F)
        outputs.append(masks["output"] * norm(x_H, weights["norm"]))
    return np.stack(outputs), np.stack(keys), np.stack(values)


NAMES = (
    "attention_norm",
    "weight_qkv",
    "weight_out",
    "feedforward_norm",
    "weight_gate_up",
    "weight_down",
)


@pytest.mark.parametrize("training", [True, False])
def test_a_network_equals_the_equations(training, monkeypatch):
    torch.manual_seed(0)
    options = TransformerOptions(
        n_heads=2, d_inner=7, memory=3, dropout_attention=0.3, dropout_feedforward=0.4
    )
    net = Transformer(5, 8, 2, 0.2, 0.5, options=options).double().train(training)
    for name, parameter in net.named_parameters():
        torch.nn.init.uniform_(parameter, -0.8, 0.8) if "norm" not in name else None
    drawn = net.sample_masks(2)
    monkeypatch.setattr(net, "sample_masks", lambda _: drawn)
    x_TBE = torch.randn(7, 2, 5, dtype=torch.float64)
    output_TBH, state = net.forward_time_major(x_TBE)
    weights = {name: parameter.detach().numpy() for name, parameter in net.named_parameters()}
    for stream in range(2):
        masks = {"input": drawn.input, "output": drawn.output}
        for layer, own in enumerate(drawn.layers):
            masks |= {(name, layer): mask for name, mask in own._asdict().items()}
        masks = {
            name: 1.0 if mask is None else mask[stream].numpy() for name, mask in masks.items()
        }
        assert all(isinstance(mask, np.ndarray) is training for mask in masks.values())
        expected = transformer(x_TBE[:, stream].numpy(), weights, masks, 2, 2, 3)
        found = (output_TBH[:, stream], state.keys[:, stream], state.values[:, stream])
        for own, other in zip(
            found, (expected[0], *(e[:, -3:] for e in expected[1:])), strict=True
        ):
            np.testing.assert_allclose(own.detach().numpy(), other, rtol=1e-10, atol=1e-12)
