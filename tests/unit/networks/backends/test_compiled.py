"""The LSTM's compiled steps give the same numbers as the PyTorch code."""

import pytest
import torch

from tiedlm import native
from tiedlm.arithmetic import arithmetic
from tiedlm.networks import VariationalLSTM
from tiedlm.networks.lstm_function import lstm_layer

pytestmark = pytest.mark.skipif(bool(native.why_not()), reason=native.why_not() or "-")


def test_gates_are_exact_over_the_whole_range_of_their_inputs():
    """A layer whose weights are 0 computes sigmoid and tanh of its bias."""
    count = 4001
    x = torch.cat((torch.linspace(-110, 110, count), torch.logspace(-20, 0, 500)))
    size = len(x)
    bias = torch.cat((x, -x, x, torch.full((size,), 40.0)))
    c = torch.linspace(-2, 2, size)[None]
    inputs = (torch.zeros(1, 1, 1), torch.zeros(1, size), c, torch.zeros(4 * size, 1))
    weight_hh = torch.zeros(4 * size, 1).expand(4 * size, size)
    with arithmetic(kernels=True), torch.no_grad():
        output, _, cell = lstm_layer(*inputs, weight_hh, bias)
    i, f, g, _ = bias.double().chunk(4)
    kept, new = f.sigmoid() * c.double(), i.sigmoid() * g.tanh()
    exact, size = kept + new, kept.abs() + new.abs()  # the two may cancel
    assert ((cell.double() - exact).abs() <= 4e-7 * size + 1e-37).all()
    assert ((output[0].double() - exact.tanh()).abs() <= 6e-7 * size + 1e-37).all()


@pytest.mark.parametrize("name", ["fp32", "bf16"])
@pytest.mark.parametrize(("batch", "steps"), [(1, 1), (3, 7), (20, 4)])
def test_a_layer_in_training_gives_pytorchs_numbers(name, batch, steps):
    torch.manual_seed(0)
    lstm = VariationalLSTM(13, 211, n_layers=2, dropout_input=0.3, dropout_hidden=0.4)
    x = torch.randn(batch, steps, 13)

    def outputs():
        torch.manual_seed(1)
        lstm.zero_grad()
        output, state = lstm(x)
        (output.sin().sum() + state.h.cos().sum() + state.c.sum()).backward()
        return [output.detach(), *(part.detach() for part in state)] + [
            p.grad.clone() for p in lstm.parameters()
        ]

    with arithmetic(precision=name):
        plain = outputs()
        with arithmetic(kernels=True):
            compiled = outputs()
    bound = 1e-6 if name == "fp32" else 5e-3
    for one, other in zip(compiled, plain, strict=True):
        assert (one.double() - other.double()).norm() < bound * other.double().norm().clamp(
            min=1e-9
        )


def test_a_bfloat16_layer_and_a_bfloat16_state_are_left_to_pytorch():
    torch.manual_seed(0)
    low = [torch.randn(shape).bfloat16() for shape in ((2, 2, 16), (2, 16), (2, 16))]
    low += [torch.randn(shape).bfloat16() for shape in ((64, 16), (64, 16), (64,))]
    mixed = [x.float() for x in low]
    mixed[2] = low[2]
    for inputs in (low, mixed):
        plain = lstm_layer(*inputs)
        with arithmetic(kernels=True):
            assert all(map(torch.equal, lstm_layer(*inputs), plain))
