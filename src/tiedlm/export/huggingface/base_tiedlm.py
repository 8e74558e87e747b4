"""The base of tiedlm's models for transformers: embedding, network and carried state.

This file does not need tiedlm. Each network between the word vectors and the classifier has a file
of its own.

Shape letters: B sequences, T steps, E embedding width, L layers.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast, ModelOutput

from .configuration_tiedlm import TiedLMConfig
from .network_awd_lstm import Network as AWDNetwork
from .network_elman import Network as ElmanNetwork
from .network_encoder import Network as EncoderNetwork
from .network_gru import Network as GRUNetwork
from .network_lstm import Network as LSTMNetwork
from .network_rhn import Network as RHNNetwork
from .network_transformer import Network as TransformerNetwork

NETWORKS: dict[str, Any] = {
    "lstm": LSTMNetwork,
    "awd_lstm": AWDNetwork,
    "gru": GRUNetwork,
    "elman": ElmanNetwork,
    "rhn": RHNNetwork,
    "transformer": TransformerNetwork,
    "encoder": EncoderNetwork,
}

# The name of a model's returned state, which version 5 of transformers changed.
STATE = next(
    name
    for name in ("cache", "past_key_values")
    if name in CausalLMOutputWithPast.__dataclass_fields__
)


class StateCache:
    """The state of the network, and the number of positions read so far.

    ``generate`` carries it from word to word, as it carries the keys and values of other models.

    Args:
        state: a NamedTuple of tensors whose axis 1 is the sequence.
        length: number of positions read, masked ones included.
    """

    is_compileable = False
    is_linear = (True,)  # transformers' name for a state that does not grow

    def __init__(self, state: Any, length: int) -> None:
        self.state = state
        self.length = length

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Return the number of positions read."""
        return self.length

    def reorder_cache(self, beam_idx: Tensor) -> StateCache:
        """Reorder the sequences for beam search."""
        self.state = type(self.state)(
            *(part.index_select(1, beam_idx.to(part.device)) for part in self.state)
        )
        return self

    batch_select_indices = reorder_cache

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat the state of every sequence ``repeats`` times."""
        self.state = type(self.state)(
            *(part.repeat_interleave(repeats, dim=1) for part in self.state)
        )


def words_of_mask(mask: Tensor, steps: int) -> Tensor:
    """Return which of the last ``steps`` positions are words, ``(B, T)``.

    Args:
        mask: ``(B, T)`` or longer; or ``(B, T, T)``, that times a causal mask.
        steps: T.

    Raises:
        ValueError: if a mask of three axes is not causal.
    """
    if mask.dim() != 3:
        return mask[:, -steps:].bool()
    is_word_BT = mask.diagonal(dim1=1, dim2=2).bool()
    if not torch.equal(mask.bool(), is_word_BT[:, None].expand_as(mask).tril()):
        raise ValueError(
            "attention_mask (B, T, T) must be a padding mask (B, T) times a causal mask: these "
            "models read from left to right"
        )
    return is_word_BT


class TiedLMPreTrainedModel(PreTrainedModel):
    """What all models of this file share: the embedding and the network.

    A subclass's tensors have the same names, so each class loads what another has saved.
    """

    config_class = TiedLMConfig
    base_model_prefix = ""
    main_input_name = "input_ids"
    _is_stateful = True
    _no_split_modules = [name for kind in NETWORKS.values() for name in kind.unsplittable]  # noqa: RUF012

    def __init__(self, config: TiedLMConfig) -> None:
        super().__init__(config)
        self.embedding = nn.Embedding(config.vocab_size, config.d_embed)
        network = NETWORKS[config.network](config)
        self.add_module(config.network, network)
        self.d_output = network.d_hidden

    @property
    def network(self) -> Any:
        """The network between the word vectors and the classifier."""
        return self._modules[self.config.network]

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        return False

    def _init_weights(self, module: nn.Module) -> None:
        bound = self.config.initializer_range
        for name, parameter in module.named_parameters(recurse=False):
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif name.endswith("norm") or isinstance(module, nn.LayerNorm):
                nn.init.ones_(parameter)
            else:
                nn.init.uniform_(parameter, -bound, bound)
        set_own_start = getattr(module, "set_own_start", None)
        # A parameter that was loaded is marked, and nn.init leaves it alone.
        if set_own_start is not None and not any(
            getattr(parameter, "_is_hf_initialized", False) for parameter in module.parameters()
        ):
            set_own_start()

    def get_input_embeddings(self) -> nn.Embedding:
        """Return the embedding."""
        return self.embedding

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        """Replace the embedding."""
        self.embedding = value

    def _read(
        self,
        input_ids: Tensor | None,
        inputs_embeds: Tensor | None,
        attention_mask: Tensor | None,
        before: StateCache | None,
    ) -> tuple[tuple[Tensor, ...], StateCache]:
        """Return the word vectors, the outputs of every layer, and the state after the words."""
        x_BTE = self.embedding(input_ids) if inputs_embeds is None else inputs_embeds
        batch, steps = x_BTE.shape[:2]
        if before is None:
            state, length = self.network.initial_state(batch, x_BTE), 0
        else:
            state, length = before.state, before.length
        mask_BT = None
        if attention_mask is not None:
            mask_BT = words_of_mask(attention_mask, steps)
            if mask_BT.all():
                mask_BT = None
        outputs, state = self.network(x_BTE, state, mask_BT)
        return (x_BTE, *outputs), StateCache(state, length + steps)

    def _complete(
        self,
        out: ModelOutput,
        layers: tuple[Tensor, ...],
        state: StateCache,
        use_cache: bool | None,
        output_hidden_states: bool | None,
        return_dict: bool | None,
    ) -> Any:
        """Add the state and the hidden states to an output if they are wanted, and return it."""
        if self.config.use_cache if use_cache is None else use_cache:
            out[STATE] = state
        if (
            self.config.output_hidden_states
            if output_hidden_states is None
            else output_hidden_states
        ):
            out.hidden_states = layers
        return out.to_tuple() if return_dict is False else out
