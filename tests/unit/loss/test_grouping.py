import pytest
import torch

from tiedlm.loss.grouping import group_by_word, in_order, single_tokens

TARGETS = torch.tensor([4] * 12 + [9, 9, 2, 7] + list(range(20, 50)) + list(range(20, 35)))
SHUFFLED = TARGETS[torch.randperm(len(TARGETS), generator=torch.Generator().manual_seed(0))]


@pytest.mark.parametrize("most_words", [1, 7, 100])
@pytest.mark.parametrize("targets", [TARGETS, SHUFFLED, TARGETS[:1]])
@pytest.mark.parametrize("grouping", [group_by_word, single_tokens])
def test_every_token_is_in_one_group_beside_its_word(grouping, targets, most_words):
    seen = []
    for group in grouping(targets, most_words):
        assert len(group.words_U) <= most_words
        assert torch.equal(group.words_U[group.word_of_N], targets[group.tokens_N])
        assert torch.equal(torch.bincount(group.word_of_N), group.count_U)
        seen += group.tokens_N.tolist()
    assert sorted(seen) == list(range(len(targets)))


@pytest.mark.parametrize("targets", [TARGETS, SHUFFLED])
def test_each_distinct_word_is_in_one_group(targets):
    words = torch.cat([group.words_U for group in group_by_word(targets, 7)])
    assert sorted(words.tolist()) == sorted(set(targets.tolist()))


@pytest.mark.parametrize("step", [1, 5, 1000])
def test_segments_cover_the_rows_once_with_their_words(step):
    for group in group_by_word(SHUFFLED, 20):
        count = len(group.tokens_N)
        for start in range(0, count, step):
            stop = min(start + step, count)
            rows, words = [], []
            for segment in group.segments(start, stop):
                rows += range(stop - start)[segment.rows]
                words += torch.arange(len(group.words_U))[segment.words].tolist()
            assert rows == list(range(stop - start))
            assert words == group.word_of_N[start:stop].tolist()


def test_long_levels_are_slices_and_short_ones_are_gathered_together():
    (group,) = group_by_word(SHUFFLED, 100)
    segments = list(group.segments(0, len(SHUFFLED)))
    # 34 distinct words, 17 of them twice, then word 4 alone, ten times more
    assert [segment.words for segment in segments[:-1]] == [slice(0, 34), slice(0, 17)]
    assert segments[-1].words.tolist() == [0] * 10


def test_no_targets_make_no_group_of_words():
    assert list(group_by_word(TARGETS[:0], 5)) == []


def test_tokens_in_order_are_one_group():
    (group,) = in_order(TARGETS)
    assert torch.equal(group.tokens_N, torch.arange(len(TARGETS)))
