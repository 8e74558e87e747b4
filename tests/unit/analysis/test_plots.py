"""The two plots are valid and not blank, with honest axes and labels that do not overlap."""

import itertools
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.image import imread

from tiedlm.analysis.plots import (
    LABEL_GAP,
    STYLES,
    plot_bars,
    plot_curves,
    require_matplotlib,
    shown_range,
    spread,
)
from tiedlm.errors import UserError


def made_up_models(epochs=4, last=(111.0, 108.0, 107.0, 106.0)):
    """Return models with invented numbers."""
    return {
        name: {
            "valid_ppl": value,
            "test_ppl": value + 5,
            "best_epoch": epochs,
            "curve": [
                {"epoch": e, "valid_ppl": value + 300 / e**2 - 300 / epochs**2}
                for e in range(1, epochs + 1)
            ],
        }
        for name, value in zip(STYLES, last, strict=True)
    }


def colours(path):
    """Return the distinct colours of a PNG as ``#rrggbb``."""
    pixels = (imread(path)[..., :3] * 255).round().astype(int).reshape(-1, 3)
    return {f"#{r:02x}{g:02x}{b:02x}" for r, g, b in {tuple(map(int, p)) for p in pixels[::7]}}


@pytest.mark.parametrize("plot", [plot_curves, plot_bars])
def test_png_is_valid_and_shows_every_model_in_its_colour(plot, tmp_path):
    plot(made_up_models(), tmp_path / "deep" / "plot.png")
    found = colours(tmp_path / "deep" / "plot.png")
    assert "#ffffff" in found
    assert {style.colour.lower() for style in STYLES.values()} <= found
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["plot.png"]


@pytest.mark.parametrize("plot", [plot_curves, plot_bars])
def test_equal_models_and_one_epoch_can_be_drawn(plot, tmp_path):
    plot(made_up_models(epochs=1, last=(100.0,) * 4), tmp_path / "plot.png")
    assert len(colours(tmp_path / "plot.png")) > 2


@pytest.mark.parametrize("plot", [plot_curves, plot_bars])
def test_different_numbers_give_a_different_picture(plot, tmp_path):
    plot(made_up_models(), tmp_path / "one.png")
    plot(made_up_models(), tmp_path / "same.png")
    plot(made_up_models(last=(111.0, 108.0, 107.0, 121.0)), tmp_path / "two.png")
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "same.png").read_bytes()
    assert (tmp_path / "one.png").read_bytes() != (tmp_path / "two.png").read_bytes()


def test_other_seeds_are_in_the_picture_of_the_curves(tmp_path):
    models = made_up_models()
    plot_curves(models, tmp_path / "one.png")
    for model in models.values():
        model["others"] = [made_up_models()["vd-lstm-real"]["curve"]]
    plot_curves(models, tmp_path / "two.png")
    assert (tmp_path / "one.png").read_bytes() != (tmp_path / "two.png").read_bytes()


@pytest.mark.parametrize("plot", [plot_curves, plot_bars])
def test_missing_matplotlib_names_the_extra(plot, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(UserError, match=r"pip install 'tiedlm\[plots\]'"):
        plot(made_up_models(), tmp_path / "plot.png")
    with pytest.raises(UserError, match="matplotlib"):
        require_matplotlib()
    assert not list(tmp_path.iterdir())


perplexities = st.floats(1.5, 5000)


@given(st.lists(st.lists(perplexities, min_size=1, max_size=9), min_size=1, max_size=4))
def test_axis_holds_every_best_and_every_last_value(curves):
    bottom, top = shown_range(curves)
    assert bottom < top
    for curve in curves:
        assert bottom <= curve[-1] <= top
    assert bottom <= min(map(min, curves)) <= top


def test_axis_cuts_off_the_early_epochs():
    bottom, top = shown_range([[900.0, 200.0, 100.0], [700.0, 180.0, 110.0]])
    assert bottom > 90
    assert top < 180


@given(st.lists(st.floats(0, 1), min_size=1, max_size=4))
def test_labels_keep_their_order_and_their_distance(heights):
    placed = spread(heights)
    order = sorted(range(len(heights)), key=lambda i: heights[i], reverse=True)
    ordered = [placed[i] for i in order]
    for above, below in itertools.pairwise(ordered):
        assert above - below >= LABEL_GAP - 1e-9
    assert all(-1e-9 <= height <= 1 + 1e-9 for height in placed)


def test_labels_that_are_far_apart_do_not_move():
    assert spread([0.9, 0.1, 0.5]) == [0.9, 0.1, 0.5]
