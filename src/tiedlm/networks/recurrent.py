"""The base class of recurrent networks whose state is one hidden vector for each layer.

Shape letters: B streams, T steps, E input width, H hidden width, L layers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from tiedlm.dropout import stream_mask
from tiedlm.networks.network import check_type

if TYPE_CHECKING:
    from tiedlm.model import ModelConfig


class HiddenState(NamedTuple):
    """The hidden states ``(L, B, H)`` after the last step, before any mask."""

    h: Tensor


class RecurrentNetwork(nn.Module):
    """A stack of recurrent layers; a subclass defines a layer's parameters and equations.

    In training mode each window draws, for every stream, one mask for the inputs and one for the
    hidden states of each layer. A layer's mask is on ``h`` as the recurrent input of the layer, and
    on ``h`` as the input of the next layer or the classifier.

    Args:
        config: widths, number of layers and dropout.
        layers: the parameters of each layer.
    """

    forgets = True  # two states become equal, to rounding, after enough of the same words

    def __init__(self, config: ModelConfig, layers: list[nn.Module]) -> None:
        super().__init__()
        self.d_input, self.d_hidden, self.n_layers = config.d_embed, config.d_hidden, len(layers)
        self.dropout_input, self.dropout_hidden = config.dropout_input, config.dropout_hidden
        self.layers = nn.ModuleList(layers)
        self.mask_share = (0, 1)

    def run_layer(
        self, layer: nn.Module, x_TBE: Tensor, h_BH: Tensor, mask_BH: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return the masked outputs ``(T, B, H)`` of a layer, and its unmasked last ``h``."""
        raise NotImplementedError

    def initial_state(self, batch_size: int) -> HiddenState:
        """Return the all-zero state for ``batch_size`` streams."""
        like = next(self.parameters())
        return HiddenState(like.new_zeros(self.n_layers, batch_size, self.d_hidden))

    def share_masks(self, rank: int, world: int) -> None:
        """Draw masks as process ``rank`` of ``world`` that share a batch."""
        self.mask_share = (rank, world)

    def draw_mask(self, batch_size: int, width: int, p: float, like: Tensor) -> Tensor | None:
        """Draw a mask for a window; None in evaluation mode, and where p is 0."""
        if not self.training:
            return None
        return stream_mask(batch_size, width, p, like, *self.mask_share)

    def checked_state(self, x_TBE: Tensor, state: HiddenState | None) -> HiddenState:
        """Check x and the state before a window; return the state, or the initial one for None.

        Raises:
            ValueError: for a wrong shape of ``x`` or ``state``, or a wrong type of ``x``.
        """
        if x_TBE.dim() != 3 or x_TBE.shape[-1] != self.d_input or not len(x_TBE):
            raise ValueError(
                f"x: expected (T, B, {self.d_input}) of one step or more, got {tuple(x_TBE.shape)}"
            )
        check_type(x_TBE, next(self.parameters()).dtype)
        if state is None:
            return self.initial_state(x_TBE.shape[1])
        expected = (self.n_layers, x_TBE.shape[1], self.d_hidden)
        if tuple(state.h.shape) != expected:
            raise ValueError(
                f"state.h: expected (n_layers, B, d_hidden) = {expected}, "
                f"got {tuple(state.h.shape)}"
            )
        return state

    def forward_time_major(
        self, x_TBE: Tensor, state: HiddenState | None
    ) -> tuple[Tensor, HiddenState]:
        """Read a window of word vectors; see :class:`tiedlm.networks.network.Network`."""
        h_LBH = self.checked_state(x_TBE, state).h
        batch_size, like = x_TBE.shape[1], next(self.parameters())
        input_mask_BE = self.draw_mask(batch_size, self.d_input, self.dropout_input, like)
        out_TB = x_TBE if input_mask_BE is None else x_TBE * input_mask_BE
        hidden_masks = [
            self.draw_mask(batch_size, self.d_hidden, self.dropout_hidden, like)
            for _ in range(self.n_layers)
        ]
        last = []
        for layer, h_BH, mask_BH in zip(self.layers, h_LBH, hidden_masks, strict=True):
            out_TB, h_BH = self.run_layer(layer, out_TB, h_BH, mask_BH)
            last.append(h_BH)
        # Under autocast the readable Elman layer computes h in a lower type.
        return out_TB, HiddenState(torch.stack(last).to(like.dtype))

    def extra_repr(self) -> str:
        """Describe the module in ``print(model)``."""
        return (
            f"{self.d_input}, {self.d_hidden}, n_layers={self.n_layers}, "
            f"dropout_input={self.dropout_input}, dropout_hidden={self.dropout_hidden}"
        )


def masked(x: Tensor, mask: Tensor | None) -> Tensor:
    """Return a tensor times its mask; None is a mask of ones."""
    return x if mask is None else x * mask
