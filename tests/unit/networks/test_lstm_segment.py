"""A segment read by hand has the numbers and the gradients of the readable layer."""

import pytest
import torch

from tiedlm import LanguageModel, ModelConfig, native
from tiedlm.arithmetic import arithmetic
from tiedlm.networks import lstm_segment
from tiedlm.networks.by_hand import LearnsByHand
from tiedlm.networks.narrow import few_rows

UNIT = 2.0**-24  # half a unit in the last place of 1, in float32


@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 16, 1), (5, 33, 40), (7, 41, 301), (12, 9, 30), (5, 650, 3)])
def test_a_product_of_few_rows_is_exact_to_rounding(pointwise, shape, with_bias):
    torch.manual_seed(0)
    T, K, P = shape
    x, weight = torch.randn(T, K), torch.randn(P, K)
    bias = torch.randn(P) if with_bias else None
    found = few_rows(x, weight, bias)
    b = torch.zeros(P) if bias is None else bias
    exact = x.double() @ weight.double().t() + b
    sizes = x.double().abs() @ weight.double().abs().t() + b.abs()
    assert ((found - exact).abs() <= (K + 2) * UNIT * sizes).all()  # of a sum in any order


class Gradients:
    """A learner that updates nothing and keeps the gradients."""

    def __init__(self):
        self.found = {}

    def low_rank(self, weight, left, right):
        self.found[weight] = left.t() @ right

    def through(self, weight, left, right):
        self.low_rank(weight, left, right)
        return left @ weight.detach()

    def dense(self, parameter, grad):
        self.found[parameter] = grad


@pytest.mark.parametrize(("width", "words"), [(8, 3), (16, 1), (33, 5), (200, 6)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_segment_has_the_numbers_and_gradients_of_autograd(pointwise, width, words, dtype):
    torch.manual_seed(0)
    config = ModelConfig(vocab_size=5, d_embed=width + 1, d_hidden=width, init_range=0.3)
    network = LanguageModel(config).double().eval().network
    for parameter in network.parameters():
        torch.nn.init.uniform_(parameter, -0.3, 0.3)  # biases too
    network.fast = False
    x = torch.randn(words, width + 1, dtype=torch.float64, requires_grad=True)
    state = tuple(torch.randn(2, 1, width, dtype=torch.float64) for _ in range(2))
    grad = torch.randn(words, width, dtype=torch.float64)
    expected, last = network.forward_time_major(x[:, None], state)
    wanted = dict(network.named_parameters())
    grad_x, *grads = torch.autograd.grad(expected[:, 0], [x, *wanted.values()], grad)

    network.to(dtype)
    parameters = dict(network.named_parameters())
    before = {name: part.detach().clone() for name, part in parameters.items()}
    assert isinstance(network, LearnsByHand)
    learner = Gradients()
    with torch.no_grad():
        out, after, backward = network.read_to_learn(
            x.detach().to(dtype), tuple(part.to(dtype) for part in state)
        )
        found = backward(grad.to(dtype), learner)
    level = 1e-12 if dtype == torch.float64 else 2e-4
    for ours, theirs in [(out, expected[:, 0]), (found, grad_x), *zip(after, last, strict=True),
                         *((learner.found[parameters[name]], one)
                           for name, one in zip(wanted, grads, strict=True))]:  # fmt: skip
        torch.testing.assert_close(ours.double(), theirs.detach(), rtol=level, atol=level)
    assert len(learner.found) == len(wanted)
    assert all(torch.equal(part, before[name]) for name, part in parameters.items())


def test_threads_change_no_bit_of_a_segment(monkeypatch):
    monkeypatch.setattr(lstm_segment, "_LEAST_SHARED", 1)
    if native.why_not():
        pytest.skip(native.why_not())
    torch.manual_seed(0)
    x, h, c, grad = torch.randn(5, 37), torch.randn(37), torch.randn(37), torch.randn(5, 37)
    weights = torch.randn(148, 37), torch.randn(148, 37), torch.randn(148)
    runs = []
    for threads in (1, 3):
        with arithmetic(kernels=True, threads=threads):
            steps = lstm_segment.forward(x, h, c, *weights)
            runs.append((*steps, lstm_segment.backward(steps, weights[1], grad)))
    assert all(torch.equal(one, two) for one, two in zip(*runs, strict=True))
