import resource
import threading

import pytest
import torch

from tiedlm import augmented_cross_entropy, workspace


@pytest.fixture(autouse=True)
def empty_workspace(monkeypatch):
    monkeypatch.setattr(workspace, "_is_reusing", False)  # a command may have set it before
    workspace.release()
    yield
    workspace.release()


def test_a_buffer_is_used_again_for_what_fits_and_grows_for_what_does_not():
    like = torch.zeros(1)
    first = workspace.take("a", 4, 5, like)
    assert workspace.take("a", 2, 3, like).data_ptr() == first.data_ptr()
    assert workspace.take("b", 2, 3, like).data_ptr() != first.data_ptr()
    assert workspace.take("a", 40, 5, like).shape == (40, 5)
    assert workspace.take("a", 4, 5, like.double()).dtype == torch.float64


def test_what_is_too_large_is_not_kept(monkeypatch):
    monkeypatch.setattr(workspace, "MOST_KEPT", 10)
    workspace.take("a", 4, 5, torch.zeros(1))
    assert not workspace._kept.buffers


def test_threads_do_not_share_a_buffer():
    seen = []
    like = torch.zeros(1)
    mine = workspace.take("a", 4, 5, like)
    thread = threading.Thread(target=lambda: seen.append(workspace.take("a", 4, 5, like)))
    thread.start()
    thread.join()
    assert seen[0].data_ptr() != mine.data_ptr()


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_no_result_is_a_view_of_a_buffer_that_is_used_again(reduction):
    """Losses and gradients of one call stay as they are through the next."""

    def call(seed):
        generator = torch.Generator().manual_seed(seed)
        tensors = [
            torch.randn(shape, generator=generator).requires_grad_()
            for shape in ((9, 4), (11, 4), (11,), (11, 3))
        ]
        targets = torch.randint(11, (9,), generator=generator)
        hidden, weight, bias, embedding = tensors
        out = augmented_cross_entropy(hidden, weight, targets, bias, embedding, reduction=reduction)
        return [*out, *torch.autograd.grad(out.loss.sum(), tensors)]

    first = call(0)
    kept = [x.detach().clone() for x in first]
    call(1)
    assert all(torch.equal(x.detach(), y) for x, y in zip(first, kept, strict=True))


def test_buffers_made_in_inference_mode_serve_training_afterwards():
    hidden, weight = torch.randn(5, 3), torch.randn(7, 3).requires_grad_()
    targets = torch.arange(5)
    with torch.inference_mode():
        inside = augmented_cross_entropy(hidden, weight, targets).loss
    outside = augmented_cross_entropy(hidden, weight, targets).loss
    outside.backward()
    assert torch.equal(inside, outside.detach())


def test_another_default_device_does_not_move_the_buffers():
    hidden, weight = torch.randn(5, 3), torch.randn(7, 3)
    targets = torch.arange(5)
    workspace.release()
    with torch.device("meta"):
        inside = augmented_cross_entropy(hidden, weight, targets).loss
    assert torch.equal(inside, augmented_cross_entropy(hidden, weight, targets).loss)


def page_faults_of_a_step():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    gradients = [torch.empty(2**24).fill_(1.0) for _ in range(2)]  # 64 MiB each
    del gradients
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(workspace._glibc() is None, reason="only glibc has a switch for it")
def test_freed_memory_is_used_again_and_given_back_afterwards():
    with workspace.reuse_freed_memory() as does:
        assert does
        steps = [page_faults_of_a_step() for _ in range(6)]
        assert max(steps[3:]) < 1000  # the first ones find where their blocks fit
        kept = torch.empty(1)
        first = workspace.take("a", 4, 5, kept)
        # The C library keeps what is freed, so that buffers need not be held here.
        assert workspace.take("a", 4, 5, kept).data_ptr() != first.data_ptr()
    assert page_faults_of_a_step() > 10_000
    assert not workspace._is_reusing


def test_without_glibc_nothing_is_done(monkeypatch):
    monkeypatch.setattr(workspace, "_glibc", lambda: None)
    with workspace.reuse_freed_memory() as does:
        assert not does
    assert not workspace.enable_reuse_of_freed_memory()
