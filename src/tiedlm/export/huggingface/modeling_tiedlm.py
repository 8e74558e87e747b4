"""A tiedlm model for transformers. This file is self-contained and does not need tiedlm.

The forward pass has no dropout. To continue training with variational dropout, use tiedlm itself.
Tensors have the same names as in a tiedlm run.

Each network between the word vectors and the classifier is in a file of its own.

Shape letters: B sequences, T steps, V vocabulary, E embedding width, H hidden width, L layers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import transformers
from torch import Tensor, nn
from transformers import GenerationMixin, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from .configuration_tiedlm import TiedLMConfig
from .network_awd_lstm import Network as AWDNetwork
from .network_elman import Network as ElmanNetwork
from .network_encoder import Network as EncoderNetwork
from .network_gru import Network as GRUNetwork
from .network_lstm import Network as LSTMNetwork
from .network_rhn import Network as RHNNetwork
from .network_transformer import Network as TransformerNetwork

if TYPE_CHECKING:  # so that save_pretrained copies the pipeline, which config.json names
    from .pipeline_tiedlm import TiedLMTextGenerationPipeline  # noqa: F401

_TIES_ARE_NAMED_PAIRS = int(transformers.__version__.split(".")[0]) >= 5

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

    It takes the place of other models' keys and values, so that ``generate`` carries it along.

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


class Decoder(nn.Linear):
    """The word classifier, with a projection before it if it is tied and the widths differ."""

    def __init__(self, config: TiedLMConfig, d_hidden: int) -> None:
        tied = config.tie_word_embeddings
        width = config.d_embed if tied else d_hidden
        super().__init__(width, config.vocab_size, bias=config.decoder_bias)
        projected = tied and config.d_embed != d_hidden
        self.projection = nn.Linear(d_hidden, width, bias=False) if projected else None

    def forward(self, hidden: Tensor) -> Tensor:
        """Return the logits for hidden states."""
        if self.projection is not None:
            hidden = self.projection(hidden)
        return super().forward(hidden)


class TiedLMForCausalLM(PreTrainedModel, GenerationMixin):
    """A word-level language model.

    ``past_key_values`` is a :class:`StateCache`. Padding needs an ``attention_mask``. Masked
    positions are skipped, on either side.
    """

    config_class = TiedLMConfig
    base_model_prefix = ""
    main_input_name = "input_ids"
    _is_stateful = True
    _no_split_modules = [name for kind in NETWORKS.values() for name in kind.unsplittable]  # noqa: RUF012
    _tied_weights_keys = (
        {"decoder.weight": "embedding.weight"} if _TIES_ARE_NAMED_PAIRS else ["decoder.weight"]
    )

    def __init__(self, config: TiedLMConfig) -> None:
        super().__init__(config)
        self.embedding = nn.Embedding(config.vocab_size, config.d_embed)
        network = NETWORKS[config.network](config)
        self.add_module(config.network, network)
        self.decoder = Decoder(config, network.d_hidden)
        self.post_init()

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
        past_key_values: StateCache | None = None,
        cache: StateCache | None = None,
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
        before = past_key_values if cache is None else cache
        if before is None:
            state, length = self.network.initial_state(batch, x_BTE), 0
        else:
            state, length = before.state, before.length
        mask_BT = None
        if attention_mask is not None:
            mask_BT = attention_mask[:, -steps:].bool()
            if mask_BT.all():
                mask_BT = None
        outputs, state = self.network(x_BTE, state, mask_BT)
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
            out[STATE] = StateCache(state, length + steps)
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
        past_key_values: StateCache | None = None,
        cache: StateCache | None = None,
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
