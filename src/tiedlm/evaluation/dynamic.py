r"""Adapt a model to a text while it is evaluated (dynamic evaluation).

The text is cut into segments of a few words. The model first predicts a segment. Then its weights
take one step on the segment's mean loss L. So a word is predicted by weights that have learnt from
earlier words only. With the rule "rms", the step of all weights :math:`\theta` is:

.. math::
    \theta \leftarrow \theta
        - \eta \, \frac{\nabla L}{\sqrt{MS_g} + \epsilon}
        + \min\left(\lambda \frac{\sqrt{MS_g}}{avg(\sqrt{MS_g})}, 1\right) (\theta_g - \theta)

:math:`\theta_g` are the trained weights and :math:`MS_g` is the mean square of their gradients on
the training text (:mod:`tiedlm.evaluation.gradients`). For the average, first each parameter tensor
is averaged, then the results. Weights with large gradients return faster to :math:`\theta_g`. With
the rule "sgd" the step is:

.. math:: \theta \leftarrow \theta - \eta \, \nabla L + \lambda (\theta_g - \theta)

Source: Krause et al. (2018), "Dynamic Evaluation of Neural Sequence Models", sections 4 and 5. The
average and the bound of the decay are as in ``dynamiceval.py`` of benkrause/dynamic-evaluation.

Shape letters: T words of a segment, V vocabulary, H width that the classifier reads.
"""

from __future__ import annotations

import copy
import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from tiedlm.errors import UserError
from tiedlm.evaluation.unfinished import saved_state, state_tensors
from tiedlm.evaluation.update import Update
from tiedlm.model import LanguageModel
from tiedlm.networks.by_hand import LearnsByHand
from tiedlm.networks.narrow import few_rows
from tiedlm.networks.network import run_with_raw
from tiedlm.networks.state import State, detach
from tiedlm.tying import TiedDecoder

Rule = Literal["rms", "sgd"]

WATCHED = 200  # words over which the loss is averaged to detect divergence
FEWEST = 50  # a mean over fewer words does not show divergence
# Divergence means that the mean loss is this far above the loss of guessing, in nats per word.
# Without a margin, text unlike the training text would count as divergence, too.
MARGIN = 3.0
LARGEST = 3e38  # a 32-bit float holds it


@dataclass(frozen=True, kw_only=True)
class Dynamic:
    """The settings of dynamic evaluation.

    The defaults are those published with the method for an AWD-LSTM on Penn Treebank.

    Args:
        rule: "rms" or "sgd".
        lr: the learning rate, eta.
        decay: lambda, the rate at which the weights return to the trained weights; with 0 they
            never do.
        epsilon: added to the root mean square of the gradients; "sgd" does not use it.
        segment: words of a segment.

    Raises:
        ValueError: naming the setting that is out of range.

    Source: benkrause/dynamic-evaluation, the defaults of ``dynamiceval.py``.
    """

    rule: Rule = "rms"
    lr: float = 5e-5
    decay: float = 0.002
    epsilon: float = 2e-5
    segment: int = 5

    def __post_init__(self) -> None:
        if self.rule not in ("rms", "sgd"):
            raise ValueError(f"rule: expected 'rms' or 'sgd', got {self.rule!r}")
        if not 0 < self.lr <= LARGEST:
            raise ValueError(f"lr: expected a positive number, got {self.lr}")
        if not 0 <= self.decay <= 1:
            raise ValueError(f"decay: expected 0 <= decay <= 1, got {self.decay}")
        if not 0 < self.epsilon < math.inf:
            raise ValueError(f"epsilon: expected a positive number, got {self.epsilon}")
        if self.segment < 1:
            raise ValueError(f"segment: expected at least 1, got {self.segment}")


SGD = Dynamic(rule="sgd", lr=0.1, decay=0.0)  # no published value is known


def defaults(rule: Rule) -> Dynamic:
    """Return the settings of a rule before any tuning."""
    return SGD if rule == "sgd" else Dynamic()


class Diverged(UserError):
    """The adapted weights no longer predict; the learning rate is too large."""


class Segment(NamedTuple):
    """The predictions for a segment, made before the weights learnt from it.

    Args:
        hidden_TH: the classifier's input after each word.
        targets_T: the next words.
        log_p_TV: the logarithm of all probabilities.
    """

    hidden_TH: Tensor
    targets_T: Tensor
    log_p_TV: Tensor


class Adapter:
    """Adapts a copy of a model: it learns from each segment after predicting it.

    Args:
        model: the trained model, in any mode; it never changes.
        settings: how to adapt.
        rms: the root mean square of each parameter's gradient, by the parameter's name; the rule
            "rms" needs it.

    Raises:
        ValueError: if the rule is "rms" and ``rms`` does not fit the model.
    """

    def __init__(
        self, model: LanguageModel, settings: Dynamic, rms: Mapping[str, Tensor] | None = None
    ) -> None:
        self.settings = settings
        self.model = copy.deepcopy(model).eval()
        self.state: State | None = None
        trained = {name: p.detach() for name, p in model.named_parameters()}
        if settings.rule == "rms":
            shapes = {name: p.shape for name, p in trained.items()}
            if rms is None or {name: part.shape for name, part in rms.items()} != shapes:
                raise ValueError("rms: expected a tensor for each parameter of the model")
        self.updates = _updates(self.model, trained, settings, rms)
        self._network = [p for p in self.model.parameters() if id(p) not in self._own()]
        self._recent: deque[float] = deque(maxlen=max(1, WATCHED // settings.segment))
        self._words = 0

    def _own(self) -> set[int]:
        """Return the ids of the parameters whose gradients are computed here, without autograd."""
        decoder = self.model.decoder
        parts = (self.model.embedding.weight, decoder.weight, decoder.bias)
        return {id(part) for part in parts if part is not None}

    def read(self, tokens_T: Tensor, targets_T: Tensor) -> Segment:
        """Predict a segment, then learn from it.

        Args:
            tokens_T: ``(T,)`` int64 word ids.
            targets_T: ``(T,)`` the next words.

        Raises:
            Diverged: if the loss of this segment is not finite, or the mean loss of the last 200
                words is far above the loss of guessing.
        """
        model, decoder = self.model, self.model.decoder
        vectors_TE = model.embedding.weight.detach()[tokens_T]
        with torch.no_grad():
            hidden_TH, backward = self._read(vectors_TE)
            logits_TV = few_rows(hidden_TH, decoder.weight.detach(), decoder.bias)
            # The gradient of the mean cross-entropy: (softmax - one at the target) / T.
            log_p_TV = logits_TV.log_softmax(dim=-1)
            log_p_T1 = log_p_TV.gather(1, targets_T[:, None])
            self._watch(-float(log_p_T1.mean()), len(targets_T))
            grad_TV = log_p_TV.exp().div_(len(targets_T))
            ones_T1 = torch.full_like(log_p_T1, -1 / len(targets_T))
            grad_TV.scatter_add_(1, targets_T[:, None], ones_T1)
            grad_TH = self.through(decoder.weight, grad_TV, hidden_TH)
            if decoder.bias is not None:
                self.dense(decoder.bias, grad_TV.sum(dim=0))
            grad_TE = backward(grad_TH)
            embedding = self.updates[id(model.embedding.weight)]
            if not model.config.tied:
                embedding.decay()
            if grad_TE is not None:
                embedding.rows(tokens_T, grad_TE)
        return Segment(hidden_TH, targets_T, log_p_TV)

    @torch.no_grad()
    def predict(self, tokens_T: Tensor) -> tuple[Tensor, Tensor]:
        """Read words without learning; return ``(hidden_TH, log_p_TV)`` as in :class:`Segment`."""
        hidden_BTH, self.state = self.model(tokens_T[None], self.state)
        log_p_TV = self.model.decode(hidden_BTH)[0].log_softmax(dim=-1)
        return self.model.decoder.project(hidden_BTH)[0], log_p_TV

    def _read(self, vectors_TE: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor | None]]:
        """Read word vectors; return the classifier's input ``(T, H)``, and a function that learns.

        The function takes the gradient of that input, updates the network, and returns the gradient
        of the word vectors.
        """
        network, decoder = self.model.network, self.model.decoder
        if not isinstance(network, LearnsByHand):
            return self._read_by_autograd(vectors_TE)
        out_TH, self.state, backward = network.read_to_learn(vectors_TE, self.state)
        projection = decoder.projection if isinstance(decoder, TiedDecoder) else None
        if projection is None:
            return out_TH, lambda grad_TH: backward(grad_TH, self)

        def learn(grad_TH: Tensor) -> Tensor:
            return backward(self.through(projection.weight, grad_TH, out_TH), self)

        return decoder.project(out_TH), learn

    def _read_by_autograd(
        self, vectors_TE: Tensor
    ) -> tuple[Tensor, Callable[[Tensor], Tensor | None]]:
        """Do the work of :meth:`_read` for a network that does not learn by hand."""
        vectors_TE.requires_grad_()
        with torch.enable_grad():
            hidden_TBH, _, state = run_with_raw(self.model.network, vectors_TE[:, None], self.state)
            projected_TH = self.model.decoder.project(hidden_TBH[:, 0])
        self.state = detach(state)

        def learn(grad_TH: Tensor) -> Tensor | None:
            wanted = [vectors_TE, *self._network]
            grad_TE, *others = torch.autograd.grad(projected_TH, wanted, grad_TH, allow_unused=True)
            for parameter, gradient in zip(self._network, others, strict=True):
                update = self.updates[id(parameter)]
                update.decay() if gradient is None else update.dense(gradient)
            return grad_TE

        return projected_TH.detach(), learn

    def through(self, weight_PK: Tensor, left_TP: Tensor, right_TK: Tensor) -> Tensor:
        """Return ``left @ weight``; then update the weight with the gradient ``left.T @ right``."""
        return self.updates[id(weight_PK)].through(left_TP, right_TK)

    def low_rank(self, weight_PK: Tensor, left_TP: Tensor, right_TK: Tensor) -> None:
        """Update a weight with the gradient ``left.T @ right``."""
        self.updates[id(weight_PK)].low_rank(left_TP, right_TK)

    def dense(self, parameter: Tensor, grad: Tensor) -> None:
        """Update a parameter with its gradient."""
        self.updates[id(parameter)].dense(grad)

    def _watch(self, loss: float, words: int) -> None:
        """Raise :class:`Diverged` if the weights predict much worse than guessing does."""
        self._words += words
        self._recent.append(loss)
        mean, guess = sum(self._recent) / len(self._recent), math.log(self.model.config.vocab_size)
        enough = len(self._recent) * self.settings.segment >= FEWEST
        if math.isfinite(loss) and not (enough and mean > guess + MARGIN):
            return
        said = f"{mean:.1f} nats a word" if math.isfinite(mean) else "no longer finite"
        raise Diverged(
            f"dynamic evaluation with lr {self.settings.lr:g} diverges: after {self._words:,} "
            f"words the loss is {said}, guessing has {guess:.1f}; take a smaller lr (the run "
            "itself has not changed)"
        )

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors for :meth:`restore`: adapted weights, state and recent losses."""
        found = {f"adapted.{name}": p.detach() for name, p in self.model.named_parameters()}
        found |= state_tensors(self.state)
        watched = [float(self._words), *self._recent]
        return found | {"watched": torch.tensor(watched, dtype=torch.float64)}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on where :meth:`tensors` was called."""
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                parameter.copy_(tensors[f"adapted.{name}"])
        self.state = saved_state(self.model, tensors)
        words, *losses = tensors["watched"].tolist()
        self._words = int(words)
        self._recent.extend(losses)


def _updates(
    model: LanguageModel,
    trained: Mapping[str, Tensor],
    settings: Dynamic,
    rms: Mapping[str, Tensor] | None,
) -> dict[int, Update]:
    """Return the update of each parameter, by the id of the parameter."""
    if settings.rule == "rms":
        assert rms is not None
        average = sum(float(part.mean()) for part in rms.values()) / len(rms)
    found = {}
    for name, parameter in model.named_parameters():
        part, decay = None, settings.decay
        if settings.rule == "rms":
            assert rms is not None
            part, decay = rms[name].to(parameter).contiguous(), settings.decay / average
        found[id(parameter)] = Update(
            parameter.detach(), trained[name], part, settings.lr, settings.epsilon, decay
        )
    return found


def scaled(settings: Dynamic, *, lr: float = 1.0, decay: float = 1.0) -> Dynamic:
    """Return the settings with the learning rate and the decay multiplied."""
    return replace(
        settings,
        lr=float(f"{settings.lr * lr:.3g}"),
        decay=min(1.0, float(f"{settings.decay * decay:.3g}")),
    )
