"""Count the words of a text in bounded memory, and choose a vocabulary from the counts."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from itertools import compress, groupby, repeat
from operator import add, itemgetter
from pathlib import Path

from tiedlm.data.tokenizer import EOS, UNK
from tiedlm.data.vocabulary import Vocabulary

MOST = 500_000  # words in memory; beyond, their counts are written to disk, sorted


class WordCounts:
    """How often each word occurs.

    Args:
        folder: where counts are written that do not fit into memory.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._counts: dict[str, int] = {}
        self._runs: list[Path] = []
        self.has_unk = False

    def add(self, words: list[str], counts: list[int]) -> None:
        """Add the counts of some words, each given once; those that are 0 are left out."""
        if not all(counts):
            words, counts = list(compress(words, counts)), [count for count in counts if count]
        known = self._counts
        known.update(zip(words, map(add, map(known.get, words, repeat(0)), counts), strict=True))
        self.has_unk = self.has_unk or UNK in known
        if len(known) > MOST:
            self._write_run()

    def _write_run(self) -> None:
        path = self._folder / f"{len(self._runs)}.counts"
        with path.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(f"{word} {count}\n" for word, count in sorted(self._counts.items()))
        self._runs.append(path)
        self._counts.clear()

    def items(self) -> Iterator[tuple[str, int]]:
        """Yield each word once, with its count."""
        if not self._runs:
            yield from self._counts.items()
            return
        runs = [_read_run(path) for path in self._runs]
        together = heapq.merge(*runs, sorted(self._counts.items()), key=itemgetter(0))
        for word, same in groupby(together, key=itemgetter(0)):
            yield word, sum(count for _, count in same)

    def close(self) -> None:
        """Remove what was written to disk."""
        for path in self._runs:
            path.unlink()


def _read_run(path: Path) -> Iterator[tuple[str, int]]:
    with path.open(encoding="utf-8", newline="\n") as file:
        for line in file:
            word, _, count = line.rpartition(" ")
            yield word, int(count)


def choose_vocabulary(
    counts: WordCounts, *, max_size: int | None, min_count: int | None
) -> tuple[Vocabulary, int]:
    """Return the vocabulary of the most frequent words, and how often each must occur.

    Args:
        counts: of the training text.
        max_size: as in :meth:`Vocabulary.from_counts`.
        min_count: the same; None is 1 if the text has ``<unk>``, else 2.
    """
    least = min_count if min_count is not None else 1 if counts.has_unk else 2
    kept: Iterable[tuple[str, int]] = (
        (word, n) for word, n in counts.items() if n >= least and word not in (EOS, UNK)
    )
    if max_size is not None:  # only so many are held at a time
        kept = heapq.nsmallest(max_size, kept, key=lambda pair: (-pair[1], pair[0]))
    return Vocabulary.from_counts(dict(kept), max_size=max_size, min_count=least), least
