"""Variational dropout: one mask for a whole sequence (Gal and Ghahramani, 2016)."""

from __future__ import annotations

import torch
from torch import Tensor


def check_probability(name: str, p: float) -> None:
    """Check that a drop probability lies in ``[0, 1)``.

    Raises:
        ValueError: naming the argument, the value and the range.
    """
    if not 0.0 <= p < 1.0:
        raise ValueError(f"{name} is the probability of dropping: expected 0 <= p < 1, got {p}")


def variational_mask(shape: tuple[int, ...], p: float, like: Tensor) -> Tensor | None:
    r"""Sample a mask ``m``: ``m_i`` is 0 with probability ``p``, and ``1 / (1 - p)`` otherwise.

    ``E[m_i] = 1``, so evaluation without a mask needs no scaling. The mask is drawn once and used
    at every step of the sequence: the same units are dropped throughout.

    Args:
        shape: shape of the mask, usually ``(B, H)``: one row per example.
        p: probability of dropping a unit, in ``[0, 1)``.
        like: the mask gets the dtype and the device of this tensor.

    Returns:
        The mask, or None when ``p`` is 0.

    Source: Inan et al. (2017), training details; Gal and Ghahramani (2016), section 4.
    """
    check_probability("p", p)
    if p == 0.0:
        return None
    keep = 1.0 - p
    # Not in place, so that vmap(randomness="different") can draw a mask for each example.
    shaped = torch.empty(shape, dtype=like.dtype, device=like.device)
    return torch.bernoulli(shaped, keep).div_(keep)


def stream_mask(
    batch_size: int, width: int, p: float, like: Tensor, rank: int = 0, world: int = 1
) -> Tensor | None:
    """Sample this process's part ``(batch_size, width)`` of a mask for a shared batch.

    Each process draws the masks of all streams, and keeps the masks of its own streams. So a stream
    has the same mask for any number of processes.

    Args:
        batch_size: number of streams in this process.
        width: number of units in a stream.
        p: probability of dropping a unit.
        like: the mask gets the dtype and the device of this tensor.
        rank: number of this process, from 0.
        world: number of processes.

    Returns:
        The mask, or None when ``p`` is 0.
    """
    mask = variational_mask((batch_size * world, width), p, like)
    return None if mask is None else mask[rank * batch_size : (rank + 1) * batch_size]


def word_mask(
    tokens_BT: Tensor, p: float, like: Tensor, rank: int = 0, world: int = 1
) -> Tensor | None:
    """Sample a mask that drops word types: each draw is for all occurrences of a word in a stream.

    In a stream's window, the occurrences of a word are either all dropped or all kept and scaled by
    ``1 / (1 - p)``.

    Args:
        tokens_BT: ``(B, T)`` word ids of the window.
        p: probability of dropping a word type.
        like: the mask gets the dtype and the device of this tensor.
        rank: number of this process, from 0, among those that share a batch.
        world: number of processes.

    Returns:
        The mask ``(B, T)``, or None when ``p`` is 0.

    Source: Gal and Ghahramani (2016), section 4.2.
    """
    batch_size, steps = tokens_BT.shape
    mask_BT = stream_mask(batch_size, steps, p, like, rank, world)
    if mask_BT is None:
        return None
    is_same_BTT = tokens_BT.unsqueeze(2) == tokens_BT.unsqueeze(1)
    first_BT = is_same_BTT.to(torch.uint8).argmax(2)  # the first place where the word stands
    return mask_BT.gather(1, first_BT)
