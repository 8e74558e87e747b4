"""The projection of word vectors is the singular value decomposition's, with a fixed sign."""

import numpy as np
import torch

from tiedlm.analysis.projection import principal_components


def rows(seed=0, count=40, width=6):
    generator = torch.Generator().manual_seed(seed)
    scale = torch.tensor([5.0, 3.0, 1.0, 0.5, 0.2, 0.1], dtype=torch.float64)[:width]
    return torch.randn(count, width, generator=generator, dtype=torch.float64) * scale + 7


def test_coordinates_and_shares_are_those_of_the_singular_value_decomposition():
    matrix = rows()
    found = principal_components(matrix, 3)
    centred = matrix.numpy() - matrix.numpy().mean(0)
    u, singular, _ = np.linalg.svd(centred, full_matrices=False)
    np.testing.assert_allclose(found.shares, (singular**2 / (singular**2).sum())[:3])
    np.testing.assert_allclose(
        np.abs(found.coordinates_VK.numpy()), np.abs(u * singular)[:, :3], atol=1e-10
    )


def test_the_picture_does_not_depend_on_the_place_of_the_words_or_the_sign_of_the_axes():
    matrix = rows(1)
    found = principal_components(matrix).coordinates_VK
    order = torch.randperm(len(matrix), generator=torch.Generator().manual_seed(2))
    moved = principal_components(matrix[order] + 100).coordinates_VK
    torch.testing.assert_close(moved, found[order], rtol=1e-9, atol=1e-8)


def test_equal_rows_lie_on_one_point():
    found = principal_components(torch.ones(5, 3))
    assert found.coordinates_VK.abs().max() == 0
    assert found.shares == [0, 0]
