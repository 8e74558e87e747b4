"""examples/keyboard.py proposes words from an exported run of words or of pieces."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import tiedlm
from export_support import WORDS, make_run
from tiedlm import LanguageModel, ModelConfig
from tiedlm.data import tokenize
from tiedlm.data.pieces import train_pieces
from tiedlm.export.onnx_files import export_onnx
from tiedlm.files import write_json
from tiedlm.training.run import config_of, save_weights
from tiedlm.training.settings import Settings

for module in ("onnx", "onnxruntime"):
    pytest.importorskip(module, reason=f"{module} (tiedlm[onnx]) is not installed")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

EXAMPLE = Path(__file__).parents[2] / "examples" / "keyboard.py"
NETWORKS = ("lstm", "gru", "rhn")
GEORGIAN = ("<eos>", "<unk>", "ნინო", ",", "სად", "არის", "სახლი", "?", "N", "``", "''", "--")
LINES = ["ნინო სად არის სახლი", "დიდი სახლი არის აქ", "the cat's house, the dog's house"] * 9


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("keyboard", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def exported(folder, words=WORDS, tokenizer=None, network="lstm"):
    """Return (model, folder of the ONNX files)."""
    shape = {"d_embed": 12, "d_hidden": 12, "tied": True, "network": network}
    model = make_run(folder / "run", shape, tokenizer, words)
    export_onnx(folder / "run", folder / "onnx")
    return model, folder / "onnx"


def order_after(model, ids):
    """Return all ids, the most probable next one first."""
    with torch.no_grad():
        hidden, _ = model(torch.tensor([list(map(int, ids))]))
        return model.decode(hidden)[0, -1].argsort(descending=True).tolist()


def typed(folder, lines, *flags, absent=()):
    """Run the program without tiedlm and torch; return (status, output, errors)."""
    program = (
        "import runpy, sys\n"
        f"sys.modules.update(dict.fromkeys({['tiedlm', 'torch', *absent]}))\n"
        "sys.argv[0] = sys.argv[1]; del sys.argv[1]\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, EXAMPLE, folder, *flags],
        input=lines, capture_output=True, text=True, encoding="utf-8",
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def test_split_text_needs_onnxruntime_and_numpy_alone(tmp_path, monkeypatch):
    model, folder = exported(tmp_path)
    (folder / "tokenizer.json").unlink()  # as in exports of earlier versions
    status, out, err = typed(folder, "the cat does zebra\n", "--top", "3")
    assert status == 0, err
    hidden = {WORDS.index(word) for word in ("<eos>", "<unk>", "N")}
    best = [n for n in order_after(model, [0, 2, 4, 6, 1]) if n not in hidden]
    assert out.split() == [WORDS[n] for n in best][:3]
    assert "ms a word" in err


@pytest.mark.parametrize("network", NETWORKS)
def test_the_state_of_every_network_is_carried(example, tmp_path, network):
    model, folder = exported(tmp_path, network=network)
    keyboard = example.Keyboard(folder, top=4)
    for number in (0, 2, 4, 6):
        keyboard.read(number)
    best = [n for n in order_after(model, [0, 2, 4, 6]) if n not in (0, 1, WORDS.index("N"))]
    assert keyboard.propose() == [WORDS[n] for n in best[:4]]


def test_raw_typing_is_read_like_the_text_of_the_training(example, tmp_path):
    pytest.importorskip("tokenizers", reason="tokenizers (tiedlm[pieces])")
    _, folder = exported(tmp_path, GEORGIAN, "tiedlm")
    keyboard = example.Keyboard(folder)
    for line in ("ნინო, სად", "„ნინო“ 12 — არის", "ᲜᲘᲜᲝ, სადაა"):
        ids = keyboard.encode(line)
        assert ids == [keyboard.ids.get(word, 1) for word in tokenize(line)]
    assert keyboard.encode("ნინო, სად") == [2, 3, 4]
    assert keyboard.encode("სად?") == [4, 7, 0]  # the next word begins a sentence
    assert keyboard.encode("") == []


def test_one_eos_stands_between_two_lines(example, tmp_path):
    model, folder = exported(tmp_path)
    keyboard = example.Keyboard(folder, top=4)
    for number in (0, 2, 4, 0, 0, 3):
        keyboard.read(number)
    best = [n for n in order_after(model, [0, 2, 4, 0, 3]) if n not in (0, 1, WORDS.index("N"))]
    assert keyboard.propose() == [WORDS[n] for n in best[:4]]


def test_proposals_are_as_people_type_them(example, tmp_path):
    pytest.importorskip("tokenizers", reason="tokenizers (tiedlm[pieces])")
    _, folder = exported(tmp_path, GEORGIAN, "tiedlm")
    keyboard = example.Keyboard(folder, top=500)
    keyboard.read(keyboard.eos)
    assert sorted(keyboard.propose()) == sorted([*GEORGIAN[2:8], "“", "”", "—"])


@pytest.fixture(scope="module", params=["bpe", "unigram"])
def pieces(request, tmp_path_factory):
    """Return (model, folder of the ONNX files) of an untrained run of pieces."""
    pytest.importorskip("tokenizers", reason="tokenizers (tiedlm[pieces])")
    folder = tmp_path_factory.mktemp(request.param)
    vocabulary = train_pieces(LINES, request.param, 320)
    torch.manual_seed(7)
    model = LanguageModel(
        ModelConfig(vocab_size=len(vocabulary), d_embed=12, d_hidden=12, tied=True, init_range=0.8)
    )
    about = {"name": "own", "tokenizer": "pieces", "pieces": {"words": None}}
    chosen = Settings(pieces=request.param, vocab_size=320).resolved()
    write_json(folder / "run" / "config.json", config_of(model, chosen.to_dict(), about))
    save_weights(model, folder / "run" / "model.safetensors")
    vocabulary.save(folder / "run" / "vocabulary.txt")
    export_onnx(folder / "run", folder / "onnx")
    return tiedlm.load(folder / "run"), folder / "onnx"


def test_a_line_has_the_pieces_of_the_run(example, pieces):
    model, folder = pieces
    keyboard = example.Keyboard(folder)
    for line in ("ნინო, სად", "The cat's <eos> სახლი😀", ""):
        assert keyboard.encode(line) == model.vocabulary.split(line).ids.tolist()


def test_pieces_that_begin_a_word_are_those_of_the_vocabulary(example, pieces):
    model, folder = pieces
    begins = model.vocabulary.begins.copy()
    for number, word in enumerate(model.vocabulary.words):
        if number == model.vocabulary.eos_id or word in ("<0x09>", "<0x0B>", "<0x0C>", "<0x0D>"):
            begins[number] = False  # nobody types these before a word
    np.testing.assert_array_equal(example.Keyboard(folder).proposed, begins)


def test_each_proposal_is_a_beginning_completed_by_its_most_probable_pieces(example, pieces):
    model, folder = pieces
    keyboard = example.Keyboard(folder, top=20)
    context = [keyboard.eos, *keyboard.encode("ნინო სად")]
    for number in context:
        keyboard.read(number)
    expected = []
    for first in [n for n in order_after(model, context) if keyboard.proposed[n]][:20]:
        word = [first]
        while len(word) <= example.LONGEST:
            following = order_after(model, context + word)[0]
            if keyboard.ends[following]:
                break
            word.append(following)
        text = model.vocabulary.text([*word]).strip()
        if text and "\ufffd" not in text:
            expected.append(text)
    found = keyboard.propose()
    assert len(found) > 3 or "unigram" in str(folder)  # of which most are single bytes
    assert sorted(found) == sorted(set(expected))


def test_mistakes_are_one_clear_line(tmp_path):
    _, folder = exported(tmp_path)
    for arguments, expected in [
        ((tmp_path / "run", "--int8"), "is a run; first `tiedlm export"),
        ((folder, "--int8"), "has no step.int8.onnx; `tiedlm export RUN --to onnx"),
        ((tmp_path / "nowhere",), "has no step.onnx"),
        ((folder, "--top", "0"), "--top: expected at least 1, got 0"),
    ]:
        status, _, err = typed(arguments[0], "", *arguments[1:])
        assert status == 2
        assert expected in err.splitlines()[-1]
        assert "Traceback" not in err
    status, out, _ = typed(folder, "the\n", "--top", "500")
    assert status == 0
    assert len(out.split()) == len(WORDS) - 3  # all but <eos>, <unk> and N


@pytest.mark.parametrize("installed", [True, False])
def test_raw_text_without_its_tokenizer_is_one_clear_line(tmp_path, installed):
    pytest.importorskip("tokenizers", reason="tokenizers (tiedlm[pieces])")
    _, folder = exported(tmp_path, tokenizer="tiedlm")
    (folder / "tokenizer.json").unlink()
    status, _, err = typed(folder, "", absent=[] if installed else ["tokenizers"])
    assert status == 2
    expected = "has no tokenizer.json; export the run again" if installed else "tokenizers"
    assert expected in err.splitlines()[-1]
    assert "Traceback" not in err


def test_the_program_is_short():
    assert len(EXAMPLE.read_text().splitlines()) <= 140
