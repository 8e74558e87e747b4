"""The twin of the study of RHN's curve is the authors' procedure, and the recipe follows it."""

import dataclasses
from argparse import Namespace

import numpy as np
import pytest
import torch

from studies import rhn_curve
from studies.rhn_curve import Procedure, Twin
from tiedlm import LanguageModel, ModelConfig
from tiedlm.experiments.recipes import get_recipe
from tiedlm.training.build import build_model
from tiedlm.training.loop import train
from tiedlm.training.run_files import read_metrics

SMALL = Procedure(
    batch=3, steps=4, rate=0.4, decay=1.5, constant=1, clip=0.3, weight_decay=0.02,
    drop_words=0, drop_input=0, drop_state=0, drop_output=0,
)  # fmt: skip


def recipe_of(procedure, **changes):
    return get_recipe("ptb-rhn-10").replace(
        batch_size=procedure.batch, bptt=procedure.steps, lr=procedure.rate,
        lr_decay=1 / procedure.decay, decay_after=procedure.constant, clip=procedure.clip,
        weight_decay=procedure.weight_decay, dropout_words=procedure.drop_words,
        dropout_input=procedure.drop_input, dropout_hidden=procedure.drop_state, **changes,
    )  # fmt: skip


def test_the_recipe_has_the_settings_of_the_authors():
    recipe = recipe_of(Procedure())
    assert recipe == get_recipe("ptb-rhn-10")
    assert recipe.options["dropout_output"] == Procedure().drop_output


@pytest.fixture
def text(tmp_path):
    """Write a text of three streams of 4 n + 1 words, which has no partial window."""
    words = np.random.default_rng(0).integers(0, 9, 3 * (4 * 6 + 1) - 5)
    lines = [" ".join(f"w{word}" for word in words[i : i + 14]) for i in range(0, len(words), 14)]
    (tmp_path / "text").mkdir()
    for part in ("train", "valid", "test"):
        (tmp_path / "text" / f"{part}.txt").write_text("\n".join(lines) + "\n")
    return tmp_path / "text"


def test_training_is_the_procedure_of_the_authors(text, tmp_path):
    settings = recipe_of(
        SMALL, data=str(text), min_count=1, d_embed=7, d_hidden=7, epochs=4, init_range=0.4,
        options={"depth": 3, "dropout_output": 0.0},
    )  # fmt: skip
    corpus = settings.load_corpus(progress=False)
    train(settings, corpus, tmp_path / "run")
    curve = read_metrics(tmp_path / "run")

    model = build_model(settings, corpus, resumes=False)
    twin = Twin(dict(model.double().named_parameters()), SMALL, seed=1)
    ids = torch.from_numpy(corpus.train.astype(np.int64))
    assert (len(ids) // SMALL.batch - 1) % SMALL.steps == 0
    for line in curve:
        losses = [loss for loss, _ in twin.epoch(ids, line["epoch"])]
        found = np.exp(sum(losses) / len(losses) / SMALL.steps)
        assert line["lr"] == pytest.approx(SMALL.rate_in(line["epoch"]))
        assert line["train_ppl"] == pytest.approx(found, rel=1e-5)


def test_dropout_changes_the_loss_as_tiedlms_does():
    """The mean and the spread over draws depend on which elements of a window share a mask."""
    procedure = dataclasses.replace(
        SMALL, drop_words=0.25, drop_input=0.5, drop_state=0.4, drop_output=0.3
    )
    torch.manual_seed(0)
    model = LanguageModel(
        ModelConfig(
            network="rhn", vocab_size=5, d_embed=4, d_hidden=4, n_layers=1, tied=True,
            init_range=1.5, dropout_words=0.25, dropout_input=0.5, dropout_hidden=0.4,
            decoder_bias=True, options={"depth": 2, "dropout_output": 0.3, "transform_bias": 0.0},
        )
    )  # fmt: skip
    twin = Twin(dict(model.named_parameters()), procedure, seed=3)
    x_BT = torch.tensor([[1, 2, 1, 1, 4, 2], [3, 3, 3, 3, 0, 3]])
    y_BT = x_BT.roll(-1, 1)
    model.train()
    draws = 1500
    with torch.no_grad():
        theirs = torch.stack([twin.loss(x_BT, y_BT, torch.zeros(2, 4))[0] for _ in range(draws)])
        ours = torch.stack([6 * model.loss(model(x_BT)[0], y_BT).loss for _ in range(draws)])
    error = float(torch.hypot(ours.std(), theirs.std())) / draws**0.5
    assert float(ours.mean()) == pytest.approx(float(theirs.mean()), abs=4 * error)
    assert float(ours.std()) == pytest.approx(float(theirs.std()), rel=0.1)


def test_a_twin_that_was_stopped_goes_on_as_if_it_had_not(text, tmp_path, monkeypatch):
    monkeypatch.setattr(rhn_curve, "_SAVE_EVERY", 4)
    monkeypatch.setattr(rhn_curve, "Procedure", lambda: dataclasses.replace(SMALL, drop_input=0.3))
    settings = recipe_of(
        SMALL, data=str(text), min_count=1, d_embed=7, d_hidden=7,
        options={"depth": 2, "dropout_output": 0.0},
    )  # fmt: skip
    corpus = settings.load_corpus(progress=False)

    def train_twin(name, epochs=2):
        model = build_model(settings, corpus, resumes=False)
        return rhn_curve.train_twin(model, corpus, epochs, tmp_path / name, half=False)

    whole = train_twin("whole")

    class Stop(Exception):
        pass

    def stopping(path):
        def save(*arguments):
            original(*arguments)
            saved.append(arguments)
            if len(saved) == 3:
                raise Stop

        original, saved = rhn_curve._save, []
        monkeypatch.setattr(rhn_curve, "_save", save)

    stopping(tmp_path / "parts")
    with pytest.raises(Stop):
        train_twin("parts")
    assert train_twin("parts") == whole
    assert len({row["train_ppl"] for row in whole}) == 2
    assert train_twin("whole", 1) == whole[:1]


def test_the_table_has_both_curves_and_the_published_end():
    curve = [
        {"epoch": e, "lr": 0.2, "train_ppl": 700.0 / e, "valid_ppl": 500.0 / e} for e in (1, 2)
    ]
    rows = rhn_curve.table(curve, [{"train_ppl": 701.0, "valid_ppl": 502.0}]).splitlines()[2:]
    cells = [[cell.strip() for cell in row.split("|")[1:-1]] for row in rows]
    assert cells[0] == ["1", "0.200", "700.0", "500.0", "701.0", "502.0"]
    assert cells[1] == ["2", "0.200", "350.0", "250.0", "", ""]
    assert cells[2][3] == "68.3"


def test_the_run_is_the_recipe_with_fewer_epochs(tmp_path):
    job = rhn_curve.make_job(Namespace(epochs=3, precision="fp32", out=tmp_path))
    assert job.settings == get_recipe("ptb-rhn-10").replace(epochs=3, threads=1, precision="fp32")
