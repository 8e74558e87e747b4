"""A network defined outside tiedlm, in twenty lines, is trained and refused where it must be."""

import shutil

import pytest
import torch

import own_network
from tests_support import run_command
from tiedlm import load
from tiedlm.cli import main
from tiedlm.evaluation import segments
from tiedlm.networks import network

TINY = {
    "d_embed": 12, "d_hidden": 10, "dropout_input": 0.0, "dropout_hidden": 0.2, "init_range": 0.3,
    "temperature": 5.0, "batch_size": 4, "bptt": 5, "epochs": 3, "decay_after": 2, "lr": 0.5,
    "clip": 1.0, "threads": 1,
}  # fmt: skip
VARIANTS = {"small": (False, 0), "small-al": (False, 2), "small-re": (True, 0),
            "small-real": (True, 2)}  # fmt: skip


def options(corpus, out, **changes):
    """Return the arguments of ``train`` after the recipe."""
    named = {**TINY, "network": "own", "data": corpus, "out": out, **changes}
    return [f"--{name.replace('_', '-')}={value}" for name, value in named.items()]


@pytest.fixture(scope="module")
def real(tiny_corpus, tmp_path_factory):
    """Return a run of it."""
    out = tmp_path_factory.mktemp("own") / "run"
    main(["train", "small-real", *options(tiny_corpus, out, alpha=2), "--quiet"])
    return out


def test_it_is_trained_under_its_own_name(real):
    model = load(real)
    assert isinstance(model.network, own_network.OwnNetwork)
    assert "own.weight_hh" in dict(model.named_parameters())


def test_a_network_that_does_not_forget_is_read_as_one_stream(monkeypatch, real):
    model = load(real)
    assert segments.segments_for(model, 10**9) > 1
    monkeypatch.setattr(own_network.OwnNetwork, "forgets", False)
    assert segments.segments_for(model, 10**9) == 1


@pytest.mark.parametrize("to", ["hf", "onnx"])
def test_export_refuses_it(capsys, tmp_path, real, to):
    status, _, err = run_command(capsys, "export", real, "--to", to, tmp_path / "exported")
    assert status == 2
    assert "and this run has own; tiedlm.load reads it in Python" in err
    assert not (tmp_path / "exported").exists()


def test_where_it_is_not_registered_the_known_ones_are_named(
    capsys, monkeypatch, tiny_corpus, tmp_path, real
):
    known = {"lstm": network.builder_of("lstm")}
    monkeypatch.setattr(network, "_BUILDERS", known)
    arguments = options(tiny_corpus, tmp_path / "run")
    for command, message in (
        (("train", "small", *arguments), "network 'own' is not registered; known: lstm"),
        (("predict", real, "the cat"), f"{real}: network 'own' is not registered; tiedlm does not"),
    ):
        status, _, err = run_command(capsys, *command)
        assert status == 2
        assert message in err
        assert "is not a model configuration" not in err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [("more_bias", (3,), "tensor 'own.more_bias' is missing"), ("bias", (1,), "has shape (10,)")],
)
def test_a_run_whose_network_has_changed_is_not_resumed(
    capsys, monkeypatch, tiny_corpus, tmp_path, real, name, shape, message
):
    def changed(self, config):
        init(self, config)
        setattr(self, name, torch.nn.Parameter(torch.empty(shape)))

    shutil.copytree(real, tmp_path / "run")
    init = own_network.OwnNetwork.__init__
    monkeypatch.setattr(own_network.OwnNetwork, "__init__", changed)
    arguments = options(tiny_corpus, tmp_path / "run", alpha=2, epochs=4)
    status, _, err = run_command(capsys, "train", "small-real", *arguments)
    assert status == 2
    assert err.count("\n") == 1
    assert message in err


@pytest.mark.parametrize("changes", [True, False])
def test_a_network_whose_buffers_change_is_refused_because_a_run_has_none(
    capsys, monkeypatch, tiny_corpus, tmp_path, changes
):
    def with_buffer(self, config):
        init(self, config)
        self.register_buffer("seen", torch.zeros(1))
        self.register_buffer("scratch", torch.zeros(1), persistent=False)

    def counting(self, x_TBE, state):
        self.scratch += 1
        self.seen += changes and self.training
        return forward(self, x_TBE, state)

    network, init = own_network.OwnNetwork, own_network.OwnNetwork.__init__
    forward = network.forward_time_major
    monkeypatch.setattr(network, "__init__", with_buffer)
    monkeypatch.setattr(network, "forward_time_major", counting)
    arguments = options(tiny_corpus, tmp_path / "run", epochs=1)
    status, _, err = run_command(capsys, "train", "small", *arguments, "--quiet")
    assert status == (2 if changes else 0)
    assert ("'own' changed its buffer 'own.seen' in training" in err) == changes
    assert (tmp_path / "run" / "model.safetensors").exists() != changes


def test_a_run_of_one_network_cannot_be_resumed_with_another(capsys, tiny_corpus, tmp_path, real):
    other = options(tiny_corpus, real, network="lstm", alpha=2)
    status, _, err = run_command(capsys, "train", "small-real", *other)
    assert status == 2
    assert "network: 'own' -> 'lstm'" in err
    fresh = options(tiny_corpus, tmp_path / "run", network="lstm")
    status, _, err = run_command(capsys, "train", "small-real", *fresh, "--init-from", real)
    assert status == 2
    assert "has network own, this run lstm" in err
