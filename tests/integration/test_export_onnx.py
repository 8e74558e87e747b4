"""After ``tiedlm export --to onnx``, onnxruntime and speech tools get the same numbers."""

import json
import sys

import numpy as np
import pytest
import torch

import tiedlm
import tiedlm.cli
from export_support import SHAPES, make_run
from tests_support import run_command
from tiedlm.evaluation import evaluate
from tiedlm.evaluation.perplexity import token_losses
from tiedlm.export.onnx_check import onnx_perplexity, session, zero_state
from tiedlm.export.onnx_files import export_onnx

onnx = pytest.importorskip("onnx", reason="onnx (tiedlm[onnx]) is not installed")
pytest.importorskip("onnxruntime", reason="onnxruntime (tiedlm[onnx]) is not installed")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

EOS = 0


@pytest.fixture(scope="module", params=SHAPES)
def exported(request, tmp_path_factory):
    """Return (tiedlm's model, the folder with its ONNX files, including eight-bit ones)."""
    folder = tmp_path_factory.mktemp(request.param)
    model = make_run(folder / "run", request.param)
    export_onnx(folder / "run", folder / "onnx", int8_text=random_words(model, 400))
    return model, folder / "onnx"


def random_words(model, *shape, seed=1):
    return np.random.default_rng(seed).integers(0, model.config.vocab_size, shape)


def log_probs(model, ids_BT, state=None):
    with torch.no_grad():
        hidden, state = model(torch.from_numpy(ids_BT), state)
        return model.decode(hidden).log_softmax(dim=-1).numpy(), state


def metadata(path):
    return session(path).get_modelmeta().custom_metadata_map


def names(values):
    return [value.name for value in values]


def test_five_thousand_words_word_by_word_stay_near_the_model(exported):
    model, folder = exported
    step = session(folder / "step.onnx")
    assert names(step.get_inputs()) == ["tokens", "h", "c"]
    assert names(step.get_outputs()) == ["log_probs", "next_h", "next_c"]
    ids_1T = random_words(model, 1, 5000)
    expected_1TV, state = log_probs(model, ids_1T)
    h_LBH, c_LBH = zero_state(step, 1).values()
    largest = 0.0
    for position in range(5000):
        out, h_LBH, c_LBH = step.run(
            None, {"tokens": ids_1T[:, position : position + 1], "h": h_LBH, "c": c_LBH}
        )
        largest = max(largest, np.abs(out[0, 0] - expected_1TV[0, position]).max())
    assert largest <= 1e-4
    np.testing.assert_allclose(h_LBH, state.h, rtol=0, atol=1e-4)
    np.testing.assert_allclose(c_LBH, state.c, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("batch", "steps"), [(1, 1), (3, 7), (5, 1), (1, 41)])
def test_batch_and_length_are_free(exported, batch, steps):
    model, folder = exported
    step = session(folder / "step.onnx")
    ids_BT = random_words(model, batch, steps)
    h_LBH, c_LBH = zero_state(step, batch).values()
    found, *_ = step.run(None, {"tokens": ids_BT, "h": h_LBH, "c": c_LBH})
    np.testing.assert_allclose(found, log_probs(model, ids_BT)[0], rtol=0, atol=1e-5)


def test_perplexity_in_onnxruntime_is_that_of_evaluate(exported):
    model, folder = exported
    ids = random_words(model, 1300, seed=2)
    expected = evaluate(model, ids).perplexity
    assert onnx_perplexity(folder / "step.onnx", ids) == pytest.approx(expected, rel=1e-5)


def test_icefall_with_state_gives_the_next_word_after_the_last(exported):
    model, folder = exported
    streaming = session(folder / "with-state.onnx")
    assert names(streaming.get_inputs()) == ["x", "h0", "c0"]
    assert names(streaming.get_outputs()) == ["log_softmax", "next_h0", "next_c0"]
    ids_NL = random_words(model, 3, 12)
    h, c = zero_state(streaming, 3).values()
    for start, stop in ((0, 1), (1, 2), (2, 12)):  # a word at a time, then several
        found_NV, h, c = streaming.run(None, {"x": ids_NL[:, start:stop], "h0": h, "c0": c})
        expected = log_probs(model, ids_NL[:, :stop])[0][:, -1]
        np.testing.assert_allclose(found_NV, expected, rtol=0, atol=1e-5)


def test_icefall_without_state_gives_the_cost_of_sentences_of_any_length(exported):
    model, folder = exported
    whole = session(folder / "no-state.onnx")
    assert names(whole.get_inputs()) == ["x", "x_lens"]
    assert names(whole.get_outputs()) == ["nll"]
    x_NL = random_words(model, 4, 9)
    x_lens = np.array([9, 1, 0, 5])
    (nll,) = whole.run(None, {"x": x_NL, "x_lens": x_lens})
    assert nll.shape == (4,)
    for row, length in enumerate(x_lens):
        sentence = np.concatenate([[EOS], x_NL[row, :length], [EOS]])
        assert nll[row] == pytest.approx(token_losses(model, sentence).sum(), rel=1e-5)


def test_metadata_has_the_keys_that_speech_tools_read(exported):
    model, folder = exported
    words = {"sos_id": "0", "eos_id": "0", "vocab_size": str(model.config.vocab_size)}
    sizes = {
        "num_layers": str(model.config.n_layers),
        "hidden_size": str(model.config.d_hidden),
        "embedding_dim": str(model.config.d_embed),
    }
    for suffix in ("onnx", "int8.onnx"):
        no_state = metadata(folder / f"no-state.{suffix}")
        assert no_state["model_type"] == "rnnlm"
        assert words.items() <= no_state.items()
        assert (words | sizes).items() <= metadata(folder / f"with-state.{suffix}").items()
        step = metadata(folder / f"step.{suffix}")
        assert (words | sizes | {"tokenizer": "blanks", "unk_id": "1"}).items() <= step.items()


def test_a_tied_matrix_is_stored_once_in_float_and_in_eight_bits(exported):
    model, folder = exported
    V, E = model.config.vocab_size, model.config.d_embed
    for path in folder.glob("*.onnx"):
        stored = onnx.load(path).graph.initializer
        matrices = [tensor for tensor in stored if sorted(tensor.dims) == sorted([V, E])]
        untied_of_one_width = not model.config.tied and model.config.d_hidden == E
        assert len(matrices) == 1 + untied_of_one_width


def test_every_eight_bit_file_runs_and_stays_near(exported):
    model, folder = exported
    ids_NL = random_words(model, 2, 6)
    for name in ("step", "with-state", "no-state"):
        outputs = []
        for suffix in ("onnx", "int8.onnx"):
            opened = session(folder / f"{name}.{suffix}")
            first, *others = opened.get_inputs()
            feeds = {first.name: ids_NL}
            for other in others:
                shape = [2 if isinstance(size, str) else size for size in other.shape]
                integer = other.type == "tensor(int64)"
                feeds[other.name] = np.full(shape, 6) if integer else np.zeros(shape, np.float32)
            outputs.append(opened.run(None, feeds)[0])
        assert 0 < np.abs(outputs[0] - outputs[1]).max() < 0.1 * np.abs(outputs[0]).max()


def test_the_report_beside_the_files_holds_the_measurements(exported):
    _, folder = exported
    report = json.loads((folder / "export.json").read_text())
    assert report["opset"] == onnx.load(folder / "step.onnx").opset_import[0].version == 17
    assert report["largest_difference"] <= 1e-4
    assert report["perplexity_tokens"] == 399
    assert report["perplexity"] != report["perplexity_int8"]
    assert set(report["sizes"]) == {path.name for path in folder.glob("*.onnx")}
    assert tiedlm.Vocabulary.load(folder / "vocabulary.txt").eos_id == EOS


def test_int8_is_measured_on_the_validation_text(capsys, tiny_corpus, tmp_path):
    run = tmp_path / "run"
    tiedlm.cli.main(
        ["train", "small-real", "--data", str(tiny_corpus), "--out", str(run), "--quiet",
         "--d-embed=12", "--d-hidden=12", "--batch-size=4", "--bptt=5", "--epochs=2",
         "--threads=1"]
    )  # fmt: skip
    capsys.readouterr()
    status, out, _ = run_command(
        capsys, "export", run, "--to", "onnx", tmp_path / "onnx", "--int8", "--json"
    )
    assert status == 0
    report = json.loads(out)
    valid = json.loads((run / "result.json").read_text())["valid_ppl"]
    assert report["perplexity"] == pytest.approx(valid, rel=1e-5)
    assert report["perplexity_int8"] == pytest.approx(valid, rel=0.05)
    assert report["word_perplexity_int8"] == report["perplexity_int8"]  # it has words, not pieces
    assert (
        json.loads((tmp_path / "onnx" / "tokenizer.json").read_text())["model"]["type"]
        == "WordLevel"
    )
    assert list((tmp_path / "onnx").glob("*.int8.onnx"))
    # Exporting another run into the same folder removes the first one's eight-bit files.
    make_run(tmp_path / "other", "tied")
    again = ("export", tmp_path / "other", "--to", "onnx", tmp_path / "onnx")
    status, out, _ = run_command(capsys, *again)
    assert status == 0
    assert out.startswith(f"{tmp_path / 'onnx'} (replaced an earlier export)\n")
    assert not list((tmp_path / "onnx").glob("*.int8.onnx"))
    for more in ([], ["--int8"]):  # arguments swapped
        status, _, err = run_command(
            capsys, "export", tmp_path / "onnx", "--to", "onnx", run, *more
        )
        assert status == 2
        assert "is an ONNX export, not a run folder; give the run that it was made from" in err


def test_a_network_without_a_streaming_file_removes_an_earlier_one(tmp_path):
    make_run(tmp_path / "lstm", "one-layer")
    export_onnx(tmp_path / "lstm", tmp_path / "onnx")
    (tmp_path / "onnx" / "mine.onnx").write_bytes(b"")
    make_run(tmp_path / "gru", {"network": "gru", "d_embed": 6, "d_hidden": 6})
    report = export_onnx(tmp_path / "gru", tmp_path / "onnx")
    found = {path.name for path in (tmp_path / "onnx").glob("*.onnx")}
    assert found == {*report.sizes, "mine.onnx"} == {"step.onnx", "no-state.onnx", "mine.onnx"}


def test_mistakes_are_one_line(capsys, tmp_path, monkeypatch):
    make_run(tmp_path / "run", "tied")
    for arguments, expected in [
        ((tmp_path / "run", "--to", "onnx", tmp_path / "run"), "holds other files"),
        ((tmp_path / "run", "--to", "onnx", tmp_path / "o", "--no-check"), "--no-check needs"),
        ((tmp_path / "run", "--to", "onnx", tmp_path / "o", "--int8"), "tiny"),
        ((tmp_path / "run", "--to", "tflite", tmp_path / "o"), "tflite"),
    ]:
        status, _, err = run_command(capsys, "export", *arguments)
        assert status == 2
        assert expected in err
        assert err.count("\n") == 1
    for package in ("onnx", "onnxruntime"):
        with monkeypatch.context() as absent:
            absent.setitem(sys.modules, package, None)
            status, _, err = run_command(
                capsys, "export", tmp_path / "run", "--to", "onnx", tmp_path / "o"
            )
        assert status == 2
        assert f"needs {package}: pip install 'tiedlm[onnx]'" in err
        assert not (tmp_path / "o").exists()
