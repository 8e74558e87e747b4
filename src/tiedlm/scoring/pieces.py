r"""Sum sub-word pieces to words, with the correction for the leading blank.

A piece that begins a word carries the blank before it (``▁the``). So the pieces of a word mark its
beginning but not its end: ``▁the`` also begins ``▁the`` ``re``. So the probability of the *word* is
the probability of its pieces, times the probability that the word ends after them. And it leaves
out the probability that a word begins here, which was already counted with the previous word:

.. math::
    s(w) = \sum_i s(\text{piece}_i) - B_{before} + B_{after},
    \qquad B = -\log p(\text{the next piece begins a word, or is <eos>})

Source: Oh and Schuler (2024), "Leading whitespaces of language models' subword vocabulary pose a
confound for calculating word probabilities"; Pimentel and Meister (2024), "How to compute the
probability of a word".

Shape letters: V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from tiedlm.data import EOS, Vocabulary
from tiedlm.data.piece_form import BLANK
from tiedlm.data.pieces import PieceVocabulary
from tiedlm.errors import UserError
from tiedlm.scoring.surprisal import Floats, Scored

_SHARE = 0.2  # least share of words that begin with a blank in a vocabulary of pieces


def has_pieces(vocabulary: Vocabulary) -> bool:
    """Return whether a vocabulary consists of pieces: at least a fifth begin with ``▁``."""
    return sum(word.startswith(BLANK) for word in vocabulary.words) >= _SHARE * len(vocabulary)


def word_starts(vocabulary: Vocabulary) -> Tensor:
    """Return ``(V,)`` float64: 1 for ``<eos>`` and pieces that begin a word, else 0."""
    if isinstance(vocabulary, PieceVocabulary):
        return torch.from_numpy(vocabulary.begins.astype(np.float64))
    return torch.tensor([float(_begins(word)) for word in vocabulary.words], dtype=torch.float64)


def check_pieces(scored: Scored, text: str) -> None:
    """Refuse a sentence that was not split into pieces.

    Raises:
        UserError: if nothing in it begins with ``▁``.
    """
    if not any(word.startswith(BLANK) for word in scored.sentence.words):
        raise UserError(
            f"{text}: no word of its first sentence begins with {BLANK}, but the model's words are "
            "pieces; split the text as the model's corpus was, or give --no-sum-pieces"
        )


def _begins(piece: str) -> bool:
    return piece == EOS or piece.startswith(BLANK)


def sum_pieces(scored: Scored, unk_id: int | None) -> Scored:
    """Join scored pieces into scored words.

    A word's surprisal is the corrected sum above. Its entropies are taken over *pieces*, before its
    first piece and after its last. Its rank is the rank of its only piece, or 0 if it has several.

    Args:
        scored: scored pieces, with their ``boundary``.
        unk_id: the id of ``<unk>``. A word gets it if any of its pieces has it; otherwise a word
            gets the id of its first piece.

    Raises:
        ValueError: if ``scored`` has no ``boundary``.
    """
    if scored.boundary is None:
        raise ValueError("scored.boundary: expected (N + 1,), got None: score with starts_V")
    pieces = scored.sentence.words
    firsts = [i for i, piece in enumerate(pieces) if i == 0 or _begins(piece)]
    spans = zip(firsts, [*firsts[1:], len(pieces)], strict=True)
    words = ["".join(pieces[first:last]).replace(BLANK, "") or BLANK for first, last in spans]
    regions = [0 if word == EOS else i for i, word in enumerate(words, start=1)]
    before = scored.boundary[firsts]
    return join_pieces(scored, firsts, words, before, unk_id, regions, tuple(words))


def join_pieces(
    scored: Scored,
    firsts: Sequence[int],
    words: Sequence[str],
    before: Floats,
    unk_id: int | None,
    regions: Sequence[int],
    parts: tuple[str, ...],
) -> Scored:
    """Join scored pieces into words with the sum of :func:`sum_pieces`.

    Args:
        scored: scored pieces, with their ``boundary``.
        firsts: the first piece of each of W words.
        words: the words.
        before: ``(W,)`` the boundary before each word, which was counted with the word before it.
        unk_id: the id of ``<unk>``.
        regions: of the words, as in :class:`tiedlm.scoring.sentence.Sentence`.
        parts: the parts of the line as written, as in :class:`tiedlm.scoring.sentence.Sentence`.
    """
    assert scored.boundary is not None
    pieces, ids = scored.sentence.words, scored.sentence.ids
    lasts = [*firsts[1:], len(pieces)]
    # <eos> counts as the beginning of a word, and nothing follows it.
    after = np.where([word == EOS for word in words], 0.0, scored.boundary[lasts])
    word_ids = ids[firsts].copy()
    if unk_id is not None:
        spans = zip(firsts, lasts, strict=True)
        word_ids[[unk_id in ids[first:last].tolist() for first, last in spans]] = unk_id
    return Scored(
        scored.sentence._replace(
            words=tuple(words), ids=word_ids, regions=tuple(regions), parts=parts
        ),
        np.add.reduceat(scored.surprisal, firsts) - before + after,
        scored.entropy[firsts],
        scored.entropy_after[np.array(lasts) - 1],
        np.where(np.diff([*firsts, len(pieces)]) == 1, scored.rank[firsts], 0),
        None,
    )
