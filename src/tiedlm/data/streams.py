"""Batches of streams of token ids, and windows for back-propagation through time.

Shape letters: B streams, S tokens of a stream, T tokens of a window.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from tiedlm.errors import UserError

Tokens = npt.NDArray[np.int64]


def batch_streams(ids: npt.NDArray[np.integer], batch_size: int) -> Tokens:
    """Cut a text into contiguous streams of equal length.

    Stream b has the tokens b*S to (b+1)*S - 1, where S = len(ids) // batch_size. The last
    len(ids) % batch_size tokens are dropped, so this is for training only. A perplexity must
    include every token: use one stream for it.

    Args:
        ids: token ids. Shape: (N,).
        batch_size: B, the number of streams.

    Returns:
        A writable copy, int64. Shape: (B, S).

    Raises:
        UserError: if ``batch_size`` is less than 1 or the text is too short. A stream needs two
            tokens, one to read and one to predict.
    """
    if batch_size < 1:
        raise UserError(f"batch_size must be at least 1, not {batch_size}")
    length = len(ids) // batch_size
    if length < 2:
        raise UserError(
            f"the text has {len(ids)} tokens, too few for a batch of {batch_size} streams of two "
            f"tokens; use a longer text or a batch size of at most {len(ids) // 2}"
            if len(ids) >= 2
            else f"the text has {len(ids)} tokens; a model needs at least two"
        )
    return np.array(ids[: length * batch_size], dtype=np.int64).reshape(batch_size, length)


def windows(streams_BS: Tokens, bptt: int) -> Iterator[tuple[Tokens, Tokens]]:
    """Yield consecutive windows of the streams, as inputs and targets.

    Every token but the first of each stream is a target exactly once. The last window may be
    shorter.

    Args:
        streams_BS: the streams. Shape: (B, S).
        bptt: T, the length of a window.

    Yields:
        The inputs, and as targets the tokens that follow them. Shapes: (B, T), (B, T).

    Raises:
        UserError: if ``bptt`` is less than 1.
    """
    if bptt < 1:
        raise UserError(f"bptt must be at least 1, not {bptt}")
    last = streams_BS.shape[1] - 1
    for start in range(0, last, bptt):
        end = min(start + bptt, last)
        yield streams_BS[:, start:end], streams_BS[:, start + 1 : end + 1]
