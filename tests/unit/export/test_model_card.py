"""The model card describes the model, and the Hub can read it."""

import json
import sys

import pytest

from export_support import make_run
from tests_support import run_command

huggingface_hub = pytest.importorskip("huggingface_hub")


def card_of(capsys, folder, *flags, shape="tied", result=None):
    make_run(folder / "run", shape)
    if result is not None:
        (folder / "run" / "result.json").write_text(json.dumps(result))
    command = ["export", folder / "run", "--to", "hf", folder / "hf", "--no-check", *flags]
    assert run_command(capsys, *command)[0] == 0
    return huggingface_hub.ModelCard.load(folder / "hf" / "README.md")


def test_the_metadata_names_licence_language_corpus_and_perplexities(capsys, tmp_path):
    result = {"valid_ppl": 12.5, "test_ppl": 13.25, "epochs": 3, "parameters": 2_568}
    flags = ("--license", "apache-2.0", "--language", "en")
    data = card_of(capsys, tmp_path, *flags, result=result).data
    assert (data.license, data.language, data.library_name) == ("apache-2.0", "en", "transformers")
    assert {"lstm", "weight-tying"} <= set(data.tags)
    found = {
        (r.dataset_name, r.dataset_split, r.metric_name, r.metric_value) for r in data.eval_results
    }
    (name,) = data.datasets
    assert found == {
        (name, "validation", "word_perplexity", 12.5),
        (name, "test", "word_perplexity", 13.25),
    }


def test_unknown_metadata_is_left_out(capsys, tmp_path):
    data = card_of(capsys, tmp_path).data
    assert (data.license, data.language, data.eval_results) == (None, None, None)


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ("tied", "embeddings tied, no bias"),
        ("tied-with-bias", "embeddings tied, a bias"),
        ("untied", "embeddings not tied, a bias"),
    ],
)
def test_the_card_describes_the_model(capsys, tmp_path, shape, said):
    card = card_of(capsys, tmp_path, shape=shape)
    assert said in card.text.replace("\n", " ")
    assert "LSTM language model" in card.text


def test_the_card_names_the_version_and_the_loss_of_the_training(capsys, tmp_path):
    make_run(tmp_path / "run", "tied")
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    config["tiedlm"] = "0.0.7"
    config["settings"] |= {"alpha": 26.0, "temperature": 13.0}
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    command = ["export", tmp_path / "run", "--to", "hf", tmp_path / "hf", "--no-check"]
    assert run_command(capsys, *command)[0] == 0
    card = (tmp_path / "hf" / "README.md").read_text()
    assert "tiedlm 0.0.7" in card
    assert "the augmented loss (alpha 26, temperature 13)" in card
    assert "augmented" not in card_of(capsys, tmp_path / "plain").text


def test_the_card_says_what_becomes_of_an_unknown_word(capsys, tmp_path):
    assert "does not know are read as `<unk>`" in card_of(capsys, tmp_path / "with").text
    make_run(tmp_path / "run", "tied", words=("<eos>", "the", "cat"))
    command = ["export", tmp_path / "run", "--to", "hf", tmp_path / "hf", "--no-check"]
    assert run_command(capsys, *command)[0] == 0
    card = (tmp_path / "hf" / "README.md").read_text()
    assert "The model has no `<unk>`. A text with a word that it does not know is an error." in card
    assert "are read as" not in card


def test_a_card_needs_its_library_and_names_the_extra(capsys, tmp_path, monkeypatch):
    make_run(tmp_path / "run", "tied")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    status, _, err = run_command(
        capsys, "export", tmp_path / "run", "--to", "hf", tmp_path / "hf", "--no-check"
    )
    assert status == 2
    assert "pip install 'tiedlm[hf]'" in err
    assert not (tmp_path / "hf").exists()


def test_flags_of_the_card_are_refused_where_there_is_none(capsys, tmp_path):
    make_run(tmp_path / "run", "tied")
    command = ("export", tmp_path / "run", "--to", "onnx", tmp_path / "o", "--license", "mit")
    status, _, err = run_command(capsys, *command)
    assert status == 2
    assert "--license and --language need `--to hf`" in err
