r"""The view "Soft target": a word's soft target, the prediction, and the push of the loss.

With z = W h the scores, u the word's vector, tau the temperature and gamma = alpha / tau
(docs/loss.md has the numbers of the equations):

.. math::
    \tilde y = softmax(L^T u / \tau), \qquad \hat y = softmax(z / \tau), \qquad
    J_{tot} = J + \gamma \tau KL(\tilde y \| \hat y)

``push`` is minus the gradient of J_tot with respect to the scores, by autograd: above 0 the loss
makes a word more probable.

Shape letters: V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch.nn import functional

from tiedlm.loss.reference import divergence, log_softened
from tiedlm.web.asked import Asked
from tiedlm.web.reading import find_word, read_context, suggestions
from tiedlm.web.runs import Loaded, Run
from tiedlm.web.views import Answer, of_each

TEMPERATURES = tuple(10 ** (exponent / 10) for exponent in range(-7, 24))  # 0.2 to 200
CURVES = 5  # words of the curves over tau
PREDICTED = 5  # predicted words to show, besides the words of the soft target


def answer(runs: Sequence[Run], asked: Asked) -> Answer:
    """Return the soft target of a word for each run, beside its prediction after a text."""
    word, text = asked.text("word", 200).strip(), asked.text("text")
    temperature = asked.number("temperature", 20.0, 0.1, 1000)
    gamma = asked.number("gamma", 0.65, 0, 10)
    top = asked.whole("top", 8, 1, 50)

    def one(loaded: Loaded) -> Answer:
        index = find_word(loaded, word)
        if index is None:
            return {"missing": word, "suggestions": suggestions(loaded, word)}
        return _of_run(loaded, index, text, temperature, gamma, top)

    return {"runs": of_each(runs, one)}


class _Soft:
    """The scores L^T u of a word, and the nearest words' shares against the temperature."""

    def __init__(self, loaded: Loaded, index: int) -> None:
        vectors_VE = loaded.model.embedding.weight.detach()
        self.scores_V = (vectors_VE @ vectors_VE[index]).double()
        nearest = self.scores_V.topk(min(CURVES, len(self.scores_V))).indices.tolist()
        curves_TC = torch.stack(
            [log_softened(self.scores_V, tau)[nearest].exp() for tau in TEMPERATURES]
        )
        names = loaded.vocabulary.decode(nearest)
        self.curves = [
            {"word": name, "values": values}
            for name, values in zip(names, curves_TC.t().tolist(), strict=True)
        ]


def _of_run(
    loaded: Loaded, index: int, text: str, temperature: float, gamma: float, top: int
) -> Answer:
    model, context = loaded.model, read_context(loaded, text)
    bias_V = model.decoder.bias
    soft = loaded.newest("soft target", index, lambda: _Soft(loaded, index))
    with torch.no_grad():
        projected_E = model.decoder.project(loaded.hidden_after(context.ids))
        scores_V = (model.decoder.weight @ projected_E).double()
    scores_V.requires_grad_()
    logits_V = scores_V if bias_V is None else scores_V + bias_V.detach()
    ce = functional.cross_entropy(logits_V[None], torch.tensor([index]))
    log_soft_V, log_prediction_V = (
        log_softened(values_V, temperature) for values_V in (soft.scores_V, scores_V)
    )
    aug = divergence(log_soft_V, log_prediction_V)
    total = ce + gamma * temperature * aug
    (gradient_V,) = torch.autograd.grad(total, scores_V)
    soft_V, prediction_V = log_soft_V.exp(), log_prediction_V.detach().exp()
    p_V = logits_V.detach().softmax(-1)
    by_target = soft_V.topk(min(top, len(p_V))).indices.tolist()
    expected = [
        i for i in p_V.topk(min(PREDICTED, len(p_V))).indices.tolist() if i not in by_target
    ]
    decode = loaded.vocabulary.decode
    rows = [
        {
            "word": decode([i])[0], "soft": float(soft_V[i]), "prediction": float(prediction_V[i]),
            "p": float(p_V[i]), "push": -float(gradient_V[i]), "is_target": i == index,
        }
        for i in (*by_target, *expected)
    ]  # fmt: skip
    return {
        "word": decode([index])[0],
        **context.summary(),
        "rows": rows,
        "soft_rows": len(by_target),
        "words": len(p_V),
        "entropy": -float((soft_V * log_soft_V).sum()) / math.log(2),
        "ce": float(ce.detach()), "aug": float(aug.detach()), "total": float(total.detach()),
        "alpha": gamma * temperature,
        "temperatures": TEMPERATURES,
        "curves": soft.curves,
    }  # fmt: skip
