"""Order the tokens so that each lies beside the row of its target word, and no row is copied.

The soft target depends on the target *word* only. The distinct words are sorted by falling count.
Then the tokens are ordered level by level: first one token of each word, then a second token of
each word that has two, and so on. The tokens of level k correspond to rows ``0 .. U_k`` of the
distinct words' matrix. So subtracting soft targets from tokens, or summing tokens into words, is
plain arithmetic on contiguous rows. Very short levels are put together in one segment, whose rows
are found by an index.

Shape letters: N tokens, M tokens of a group, U distinct targets.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

_SHORT_LEVEL = 16  # words; shorter levels share one segment with an index


class Segment(NamedTuple):
    """Some rows of a group's tokens, and the rows of the words that they belong to."""

    rows: slice
    words: slice | Tensor


class Group(NamedTuple):
    """Some distinct words with all their tokens.

    Args:
        words_U: ids of the words.
        count_U: number of tokens of each word.
        tokens_N: positions of the tokens, level by level or word by word.
        word_of_N: for each of these tokens, the row of its word in ``words_U``.
        levels: number of words in each level, without the short levels.
    """

    words_U: Tensor
    count_U: Tensor
    tokens_N: Tensor
    word_of_N: Tensor
    levels: list[int]

    def weights(self, weight: Tensor) -> Tensor:
        """Return the sum of the weights of each word's tokens.

        If all tokens have one weight, return the number of each word's tokens instead.

        Args:
            weight: the weight of each token of all groups, ``(N,)``, or one for all tokens, ``()``.
        """
        if weight.dim() == 0:
            return self.count_U.to(weight.dtype)
        weight_N = weight[self.tokens_N]
        return add_rows(weight_N.new_zeros(len(self.words_U)), self.word_of_N, weight_N)

    def segments(self, start: int, stop: int) -> Iterator[Segment]:
        """Yield the segments of tokens ``start`` to ``stop``, with rows counted from ``start``."""
        level_start = 0
        for size in self.levels:
            first, last = max(start, level_start), min(stop, level_start + size)
            if first < last:
                words = slice(first - level_start, last - level_start)
                yield Segment(slice(first - start, last - start), words)
            level_start += size
        if max(start, level_start) < stop:
            first = max(start, level_start)
            yield Segment(slice(first - start, stop - start), self.word_of_N[first:stop])


def group_by_word(targets_N: Tensor, most_words: int, *, by_level: bool = True) -> Iterator[Group]:
    """Yield groups of at most ``most_words`` distinct targets, each with all its tokens.

    The values are read at one place only, so that a program waits for a GPU once.

    Args:
        targets_N: ids of the words to predict.
        most_words: largest number of words in a group.
        by_level: order the tokens of a group level by level. Otherwise they are ordered word by
            word, and a group has no levels.
    """
    # The number of distinct words is read only below. Until then tensors ..._U have N rows, of
    # which the surplus rows at the end have no token.
    sorted_N, order_N = torch.sort(targets_N, stable=True)
    is_first_N = torch.ones_like(sorted_N)
    is_first_N[1:] = sorted_N[1:] != sorted_N[:-1]
    word_of_N = is_first_N.cumsum(0) - 1
    rows_N = torch.arange(len(targets_N), device=targets_N.device)
    words_U = torch.zeros_like(sorted_N).scatter_(0, word_of_N, sorted_N)
    count_U = torch.zeros_like(sorted_N).scatter_add_(0, word_of_N, torch.ones_like(sorted_N))
    by_count_U = torch.argsort(count_U, descending=True, stable=True)
    place_U = torch.empty_like(by_count_U)
    place_U[by_count_U] = rows_N
    words_U, count_U, word_of_N = words_U[by_count_U], count_U[by_count_U], place_U[word_of_N]

    by_word_N = torch.argsort(word_of_N, stable=True)
    tokens_N, word_of_N = order_N[by_word_N], word_of_N[by_word_N]
    end_U = count_U.cumsum(0)
    level_N = rows_N - (end_U - count_U)[word_of_N]
    counts = [count for count in count_U.tolist() if count]
    ends = list(itertools.accumulate(counts))
    for first in range(0, len(counts), most_words):
        last = min(first + most_words, len(counts))
        mine = slice(ends[first] - counts[first], ends[last - 1])
        tokens_M, word_of_M, levels = tokens_N[mine], word_of_N[mine] - first, []
        if by_level:
            order_M = torch.argsort(level_N[mine], stable=True)
            tokens_M, word_of_M = tokens_M[order_M], word_of_M[order_M]
            levels = _long_levels(counts[first:last])
        yield Group(words_U[first:last], count_U[first:last], tokens_M, word_of_M, levels)


def in_order(targets_N: Tensor) -> list[Group]:
    """Return one group of all tokens in their own order, for a loss without soft targets."""
    rows_N = torch.arange(len(targets_N), device=targets_N.device)
    return [Group(targets_N, torch.ones_like(targets_N), rows_N, rows_N, [])]


def single_tokens(targets_N: Tensor, most_words: int) -> Iterator[Group]:
    """Yield groups in which every token counts as a distinct word.

    The groups do not depend on the data, as a CUDA graph needs. The price is that the soft target
    of a word is computed once for each of its tokens.
    """
    for first in range(0, len(targets_N), most_words):
        words_U = targets_N[first : first + most_words]
        rows_N = torch.arange(len(words_U), device=words_U.device)
        yield Group(words_U, torch.ones_like(words_U), rows_N + first, rows_N, [len(words_U)])


def _long_levels(counts: list[int]) -> list[int]:
    """Return the sizes of the levels that are not short; ``counts`` is in falling order."""
    levels = []
    size = len(counts)
    for level in range(counts[0]):
        while size and counts[size - 1] <= level:
            size -= 1
        if size < _SHORT_LEVEL:
            break
        levels.append(size)
    return levels


def add_rows(target: Tensor, index: Tensor, rows: Tensor, alpha: int = 1) -> Tensor:
    """Add ``alpha`` times ``rows`` to the rows that the index names, and return the target.

    An index may come several times.
    """
    if target.is_cuda:  # on a GPU only this operation adds in the same order every time
        return target.index_put_((index,), rows if alpha == 1 else rows * alpha, accumulate=True)
    return target.index_add_(0, index, rows, alpha=alpha)
