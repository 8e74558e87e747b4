"""A layer of the Transformer: attention with a memory, and a gated feed-forward layer.

Shape letters: T steps, B streams, H hidden width, M words of memory, S = M + T words that a window
can see, A heads, D = H / A width of a head, F width between the halves of a feed-forward layer.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from tiedlm.networks.attention import (
    LayerMasks,
    banded_attention,
    heads,
    masked,
    product,
    rms_norm,
    rotate,
)


class TransformerLayer(nn.Module):
    r"""One layer: attention and a gated feed-forward layer, each added to the hidden state.

    .. math::
        x &\leftarrow x + m_a \odot W_o \, \mathrm{attention}(W_{qkv} \, \mathrm{norm}(x)) \\
        x &\leftarrow x + m_f \odot W_d \, (m_i \odot \mathrm{silu}(W_g n) \odot W_u n),
        \quad n = \mathrm{norm}(x)

    where :math:`\mathrm{norm}(x) = g \odot x / \sqrt{\mathrm{mean}(x^2) + \epsilon}`.

    Args:
        d_hidden: H.
        d_inner: F.
        n_heads: A.

    Source: Zhang and Sennrich (2019), RMSNorm; Shazeer (2020), SwiGLU; the order is Mistral's.
    """

    def __init__(self, d_hidden: int, d_inner: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.attention_norm = nn.Parameter(torch.empty(d_hidden))
        self.weight_qkv = nn.Parameter(torch.empty(3 * d_hidden, d_hidden))
        self.weight_out = nn.Parameter(torch.empty(d_hidden, d_hidden))
        self.feedforward_norm = nn.Parameter(torch.empty(d_hidden))
        self.weight_gate_up = nn.Parameter(torch.empty(2 * d_inner, d_hidden))
        self.weight_down = nn.Parameter(torch.empty(d_hidden, d_inner))

    def forward(
        self,
        x_BTH: Tensor,
        memory: tuple[Tensor, Tensor],
        known_BS: Tensor,
        turns: tuple[Tensor, Tensor],
        masks: LayerMasks,
        dtype: torch.dtype,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Run over a window.

        Args:
            x_BTH: hidden states.
            memory: keys and values ``(B, M, H)`` of the words before.
            known_BS: 1 for the words of the memory and of the window, 0 for empty places of the
                memory.
            turns: cosines and sines ``(S, D)``.
            masks: dropout masks.
            dtype: type of the operands of products.

        Returns:
            The new hidden states, and the keys and values ``(B, M, H)`` of the last M words.
        """
        normed_BTH = rms_norm(x_BTH, self.attention_norm)
        query_BTH, key_BTH, value_BTH = product(normed_BTH, self.weight_qkv, dtype).chunk(3, -1)
        key_BSH = torch.cat((memory[0].to(key_BTH.dtype), key_BTH), dim=1)
        value_BSH = torch.cat((memory[1].to(value_BTH.dtype), value_BTH), dim=1)
        size = memory[0].shape[1]
        cosines, sines = turns
        attended_BATD = banded_attention(
            rotate(heads(query_BTH, self.n_heads), cosines[size:], sines[size:]).to(dtype),
            rotate(heads(key_BSH, self.n_heads), cosines, sines).to(dtype),
            heads(value_BSH, self.n_heads).to(dtype),
            known_BS,
        )
        attended_BTH = attended_BATD.transpose(1, 2).flatten(2).to(x_BTH.dtype)
        added_BTH = product(attended_BTH, self.weight_out, dtype)
        x_BTH = x_BTH + masked(added_BTH, masks.attention)

        normed_BTH = rms_norm(x_BTH, self.feedforward_norm)
        gate_BTF, up_BTF = product(normed_BTH, self.weight_gate_up, dtype).chunk(2, -1)
        inner_BTF = masked(functional.silu(gate_BTF) * up_BTF, masks.inner)
        added_BTH = product(inner_BTF, self.weight_down, dtype)
        x_BTH = x_BTH + masked(added_BTH, masks.feedforward)
        return x_BTH, key_BSH[:, -size:], value_BSH[:, -size:]
