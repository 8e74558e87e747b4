"""The LSTM's compiled steps give the same numbers as the PyTorch code."""

import pytest
import torch

from tiedlm import native
from tiedlm.arithmetic import arithmetic
from tiedlm.networks import VariationalLSTM
from tiedlm.networks.lstm import lstm_layer_reference
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


def window(batch, hidden, steps=5):
    """A layer's inputs: x, h, c, weights, bias and mask."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape, scale=1.0):
        return (torch.randn(shape, generator=generator) * scale).requires_grad_()

    return (
        draw(steps, batch, 3), draw(batch, hidden), draw(batch, hidden), draw(4 * hidden, 3),
        draw(4 * hidden, hidden, scale=hidden**-0.5), draw(4 * hidden),
        torch.rand(batch, hidden, generator=generator).round() * 2,
    )  # fmt: skip


def outputs_and_gradients(inputs, layer=lstm_layer):
    """What a layer returns, and the gradient of each input."""
    *leaves, mask = inputs
    leaves = [leaf.detach().clone().requires_grad_() for leaf in leaves]
    outputs = layer(*leaves, mask)
    sum((output.sin() * (i + 1)).sum() for i, output in enumerate(outputs)).backward()
    return [*(output.detach() for output in outputs), *(leaf.grad for leaf in leaves)]


@pytest.mark.parametrize(("batch", "hidden"), [(1, 1), (2, 7), (7, 33), (13, 16), (26, 65)])
def test_a_window_in_one_call_is_the_readable_layer_in_float64(batch, hidden):
    inputs = window(batch, hidden)
    exact = outputs_and_gradients([x.detach().double() for x in inputs], lstm_layer_reference)
    with arithmetic(kernels=True):
        found = outputs_and_gradients(inputs)
    for one, other in zip(found, exact, strict=True):
        assert (one.double() - other).norm() <= 1e-5 * other.norm()


def test_a_window_has_the_same_bits_on_any_number_of_threads():
    inputs = window(25, 75)
    found = []
    for threads in (1, 2, 3):
        with arithmetic(kernels=True, threads=threads):
            outputs, state = [], []
            output, *state = lstm_layer(*inputs)
            gates = torch.autograd.grad(output.sin().sum(), inputs[2])  # by the recurrence alone
            outputs = [output.detach(), *(part.detach() for part in state), *gates]
        found.append(outputs)
    for other in found[1:]:
        assert all(map(torch.equal, found[0], other))


def test_a_stream_has_the_same_bits_alone_and_among_others():
    x, h, c, weight_ih, weight_hh, bias, mask = (t.detach() for t in window(23, 40))
    weight_ih = torch.zeros_like(weight_ih)  # the product for the whole window is a library's
    with arithmetic(kernels=True):
        together = lstm_layer(x, h, c, weight_ih, weight_hh, bias, mask)
        for stream in (0, 11, 22):
            one = slice(stream, stream + 1)
            alone = lstm_layer(
                x[:, one], h[one], c[one], weight_ih, weight_hh, bias, mask[one]
            )  # fmt: skip
            assert torch.equal(alone[0], together[0][:, one])
            assert torch.equal(alone[2], together[2][one])


def test_a_nan_in_one_stream_stays_there():
    inputs = [t.detach() for t in window(7, 33)]
    inputs[1] = inputs[1].clone()
    inputs[1][3] = torch.nan
    inputs[-1] = torch.ones_like(inputs[-1])
    with arithmetic(kernels=True):
        output, h, c = lstm_layer(*inputs)
    for part in (output[-1], h, c):
        assert part.isnan().any(1).tolist() == [stream == 3 for stream in range(7)]
