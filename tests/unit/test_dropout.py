"""Dropout of whole word types: one draw for a word of a stream and window."""

import pytest
import torch

from tiedlm import LanguageModel, ModelConfig
from tiedlm.dropout import word_mask

TOKENS = torch.tensor([[3, 1, 3, 2, 1, 3], [3, 3, 3, 0, 1, 2]])


def drawn(tokens, p=0.5, **share):
    return word_mask(tokens, p, torch.zeros((), dtype=torch.float64), **share)


def test_a_word_is_kept_or_dropped_in_the_whole_window_of_a_stream():
    torch.manual_seed(0)
    differ = False
    for _ in range(20):
        mask_BT = drawn(TOKENS)
        assert set(mask_BT.unique().tolist()) <= {0.0, 2.0}
        for row, words in zip(mask_BT, TOKENS, strict=True):
            for word in words.unique():
                assert len(row[words == word].unique()) == 1
        differ |= bool(mask_BT[0, 0] != mask_BT[1, 0])
    assert differ  # the streams draw apart


def test_words_are_kept_with_the_probability_and_scale_that_leave_the_mean():
    torch.manual_seed(0)
    masks = torch.stack([drawn(TOKENS, 0.25) for _ in range(4000)])
    torch.testing.assert_close(
        masks.mean(0), torch.ones(2, 6, dtype=torch.float64), rtol=0.05, atol=0
    )


def test_a_stream_has_the_same_mask_in_one_process_and_in_two():
    masks = []
    for rank, world in ((0, 1), (0, 2), (1, 2)):
        torch.manual_seed(3)
        masks.append(drawn(TOKENS.chunk(world)[rank], rank=rank, world=world))
    assert torch.equal(torch.cat(masks[1:]), masks[0])


def model(p):
    torch.manual_seed(0)
    return LanguageModel(ModelConfig(vocab_size=5, d_embed=4, d_hidden=4, dropout_words=p))


def test_nothing_is_drawn_without_it_or_in_evaluation():
    for p, training in ((0.0, True), (0.5, False)):
        made = model(p).train(training)
        before = torch.get_rng_state()
        made(TOKENS)
        assert torch.equal(torch.get_rng_state(), before)


def test_the_vectors_of_dropped_words_are_zero_and_the_others_are_scaled():
    made = model(0.5)
    seen = []
    forward = made.network.forward_time_major
    made.network.forward_time_major = lambda x_TBE, state: (
        seen.append(x_TBE) or forward(x_TBE, state)
    )
    torch.manual_seed(5)
    made(TOKENS)
    torch.manual_seed(5)
    mask_BT = word_mask(TOKENS, 0.5, made.embedding.weight)
    expected = made.embedding(TOKENS) * mask_BT[..., None]
    assert torch.equal(seen[0].transpose(0, 1), expected)
    assert 0 < mask_BT.count_nonzero() < mask_BT.numel()


def test_a_probability_out_of_range_is_refused():
    with pytest.raises(ValueError, match="dropout_words is the probability of dropping"):
        ModelConfig(vocab_size=5, dropout_words=1.0)
