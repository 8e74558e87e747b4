import threading

import pytest
import torch

from tiedlm import augmented_cross_entropy
from tiedlm.arithmetic import _switches
from tiedlm.loss import buffers, release_buffers
from tiedlm.loss.buffers import Buffer


@pytest.fixture(autouse=True)
def no_buffers():
    release_buffers()
    yield
    release_buffers()


def test_a_buffer_is_reused_if_it_is_large_enough_and_else_grows():
    like, buffer = torch.zeros(1), Buffer("a")
    first = buffer.take(4, 5, like)
    assert buffer.take(2, 3, like).data_ptr() == first.data_ptr()
    assert Buffer("a").take(2, 3, like).data_ptr() == first.data_ptr()  # the next pass
    assert Buffer("b").take(2, 3, like).data_ptr() != first.data_ptr()
    assert buffer.take(40, 5, like).shape == (40, 5)
    assert buffer.take(4, 5, like.double()).dtype == torch.float64


def test_aligned_rows_of_two_byte_numbers_begin_on_16_bytes_with_zeros_between(monkeypatch):
    like = torch.zeros(1, dtype=torch.bfloat16)
    monkeypatch.setattr(Buffer, "_take", lambda _, r, c, like: like.new_full((r, c), torch.nan))
    matrix = Buffer("a").take(3, 41, like, aligned=True)
    assert matrix.shape == (3, 41)
    assert matrix.stride(0) * matrix.itemsize % 16 == 0
    assert not torch.as_strided(matrix, (3, 23), (64, 1), 41).any()
    assert Buffer("a").take(3, 41, like.float(), aligned=True).is_contiguous()


def test_a_large_buffer_lasts_for_a_pass_or_until_it_is_released(monkeypatch):
    monkeypatch.setattr(buffers, "MOST_KEPT", 10)
    buffer, like = Buffer("a"), torch.zeros(1)
    first = buffer.take(4, 5, like)
    assert buffer.take(4, 5, like).data_ptr() == first.data_ptr()
    assert not buffers._kept.memory
    buffer.release()
    assert buffer.take(4, 5, like).data_ptr() != first.data_ptr()
    assert Buffer("a").take(4, 5, like).data_ptr() != first.data_ptr()


def test_buffers_are_not_kept_if_the_c_library_keeps_freed_memory(monkeypatch):
    monkeypatch.setattr(_switches, "reuse", True)
    first = Buffer("a").take(4, 5, torch.zeros(1))
    assert Buffer("a").take(4, 5, torch.zeros(1)).data_ptr() != first.data_ptr()


def test_threads_do_not_share_a_buffer():
    seen, like = [], torch.zeros(1)
    mine = Buffer("a").take(4, 5, like)
    thread = threading.Thread(target=lambda: seen.append(Buffer("a").take(4, 5, like)))
    thread.start()
    thread.join()
    assert seen[0].data_ptr() != mine.data_ptr()


@pytest.mark.parametrize("vocabulary", [1, 10_000, 33_278, 128_256, 2**25])
@pytest.mark.parametrize("tokens", [0, 1, 255, 257, 700, 8192, 65_536])
@pytest.mark.parametrize("times", [1, 2])
def test_chunks_are_equal_few_and_little_above_the_budget(tokens, vocabulary, times):
    budget = max(buffers.CHUNK // vocabulary, buffers.LEAST_ROWS) * times
    rows = buffers.chunk_rows(tokens, vocabulary, buffers.CHUNK, times)
    assert 1 <= rows <= max(1.5 * budget, 1)
    assert rows <= max(1, tokens)
    chunks = -(-tokens // rows)
    assert chunks <= max(1, -(-tokens // budget))
    assert chunks * rows - tokens <= max(1, chunks)  # none is much shorter than the others


def test_a_window_of_wikitext_2_is_one_chunk():
    assert buffers.chunk_rows(700, 33_278, buffers.CHUNK) == 700


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_no_result_is_a_view_of_a_reused_buffer(reduction):
    """The next call does not change the losses and gradients of this one."""

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
    torch.testing.assert_close(inside, outside.detach())  # without a gradient it rounds otherwise


def test_another_default_device_does_not_move_the_buffers():
    hidden, weight = torch.randn(5, 3), torch.randn(7, 3)
    targets = torch.arange(5)
    release_buffers()
    with torch.device("meta"):
        inside = augmented_cross_entropy(hidden, weight, targets).loss
    assert torch.equal(inside, augmented_cross_entropy(hidden, weight, targets).loss)
