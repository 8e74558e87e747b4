"""The library agrees with the equations of docs/loss.md, one float64 NumPy function each.

Shape letters: N tokens, V vocabulary, D hidden width, E embedding width. Plain loops run over the
tokens ``n``, to stay close to the equations.
"""

import itertools

import numpy as np
import pytest
import torch

from tiedlm import augmented_cross_entropy

V, D, E = 11, 4, 6


def softmax(x_V):
    exp_V = np.exp(x_V - x_V.max())
    return exp_V / exp_V.sum()


def log_softmax(x_V):
    shifted_V = x_V - x_V.max()
    return shifted_V - np.log(np.exp(shifted_V).sum())


def onehot(word):
    return np.eye(V)[word]


def eq1_scores_and_logits(h_D, W_VD, b_V):
    z_V = W_VD @ h_D
    return z_V, z_V + b_V


def eq2_cross_entropy(logits_V, word):
    return -log_softmax(logits_V)[word]


def eq3_prediction(z_V, tau):
    return softmax(z_V / tau)


def eq4_soft_target(L_VE, word, tau):
    return softmax(L_VE @ L_VE[word] / tau)


def eq5_augmented_loss(z_V, L_VE, word, tau):
    log_soft_V = log_softmax(L_VE @ L_VE[word] / tau)
    return (np.exp(log_soft_V) * (log_soft_V - log_softmax(z_V / tau))).sum()


def eq6_total(ce, aug, alpha):
    return ce + alpha * aug


def eq7_gradient_of_cross_entropy(logits_V, word):
    return softmax(logits_V) - onehot(word)


def eq8_gradient_of_augmented_loss(z_V, L_VE, word, tau):
    return (eq3_prediction(z_V, tau) - eq4_soft_target(L_VE, word, tau)) / tau


def eq9_gradient_of_scores(z_V, logits_V, L_VE, word, alpha, tau):
    by_ce_V = eq7_gradient_of_cross_entropy(logits_V, word)
    return by_ce_V + alpha * eq8_gradient_of_augmented_loss(z_V, L_VE, word, tau)


def eq10_gradient_of_soft_scores(z_V, L_VE, word, tau):
    """Return the gradient of one token with respect to L^T u / tau."""
    soft_V = eq4_soft_target(L_VE, word, tau)
    log_ratio_V = log_softmax(L_VE @ L_VE[word] / tau) - log_softmax(z_V / tau)
    return soft_V * (log_ratio_V - (soft_V * log_ratio_V).sum())


def eq11_residual(scores, L_VE, word, words, weights, tau):
    """Return r_u, summed over the tokens whose target is ``word``."""
    mine = [n for n, other in enumerate(words) if other == word]
    return sum(weights[n] * (L_VE @ L_VE[word] - scores[n]) / tau for n in mine)


def eq12_gradient_of_embedding(scores, L_VE, words, weights, alpha, tau):
    grad_VE = np.zeros_like(L_VE)
    for word in set(words):
        soft_V = eq4_soft_target(L_VE, word, tau)
        r_V = eq11_residual(scores, L_VE, word, words, weights, tau)
        M_V = soft_V * (r_V - soft_V @ r_V)
        grad_VE += alpha / tau * np.outer(M_V, L_VE[word])
        grad_VE[word] += alpha / tau * M_V @ L_VE
    return grad_VE


def everything(h, W, b, L, targets, alpha, tau, reduction, target_grad, upstream):
    """Return loss, ce, aug and the gradients of their weighted sum for h, W, b and L."""
    counted = targets != -100
    weights = counted / max(1, counted.sum()) if reduction == "mean" else counted * 1.0
    results = {key: np.zeros(len(targets)) for key in ("loss", "ce", "aug")}
    grad_h, grad_W, grad_b = np.zeros_like(h), np.zeros_like(W), np.zeros_like(b)
    used = [n for n in range(len(targets)) if counted[n]]
    scores = [eq1_scores_and_logits(h[n], W, b)[0] for n in range(len(targets))]
    total_weights = weights * upstream
    for n in used:
        z_V, logits_V = eq1_scores_and_logits(h[n], W, b)
        ce, aug = eq2_cross_entropy(logits_V, targets[n]), 0.0
        if alpha:
            aug = eq5_augmented_loss(z_V, L, targets[n], tau)
        for key, value in (("loss", eq6_total(ce, aug, alpha)), ("ce", ce), ("aug", aug)):
            results[key][n] = weights[n] * value
        G_V = eq9_gradient_of_scores(z_V, logits_V, L, targets[n], alpha, tau)
        grad_h[n] = total_weights[n] * W.T @ G_V
        grad_W += total_weights[n] * np.outer(G_V, h[n])
        grad_b += total_weights[n] * eq7_gradient_of_cross_entropy(logits_V, targets[n])
    grad_L = np.zeros_like(L)
    if target_grad and alpha:
        words = [targets[n] for n in used]
        mine = [total_weights[n] for n in used]
        grad_L = eq12_gradient_of_embedding([scores[n] for n in used], L, words, mine, alpha, tau)
    if reduction != "none":
        results = {key: value.sum() for key, value in results.items()}
    return (*results.values(), grad_h, grad_W, grad_b, grad_L)


def case(tied, seed=0, tokens=9):
    rng = np.random.default_rng(seed)
    h, W, b = rng.normal(size=(tokens, D)), rng.normal(size=(V, D)), rng.normal(size=V)
    L = W if tied else rng.normal(size=(V, E))
    targets = rng.integers(0, 4, size=tokens)  # few words, so that targets repeat
    targets[2] = -100
    return h, W, b, L, targets


GRID = list(
    itertools.product(
        (True, False),  # tied
        (True, False),  # bias
        ("mean", "sum", "none"),
        (True, False),  # target_grad
        ((0.0, 20.0), (0.05, 0.1), (2.0, 1.7), (13.0, 20.0), (2.0, 1e6)),  # alpha, tau
    )
)


@pytest.mark.parametrize("impl", ["reference", "fused"])
def test_library_equals_the_equations_over_all_options(impl):
    for tied, bias, reduction, target_grad, (alpha, tau) in GRID:
        h, W, b, L, targets = case(tied)
        if not bias:
            b = np.zeros(V)
        upstream = np.linspace(0.5, 2.0, len(targets)) if reduction == "none" else 1.0
        expected = everything(h, W, b, L, targets, alpha, tau, reduction, target_grad, upstream)

        hidden, classifier, offset = (torch.tensor(x, requires_grad=True) for x in (h, W, b))
        embedding = classifier if tied else torch.tensor(L, requires_grad=True)
        out = augmented_cross_entropy(
            hidden, classifier, torch.tensor(targets), offset if bias else None, embedding,
            alpha=alpha, temperature=tau, reduction=reduction, target_grad=target_grad, impl=impl,
        )  # fmt: skip
        (out.loss * torch.tensor(upstream)).sum().backward()

        grad_h, grad_W, grad_b, grad_L = expected[3:]
        got = {"loss": out.loss, "ce": out.ce, "aug": out.aug, "hidden": hidden.grad}
        want = {"loss": expected[0], "ce": expected[1], "aug": expected[2], "hidden": grad_h}
        got["classifier"], want["classifier"] = classifier.grad, grad_W + (grad_L if tied else 0)
        if bias:
            got["bias"], want["bias"] = offset.grad, grad_b
        if not tied and embedding.grad is not None:
            got["embedding"], want["embedding"] = embedding.grad, grad_L
        elif not tied:
            assert not (target_grad and alpha)
        options = dict(
            tied=tied, bias=bias, reduction=reduction, target_grad=target_grad, alpha=alpha, tau=tau
        )
        for name, value in got.items():
            np.testing.assert_allclose(
                value.detach().numpy(), want[name], rtol=1e-10, atol=1e-10,
                err_msg=f"{name} with {options}",
            )  # fmt: skip


def test_equations_are_each_others_derivatives():
    """Central differences of eq. 5 give eqs. 8 and 10. This checks the reference on its own."""
    h, W, b, L, _ = case(tied=False)
    z_V, _ = eq1_scores_and_logits(h[0], W, b)
    word, tau, step = 3, 1.7, 1e-6
    soft_scores_V = L @ L[word] / tau

    def kl(z, s):
        log_soft = log_softmax(s)
        return (np.exp(log_soft) * (log_soft - log_softmax(z / tau))).sum()

    for v in range(V):
        d = step * onehot(v)
        by_z = (kl(z_V + d, soft_scores_V) - kl(z_V - d, soft_scores_V)) / (2 * step)
        by_s = (kl(z_V, soft_scores_V + d) - kl(z_V, soft_scores_V - d)) / (2 * step)
        assert by_z == pytest.approx(eq8_gradient_of_augmented_loss(z_V, L, word, tau)[v], abs=1e-8)
        assert by_s == pytest.approx(eq10_gradient_of_soft_scores(z_V, L, word, tau)[v], abs=1e-8)


def test_residual_form_is_the_sum_of_the_tokens_gradients():
    """Eqs. 11 and 12 sum eq. 10 over the tokens of a word."""
    h, W, b, L, targets = case(tied=False)
    scores = [eq1_scores_and_logits(x, W, b)[0] for x in h]
    words = [int(t) if t >= 0 else 1 for t in targets]
    weights, tau = np.linspace(1, 2, len(words)), 1.7
    for word in set(words):
        soft_V = eq4_soft_target(L, word, tau)
        r_V = eq11_residual(scores, L, word, words, weights, tau)
        token_sum_V = sum(
            weights[n] * eq10_gradient_of_soft_scores(scores[n], L, word, tau)
            for n in range(len(words))
            if words[n] == word
        )
        np.testing.assert_allclose(soft_V * (r_V - soft_V @ r_V), token_sum_V, atol=1e-13)
