"""The LSTM's recurrence in Triton serves if it fits on the GPU, and gives PyTorch's numbers.

Triton's interpreter computes them on a CPU. PyTorch for CUDA includes Triton. Elsewhere the tests
need `pip install triton` (a gigabyte).
"""

import functools
import importlib.util
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from tiedlm.environment_variables import GPU_SHARED_BY, TRITON
from tiedlm.native import triton as detection
from tiedlm.networks.backends import triton
from tiedlm.networks.lstm_function import lstm_layer

# Triton must be told to interpret before it is imported, hence a process of its own.
INTERPRETER = os.environ.get("TRITON_INTERPRET") == "1"
needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None,
    reason="needs triton, which builds of PyTorch for CUDA bring",
)

H200 = SimpleNamespace(
    multi_processor_count=132,
    regs_per_multiprocessor=2**16,
    shared_memory_per_multiprocessor=233472,
)
SMALL = SimpleNamespace(
    multi_processor_count=28, regs_per_multiprocessor=2**16, shared_memory_per_multiprocessor=102400
)
OLD = SimpleNamespace(multi_processor_count=40, shared_memory_per_multiprocessor=65536)


class OnGpu:
    """A stand-in for gates on a GPU, with a shape only."""

    is_cuda, device = True, "cuda"

    def __init__(self, steps, streams, hidden):
        self.shape = (steps, streams, 4 * hidden)

    def __len__(self):
        return self.shape[0]

    def numel(self):
        steps, streams, gates = self.shape
        return steps * streams * gates


@pytest.fixture
def serves(monkeypatch):
    """Return whether a GPU serves windows of a shape."""

    def ask(card, gates):
        monkeypatch.setattr(detection, "is_for", lambda *_, **__: True)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: card)
        return triton.serves(gates, products=torch.bfloat16)

    return ask


@pytest.mark.parametrize(
    ("gpu_card", "streams", "hidden", "sharing", "fits"),
    [
        (H200, 20, 650, 6, True),  # 41 programs a model, 264 fit
        (H200, 20, 650, 7, False),
        (H200, 20, 1500, 2, True),
        (H200, 20, 1500, 3, False),
        (H200, 20, 4000, 1, True),
        (H200, 20, 4300, 1, False),
        (H200, 64, 2100, 1, True),  # of 64 streams each, one fits on a processor
        (H200, 64, 2200, 1, False),
        (SMALL, 20, 200, 1, True),
        (SMALL, 20, 650, 1, False),
        (OLD, 20, 200, 1, False),
    ],
)
def test_it_serves_where_all_programs_fit(
    serves, monkeypatch, gpu_card, streams, hidden, sharing, fits
):
    monkeypatch.setenv(GPU_SHARED_BY, str(sharing))
    assert serves(gpu_card, OnGpu(35, streams, hidden)) == fits


def test_a_window_with_indices_beyond_32_bits_is_left_to_pytorch(serves):
    assert serves(H200, OnGpu(7000, 20, 2000))
    assert not serves(H200, OnGpu(9000, 20, 2000))


@needs_triton
@pytest.mark.skipif(INTERPRETER, reason="this is that process")
def test_the_layer_below_in_the_interpreter():
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


# The interpreter computes masked lanes too.
@needs_triton
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize("products", ["fp32", "fp16"])
@pytest.mark.parametrize("with_mask", [False, True])
@pytest.mark.parametrize(
    ("streams", "steps", "hidden"), [(3, 5, 10), (17, 4, 70), (1, 1, 16), (70, 1, 150)]
)
def test_an_lstm_layer_and_its_gradients_equal_pytorchs(
    interpreter, monkeypatch, streams, steps, hidden, with_mask, products
):
    generator = torch.Generator().manual_seed(0)
    shapes = [
        (steps, streams, 7), (streams, hidden), (streams, hidden), (4 * hidden, 7),
        (4 * hidden, hidden), (4 * hidden,),
    ]  # fmt: skip
    inputs = [
        torch.randn(shape, generator=generator).mul_(0.5).requires_grad_() for shape in shapes
    ]
    mask = (torch.rand(streams, hidden, generator=generator) > 0.4) / 0.6 if with_mask else None

    def layer():
        outputs = lstm_layer(*inputs, mask)
        upstream = [torch.linspace(-1, 2, part.numel()).view_as(part) for part in outputs]
        grads = torch.autograd.grad(outputs, inputs, upstream)
        return [*(part.detach() for part in outputs), *grads]

    if steps == 1:  # no program waits for another, so several can run in sequence
        monkeypatch.setattr(
            triton, "_blocks", lambda _, dtype: triton._cut(streams, hidden, dtype, 64, 16)
        )
    calls = []
    for name in ("run_forward", "run_backward"):
        real = getattr(triton, name)
        counted = functools.partial(lambda real, *args: calls.append(real) or real(*args), real)
        monkeypatch.setattr(triton, name, counted)
    # The interpreter multiplies float16, but not bfloat16.
    with torch.autocast("cpu", torch.float16, enabled=products == "fp16"):
        found = layer()
        monkeypatch.delenv(TRITON)
        expected = layer()
    assert len(calls) == 2  # of the first call only
    rtol = 2e-6 if products == "fp32" else 2e-3
    for one, other in zip(found, expected, strict=True):
        assert (one - other).norm() <= rtol * other.norm()
