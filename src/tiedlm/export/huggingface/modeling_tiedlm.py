"""A tiedlm model for transformers. This file is self-contained and does not need tiedlm.

The forward pass has no dropout. To continue training with variational dropout, use tiedlm itself.
Tensors have the same names as in a tiedlm run.

Shape letters: B sequences, T steps, V vocabulary, E embedding width, H hidden width, L layers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import transformers
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from transformers import GenerationMixin, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from .configuration_tiedlm import TiedLMConfig

if TYPE_CHECKING:  # so that save_pretrained copies the pipeline, which config.json names
    from .pipeline_tiedlm import TiedLMTextGenerationPipeline  # noqa: F401

_TIES_ARE_NAMED_PAIRS = int(transformers.__version__.split(".")[0]) >= 5

# The name of a model's returned state, which version 5 of transformers changed.
STATE = next(
    name
    for name in ("cache", "past_key_values")
    if name in CausalLMOutputWithPast.__dataclass_fields__
)


class LSTMCache:
    """The state of each layer, and the number of positions read so far.

    It takes the place of other models' keys and values, so that ``generate`` carries it along.

    Args:
        h: hidden states, ``(L, B, H)``.
        c: cell states, ``(L, B, H)``.
        length: number of positions read, masked ones included.
    """

    is_compileable = False
    is_linear = (True,)  # transformers' name for a state that does not grow

    def __init__(self, h: Tensor, c: Tensor, length: int) -> None:
        self.h = h
        self.c = c
        self.length = length

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Return the number of positions read."""
        return self.length

    def reorder_cache(self, beam_idx: Tensor) -> LSTMCache:
        """Reorder the sequences for beam search."""
        self.h = self.h.index_select(1, beam_idx.to(self.h.device))
        self.c = self.c.index_select(1, beam_idx.to(self.c.device))
        return self

    batch_select_indices = reorder_cache

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat the state of every sequence ``repeats`` times."""
        self.h = self.h.repeat_interleave(repeats, dim=1)
        self.c = self.c.repeat_interleave(repeats, dim=1)


class LSTMLayer(nn.Module):
    """One LSTM layer, with weight rows in the order input, forget, cell, output."""

    def __init__(self, d_input: int, d_hidden: int) -> None:
        super().__init__()
        self.weight_ih = nn.Parameter(torch.empty(4 * d_hidden, d_input))
        self.weight_hh = nn.Parameter(torch.empty(4 * d_hidden, d_hidden))
        self.bias = nn.Parameter(torch.empty(4 * d_hidden))

    def forward(self, x_BTE: Tensor, h_BH: Tensor, c_BH: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the outputs for a sequence and the state after it."""
        weights = [self.weight_ih, self.weight_hh, self.bias, torch.zeros_like(self.bias)]
        state = (h_BH[None].contiguous(), c_BH[None].contiguous())
        out_BTH, h_1BH, c_1BH = torch.lstm(
            x_BTE,
            state,
            weights,
            has_biases=True,
            num_layers=1,
            dropout=0.0,
            train=self.training,
            bidirectional=False,
            batch_first=True,
        )
        return out_BTH, h_1BH[0], c_1BH[0]

    def forward_masked(
        self, x_BTE: Tensor, h_BH: Tensor, c_BH: Tensor, lengths_B: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the same for the first ``lengths_B`` steps (at least 1) of each sequence."""
        packed = pack_padded_sequence(x_BTE, lengths_B.cpu(), True, enforce_sorted=False)
        weights = [self.weight_ih, self.weight_hh, self.bias, torch.zeros_like(self.bias)]
        order = packed.sorted_indices
        data, h_1BH, c_1BH = torch.lstm(
            packed.data,
            packed.batch_sizes,
            (h_BH[order][None], c_BH[order][None]),
            weights,
            has_biases=True,
            num_layers=1,
            dropout=0.0,
            train=self.training,
            bidirectional=False,
        )
        out_BTH, _ = pad_packed_sequence(
            packed._replace(data=data), batch_first=True, total_length=x_BTE.shape[1]
        )
        back = packed.unsorted_indices
        return out_BTH, h_1BH[0][back], c_1BH[0][back]


class LSTM(nn.Module):
    """A stack of LSTM layers."""

    def __init__(self, d_input: int, d_hidden: int, n_layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            LSTMLayer(d_input if index == 0 else d_hidden, d_hidden) for index in range(n_layers)
        )

    def forward(
        self, x_BTE: Tensor, h_LBH: Tensor, c_LBH: Tensor, mask_BT: Tensor | None
    ) -> tuple[list[Tensor], Tensor, Tensor]:
        """Return the outputs of every layer for a sequence, and the state after it.

        A masked position is skipped, and its output repeats the previous one.

        Args:
            x_BTE: word vectors.
            h_LBH: hidden states before the first step.
            c_LBH: cell states before the first step.
            mask_BT: true at the positions to read; None reads all.

        Returns:
            The outputs of each layer, and the states after the last step.
        """
        if mask_BT is not None:
            first = mask_BT.to(torch.int8).argsort(dim=1, descending=True, stable=True)
            x_BTE = x_BTE.gather(1, first[..., None].expand_as(x_BTE))
            any_B1 = mask_BT.any(dim=1)[:, None]
            lengths_B = mask_BT.sum(dim=1).clamp(min=1)
            latest_BT1 = (mask_BT.cumsum(dim=1) - 1).clamp(min=0).unsqueeze(2)
        outputs, last_h, last_c = [], [], []
        out_BT = x_BTE
        for layer, h_BH, c_BH in zip(self.layers, h_LBH, c_LBH, strict=True):
            assert isinstance(layer, LSTMLayer)
            if mask_BT is None:
                out_BT, new_h_BH, new_c_BH = layer(out_BT, h_BH, c_BH)
                outputs.append(out_BT)
            else:
                out_BT, new_h_BH, new_c_BH = layer.forward_masked(out_BT, h_BH, c_BH, lengths_B)
                new_h_BH = torch.where(any_B1, new_h_BH, h_BH)
                new_c_BH = torch.where(any_B1, new_c_BH, c_BH)
                outputs.append(out_BT.gather(1, latest_BT1.expand_as(out_BT)))
            last_h.append(new_h_BH)
            last_c.append(new_c_BH)
        return outputs, torch.stack(last_h), torch.stack(last_c)


class Decoder(nn.Linear):
    """The word classifier, with a projection before it if it is tied and the widths differ."""

    def __init__(self, config: TiedLMConfig) -> None:
        tied = config.tie_word_embeddings
        width = config.d_embed if tied else config.d_hidden
        super().__init__(width, config.vocab_size, bias=config.decoder_bias)
        projected = tied and config.d_embed != config.d_hidden
        self.projection = nn.Linear(config.d_hidden, width, bias=False) if projected else None

    def forward(self, hidden: Tensor) -> Tensor:
        """Return the logits for hidden states."""
        if self.projection is not None:
            hidden = self.projection(hidden)
        return super().forward(hidden)


class TiedLMForCausalLM(PreTrainedModel, GenerationMixin):
    """A word-level LSTM language model.

    ``past_key_values`` is an :class:`LSTMCache`. Padding needs an ``attention_mask``. Masked
    positions are skipped, on either side.
    """

    config_class = TiedLMConfig
    base_model_prefix = ""
    main_input_name = "input_ids"
    _is_stateful = True
    _no_split_modules = ["LSTMLayer"]  # noqa: RUF012
    _tied_weights_keys = (
        {"decoder.weight": "embedding.weight"} if _TIES_ARE_NAMED_PAIRS else ["decoder.weight"]
    )

    def __init__(self, config: TiedLMConfig) -> None:
        super().__init__(config)
        self.embedding = nn.Embedding(config.vocab_size, config.d_embed)
        self.lstm = LSTM(config.d_embed, config.d_hidden, config.n_layers)
        self.decoder = Decoder(config)
        self.post_init()

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        return False

    def _init_weights(self, module: nn.Module) -> None:
        bound = self.config.initializer_range
        for name, parameter in module.named_parameters(recurse=False):
            if name == "bias":
                nn.init.zeros_(parameter)
            else:
                nn.init.uniform_(parameter, -bound, bound)

    def get_input_embeddings(self) -> nn.Embedding:
        """Return the embedding."""
        return self.embedding

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        """Replace the embedding."""
        self.embedding = value

    def get_output_embeddings(self) -> Decoder:
        """Return the word classifier."""
        return self.decoder

    def set_output_embeddings(self, new_embeddings: nn.Linear) -> None:
        """Replace the word classifier's weight and bias; its projection stays."""
        self.decoder.weight = new_embeddings.weight
        self.decoder.bias = new_embeddings.bias
        self.decoder.out_features = new_embeddings.out_features

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        past_key_values: LSTMCache | None = None,
        cache: LSTMCache | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast | tuple[Any, ...]:
        """Return the logits of the next words, and the loss if there are labels.

        Args:
            input_ids: ``(B, T)`` word ids.
            attention_mask: ``(B, T)``, or ``(B, positions read + T)`` with ``past_key_values``;
                0 at padding.
            past_key_values: the state that an earlier call returned.
            cache: the same, under its name in later versions of transformers.
            inputs_embeds: ``(B, T, E)`` word vectors instead of ``input_ids``.
            labels: ``(B, T)``, equal to ``input_ids`` or -100 to ignore; they are shifted here.
            use_cache: whether to return the state.
            output_hidden_states: whether to return the word vectors and every layer's outputs.
            return_dict: False returns a tuple.
            logits_to_keep: number of last positions to return logits for, 0 for all; or a 1-D
                tensor of positions.
            **kwargs: arguments of the loss, such as ``num_items_in_batch`` from the Trainer.

        Returns:
            ``loss`` (with ``labels``), ``logits (B, T, V)``, and ``past_key_values`` (``cache``).
        """
        x_BTE = self.embedding(input_ids) if inputs_embeds is None else inputs_embeds
        batch, steps = x_BTE.shape[:2]
        state = past_key_values if cache is None else cache
        if state is None:
            h_LBH = x_BTE.new_zeros(self.config.n_layers, batch, self.config.d_hidden)
            c_LBH, length = h_LBH, 0
        else:
            h_LBH, c_LBH, length = state.h, state.c, state.length
        mask_BT = None
        if attention_mask is not None:
            mask_BT = attention_mask[:, -steps:].bool()
            if mask_BT.all():
                mask_BT = None
        outputs, h_LBH, c_LBH = self.lstm(x_BTE, h_LBH, c_LBH, mask_BT)
        is_count = isinstance(logits_to_keep, int)
        kept = slice(-logits_to_keep, None) if is_count else logits_to_keep
        logits = self.decoder(outputs[-1][:, kept])
        loss = None
        if labels is not None:
            loss = self.loss_function(
                logits=logits, labels=labels, vocab_size=self.config.vocab_size, **kwargs
            )
        out = CausalLMOutputWithPast(loss=loss, logits=logits)
        if use_cache is None:
            use_cache = self.config.use_cache
        if use_cache:
            out[STATE] = LSTMCache(h_LBH, c_LBH, length + steps)
        if (
            self.config.output_hidden_states
            if output_hidden_states is None
            else output_hidden_states
        ):
            out.hidden_states = (x_BTE, *outputs)
        return out.to_tuple() if return_dict is False else out

    def prepare_inputs_for_generation(
        self,
        input_ids: Tensor,
        past_key_values: LSTMCache | None = None,
        cache: LSTMCache | None = None,
        attention_mask: Tensor | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Return the inputs of the next forward pass, without the positions already read."""
        state = past_key_values if cache is None else cache
        unread = 0 if state is None else state.length
        logits_to_keep = kwargs.get("logits_to_keep")
        return {
            "input_ids": input_ids[:, unread:],
            STATE: state,
            "attention_mask": attention_mask,
            "use_cache": kwargs.get("use_cache"),
            "logits_to_keep": 0 if logits_to_keep is None else logits_to_keep,
        }
