"""An update of dynamic evaluation is its equation, compiled or not, for any form of gradient."""

import numpy as np
import pytest
import torch

from tiedlm import native
from tiedlm.arithmetic import arithmetic
from tiedlm.evaluation import update
from tiedlm.evaluation.update import Update

LR, EPSILON = 0.03, 0.01


def equation(w, w0, r, g, decay):
    """``w + min(d r, 1) (w_0 - w) - lr / (r + epsilon) g``."""
    pull, step = (decay, LR) if r is None else (np.minimum(decay * r, 1), LR / (r + EPSILON))
    return w + pull * (w0 - w) - step * g


@pytest.mark.parametrize("decay", [0.0, 0.4])
@pytest.mark.parametrize("with_rms", [True, False])
@pytest.mark.parametrize("shape", [(700, 13), (3, 5000), (9001,), ()])
def test_an_update_is_its_equation(pointwise, shape, with_rms, decay, monkeypatch):
    monkeypatch.setattr(update, "BLOCK", 1000)
    torch.manual_seed(0)
    w, w0, g = torch.randn(3, *shape).unbind()
    r = torch.rand(shape) * 4 if with_rms else None
    numbers = [None if part is None else part.double().numpy() for part in (w, w0, r, g)]
    one = Update(w.clone(), w0, r, LR, EPSILON, decay)
    one.dense(g)
    np.testing.assert_allclose(one.weight.view(shape), equation(*numbers, decay), atol=2e-5)
    if len(shape) < 2:
        return
    left, right = torch.randn(5, shape[0]), torch.randn(5, shape[1])
    two = Update(w.clone(), w0, r, LR, EPSILON, decay)
    two.low_rank(left, right)
    numbers[3] = left.double().numpy().T @ right.double().numpy()
    np.testing.assert_allclose(two.weight, equation(*numbers, decay), rtol=0, atol=1e-4)
    again = Update(w.clone(), w0, r, LR, EPSILON, decay)
    back = again.through(left, right)
    np.testing.assert_allclose(again.weight, two.weight, rtol=0, atol=1e-5)
    expected = left.double().numpy() @ numbers[0]  # of the weight before
    np.testing.assert_allclose(back, expected, rtol=0, atol=1e-3)
    three = Update(w.clone(), w0, r, LR, EPSILON, decay)
    index = torch.tensor([0, 2, 0])
    grad = torch.randn(3, shape[1])
    three.decay()
    three.rows(index, grad)
    numbers[3] = np.zeros(shape)
    np.add.at(numbers[3], index.numpy(), grad.double().numpy())
    np.testing.assert_allclose(three.weight, equation(*numbers, decay), rtol=0, atol=2e-5)


@pytest.mark.parametrize("words", [1, 4, 5, 12])
def test_threads_change_no_bit_and_many_words_are_added(words):
    if native.why_not():
        pytest.skip(native.why_not())
    torch.manual_seed(0)
    w, w0, r = torch.rand(3, 1501, 13)
    left, right = torch.randn(words, 1501), torch.randn(words, 13)
    found = []
    for threads in (1, 3):
        with arithmetic(kernels=True, threads=threads):
            one = Update(w.clone(), w0, r, LR, EPSILON, 0.1)
            found.append((one.through(left, right), one.weight))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    numbers = [part.double().numpy() for part in (w, w0, r)]
    expected = equation(*numbers, left.double().numpy().T @ right.double().numpy(), 0.1)
    np.testing.assert_allclose(found[0][1], expected, rtol=0, atol=1e-4)


def test_a_device_other_than_the_cpu_updates_a_parameter_as_a_whole():
    def blocks(device):
        w, w0, r = torch.empty(3, 1000, 1000, device=device)
        return len(Update(w, w0, r, LR, EPSILON, 0.4)._blocks())

    assert blocks("cpu") > 10
    assert blocks("meta") == 1
