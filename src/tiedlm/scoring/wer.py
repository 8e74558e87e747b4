"""Count word errors: the least number of substitutions, insertions and deletions."""

from __future__ import annotations

from collections.abc import Sequence


def word_errors(reference: Sequence[str], hypothesis: Sequence[str]) -> int:
    r"""Return the Levenshtein distance between two word sequences.

    .. math::
        d_{i,j} = \min(d_{i-1,j-1} + [r_i \ne h_j],\; d_{i-1,j} + 1,\; d_{i,j-1} + 1)

    Only one row of the table is kept. Source: Levenshtein (1966).
    """
    row = list(range(len(hypothesis) + 1))
    for i, word in enumerate(reference, start=1):
        diagonal, row[0] = row[0], i
        for j, other in enumerate(hypothesis, start=1):
            diagonal, row[j] = (
                row[j],
                min(diagonal + (word != other), row[j] + 1, row[j - 1] + 1),
            )
    return row[-1]
