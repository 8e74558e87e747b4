"""The vocabulary of a model: its words and their ids."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import repeat
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tiedlm import files
from tiedlm.data.tokenizer import EOS, UNK
from tiedlm.errors import UserError

Ids = npt.NDArray[np.int32]


class Vocabulary:
    """An ordered set of words; the id of a word is its position.

    Args:
        words: the words in the order of their ids; ``<eos>`` must be among them.

    Attributes:
        words: id -> word.
        eos_id: the id of ``<eos>``.
        unk_id: the id of ``<unk>``, or None if it is not in the vocabulary.

    Raises:
        UserError: if a word occurs twice, is empty or contains whitespace, or ``<eos>`` is missing.
    """

    def __init__(self, words: Iterable[str]) -> None:
        self.words = tuple(words)
        self._ids = {word: number for number, word in enumerate(self.words)}
        if len(self._ids) != len(self.words):
            twice = next(w for number, w in enumerate(self.words) if self._ids[w] != number)
            raise UserError(f"the vocabulary has {twice!r} twice; each word may occur only once")
        for number, word in enumerate(self.words):
            if word.split() != [word]:
                raise UserError(
                    f"word {number} of the vocabulary is {word!r}; a word may not be empty or "
                    "contain whitespace"
                )
        if EOS not in self._ids:
            raise UserError(f"the vocabulary has no {EOS}; add it on a line of its own")
        self.eos_id = self._ids[EOS]
        self.unk_id = self._ids.get(UNK)

    def __len__(self) -> int:
        return len(self.words)

    def __contains__(self, word: object) -> bool:
        return word in self._ids

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and self.words == other.words

    def __hash__(self) -> int:
        return hash(self.words)

    def __repr__(self) -> str:
        return f"Vocabulary({len(self)} words)"

    def encode(self, words: Iterable[str]) -> Ids:
        """Return the ids of ``words``; unknown words get the id of ``<unk>``.

        Raises:
            UserError: if a word is unknown and the vocabulary has no ``<unk>``.
        """
        if self.unk_id is None:
            try:
                return np.fromiter((self._ids[word] for word in words), dtype=np.int32)
            except KeyError as error:
                raise UserError(
                    f"the word {error.args[0]!r} is not in the vocabulary, which has no {UNK} to "
                    "stand for it"
                ) from error
        return np.fromiter(map(self._ids.get, words, repeat(self.unk_id)), dtype=np.int32)

    def decode(self, ids: Iterable[int] | npt.NDArray[np.integer]) -> list[str]:
        """Return the words of ``ids``.

        Raises:
            UserError: if an id is outside the vocabulary.
        """
        numbers = ids.tolist() if isinstance(ids, np.ndarray) else list(ids)
        for number in numbers:
            if not 0 <= number < len(self.words):
                raise UserError(
                    f"id {number} is outside the vocabulary; ids go from 0 to {len(self) - 1}"
                )
        return [self.words[number] for number in numbers]

    def save(self, path: Path | str) -> None:
        """Write one word per line, in the order of the ids."""
        files.write_text(path, "".join(f"{word}\n" for word in self.words))

    @classmethod
    def load(cls, path: Path | str) -> Vocabulary:
        """Load a vocabulary that :meth:`save` wrote.

        Raises:
            UserError: if the file is missing, not UTF-8 or not a valid vocabulary.
        """
        try:
            with files.reading(path, "; expected a vocabulary file"):
                text = Path(path).read_bytes().decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise UserError(f"{path} is not UTF-8 text; save it as UTF-8") from error
        try:
            return cls(line.removesuffix("\r") for line in text.removesuffix("\n").split("\n"))
        except UserError as error:
            raise UserError(f"{path}: {error}") from error

    @classmethod
    def from_counts(
        cls, counts: Mapping[str, int], *, max_size: int | None = None, min_count: int = 1
    ) -> Vocabulary:
        """Return the vocabulary of the most frequent words.

        ``<eos>`` and ``<unk>`` always come first. The other words follow by frequency. Ties are
        broken by the order of their characters, so the same counts give the same vocabulary.

        Args:
            counts: word -> number of occurrences in the *training* text.
            max_size: maximum size, ``<eos>`` and ``<unk>`` included.
            min_count: how often a word must occur to be kept.

        Raises:
            UserError: if ``max_size`` is less than 3 or ``min_count`` less than 1.
        """
        check_limits(max_size, min_count)
        kept = sorted(
            ((-n, word) for word, n in counts.items() if n >= min_count and word not in (EOS, UNK))
        )
        words = [EOS, UNK, *(word for _, word in kept)]
        return cls(words[:max_size])


def check_limits(max_size: int | None, min_count: int | None) -> None:
    """Refuse limits that leave no word.

    Args:
        max_size: as in :meth:`Vocabulary.from_counts`.
        min_count: as there, or None.

    Raises:
        UserError: if ``max_size`` is less than 3 or ``min_count`` less than 1.
    """
    if max_size is not None and max_size < 3:
        raise UserError(
            f"--vocab-size {max_size} is too small: {EOS} and {UNK} are words themselves; give "
            "3 or more"
        )
    if min_count is not None and min_count < 1:
        raise UserError(f"--min-count: expected at least 1, got {min_count}")
