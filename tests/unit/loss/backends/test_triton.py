"""Triton's kernels give the same numbers as the PyTorch code, in Triton's interpreter on a CPU.

PyTorch for CUDA includes Triton. Elsewhere the tests need `pip install triton` (a gigabyte).
"""

import importlib.util
import itertools
import os
import subprocess
import sys

import pytest
import torch

from tiedlm import augmented_cross_entropy
from tiedlm.arithmetic import arithmetic
from tiedlm.environment_variables import TRITON
from tiedlm.loss import buffers
from tiedlm.native import triton

# Triton must be told to interpret before it is imported, hence a process of its own.
INTERPRETER = os.environ.get("TRITON_INTERPRET") == "1"
pytestmark = [
    pytest.mark.skipif(
        importlib.util.find_spec("triton") is None,
        reason="needs triton, which builds of PyTorch for CUDA bring",
    ),
    # The interpreter computes masked lanes too.
    pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning"),
]


@pytest.mark.skipif(INTERPRETER, reason="this is that process")
def test_everything_below_in_the_interpreter():
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", __file__],
        env={**os.environ, "TRITON_INTERPRET": "1"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]


@pytest.fixture
def interpreter(monkeypatch):
    if not INTERPRETER:
        pytest.skip("runs in a process with TRITON_INTERPRET=1, in the test above")
    monkeypatch.setenv(TRITON, "1")
    monkeypatch.setattr("tiedlm.loss.backends.triton_kernels.BLOCK", 32)  # several blocks a row


def losses(tensors, targets, with_bias, **options):
    hidden, classifier, bias, embedding = tensors
    bias = bias if with_bias else None
    out = augmented_cross_entropy(hidden, classifier, targets, bias, embedding, **options)
    upstream = torch.linspace(0.5, 2, out.loss.numel()).view_as(out.loss)
    inputs = [x for x in dict.fromkeys((hidden, classifier, bias, embedding)) if x is not None]
    grads = torch.autograd.grad((out.loss * upstream).sum(), inputs, allow_unused=True)
    return [*(part.detach() for part in out), *grads]


OPTIONS = [
    options
    for options in itertools.product(
        (None, 7), (True, False), (0.0, 13.0), (True, False), ("mean", "none"), ("fp32", "bf16")
    )
    if options[2] or options[1]  # without the augmented loss there is no target_grad
]


@pytest.mark.parametrize(
    ("embed", "target_grad", "alpha", "with_bias", "reduction", "products"), OPTIONS
)
def test_losses_and_gradients_equal_pytorchs(
    interpreter, monkeypatch, embed, target_grad, alpha, with_bias, reduction, products
):
    monkeypatch.setattr(buffers, "LEAST_ROWS", 1)
    monkeypatch.setattr(buffers, "CHUNK", 73 * 11)
    generator = torch.Generator().manual_seed(0)
    shapes = [(29, 5), (73, 5), (73,), (73, embed or 5)]
    tensors = [torch.randn(shape, generator=generator).requires_grad_() for shape in shapes]
    if embed is None:
        tensors[3] = tensors[1]
    targets = torch.randint(12, (29,), generator=generator)
    targets[5] = -100
    options = dict(
        target_grad=target_grad, alpha=alpha, reduction=reduction, temperature=1.7,
        with_bias=with_bias,
    )  # fmt: skip
    assert triton.is_for(*tensors, products=torch.float32)
    with arithmetic(precision=products):
        compiled = losses(tensors, targets, **options)
        monkeypatch.delenv(TRITON)
        assert not triton.is_for(*tensors, products=torch.float32)
        plain = losses(tensors, targets, **options)
    rtol = 2e-6 if products == "fp32" else 1e-2
    for one, other in zip(compiled, plain, strict=True):
        if one is None or other is None:
            assert one is other
            continue
        assert (one - other).norm() <= rtol * other.norm() + 1e-6


@pytest.mark.parametrize("target_grad", [True, False])
def test_a_whole_block_of_words_may_be_forbidden(interpreter, monkeypatch, target_grad):
    generator = torch.Generator().manual_seed(0)
    shapes = [(9, 5), (73, 5), (73,)]
    hidden, classifier, bias = (torch.randn(shape, generator=generator) for shape in shapes)
    bias[:40] = -torch.inf  # a block is 32 words here
    targets = torch.randint(40, 73, (9,), generator=generator)
    tensors = [x.requires_grad_() for x in (hidden, classifier, bias)]
    options = {"alpha": 2.0, "temperature": 1.7, "target_grad": target_grad, "with_bias": True}
    compiled = losses([*tensors, classifier], targets, **options)
    monkeypatch.delenv(TRITON)
    plain = losses([*tensors, classifier], targets, **options)
    for one, other in zip(compiled, plain, strict=True):
        assert one.isfinite().all()
        assert (one - other).norm() <= 2e-6 * other.norm() + 1e-6
