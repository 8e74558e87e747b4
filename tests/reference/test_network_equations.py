"""The recurrent highway network's equations in float64 NumPy, one function for each."""

import numpy as np
import pytest
import torch

from tiedlm import LanguageModel, ModelConfig


def sigma(x):
    return 1 / (1 + np.exp(-x))


def highway(s_H, x_E, w, r_GH, b_G, m_H):
    """``s_l = (h_l - s_(l-1)) t_l + s_(l-1)``; only the first depth reads ``x``."""
    size = len(s_H)
    gates_G = r_GH @ (m_H * s_H) + b_G + (0 if x_E is None else w @ x_E)
    h_H, t_H = np.tanh(gates_G[:size]), sigma(gates_G[size:])
    return (h_H - s_H) * t_H + s_H


def rhn(x_TE, s_H, w, r_DGH, b_DG, m_H):
    """``y_t = s_D``, with ``s_0 = y_(t-1)``."""
    outputs = []
    for x_E in x_TE:
        for depth, (r_GH, b_G) in enumerate(zip(r_DGH, b_DG, strict=True)):
            s_H = highway(s_H, x_E if depth == 0 else None, w, r_GH, b_G, m_H)
        outputs.append(s_H)
    return np.array(outputs)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
@pytest.mark.parametrize("depth", [1, 2, 5])
@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_rhn_is_its_equations(fast, depth, training, dtype, tolerance):
    torch.manual_seed(depth)
    model = LanguageModel(
        ModelConfig(
            network="rhn", vocab_size=9, d_embed=5, d_hidden=6, n_layers=1, init_range=0.5,
            dropout_input=0.75, dropout_hidden=0.25,
            options={"depth": depth, "dropout_output": 0.5},
        )
    ).to(dtype)  # fmt: skip
    net = model.network
    net.fast = fast
    net.train(training)
    x_TBE = torch.randn(7, 3, 5, dtype=dtype)
    start = net.initial_state(3)._replace(h=torch.randn(1, 3, 6, dtype=dtype) / 2)
    torch.manual_seed(0)
    output, state = net.forward_time_major(x_TBE, start)
    torch.manual_seed(0)
    drops = ((5, 0.75), (6, 0.25), (6, 0.5))  # m_i, m_h, m_o: each drawn once a window
    masks = [net.draw_mask(3, width, p, x_TBE) for width, p in drops]
    ones = [np.ones((3, width)) for width, _ in drops]
    m_i, m_h, m_o = [m.double().numpy() for m in masks] if training else ones
    w, r_DGH, b_DG = (
        getattr(net.layers[0], name).detach().double().numpy()
        for name in ("weight_ih", "weight_hh", "bias")
    )
    for stream in range(3):
        x_TE = x_TBE[:, stream].double().numpy() * m_i[stream]
        s_H = start.h[0, stream].double().numpy()
        expected = rhn(x_TE, s_H, w, r_DGH, b_DG, m_h[stream])
        found = output[:, stream].detach().double().numpy()
        np.testing.assert_allclose(found, expected * m_o[stream], rtol=0, atol=tolerance)
        last = state.h[0, stream].detach().double().numpy()
        np.testing.assert_allclose(last, expected[-1], rtol=0, atol=tolerance)
