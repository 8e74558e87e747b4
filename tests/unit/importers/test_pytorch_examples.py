"""Imported checkpoints compute the same as their original module."""

import importlib
import math
import re
import subprocess
import sys
from collections import OrderedDict

import pytest
import torch
from torch import nn

import tiedlm
from tiedlm import Vocabulary
from tiedlm.errors import UserError
from tiedlm.importers import import_checkpoint, write_run

WORDS = ["<eos>", "<unk>", *(f"w{i}" for i in range(21))]

# A minimal version of what both programs save: their RNNModel has these three children.
MODULE = """
from torch import nn

class RNNModel(nn.Module):
    def __init__(
        self, kind="LSTM", words=23, width=7, hidden=7, layers=2, tied=False, **options
    ):
        super().__init__()
        self.encoder = nn.Embedding(words, width)
        self.rnn = getattr(nn, kind)(width, hidden, layers, **options)
        self.decoder = nn.Linear(hidden, words)
        nn.init.normal_(self.decoder.bias)
        if tied:
            self.decoder.weight = self.encoder.weight

    def forward(self, tokens, hidden=None):  # (T, B)
        output, hidden = self.rnn(self.encoder(tokens), hidden)
        return self.decoder(output), hidden
"""
namespace = {"__name__": "legacy"}
exec(MODULE, namespace)
RNNModel = namespace["RNNModel"]


@pytest.fixture
def vocabulary_file(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(WORDS) + "\n")
    return path


def save(value, tmp_path):
    torch.save(value, tmp_path / "model.pt")
    return tmp_path / "model.pt"


@pytest.mark.parametrize(
    "shape",
    [
        {"tied": True},
        {"tied": False},
        {"hidden": 9, "layers": 1},
        {"width": 5, "hidden": 3, "layers": 4},
    ],
    ids=lambda shape: ",".join(f"{k}={v}" for k, v in shape.items()),
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_logits_equal_the_module_s(tmp_path, vocabulary_file, shape, dtype):
    torch.manual_seed(0)
    legacy = RNNModel(**shape).to(dtype)
    imported = import_checkpoint(save(legacy.state_dict(), tmp_path), vocabulary_file)
    model = imported.model
    assert model.config.tied is shape.get("tied", False)
    assert model.num_params() == model.config.num_params()
    tokens_TB = torch.randint(len(WORDS), (11, 3))
    with torch.no_grad():
        expected, (h, c) = legacy(tokens_TB)
        hidden, state = model(tokens_TB.t())
        found = model.decode(hidden)
    for one, other in ((found, expected.transpose(0, 1)), (state.h, h), (state.c, c)):
        torch.testing.assert_close(one, other.float(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("rename", "wrappers"),
    [
        (lambda name: f"module.{name}", ("module",)),
        (lambda name: f"_orig_mod.{name}", ("_orig_mod",)),
        (lambda name: f"module._orig_mod.{name}", ("module", "_orig_mod")),
        (lambda name: f"_orig_mod.module.{name}", ("module", "_orig_mod")),
        (lambda name: name.replace("rnn.", "rnn._orig_mod."), ("_orig_mod",)),
        (lambda name: f"_fsdp_wrapped_module.{name}", ("_fsdp_wrapped_module",)),
        (lambda name: name, ()),
    ],
    ids=["parallel", "compiled", "both", "the other way", "a part", "sharded", "plain"],
)
def test_a_model_is_read_out_of_pytorch_s_wrappers(tmp_path, vocabulary_file, rename, wrappers):
    state = RNNModel().state_dict()
    expected = import_checkpoint(save(state, tmp_path), vocabulary_file)
    wrapped = {rename(name): tensor for name, tensor in state.items()}
    found = import_checkpoint(save(wrapped, tmp_path), vocabulary_file)
    assert (expected.wrappers, found.wrappers) == ((), wrappers)
    for one, other in zip(expected.model.parameters(), found.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_two_models_in_one_state_dict_are_refused(tmp_path, vocabulary_file):
    state = RNNModel().state_dict()
    both = state | {f"module.{name}": tensor for name, tensor in state.items()}
    with pytest.raises(UserError, match=r"tensor 'encoder\.weight' twice, once inside 'module'"):
        import_checkpoint(save(both, tmp_path), vocabulary_file)


def test_the_run_folder_is_loaded_with_the_same_logits_and_words(tmp_path, vocabulary_file):
    legacy = RNNModel(tied=True)
    imported = import_checkpoint(save(legacy.state_dict(), tmp_path), vocabulary_file)
    write_run(imported, tmp_path / "run")
    model = tiedlm.load(tmp_path / "run")
    assert model.vocabulary == Vocabulary(WORDS)
    assert model.decoder.weight is model.embedding.weight
    tokens_BT = torch.randint(len(WORDS), (2, 5))
    with torch.no_grad():
        a, b = (m.decode(m(tokens_BT)[0]) for m in (model, imported.model))
    assert torch.equal(a, b)
    with pytest.raises(UserError, match="already holds a run"):
        write_run(imported, tmp_path / "run")


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "format-before-1.6"])
def test_a_pickled_module_is_refused_with_the_lines_that_convert_it(
    tmp_path, vocabulary_file, monkeypatch, zipped
):
    (tmp_path / "legacy.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "legacy", raising=False)
    whole = importlib.import_module("legacy").RNNModel()
    torch.save(whole, tmp_path / "whole.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(UserError, match="whole pickled module") as caught:
        import_checkpoint(tmp_path / "whole.pt", vocabulary_file)
    lines = re.search(r"import torch; .*", str(caught.value))[0]
    subprocess.run([sys.executable, "-c", lines], cwd=tmp_path, check=True)
    imported = import_checkpoint(tmp_path / "whole.state.pt", vocabulary_file)
    assert imported.model.config.n_layers == 2


def test_refusing_a_pickle_does_not_execute_it(tmp_path, vocabulary_file):
    class Payload:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    path = save({"encoder.weight": Payload()}, tmp_path)
    with pytest.raises(UserError, match="unpickling runs code from the file"):
        import_checkpoint(path, vocabulary_file)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(
    ("kind", "module_options", "options"),
    [
        ("GRU", {}, {}),
        ("RNN", {"nonlinearity": "tanh"}, {}),
        ("RNN", {"nonlinearity": "relu"}, {"activation": "relu"}),
    ],
)
def test_gru_and_rnn_give_the_module_s_logits(
    tmp_path, vocabulary_file, kind, module_options, options, tied
):
    torch.manual_seed(0)
    legacy = RNNModel(kind, tied=tied, **module_options)
    path = save(legacy.state_dict(), tmp_path)
    model = import_checkpoint(path, vocabulary_file, options).model
    assert model.config.network == {"GRU": "gru", "RNN": "elman"}[kind]
    assert model.config.tied is tied
    tokens_TB = torch.randint(len(WORDS), (11, 3))
    with torch.no_grad():
        expected, h = legacy(tokens_TB)
        hidden, state = model(tokens_TB.t())
        found = model.decode(hidden)
    for one, other in ((found, expected.transpose(0, 1)), (state.h, h)):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_an_option_of_another_network_is_refused(tmp_path, vocabulary_file):
    path = save(RNNModel("GRU").state_dict(), tmp_path)
    with pytest.raises(UserError, match="network gru has no option 'activation'; it has none"):
        import_checkpoint(path, vocabulary_file, {"activation": "relu"})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"rnn.bias_hh_l0": None}, "has no tensor 'rnn.bias_hh_l0'"),
        ({"decoder.bias": None}, "has no tensor 'decoder.bias'"),
        ({"rnn.weight_ih_l0_reverse": torch.ones(2)}, "unknown tensor 'rnn.weight_ih_l0_reverse'"),
    ],
)
def test_a_missing_or_extra_tensor_is_named(tmp_path, vocabulary_file, change, says):
    state = RNNModel().state_dict() | change
    state = {name: tensor for name, tensor in state.items() if tensor is not None}
    with pytest.raises(UserError, match=says):
        import_checkpoint(save(state, tmp_path), vocabulary_file)


@pytest.mark.parametrize(
    "change",
    [
        {"rnn.weight_hh_l0": torch.ones(28)},
        {"rnn.weight_ih_l1": torch.ones(28, 6)},
        {"decoder.weight": torch.ones(22, 7)},
        {"rnn.bias_ih_l0": torch.tensor(1.0)},
        {"rnn.bias_hh_l1": torch.ones(28, 1)},
    ],
)
def test_a_tensor_of_a_wrong_shape_is_one_line(tmp_path, vocabulary_file, change):
    path = save(RNNModel().state_dict() | change, tmp_path)
    with pytest.raises(UserError, match=r"is not a matrix|of wrong shapes"):
        import_checkpoint(path, vocabulary_file)


def test_a_folder_with_other_files_is_left_alone(tmp_path, vocabulary_file):
    imported = import_checkpoint(save(RNNModel().state_dict(), tmp_path), vocabulary_file)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "model.safetensors").write_text("precious")
    with pytest.raises(UserError, match="holds other files"):
        write_run(imported, tmp_path / "run")
    assert (tmp_path / "run" / "model.safetensors").read_text() == "precious"


def test_another_state_dict_is_refused(tmp_path, vocabulary_file):
    path = save(nn.Linear(2, 2).state_dict(), tmp_path)
    with pytest.raises(UserError, match="supported are LSTM, GRU and RNN checkpoints"):
        import_checkpoint(path, vocabulary_file)


@pytest.mark.parametrize(
    "value",
    [{"model": RNNModel().state_dict(), "epoch": 3}, torch.ones(3), {1: torch.ones(3)}],
)
def test_a_file_without_a_state_dict_is_refused(tmp_path, vocabulary_file, value):
    with pytest.raises(UserError, match="is not a state dict"):
        import_checkpoint(save(value, tmp_path), vocabulary_file)


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_numbers_that_are_not_finite_are_refused_by_name(tmp_path, vocabulary_file, number):
    state = RNNModel().state_dict()
    state["rnn.weight_hh_l0"][2, 1] = number
    with pytest.raises(UserError, match=r"'rnn\.weight_hh_l0' has values that are not finite"):
        import_checkpoint(save(state, tmp_path), vocabulary_file)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "format-before-1.6"])
def test_a_flipped_bit_gives_at_most_one_line(tmp_path, vocabulary_file, zipped):
    path = tmp_path / "flipped.pt"
    torch.save(RNNModel().state_dict(), path, _use_new_zipfile_serialization=zipped)
    data = path.read_bytes()
    refused = []
    for place in range(0, len(data), len(data) // 150):
        path.write_bytes(data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :])
        try:
            import_checkpoint(path, vocabulary_file)
        except UserError as error:
            refused.append(str(error))
    assert len(refused) > 3
    assert all(str(path) in line or str(vocabulary_file) in line for line in refused)


def test_a_file_of_another_kind_is_named(tmp_path, vocabulary_file):
    contents = (b"", b"plain text", b"PK\x03\x04 cut", b"hello\n", b"apple\nbanknote\n<eos>\n")
    for index, data in enumerate(contents):
        name = f"{index}.pt"
        (tmp_path / name).write_bytes(data)
        with pytest.raises(UserError, match="not a PyTorch checkpoint or is damaged"):
            import_checkpoint(tmp_path / name, vocabulary_file)
    with pytest.raises(UserError, match="does not exist"):
        import_checkpoint(tmp_path / "none.pt", vocabulary_file)


def test_a_vocabulary_of_another_size_is_refused(tmp_path, vocabulary_file):
    path = save(OrderedDict(RNNModel(words=24).state_dict()), tmp_path)
    with pytest.raises(UserError, match=r"has 23 words and .* has word vectors for 24"):
        import_checkpoint(path, vocabulary_file)
