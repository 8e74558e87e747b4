"""The plot of the gains is valid with and without intervals."""

from studies.gains_plot import plot_gains


def test_gains_are_drawn_with_and_without_intervals(tmp_path):
    rows = [
        {
            "fraction": share,
            "model": model,
            "gain": 0.01 * number,
            "interval95": None if share == 1 else [-0.01, 0.03],
        }
        for share in (0.05, 1.0)
        for number, model in enumerate(("VD-LSTM", "AL", "REAL"))
    ]
    plot_gains(rows, tmp_path / "gains.png")
    assert (tmp_path / "gains.png").read_bytes().startswith(b"\x89PNG")
