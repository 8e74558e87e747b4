"""Project word vectors onto the directions in which they differ most.

Shape letters: V vocabulary, E embedding width, K directions.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Projection(NamedTuple):
    """Rows of a matrix in the directions of their largest variance.

    Args:
        coordinates_VK: the centred rows in these directions, float64.
        shares: the share of the rows' variance in each direction, largest first.
    """

    coordinates_VK: Tensor
    shares: list[float]


def principal_components(matrix_VE: Tensor, count: int = 2) -> Projection:
    r"""Return the coordinates of rows in their first principal components (PCA).

    With the mean row taken off, the components are the eigenvectors of

    .. math:: C = X^T X / V

    with the largest eigenvalues. The sign of each is chosen so that its largest entry is positive,
    so that the same matrix gives the same picture.

    Args:
        matrix_VE: rows to project, for example word vectors.
        count: the number of components, at most E.

    Source: Pearson (1901), "On lines and planes of closest fit to systems of points in space".
    """
    with torch.no_grad():
        rows_VE = matrix_VE.double()
        rows_VE = rows_VE - rows_VE.mean(dim=0)
        variances_E, vectors_EE = torch.linalg.eigh(rows_VE.t() @ rows_VE / len(rows_VE))
        vectors_EK = vectors_EE.flip(1)[:, :count]
        largest_K = vectors_EK.gather(0, vectors_EK.abs().argmax(dim=0, keepdim=True))[0]
        coordinates_VK = rows_VE @ (vectors_EK * largest_K.sign())
        variances_K = variances_E.flip(0)[:count].clamp(min=0)
        total = variances_E.sum().clamp(min=torch.finfo(torch.float64).tiny)
        return Projection(coordinates_VK, (variances_K / total).tolist())
