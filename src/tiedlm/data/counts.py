"""Count the words of a text in bounded memory, and choose a vocabulary from the counts."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import compress, islice, repeat
from operator import add
from pathlib import Path

from tiedlm.data.tokenizer import EOS, UNK
from tiedlm.data.vocabulary import Vocabulary

MOST = 400_000  # words in memory; with more, the counts move to disk
_FILES = 64  # files on disk; all counts of a word are in the same file
_TOGETHER = 20_000  # counts that are processed at once


class WordCounts:
    """Count how often each word occurs, in bounded memory.

    Args:
        folder: where counts are written that do not fit into memory.
    """

    def __init__(self, folder: Path) -> None:
        self._files = [folder / f"{number}.counts" for number in range(_FILES)]
        self._counts: dict[str, int] = {}
        self._is_on_disk = False
        self.has_unk = False

    def add(self, words: list[str], counts: list[int]) -> None:
        """Add the counts of some words, which are distinct; counts of 0 are left out."""
        if not all(counts):
            words, counts = list(compress(words, counts)), [count for count in counts if count]
        _add(self._counts, words, counts)
        self.has_unk = self.has_unk or UNK in self._counts
        if len(self._counts) > MOST:
            self._write()

    def _write(self) -> None:
        """Move the counts to disk, each to the file that its word's hash chooses."""
        lines: list[list[str]] = [[] for _ in self._files]
        for word, count in self._counts.items():
            lines[hash(word) % _FILES].append(f"{word}\n{count}\n")
        for path, some in zip(self._files, lines, strict=True):
            with path.open("a", encoding="utf-8", newline="\n") as file:
                file.write("".join(some))
        self._is_on_disk = True
        self._counts.clear()

    def items(self) -> Iterator[tuple[str, int]]:
        """Yield each word once, with its count."""
        if self._is_on_disk:
            self._write()
            for path in self._files:
                yield from _read(path).items()
        else:
            yield from self._counts.items()

    def close(self) -> None:
        """Remove what was written to disk."""
        for path in self._files:
            path.unlink(missing_ok=True)


def _add(known: dict[str, int], words: list[str], counts: list[int]) -> None:
    known.update(zip(words, map(add, map(known.get, words, repeat(0)), counts), strict=True))


def _read(path: Path) -> dict[str, int]:
    """Return the counts in a file; a word may be listed several times, and its counts are added."""
    found: dict[str, int] = {}
    with path.open(encoding="utf-8", newline="\n") as file:
        while lines := list(map(str.rstrip, islice(file, 2 * _TOGETHER), repeat("\n"))):
            _add(found, lines[::2], list(map(int, lines[1::2])))
    return found


def choose_vocabulary(
    counts: WordCounts, *, max_size: int | None, min_count: int | None
) -> tuple[Vocabulary, int]:
    """Return the vocabulary of the most frequent words, and how often each must occur.

    Args:
        counts: of the training text.
        max_size: as in :meth:`Vocabulary.from_counts`.
        min_count: how often a word must occur to be kept; None is 1 if the text has ``<unk>``, else
            2.
    """
    least = min_count if min_count is not None else 1 if counts.has_unk else 2
    kept: list[tuple[int, str]] = []
    enough, items = least, counts.items()
    while some := list(islice(items, _TOGETHER)):
        kept += [(-n, word) for word, n in some if n >= enough and word not in (EOS, UNK)]
        if max_size is not None and len(kept) > 2 * max_size > 0:
            kept = sorted(kept)[:max_size]
            enough = max(least, -kept[-1][0])
    chosen = {word: -n for n, word in kept}
    return Vocabulary.from_counts(chosen, max_size=max_size, min_count=least), least
