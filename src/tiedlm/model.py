"""The language model: word vectors, a network that reads them, and a word classifier.

Shape letters: B streams, T steps, V vocabulary, H hidden width.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from tiedlm.dropout import check_probability, word_mask
from tiedlm.errors import UserError
from tiedlm.loss import LossOutput, augmented_cross_entropy
from tiedlm.networks import Network, State, builder_of, network_options
from tiedlm.networks.network import (
    Builder,
    check_members,
    check_sizes,
    draw_parameters,
    run_with_raw,
)
from tiedlm.tracing import is_recording
from tiedlm.tying import Decoder, TiedDecoder, count_parameters

if TYPE_CHECKING:
    from tiedlm.data.vocabulary import Vocabulary

MOST_LAYERS = 1000


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The shape of a model.

    Args:
        vocab_size: number of words, V.
        network: name of the network between the word vectors and the classifier: "lstm", or one
            registered with :func:`tiedlm.networks.register`.
        d_embed: width of the word vectors.
        d_hidden: width of every layer of the network.
        n_layers: number of layers of the network.
        tied: reuse the embedding as the classifier (RE).
        dropout_input: probability of dropping a unit of a word vector.
        dropout_hidden: probability of dropping a unit of a hidden state.
        dropout_words: probability of dropping a word type: all its occurrences in a window.
        options: further options of the network, by name; those left out have their defaults.
        decoder_bias: whether the classifier has a bias; None means "only if it is not tied", as in
            the paper.
        init_range: weights start from U(-init_range, init_range). The paper gives no value.

    Raises:
        ValueError: naming the argument that is out of range.
    """

    vocab_size: int
    network: str = "lstm"
    d_embed: int = 200
    d_hidden: int = 200
    n_layers: int = 2
    tied: bool = False
    dropout_input: float = 0.0
    dropout_hidden: float = 0.0
    decoder_bias: bool | None = None
    init_range: float = 0.1
    dropout_words: float = 0.0
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        options = dataclasses.asdict(network_options(self.network, self.options))
        object.__setattr__(self, "options", options)
        sizes = ("vocab_size", "d_embed", "d_hidden", "n_layers")
        check_sizes(**{name: getattr(self, name) for name in sizes})
        if self.n_layers > MOST_LAYERS:  # an untrusted config.json could build for hours
            raise ValueError(f"n_layers: expected at most {MOST_LAYERS}, got {self.n_layers}")
        for name in ("dropout_input", "dropout_hidden", "dropout_words"):
            check_probability(name, getattr(self, name))
        if not 0 < self.init_range < math.inf:
            raise ValueError(f"init_range: expected a positive number, got {self.init_range}")

    @property
    def network_options(self) -> Any:
        """The options of the network, as the dataclass that it was registered with."""
        return network_options(self.network, self.options)

    @property
    def has_decoder_bias(self) -> bool:
        """Whether the classifier has a bias, with None resolved."""
        return not self.tied if self.decoder_bias is None else self.decoder_bias

    def num_params(self) -> int:
        """Count the distinct parameters of the model, without allocating them."""
        return _num_params(self, builder_of(self.network))


@lru_cache(maxsize=256)
def _num_params(config: ModelConfig, _: Builder) -> int:
    """Count the parameters of a model on the meta device, which allocates no memory."""
    with torch.random.fork_rng([]), torch.device("meta"), _NoStart():
        return LanguageModel(config).num_params()


class _NoStart(TorchFunctionMode):
    """Skip drawing parameters, because drawing on the meta device imports PyTorch's compiler."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        if getattr(func, "__module__", "") == "torch.nn.init":
            return given["tensor"] if "tensor" in given else args[0]
        return func(*args, **given)


class LanguageModel(nn.Module):
    """A word-level language model with variational dropout, tied or not.

    Args:
        config: the shape of the model.

    Shape:
        tokens ``(B, T)`` int64; hidden ``(B, T, d_hidden)``; logits ``(B, T, vocab_size)``.

    Example:
        >>> import torch
        >>> model = LanguageModel(ModelConfig(vocab_size=50, d_embed=8, d_hidden=8, tied=True))
        >>> tokens = torch.randint(50, (2, 6))
        >>> hidden, state = model(tokens[:, :-1])
        >>> out = model.loss(hidden, tokens[:, 1:], alpha=13.0)
        >>> out.loss.backward()

    Raises:
        UserError: if the network has the name of another attribute of a model, such as "loss", or
            lacks a member of :class:`tiedlm.networks.Network`.

    Source: Inan et al. (2017).
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.vocabulary: Vocabulary | None = None  # set by `tiedlm.load`
        self.mask_share = (0, 1)
        self.embedding = nn.Embedding(config.vocab_size, config.d_embed)
        if config.network in dir(self):
            raise UserError(
                f"network {config.network!r}: a model has another attribute of this name; register "
                "the network under another name"
            )
        # Saved runs prefix the network's parameters with its name.
        self.add_module(config.network, cast(nn.Module, builder_of(config.network)(config)))
        check_members(config.network, self.network)
        d_hidden = self.network.d_hidden
        self.decoder: Decoder | TiedDecoder = (
            TiedDecoder(self.embedding, d_hidden, config.has_decoder_bias)
            if config.tied
            else Decoder(config.vocab_size, d_hidden, config.has_decoder_bias)
        )
        self.reset_parameters()

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute, and let a tied classifier follow the model's embedding."""
        super().__setattr__(name, value)
        decoder = self._modules.get("decoder")
        if name in ("embedding", "decoder") and isinstance(decoder, TiedDecoder):
            decoder.follow(self.embedding)

    def _replicate_for_data_parallel(self) -> LanguageModel:
        """Return a copy for ``nn.DataParallel``, which then sets its modules one by one.

        Without its classifier, because that is still this model's when the embedding is set.
        """
        replica: LanguageModel = super()._replicate_for_data_parallel()  # type: ignore[no-untyped-call]
        del replica._modules["decoder"]
        return replica

    @property
    def network(self) -> Network[Any]:
        """The network between the word vectors and the classifier."""
        return cast("Network[Any]", self._modules[self.config.network])

    def share_masks(self, rank: int, world: int) -> None:
        """Draw dropout masks as process ``rank`` of ``world`` that share a batch."""
        self.mask_share = (rank, world)
        self.network.share_masks(rank, world)

    def reset_parameters(self) -> None:
        """Draw weights from U(-init_range, init_range) and set biases to zero.

        A network may start some of its parameters elsewhere.
        """
        draw_parameters(self, self.config.init_range)

    def normalize_word_vectors(self) -> None:
        """Scale every word vector to norm 1.

        Source: Inan et al. (2017), Figure 1: the theory check keeps the word vectors at norm 1.
        """
        with torch.no_grad():
            self.embedding.weight.copy_(nn.functional.normalize(self.embedding.weight, dim=1))

    @contextmanager
    def mode(self, *, training: bool) -> Iterator[None]:
        """Put all modules in training or evaluation mode for a block of code."""
        before = {module: module.training for module in self.modules()}
        self.train(training)
        try:
            yield
        finally:
            for module, was_training in before.items():
                module.training = was_training

    def num_params(self) -> int:
        """Count the distinct parameters; the same number as ``config.num_params()``."""
        return count_parameters(self.parameters())

    def initial_state(self, batch_size: int) -> Any:
        """Return the network's state before the first word."""
        return self.network.initial_state(batch_size)

    def forward(self, tokens: Tensor, state: State | None = None) -> tuple[Tensor, Any]:
        """Read a window of words.

        Args:
            tokens: ``(B, T)`` int64 word ids.
            state: the state from an earlier call, or None to start afresh. Detach it between
                windows to truncate back-propagation (:func:`tiedlm.networks.state.detach`).

        Returns:
            ``(hidden, state)``: the hidden states ``(B, T, d_hidden)``, and the state after the
            last word. The state is a NamedTuple of tensors whose axis 1 is the stream.

        Raises:
            ValueError: if ``tokens`` is not two-dimensional or has no steps.
        """
        if tokens.dim() != 2 or tokens.shape[1] == 0:
            raise ValueError(
                f"tokens: expected shape (B, T) of one step or more, got {tuple(tokens.shape)}"
            )
        return self.read(tokens, state, self.embedding.weight)

    def read(
        self, tokens: Tensor, state: State | None, weight: Tensor, *, sparse: bool = False
    ) -> tuple[Tensor, Any]:
        """Read a window of words as :meth:`forward` does, with ``weight`` as the embedding.

        Args:
            tokens: ``(B, T)`` int64 word ids.
            state: as in :meth:`forward`.
            weight: ``(V, E)`` word vectors.
            sparse: allow a sparse gradient of ``weight``, which stores only the rows that occur.
        """
        hidden, _, state = self.read_with_raw(tokens, state, weight, sparse=sparse)
        return hidden, state

    def read_with_raw(
        self, tokens: Tensor, state: State | None, weight: Tensor, *, sparse: bool = False
    ) -> tuple[Tensor, Tensor, Any]:
        """Read a window of words as :meth:`read` does; return ``(hidden, raw, state)``.

        ``raw`` is the network's output before dropout, from ``forward_with_raw``. For a network
        without that method it is ``hidden``.
        """
        sparse = sparse and not weight.is_cuda and not is_recording(weight)
        vectors_TBE = nn.functional.embedding(tokens.t(), weight, sparse=sparse)
        if self.training and self.config.dropout_words > 0:
            mask_BT = word_mask(tokens, self.config.dropout_words, vectors_TBE, *self.mask_share)
            assert mask_BT is not None
            vectors_TBE = vectors_TBE * mask_BT.t().unsqueeze(2)
        hidden_TBH, raw_TBH, state = run_with_raw(self.network, vectors_TBE, state)
        return hidden_TBH.transpose(0, 1), raw_TBH.transpose(0, 1), state

    def loss(
        self,
        hidden: Tensor,
        targets: Tensor,
        alpha: float = 0.0,
        temperature: float = 20.0,
        target_grad: bool = True,
        embedding: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> LossOutput:
        r"""Compute ``J_tot = J + alpha J_aug``, averaged over the targets.

        Args:
            hidden: ``(B, T, d_hidden)`` from :meth:`forward`.
            targets: ``(B, T)`` int64, the next words; -100 is ignored.
            alpha: weight of the augmented loss; 0 is plain cross-entropy.
            temperature: tau.
            target_grad: whether the gradient flows through the soft target into the embedding.
            embedding: ``(V, E')`` word vectors for the soft target, of any width; by default the
                model's own.
            weight: ``(V, E)`` replacement for the embedding, and for the classifier if it is tied;
                by default the model's own.

        Source: Inan et al. (2017), eq. 3.1.
        """
        own = self.embedding.weight if weight is None else weight
        return augmented_cross_entropy(
            self.decoder.project(hidden),
            own if self.config.tied else self.decoder.weight,
            targets,
            bias=self.decoder.bias,
            embedding=own if embedding is None else embedding,
            alpha=alpha,
            temperature=temperature,
            target_grad=target_grad,
        )

    def decode(self, hidden: Tensor) -> Tensor:
        """Return the logits ``(B, T, V)`` of ``hidden``."""
        logits: Tensor = self.decoder(hidden)
        return logits
