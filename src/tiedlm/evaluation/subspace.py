"""The geometry of word vectors and classifier: distances of column spaces, nearest words.

Shape letters: V vocabulary, C columns of one matrix, D columns of the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tiedlm.arithmetic import arithmetic
from tiedlm.data.pieces import PieceVocabulary
from tiedlm.errors import UserError
from tiedlm.model import LanguageModel


def principal_angles(first_VC: Tensor, second_VD: Tensor) -> Tensor:
    r"""Return the principal angles between two column spaces, in radians, ascending.

    For orthonormal bases U and Q, the sines are the singular values of ``Q - U U^T Q``. The cosines
    are the singular values of ``U^T Q``. Each angle is computed from the sine or the cosine,
    whichever is more accurate.

    Args:
        first_VC: a matrix of full column rank.
        second_VD: another one with as many rows.

    Returns:
        One angle per column of the narrower matrix, float64.

    Source: Inan et al. (2017), Figure 1; Bjorck and Golub (1973).
    """
    u_VC, q_VD = _bases(first_VC, second_VD)
    cross_CD = u_VC.t() @ q_VD
    cosines_D = torch.linalg.svdvals(cross_CD).clamp(max=1.0)
    sines_D = torch.linalg.svdvals(q_VD - u_VC @ cross_CD).clamp(max=1.0).flip(0)
    return torch.where(cosines_D**2 < 0.5, torch.arccos(cosines_D), torch.arcsin(sines_D))


def subspace_distance(first_VC: Tensor, second_VD: Tensor) -> float:
    r"""Return the distance d between two column spaces, 0 if equal and 1 if orthogonal.

    .. math:: R = Q - U U^T Q, \qquad d^2 = \|R\|_F^2 / D

    U and Q are orthonormal bases from QR, and Q belongs to the narrower matrix. d^2 is the mean
    squared sine of the principal angles. d is also 0 if one space contains the other.

    Args:
        first_VC: W, or any matrix of full column rank.
        second_VD: L^T, with as many rows.

    Returns:
        d, between 0 and 1.

    Raises:
        ValueError: if the matrices have different numbers of rows.

    Source: Inan et al. (2017), Figure 1.
    """
    u_VC, q_VD = _bases(first_VC, second_VD)
    residual_VD = q_VD - u_VC @ (u_VC.t() @ q_VD)
    return float(residual_VD.square().sum().div(q_VD.shape[1]).sqrt())


def share_outside(first_VC: Tensor, second_VD: Tensor) -> float:
    r"""Return the share of a matrix's squared norm outside of another one's column space.

    .. math:: \|W - U U^T W\|_F^2 / \|W\|_F^2

    U is an orthonormal basis of the second matrix's columns. :func:`subspace_distance` gives every
    direction the same weight. This measure weights a direction by how much of the first matrix lies
    in it.

    Args:
        first_VC: W.
        second_VD: any matrix of full column rank with as many rows.

    Returns:
        The share, between 0 and 1.

    Source: Inan et al. (2017), Figure 1; the measure is ours.
    """
    with arithmetic(threads=1), torch.no_grad():
        first_VC, basis_VD = first_VC.double(), torch.linalg.qr(second_VD.double()).Q
        outside_VC = first_VC - basis_VD @ (basis_VD.t() @ first_VC)
        return float(outside_VC.square().sum() / first_VC.square().sum())


def _bases(first_VC: Tensor, second_VD: Tensor) -> tuple[Tensor, Tensor]:
    """Return orthonormal bases of the two column spaces, the wider one first."""
    if first_VC.shape[0] != second_VD.shape[0]:
        raise ValueError(
            f"second: expected {first_VC.shape[0]} rows as in the first, got {second_VD.shape[0]}"
        )
    wider, narrower = (
        (first_VC, second_VD) if first_VC.shape[1] >= second_VD.shape[1] else (second_VD, first_VC)
    )
    # QR runs on one thread: several threads wait for each other at every column, which can turn a
    # tenth of a second into minutes on a busy machine.
    with arithmetic(threads=1), torch.no_grad():
        return torch.linalg.qr(wider.double()).Q, torch.linalg.qr(narrower.double()).Q


def nearest_words(model: LanguageModel, word: str, top: int = 8) -> list[tuple[str, float]]:
    """Return the words nearest to a word by cosine similarity of their vectors, nearest first.

    Raises:
        UserError: if the model does not know the word.
    """
    vocabulary = model.vocabulary
    assert vocabulary is not None
    if word not in vocabulary:
        raise UserError(f"{word!r} is not among the {len(vocabulary)} words of this model")
    units_VE = unit_rows(model.embedding.weight.double())
    values, indices = nearest_rows(units_VE, int(vocabulary.encode([word])[0]), top)
    return list(zip(vocabulary.decode(indices.tolist()), values.tolist(), strict=True))


def unit_rows(matrix_VE: Tensor) -> Tensor:
    """Return a matrix with each row scaled to norm 1, without a gradient."""
    return torch.nn.functional.normalize(matrix_VE.detach(), dim=1)


def nearest_rows(units_VE: Tensor, row: int, top: int) -> tuple[Tensor, Tensor]:
    """Return the cosines and the indices of the rows nearest to a row, nearest first.

    Args:
        units_VE: rows of norm 1, from :func:`unit_rows`.
        row: the index of the row, which is left out.
        top: the number of rows to return, at most all others.
    """
    cosines_V = units_VE @ units_VE[row]
    cosines_V[row] = -torch.inf
    found = cosines_V.topk(min(top, len(units_VE) - 1))
    return found.values, found.indices


def check_finite(matrix_VE: Tensor, name: str) -> None:
    """Refuse a matrix with infinities or NaN, which has no angles and no components.

    Args:
        matrix_VE: the matrix.
        name: its name in the message, in the plural.

    Raises:
        UserError: if it has some.
    """
    if not bool(matrix_VE.isfinite().all()):
        raise UserError(f"{name} are not finite: restore the model's file, or train it again")


def describe_geometry(model: LanguageModel, words: Sequence[str] = ()) -> dict[str, Any]:
    """Return measures of a model's word vectors L and classifier W as a JSON-able dict.

    Args:
        model: a loaded model.
        words: words whose neighbours to list; by default the first eight made of letters, of at
            least four if the vocabulary is of pieces.

    Raises:
        UserError: if the model does not know a word, or has numbers that are not finite.
    """
    assert model.vocabulary is not None
    embedding_VE = model.embedding.weight.detach()
    classifier_VD = model.decoder.weight.detach()
    check_finite(embedding_VE, "the model's word vectors")
    check_finite(classifier_VD, "the rows of the model's classifier")
    shortest = 4 if isinstance(model.vocabulary, PieceVocabulary) else 1
    frequent = [w for w in model.vocabulary.words if w.isalpha() and len(w) >= shortest]
    chosen = list(words) or frequent[:8]
    return {
        "tied": model.config.tied,
        "subspace_distance": subspace_distance(classifier_VD, embedding_VE),
        "principal_angles_degrees": principal_angles(classifier_VD, embedding_VE)
        .rad2deg()
        .tolist(),
        "mean_norm_embedding": float(embedding_VE.norm(dim=1).mean()),
        "mean_norm_classifier": float(classifier_VD.norm(dim=1).mean()),
        "neighbours": {
            word: [{"word": n, "cosine": c} for n, c in nearest_words(model, word)]
            for word in chosen
        },
    }
