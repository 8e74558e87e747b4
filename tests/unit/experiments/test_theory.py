"""The augmented loss alone brings the two spaces of Figure 1 together."""

import pytest
import torch

from tiedlm.experiments.theory import TheoryRun, train_theory_run


@pytest.mark.parametrize(("beta", "temperature"), [(0.0, 10.0), (0.4, 10.0), (1.0, 2.0)])
def test_the_two_losses_are_weighed_as_in_the_paper(beta, temperature):
    settings = TheoryRun((beta, temperature), seed=3).settings()
    assert settings.alpha == pytest.approx(beta * temperature**2 * 10_000)
    assert settings.ce_weight == pytest.approx(1 - beta)
    assert settings.unit_norm
    assert settings.dropout_input == settings.dropout_hidden == 0
    assert settings.d_embed == settings.d_hidden == 300
    assert round(settings.fraction * 929_589) == 20_000


def test_each_seed_reads_another_part_that_is_within_the_text():
    skips = {TheoryRun((1.0, 10.0), seed).settings().skip for seed in range(1, 11)}
    assert len(skips) == 10
    fraction = TheoryRun((1.0, 10.0), 1).settings().fraction
    assert all(0 <= skip <= 1 - fraction for skip in skips)


def test_arithmetic_options_reach_a_run():
    settings = TheoryRun((1.0, 10.0), 1, changes={"precision": "bf16", "threads": 2}).settings()
    assert (settings.precision, settings.threads) == ("bf16", 2)


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """Make runs small: a text in which every word determines the next one."""
    text = (" ".join(f"w{i}" for i in range(20)) + "\n") * 20
    for part in ("train", "valid", "test"):
        (tmp_path / f"{part}.txt").write_text(text)
    whole = TheoryRun.settings

    def settings(self):
        beta, temperature = self.point
        return whole(self).replace(
            data=str(tmp_path), fraction=1.0, skip=0.0, d_embed=4, d_hidden=4, batch_size=4,
            bptt=21, alpha=beta * temperature**2 * 20,
        )  # fmt: skip

    monkeypatch.setattr(TheoryRun, "settings", settings)


@pytest.mark.usefixtures("tiny")
def test_the_augmented_loss_alone_brings_the_spaces_together_and_cross_entropy_does_not():
    rates = {"lr": 0.03, "embedding_lr": 0.003, "decoder_lr": 0.05}
    alone, without = (
        train_theory_run(TheoryRun((beta, 10.0), 1, epochs=150, **rates)) for beta in (1.0, 0.0)
    )
    # The constant direction of W is free, so the first distance may stay at 4^-1/2.
    assert alone["distance"] < 0.3 < 0.6 < without["distance"]
    assert alone["centred_distance"] < 0.15
    assert alone["distances"][-1] == alone["distance"] < alone["distances"][0]
    assert max(alone["principal_angles_degrees"]) < 35
    assert without["ce"] < alone["ce"]
    assert alone["environment"]["torch"] == torch.__version__


@pytest.mark.usefixtures("tiny")
def test_a_clip_that_no_step_reaches_changes_nothing_and_one_that_all_do_holds_w_back():
    rates = {"lr": 0.03, "decoder_lr": 0.05}
    free, far, near = (
        train_theory_run(TheoryRun((1.0, 10.0), 1, epochs=20, decoder_clip=clip, **rates))
        for clip in (float("inf"), 1e3, 1e-6)
    )
    assert (free["clipped_steps"], far["clipped_steps"]) == (0, 0)
    assert far["distances"] == free["distances"]
    assert far["scaled_aug"] == free["scaled_aug"]
    assert near["clipped_steps"] == 20 * 5  # all of them, so that W stays where it was
    assert free["distance"] < 0.5 * near["distance"]
