r"""Measure how large the gradients of a trained model are on its training text.

.. math:: \sqrt{MS_g} = \sqrt{\frac{1}{M} \sum_{m=1}^M (\nabla L_m)^2}

The text is cut into streams of equal length, which are read side by side in M windows of a few
words. L_m is the mean loss of window m, without dropout. The weights do not change. Dynamic
evaluation divides its steps by this root mean square.

Source: Krause et al. (2018), section 4.2; ``gradstat`` in ``dynamiceval.py`` of
benkrause/dynamic-evaluation: 100 streams, 5 words at a time. A batch of another size has gradients
of another size, so these two numbers are part of the method.

Shape letters: B streams, T words of a window.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tiedlm.data.streams import release
from tiedlm.evaluation.unfinished import Unfinished, saved_state, state_tensors
from tiedlm.model import LanguageModel
from tiedlm.networks.state import detach

STREAMS = 100
WINDOW = 5
RELEASE = 32  # windows read between two times that the text's memory is released


def gradient_rms(
    model: LanguageModel,
    ids: npt.NDArray[np.integer],
    *,
    streams: int = STREAMS,
    window: int = WINDOW,
    unfinished: Unfinished | None = None,
    on_tokens: Callable[[int], None] = lambda count: None,
) -> dict[str, Tensor]:
    """Return the root mean square of the gradient of each parameter, by its name.

    Args:
        model: the trained model; its mode is restored, and nothing else changes.
        ids: ``(N,)`` word ids of the training text. Words that do not fill the streams are left
            out.
        streams: streams that are read side by side; fewer for a text with fewer windows.
        window: words of a stream in one gradient.
        unfinished: where the progress is saved, so that an interrupted measurement can continue.
        on_tokens: called with the number of words of each window.

    Raises:
        ValueError: if the text is shorter than a window.
    """
    streams = min(streams, (len(ids) - 1) // window)
    if streams < 1:
        raise ValueError(f"ids: expected more than {window} words, got {len(ids)}")
    length = len(ids) // streams
    text_BN = ids[: streams * length].reshape(streams, length)  # a long text stays on disk
    device = model.embedding.weight.device
    names, parameters = zip(*model.named_parameters(), strict=True)
    squares = [torch.zeros_like(parameter) for parameter in parameters]
    position = windows = 0
    state = None
    saved = None if unfinished is None else unfinished.restore()
    if saved is not None:
        position, windows = saved["place"].tolist()
        squares = [saved[f"square.{name}"].to(device) for name in names]
        state = saved_state(model, saved)
        on_tokens(position * streams)
    with model.mode(training=False), torch.enable_grad():
        while position < length - 1:
            window_ids = np.array(text_BN[:, position : position + window + 1], dtype=np.int64)
            tokens_BT = torch.from_numpy(window_ids).to(device)
            hidden, state = model(tokens_BT[:, :-1], state)
            loss = model.loss(hidden, tokens_BT[:, 1:]).loss
            gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
            for square, gradient in zip(squares, gradients, strict=True):
                if gradient is not None:
                    square.addcmul_(gradient, gradient)
            state = detach(state)
            read = tokens_BT.shape[1] - 1
            position, windows = position + read, windows + 1
            if windows % RELEASE == 0:
                release(ids)
            on_tokens(read * streams)
            if unfinished is not None:
                place = torch.tensor([position, windows])
                now = dict(zip((f"square.{name}" for name in names), squares, strict=True))
                now |= state_tensors(state) | {"place": place}
                unfinished.checkpoint(partial(dict, now))
    if unfinished is not None:
        unfinished.finish()
    return {
        name: (square / windows).sqrt_().detach()
        for name, square in zip(names, squares, strict=True)
    }
