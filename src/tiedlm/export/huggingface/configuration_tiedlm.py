"""Configuration of a tiedlm model. This file is self-contained and needs only transformers."""

from __future__ import annotations

from typing import Any

from transformers import PretrainedConfig


class TiedLMConfig(PretrainedConfig):
    """The shape of a word-level language model, with or without tied embeddings.

    Args:
        vocab_size: number of words.
        network: name of the network between the word vectors and the classifier.
        network_options: its further options, by name.
        d_embed: width of the word vectors.
        d_hidden: width of every layer of the network.
        n_layers: number of its layers.
        hidden_size: width of its last layer; ``d_hidden`` by default.
        decoder_bias: whether the word classifier has a bias.
        tie_word_embeddings: whether the word classifier is the embedding itself.
        initializer_range: new weights are drawn from U(-initializer_range, initializer_range),
            except those that the network starts otherwise.
    """

    model_type = "tiedlm"
    keys_to_ignore_at_inference = ["cache", "past_key_values"]  # noqa: RUF012
    attribute_map = {"num_hidden_layers": "n_layers"}  # noqa: RUF012

    def __init__(
        self,
        vocab_size: int = 10_000,
        network: str = "lstm",
        network_options: dict[str, Any] | None = None,
        d_embed: int = 200,
        d_hidden: int = 200,
        n_layers: int = 2,
        hidden_size: int | None = None,
        decoder_bias: bool = False,
        tie_word_embeddings: bool = True,
        initializer_range: float = 0.1,
        use_cache: bool = True,
        bos_token_id: int | None = None,
        eos_token_id: int | None = None,
        pad_token_id: int | None = None,
        **kwargs: Any,
    ) -> None:
        self.vocab_size = vocab_size
        self.network = network
        self.network_options = network_options or {}
        self.d_embed = d_embed
        self.d_hidden = d_hidden
        self.n_layers = n_layers
        self.hidden_size = d_hidden if hidden_size is None else hidden_size
        self.decoder_bias = decoder_bias
        self.initializer_range = initializer_range
        self.use_cache = use_cache
        super().__init__(
            bos_token_id=bos_token_id,
            eos_token_id=eos_token_id,
            pad_token_id=pad_token_id,
            tie_word_embeddings=tie_word_embeddings,
            **kwargs,
        )
        # Versions of transformers take these as fields, as keywords or not at all.
        self.tie_word_embeddings = tie_word_embeddings
        self.bos_token_id = bos_token_id
        self.eos_token_id = eos_token_id
        self.pad_token_id = pad_token_id
