"""Tiedlm models for transformers. This file is self-contained and does not need tiedlm.

The forward pass has no dropout. To continue training with variational dropout, use tiedlm itself.
Tensors have the same names as in a tiedlm run.

Shape letters: B sequences, T steps, V vocabulary, E embedding width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import transformers
from torch import Tensor, nn
from transformers import GenerationMixin
from transformers.modeling_outputs import (
    BaseModelOutputWithPast,
    CausalLMOutputWithPast,
    SequenceClassifierOutputWithPast,
)

from .base_tiedlm import STATE, StateCache, TiedLMPreTrainedModel
from .configuration_tiedlm import TiedLMConfig

if TYPE_CHECKING:  # never run: a file is copied with this one if it is named here
    # save_pretrained needs the pipeline, which config.json names. transformers before 4.56 needs
    # every file, since it does not follow the imports of the files that it copies.
    from .network_awd_lstm import Network as AWDNetwork  # noqa: F401
    from .network_elman import Network as ElmanNetwork  # noqa: F401
    from .network_encoder import Network as EncoderNetwork  # noqa: F401
    from .network_gru import Network as GRUNetwork  # noqa: F401
    from .network_lstm import Network as LSTMNetwork  # noqa: F401
    from .network_rhn import Network as RHNNetwork  # noqa: F401
    from .network_transformer import Network as TransformerNetwork  # noqa: F401
    from .pipeline_tiedlm import TiedLMTextGenerationPipeline  # noqa: F401
    from .recurrent_stack import RecurrentStack  # noqa: F401

_TIES_ARE_NAMED_PAIRS = int(transformers.__version__.split(".")[0]) >= 5


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


class TiedLMModel(TiedLMPreTrainedModel):
    """The embedding and the network, without the word classifier.

    Masked positions are skipped. Their hidden states repeat those of the position before, so the
    last position has the state after the last word on either side of padding. In networks with
    attention, the hidden states before the first word of a call are zero.
    """

    _keys_to_ignore_on_load_unexpected = (r"^decoder\.",)

    def __init__(self, config: TiedLMConfig) -> None:
        super().__init__(config)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        past_key_values: StateCache | None = None,
        cache: StateCache | None = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPast | tuple[Any, ...]:
        """Return the hidden states of the last layer.

        Args:
            input_ids: ``(B, T)`` word ids.
            attention_mask: 0 at padding, as in :meth:`TiedLMForCausalLM.forward`.
            past_key_values: the state that an earlier call returned.
            cache: the same, under its name in later versions of transformers.
            inputs_embeds: ``(B, T, E)`` word vectors instead of ``input_ids``.
            use_cache: whether to return the state.
            output_hidden_states: whether to return the word vectors and every layer's outputs.
            return_dict: False returns a tuple.
            **kwargs: ignored.

        Returns:
            ``last_hidden_state (B, T, config.hidden_size)``, and ``past_key_values`` (``cache``).
        """
        before = past_key_values if cache is None else cache
        layers, state = self._read(input_ids, inputs_embeds, attention_mask, before)
        out = BaseModelOutputWithPast(last_hidden_state=layers[-1])
        return self._complete(out, layers, state, use_cache, output_hidden_states, return_dict)


class TiedLMForCausalLM(TiedLMPreTrainedModel, GenerationMixin):
    """A word-level language model.

    ``past_key_values`` is a :class:`StateCache`. Padding needs an ``attention_mask``. Masked
    positions are skipped, on either side.
    """

    _tied_weights_keys = (
        {"decoder.weight": "embedding.weight"} if _TIES_ARE_NAMED_PAIRS else ["decoder.weight"]
    )

    def __init__(self, config: TiedLMConfig) -> None:
        super().__init__(config)
        self.decoder = Decoder(config, self.d_output)
        self.post_init()

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
                0 at padding. Also ``(B, T, T)``, the same with a causal mask.
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
        before = past_key_values if cache is None else cache
        layers, state = self._read(input_ids, inputs_embeds, attention_mask, before)
        is_count = isinstance(logits_to_keep, int)
        kept = slice(-logits_to_keep, None) if is_count else logits_to_keep
        logits = self.decoder(layers[-1][:, kept])
        loss = None
        if labels is not None:
            loss = self.loss_function(
                logits=logits, labels=labels, vocab_size=self.config.vocab_size, **kwargs
            )
        out = CausalLMOutputWithPast(loss=loss, logits=logits)
        return self._complete(out, layers, state, use_cache, output_hidden_states, return_dict)

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


class TiedLMForSequenceClassification(TiedLMPreTrainedModel):
    """A linear classifier of whole texts, which reads the state after the last word.

    The classifier (``score``) is new and needs fine-tuning. Padding needs an ``attention_mask``.
    """

    _keys_to_ignore_on_load_unexpected = (r"^decoder\.",)

    def __init__(self, config: TiedLMConfig) -> None:
        super().__init__(config)
        self.num_labels = config.num_labels
        self.score = nn.Linear(self.d_output, config.num_labels, bias=False)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        **kwargs: Any,
    ) -> SequenceClassifierOutputWithPast | tuple[Any, ...]:
        """Return the logits of the classes, and the loss if there are labels.

        Args:
            input_ids: ``(B, T)`` word ids.
            attention_mask: 0 at padding, as in :meth:`TiedLMForCausalLM.forward`.
            inputs_embeds: ``(B, T, E)`` word vectors instead of ``input_ids``.
            labels: ``(B,)`` classes; numbers for a regression, as ``config.problem_type`` says.
            output_hidden_states: whether to return the word vectors and every layer's outputs.
            return_dict: False returns a tuple.
            **kwargs: arguments of the loss.

        Returns:
            ``loss`` (with ``labels``) and ``logits (B, config.num_labels)``.
        """
        layers, state = self._read(input_ids, inputs_embeds, attention_mask, None)
        logits = self.score(layers[-1][:, -1])
        loss = None
        if labels is not None:
            loss = self.loss_function(
                logits=logits, labels=labels, pooled_logits=logits, config=self.config, **kwargs
            )
        out = SequenceClassifierOutputWithPast(loss=loss, logits=logits)
        return self._complete(out, layers, state, False, output_hidden_states, return_dict)


# So that save_pretrained of every version of transformers copies the code.
TiedLMModel.register_for_auto_class("AutoModel")
TiedLMForCausalLM.register_for_auto_class("AutoModelForCausalLM")
TiedLMForSequenceClassification.register_for_auto_class("AutoModelForSequenceClassification")
