"""What a script gets that calls the library and chooses nothing: speed, and no side effects."""

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from tiedlm import VariationalLSTM, augmented_cross_entropy, native
from tiedlm.arithmetic import LEAST_WORK, arithmetic
from tiedlm.native import processor

needs_kernels = pytest.mark.skipif(bool(native.why_not()), reason=native.why_not() or "-")
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")


def call(tokens=300, words=2000, width=8):
    """Return the loss and gradients of a call that is large enough for the kernels."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(tokens, width, generator=generator).requires_grad_()
    weight = torch.randn(words, width, generator=generator).requires_grad_()
    targets = torch.randint(0, words, (tokens,), generator=generator)
    loss = augmented_cross_entropy(hidden, weight, targets).loss
    loss.backward()
    return torch.cat([loss.detach()[None], hidden.grad.flatten(), weight.grad.flatten()])


def layer(steps=20, streams=20, width=200):
    """Return the output and a gradient of a window that is large enough."""
    torch.manual_seed(0)
    lstm = VariationalLSTM(width, width, dropout_hidden=0.5)
    output, _ = lstm(torch.randn(streams, steps, width))
    output.sum().backward()
    return torch.cat([output.detach().flatten(), lstm.layers[0].weight_hh.grad.flatten()])


def process():
    """Return what a call could leave changed in the process."""
    switch = processor.fp32_switch()
    return (
        switch and switch.fp32_precision,
        torch.get_num_threads(),
        torch.get_float32_matmul_precision(),
        torch.get_default_dtype(),
        torch.are_deterministic_algorithms_enabled(),
    )


@needs_kernels
@pytest.mark.parametrize("run", [call, layer])
def test_a_large_call_is_compiled_without_being_asked(run, monkeypatch):
    bare = run()
    with arithmetic(kernels=True):
        assert torch.equal(run(), bare)
    with arithmetic(kernels=False):
        plain = run()
    torch.testing.assert_close(bare, plain, rtol=1e-3, atol=1e-5)
    monkeypatch.setenv("TIEDLM_NATIVE", "0")
    with arithmetic(route="default", kernels=False):
        off = run()
    assert torch.equal(run(), off)


@needs_kernels
@pytest.mark.parametrize("tokens", [1, LEAST_WORK // 2000])
def test_a_small_call_is_pytorchs_whatever_was_called_before(tokens):
    call()  # compiled
    bare = call(tokens)
    with arithmetic(kernels=False):
        assert torch.equal(call(tokens), bare)


def test_a_call_leaves_the_process_as_it_was_and_never_changes_it(monkeypatch):
    before, seen = process(), []
    real = torch.mm

    def seeing(*given, **named):
        seen.append(process())
        return real(*given, **named)

    monkeypatch.setattr(torch, "mm", seeing)
    call()
    layer()
    with pytest.raises(ValueError, match="targets"):
        augmented_cross_entropy(torch.ones(3, 2), torch.ones(5, 2), torch.full((3,), 9))
    assert set(seen) == {before}
    assert process() == before


def test_backward_in_another_thread_gives_the_same():
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(300, 8, generator=generator).requires_grad_()
    weight = torch.randn(2000, 8, generator=generator).requires_grad_()
    targets = torch.arange(300)

    def gradients(run):
        hidden.grad = weight.grad = None
        # The losses of each token: their gradients are computed in backward.
        run(augmented_cross_entropy(hidden, weight, targets, reduction="none").loss.sum().backward)
        return hidden.grad, weight.grad

    def elsewhere(backward):
        thread = threading.Thread(target=backward)
        thread.start()
        thread.join()

    for one, other in zip(gradients(lambda run: run()), gradients(elsewhere), strict=True):
        assert torch.equal(one, other)


def test_threads_of_a_pool_compute_the_same():
    expected = call()
    with ThreadPoolExecutor(4) as pool:
        for found in [pool.submit(call) for _ in range(8)]:
            assert torch.equal(found.result(), expected)


class Losses(Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        return call()[:1]


@needs_fork
def test_a_worker_of_a_data_loader_computes_the_same():
    with arithmetic(threads=1):  # as in a worker
        expected = call()[:1]
        loader = DataLoader(Losses(), batch_size=2, num_workers=2, multiprocessing_context="fork")
        for batch in loader:
            assert torch.equal(batch, expected.expand_as(batch))


@needs_fork
def test_a_forked_child_computes_the_same():
    with arithmetic(threads=1):  # PyTorch's own threads do not survive a fork
        expected = call()
        pid = os.fork()
        if pid == 0:
            os._exit(0 if torch.equal(call(), expected) else 1)
        assert os.waitpid(pid, 0)[1] == 0


def test_torch_compile_takes_a_bare_call_and_gives_its_numbers():
    hidden, weight, targets = torch.randn(300, 8), torch.randn(2000, 8), torch.arange(300)
    compiled = torch.compile(
        lambda h: augmented_cross_entropy(h, weight, targets).loss * 2, backend="eager"
    )
    assert compiled(hidden) == augmented_cross_entropy(hidden, weight, targets).loss * 2


# Processes

_SCRIPT = """
import multiprocessing, os, sys, threading
import torch
from tiedlm import augmented_cross_entropy

def call(tokens, words=2000):
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(tokens, 8, generator=generator)
    weight = torch.randn(words, 8, generator=generator).requires_grad_()
    loss = augmented_cross_entropy(hidden, weight, torch.arange(tokens)).loss
    loss.backward()
    return (loss.item(), weight.grad.sum().item())

if __name__ == "__main__":
    sizes, processes = eval(sys.argv[1]), int(sys.argv[2])
    if processes:
        with multiprocessing.get_context("spawn").Pool(processes) as pool:
            print(set(pool.map(call, sizes * processes, chunksize=1)))
    else:
        found = {}
        threads = [
            threading.Thread(target=lambda size=size: found.update({size: call(size)}))
            for size in sizes * 2
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        print([found[size] for size in sorted(set(sizes))])
"""


@pytest.fixture
def script(tmp_path):
    """Return a function that runs the script, and a compiler that counts what it compiles."""
    (tmp_path / "script.py").write_text(_SCRIPT)
    log, compiler = tmp_path / "log", tmp_path / "compiler"
    log.touch()
    compiler.write_text(
        f'#!/bin/sh\ncase "$*" in *"/losses.c -o "*) echo x >> {log};; esac\nexec cc "$@"\n'
    )
    compiler.chmod(0o755)

    def run(sizes, processes=0):
        done = subprocess.run(
            [sys.executable, "script.py", repr(sizes), str(processes)],
            cwd=tmp_path, capture_output=True, text=True, check=True, timeout=120,
            env={**os.environ, "TIEDLM_CACHE": str(tmp_path / "cache"), "CC": str(compiler),
                 "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert done.stderr == ""
        return done.stdout, len(log.read_text().split())

    return run


@needs_kernels
def test_threads_and_processes_compile_once_and_a_small_call_never(script):
    small, compiled = script([10])
    assert compiled == 0
    first, compiled = script([10, 300])  # at once, in four threads
    assert compiled == 1
    assert first.startswith(small.rstrip("]\n"))  # the same numbers beside a large call
    again, compiled = script([300, 10])
    assert (again, compiled) == (first, 1)


@needs_kernels
@pytest.mark.slow
def test_processes_that_are_spawned_at_once_compile_once(script):
    (found, compiled) = script([300, 300], 3)
    assert compiled == 1
    assert found.count("(") == 1  # one result
