"""Subspace distance and principal angles agree with SciPy and have their properties."""

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tiedlm.arithmetic import arithmetic
from tiedlm.data.vocabulary import Vocabulary
from tiedlm.errors import UserError
from tiedlm.evaluation.subspace import (
    describe_geometry,
    principal_angles,
    share_outside,
    subspace_distance,
)
from tiedlm.model import LanguageModel, ModelConfig


def random(rows, columns, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, columns, generator=generator, dtype=torch.float64)


@given(seed=st.integers(0, 1000), columns=st.integers(1, 12), extra=st.integers(0, 30))
@settings(max_examples=40, deadline=None)
def test_angles_and_distance_equal_scipys(seed, columns, extra):
    a, b = random(columns + extra, columns, seed), random(columns + extra, columns, seed + 1)
    expected = np.sort(scipy.linalg.subspace_angles(a.numpy(), b.numpy()))
    np.testing.assert_allclose(principal_angles(a, b), expected, atol=1e-7)
    mean_squared_sine = np.mean(np.sin(expected) ** 2)
    assert subspace_distance(a, b) ** 2 == pytest.approx(mean_squared_sine, abs=1e-9)


def test_a_basis_of_the_same_space_is_at_distance_zero():
    a = random(40, 5, 0)
    assert subspace_distance(a, a @ random(5, 5, 1)) < 1e-12
    assert principal_angles(a, a @ random(5, 5, 1)).max() < 1e-12


def test_bases_are_computed_on_one_thread_and_the_number_is_restored(monkeypatch):
    seen, qr = [], torch.linalg.qr

    def spy(matrix):
        seen.append(torch.get_num_threads())
        return qr(matrix)

    monkeypatch.setattr(torch.linalg, "qr", spy)
    with arithmetic(threads=2):
        subspace_distance(torch.randn(9, 2), torch.randn(9, 3))
        assert torch.get_num_threads() == 2
    assert seen == [1, 1]


def test_orthogonal_spaces_are_at_distance_one():
    eye = torch.eye(10, dtype=torch.float64)
    assert subspace_distance(eye[:, :4], eye[:, 4:8]) == 1
    torch.testing.assert_close(
        principal_angles(eye[:, :4], eye[:, 4:8]), torch.full((4,), torch.pi / 2).double()
    )


def test_a_known_angle_between_planes():
    angle = 0.3
    a = torch.tensor([[1.0, 0], [0, 1], [0, 0]], dtype=torch.float64)
    turned = [[1.0, 0], [0, np.cos(angle)], [0, np.sin(angle)]]
    b = torch.tensor(turned, dtype=torch.float64)
    torch.testing.assert_close(principal_angles(a, b), torch.tensor([0, angle]).double())
    assert subspace_distance(a, b) == pytest.approx(np.sin(angle) / np.sqrt(2))


@pytest.mark.parametrize("widths", [(3, 5), (5, 3), (1, 6)])
def test_matrices_of_other_widths_have_the_angles_of_the_narrower_in_either_order(widths):
    a, b = (random(20, width, seed) for seed, width in enumerate(widths))
    expected = np.sort(scipy.linalg.subspace_angles(a.numpy(), b.numpy()))
    for first, second in ((a, b), (b, a)):
        np.testing.assert_allclose(principal_angles(first, second), expected, atol=1e-7)
        assert subspace_distance(first, second) ** 2 == pytest.approx(
            np.mean(np.sin(expected) ** 2)
        )
    inside = b @ random(widths[1], 1, 7)
    assert subspace_distance(inside, b) < 1e-12
    assert subspace_distance(b, inside) < 1e-12


def test_share_outside_is_the_squared_norm_that_least_squares_leave():
    generator = torch.Generator().manual_seed(0)
    first = torch.randn(9, 3, generator=generator, dtype=torch.float64)
    second = torch.randn(9, 4, generator=generator, dtype=torch.float64)
    solution = torch.linalg.lstsq(second, first).solution
    expected = ((first - second @ solution).square().sum() / first.square().sum()).item()
    assert share_outside(first, second) == pytest.approx(expected, rel=1e-9)
    assert share_outside(second @ torch.ones(4, 2, dtype=torch.float64), second) < 1e-28
    # A direction that the first matrix hardly uses hardly counts, at any angle.
    tiny = torch.cat([second[:, :2], 1e-6 * first[:, :1]], 1)
    assert share_outside(tiny, second) < 1e-11
    assert subspace_distance(tiny, second) > 0.1


def test_different_numbers_of_rows_are_refused():
    with pytest.raises(ValueError, match="second: expected 5 rows"):
        subspace_distance(torch.zeros(5, 2), torch.zeros(6, 2))


def with_words(tied):
    torch.manual_seed(0)
    model = LanguageModel(ModelConfig(vocab_size=6, d_embed=3, d_hidden=3, tied=tied))
    model.vocabulary = Vocabulary(("<eos>", "<unk>", "cat", "dog", "sun", "moon"))
    return model


def test_a_tied_model_is_at_distance_zero_and_an_untied_one_is_not():
    assert describe_geometry(with_words(True))["subspace_distance"] < 1e-7
    assert describe_geometry(with_words(False))["subspace_distance"] > 0.1


def test_nearest_words_are_nearest_by_cosine():
    model = with_words(True)
    with torch.no_grad():
        model.embedding.weight[2] = torch.tensor([1.0, 0, 0])
        model.embedding.weight[3] = torch.tensor([5.0, 0.5, 0])
    nearest = describe_geometry(model, ["cat"])["neighbours"]["cat"]
    assert nearest[0]["word"] == "dog"
    assert nearest[0]["cosine"] == pytest.approx(5 / np.sqrt(25.25), rel=1e-5)
    assert "cat" not in [n["word"] for n in nearest]


def test_an_unknown_word_is_named():
    with pytest.raises(UserError, match="'fish' is not among the 6 words"):
        describe_geometry(with_words(True), ["fish"])
