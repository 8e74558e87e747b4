"""Token ids as a batch of streams, and the windows of back-propagation through time.

B: streams, S: tokens of a stream, T: tokens of a window.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from tiedlm.errors import UserError

Tokens = npt.NDArray[np.int64]


def batch_streams(ids: npt.NDArray[np.integer], batch_size: int) -> Tokens:
    """Cut a text into equally long, contiguous streams.

    Stream b holds tokens b*S to (b+1)*S - 1, where S = len(ids) // batch_size: the last
    len(ids) % batch_size tokens are dropped. That is right for training only; a perplexity drops
    no token (use one stream).

    Args:
        ids: token ids. Shape: (N,).
        batch_size: B, the number of streams.

    Returns:
        A writable copy, int64. Shape: (B, S).

    Raises:
        UserError: if ``batch_size`` is less than 1 or the text too short: a stream needs two
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
    """Walk over the streams in windows that do not overlap.

    Every token but the first of each stream is a target once; the last window may be shorter.

    Args:
        streams_BS: the streams. Shape: (B, S).
        bptt: T, the length of a window.

    Yields:
        Inputs and targets, the inputs one token later. Shapes: (B, T), (B, T).

    Raises:
        UserError: if ``bptt`` is less than 1.
    """
    if bptt < 1:
        raise UserError(f"bptt must be at least 1, not {bptt}")
    last = streams_BS.shape[1] - 1
    for start in range(0, last, bptt):
        end = min(start + bptt, last)
        yield streams_BS[:, start:end], streams_BS[:, start + 1 : end + 1]
