"""In exported code the output at a masked position repeats the one before, and leaks no word."""

from importlib import import_module
from types import SimpleNamespace

import pytest
import torch

from tiedlm.export.supported import hf_networks as networks

OPTIONS = {
    "transformer": {"n_heads": 2, "memory": 3, "d_inner": 5},
    "encoder": {"n_heads": 2, "context": 4, "d_inner": 5, "final_norm": True},
    "elman": {"activation": "tanh"},
    "rhn": {"depth": 2, "transform_bias": -2.0},
}
ATTENDS = ("transformer", "encoder")  # their states do not have the output
MASK_BT = torch.tensor([[0, 1, 0, 1], [0, 0, 0, 0], [1, 1, 0, 0]]).bool()


def network(name):
    torch.manual_seed(0)
    config = SimpleNamespace(
        n_layers=2, d_embed=4, d_hidden=4, tie_word_embeddings=True,
        network_options=OPTIONS.get(name, {}),
    )  # fmt: skip
    net = import_module(f"tiedlm.export.huggingface.network_{name}").Network(config).double()
    for parameter in net.parameters():
        torch.nn.init.uniform_(parameter, -0.9, 0.9)
    return net.eval()


def vectors(seed, steps):
    return torch.randn(3, steps, 4, generator=torch.manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("name", networks())
@pytest.mark.parametrize("continues", [True, False])
def test_a_masked_output_repeats_the_one_before_also_before_the_first_word(name, continues):
    net, x_BTE = network(name), vectors(1, 4)
    state, before_BH = net.initial_state(3, x_BTE), torch.zeros(3, 4, dtype=torch.float64)
    if continues:
        outputs, state = net(vectors(0, 2), state, None)
        before_BH = outputs[-1][:, -1]
    outputs, _ = net(x_BTE, state, MASK_BT)
    if name in ATTENDS:
        before_BH = torch.zeros_like(before_BH)
    for row, mask_T in enumerate(MASK_BT):
        expected_H = before_BH[row]
        for t, is_word in enumerate(mask_T):
            found_H = outputs[-1][row, t]
            if not is_word:
                torch.testing.assert_close(found_H, expected_H, rtol=1e-12, atol=1e-12)
            expected_H = found_H
