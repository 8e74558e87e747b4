"""Where a GPU's kernels serve: Triton must work, and all programs of the recurrence fit on it."""

import multiprocessing
from types import SimpleNamespace

import pytest
import torch

from tiedlm.errors import UserError
from tiedlm.experiments import parallel, theory
from tiedlm.native import SHARED_BY, gpu_lstm, gpu_shared_by, share_gpu, triton
from tiedlm.progress import ProgressView
from tiedlm.training.settings import Settings

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
    """The shape of gates on a GPU that is not there."""

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
    """Return whether a card serves windows of a shape."""

    def ask(card, gates):
        monkeypatch.setattr(triton, "is_for", lambda *_, **__: True)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: card)
        return gpu_lstm.serves(gates, products=torch.bfloat16)

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
    monkeypatch.setenv(SHARED_BY, str(sharing))
    assert serves(gpu_card, OnGpu(35, streams, hidden)) == fits


def test_a_window_whose_places_need_more_than_32_bits_is_pytorchs(serves):
    assert serves(H200, OnGpu(7000, 20, 2000))
    assert not serves(H200, OnGpu(9000, 20, 2000))


def reason(monkeypatch, installed=True, capability=(9, 0)):
    monkeypatch.delenv(triton.ON, raising=False)
    monkeypatch.setattr(triton, "_is_installed", lambda: installed)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    return triton._why_not.__wrapped__(0)


def test_it_is_said_why_triton_is_not_used(monkeypatch):
    assert reason(monkeypatch, installed=False) == "Triton is not installed"
    assert reason(monkeypatch, capability=(6, 1)) == "the GPU is too old for Triton"
    with monkeypatch.context() as patch:
        patch.setattr(torch.version, "hip", "6.0")
        assert reason(monkeypatch) == "tried on NVIDIA's GPUs only"
    monkeypatch.setenv(triton.ON, "0")
    assert triton.why_not(torch.device("cuda", 0)) == f"{triton.ON}=0"


@pytest.mark.skipif(torch.cuda.is_available(), reason="here it may work")
def test_a_triton_that_fails_is_not_used(monkeypatch):
    assert reason(monkeypatch).startswith("Triton fails here: ")


@pytest.mark.parametrize(("capability", "serves_bf16"), [((7, 5), False), ((8, 0), True)])
def test_bfloat16_needs_a_gpu_that_multiplies_it(monkeypatch, capability, serves_bf16):
    monkeypatch.setattr(triton, "why_not", lambda _: "")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    tensor = SimpleNamespace(is_cuda=True, dtype=torch.float32, device="cuda")
    assert triton.is_for(tensor, products=torch.float32)
    assert triton.is_for(tensor, products=torch.bfloat16) == serves_bf16


@pytest.mark.parametrize("text", ["", "0", "-1", "two"])
def test_who_shares_the_gpu_must_be_a_number(monkeypatch, text):
    monkeypatch.setenv(SHARED_BY, text)
    with pytest.raises(UserError, match=f"{SHARED_BY}: expected a whole number of at least 1"):
        gpu_shared_by()


def test_what_the_user_says_of_sharing_stays(monkeypatch):
    monkeypatch.setenv(SHARED_BY, "5")
    share_gpu(2)
    assert gpu_shared_by() == 5


def test_a_run_among_others_is_told_how_many_they_are(monkeypatch, tmp_path):
    monkeypatch.setenv(SHARED_BY, "1")
    monkeypatch.delenv(SHARED_BY)
    monkeypatch.setattr(parallel.signal, "signal", lambda *_: None)  # this process still listens
    ours, theirs = multiprocessing.Pipe()
    job = parallel.Job(Settings(data=str(tmp_path / "nowhere")), tmp_path / "run")
    parallel._work(job, theirs, 3)
    assert ours.recv()[0] == "mistake"
    assert gpu_shared_by() == 3


def test_runs_of_figure_1_are_told_how_many_they_are(monkeypatch, tmp_path):
    monkeypatch.setenv(SHARED_BY, "1")
    monkeypatch.delenv(SHARED_BY)
    real = theory.ProcessPoolExecutor

    def executor(at_once, context, start, arguments):
        start(*arguments)
        return real(1, context)

    monkeypatch.setattr(theory, "ProcessPoolExecutor", executor)
    monkeypatch.setattr(theory, "ignore_signals", lambda: None)  # this process still listens
    with ProgressView() as view:
        theory.run_figure1([(0.0, 10.0)], [1], tmp_path, view, 4, 0.0, {})
    assert gpu_shared_by() == 4
