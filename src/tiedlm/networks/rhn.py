"""The recurrent highway network with variational dropout: the module, and its readable layer.

Shape letters: B streams, T steps, D depth, E input width, H hidden width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from tiedlm.dropout import check_probability
from tiedlm.networks.network import register
from tiedlm.networks.options import option
from tiedlm.networks.recurrent import HiddenState, RecurrentNetwork, masked
from tiedlm.networks.rhn_function import rhn_layer
from tiedlm.tracing import needs_plain_operations

if TYPE_CHECKING:
    from tiedlm.model import ModelConfig

DEEPEST = 1000  # largest depth


@dataclass(frozen=True, kw_only=True)
class RHNOptions:
    """The options of the network ``rhn``."""

    depth: int = option(5, "Number of highway steps within a step.")
    dropout_output: float = option(
        0.0, "Probability of dropping a unit of the output.", training_only=True
    )
    transform_bias: float = option(
        -2.0, "Initial bias of the transform gates; below 0 they begin nearly closed.",
        training_only=True,
    )  # fmt: skip

    def __post_init__(self) -> None:
        if not 1 <= self.depth <= DEEPEST:  # an untrusted config.json could build for hours
            raise ValueError(f"depth: expected 1 to {DEEPEST}, got {self.depth}")
        check_probability("dropout_output", self.dropout_output)


class RHNLayer(nn.Module):
    """The parameters of one layer. Rows come in the order H, T; the first axis of R is the depth.

    Args:
        d_input: width of the inputs.
        d_hidden: width of the state.
        depth: number of highway steps within a step.
        transform_bias: where the bias of the transform gates starts.
    """

    def __init__(self, d_input: int, d_hidden: int, depth: int, transform_bias: float) -> None:
        super().__init__()
        self.transform_bias = transform_bias
        self.weight_ih = nn.Parameter(torch.empty(2 * d_hidden, d_input))
        self.weight_hh = nn.Parameter(torch.empty(depth, 2 * d_hidden, d_hidden))
        self.bias = nn.Parameter(torch.empty(depth, 2 * d_hidden))

    def set_own_start(self) -> None:
        """Set the bias of the transform gates."""
        nn.init.constant_(self.bias[:, self.bias.shape[1] // 2 :], self.transform_bias)


def rhn_layer_reference(
    x_TBE: Tensor,
    s_BH: Tensor,
    weight_ih_GE: Tensor,
    weight_hh_DGH: Tensor,
    bias_DG: Tensor,
    mask_BH: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    r"""Compute one recurrent highway layer step by step, as the equations are written.

    With :math:`s_0 = y_{t-1}` and for :math:`l = 1, \dots, D`:

    .. math::
        h_l &= \tanh([l = 1] W_H x_t + R_{H,l} (m \odot s_{l-1}) + b_{H,l}) \\
        t_l &= \sigma([l = 1] W_T x_t + R_{T,l} (m \odot s_{l-1}) + b_{T,l}) \\
        s_l &= (h_l - s_{l-1}) \odot t_l + s_{l-1}

    and :math:`y_t = s_D`. The carry gate is ``1 - t``. One mask ``m`` serves both gates, all depths
    and all steps.

    Args:
        x_TBE: inputs, already masked.
        s_BH: state before the first step.
        weight_ih_GE: ``W_H`` above ``W_T``; G = 2H.
        weight_hh_DGH: ``R_H`` above ``R_T`` for each depth.
        bias_DG: ``b_H`` beside ``b_T`` for each depth.
        mask_BH: ``m``, or None for no dropout.

    Returns:
        ``(output_TBH, s_BH)``: the states after each step, and the last of them.

    Source: Zilly et al. (2017), equations 7 to 9, with coupled gates.
    """
    outputs = []
    for x_BE in x_TBE:
        for depth, (weight_GH, bias_G) in enumerate(zip(weight_hh_DGH, bias_DG, strict=True)):
            gates_BG = masked(s_BH, mask_BH) @ weight_GH.t() + bias_G
            if depth == 0:
                gates_BG = gates_BG + x_BE @ weight_ih_GE.t()
            h_BH, t_BH = gates_BG.chunk(2, dim=-1)
            s_BH = (h_BH.tanh() - s_BH) * t_BH.sigmoid() + s_BH
        outputs.append(s_BH)
    return torch.stack(outputs), s_BH


@register("rhn", options=RHNOptions, about="a recurrent highway network")
class RHN(RecurrentNetwork):
    """The variational-dropout recurrent highway network (VD-RHN).

    In training mode each window draws one mask for each stream: for the inputs of each layer, for
    its state where it enters the matrix products (the same at all depths and steps), and for the
    output. The paper's network is one layer.

    Args:
        config: widths, number of layers, dropout and :class:`RHNOptions`.
        fast: use the layer with the hand-written gradient; False uses the readable layer. Both give
            the same numbers.

    Source: Zilly et al. (2017), "Recurrent Highway Networks".
    """

    def __init__(self, config: ModelConfig, fast: bool = True) -> None:
        options: RHNOptions = config.network_options
        widths = [config.d_embed] + [config.d_hidden] * (config.n_layers - 1)
        layers: list[nn.Module] = [
            RHNLayer(width, config.d_hidden, options.depth, options.transform_bias)
            for width in widths
        ]
        super().__init__(config, layers)
        self.depth, self.dropout_output, self.fast = options.depth, options.dropout_output, fast

    def run_layer(
        self, layer: nn.Module, x_TBE: Tensor, h_BH: Tensor, mask_BH: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Run the fast layer, or the readable one where a hand-written gradient cannot work."""
        assert isinstance(layer, RHNLayer)
        arguments = (x_TBE, h_BH, layer.weight_ih, layer.weight_hh, layer.bias, mask_BH)
        if self.fast and not needs_plain_operations(x_TBE):
            return rhn_layer(*arguments)
        return rhn_layer_reference(*arguments)

    def forward_time_major(
        self, x_TBE: Tensor, state: HiddenState | None
    ) -> tuple[Tensor, HiddenState]:
        """Read a window of word vectors; see :class:`tiedlm.networks.network.Network`."""
        s_LBH = self.checked_state(x_TBE, state).h
        batch_size, like = x_TBE.shape[1], next(self.parameters())

        def draw(width: int, p: float) -> Tensor | None:
            return self.draw_mask(batch_size, width, p, like)

        out_TB, last = x_TBE, []
        for layer, s_BH in zip(self.layers, s_LBH, strict=True):
            out_TB = masked(out_TB, draw(out_TB.shape[-1], self.dropout_input))
            mask_BH = draw(self.d_hidden, self.dropout_hidden)
            out_TB, s_BH = self.run_layer(layer, out_TB, s_BH, mask_BH)
            last.append(s_BH)
        out_TB = masked(out_TB, draw(self.d_hidden, self.dropout_output))
        return out_TB, HiddenState(torch.stack(last))

    def extra_repr(self) -> str:
        """Describe the module in ``print(model)``."""
        return f"{super().extra_repr()}, depth={self.depth}, dropout_output={self.dropout_output}"
