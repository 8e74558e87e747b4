"""A run of pieces is exported with its tokenizer, and others get the same ids and numbers."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import tiedlm
from tests_support import run_command
from tiedlm import LanguageModel, ModelConfig
from tiedlm.cli import main
from tiedlm.data.piece_files import read_pieces
from tiedlm.data.pieces import train_pieces
from tiedlm.files import write_json
from tiedlm.training.run import config_of, save_weights
from tiedlm.training.settings import Settings

pytest.importorskip("tokenizers", reason="tokenizers (tiedlm[pieces])")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

LINES = ["The cat sees the cats, and the cats don't see it.", "naïve 日本語 <eos>"] * 4
ODD = ["<eos>", "<unk>", "</s>", "Ċ", "Ġ", "▁", " ", "\t", "the", "日本", "\n", "cat"]
TEXT = st.lists(
    st.sampled_from(ODD) | st.text(st.characters(exclude_categories=["Cs"]), max_size=9),
    max_size=8,
).map("".join)


@pytest.fixture(scope="module", params=["bpe", "unigram"])
def run(request, tmp_path_factory):
    """Write an untrained run of pieces."""
    folder = tmp_path_factory.mktemp(request.param) / "run"
    chosen = Settings(pieces=request.param, vocab_size=300).resolved()
    write_run(folder, train_pieces(LINES, request.param, 300), chosen)
    return folder


def write_run(folder, vocabulary, chosen):
    """Write an untrained run with these pieces."""
    torch.manual_seed(7)
    model = LanguageModel(
        ModelConfig(vocab_size=len(vocabulary), d_embed=12, d_hidden=12, tied=True, init_range=0.8)
    )
    about = {"name": "own", "tokenizer": "pieces", "pieces": {"words": None}}
    write_json(folder / "config.json", config_of(model, chosen.to_dict(), about))
    save_weights(model, folder / "model.safetensors")
    vocabulary.save(folder / "vocabulary.txt")


@pytest.fixture(scope="module")
def exported(run):
    """Return (the run's model, the exported folder, transformers' tokenizer and model)."""
    transformers = pytest.importorskip("transformers", reason="transformers (tiedlm[hf])")
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    folder = run.parent / "hf"
    main(["export", str(run), "--to", "hf", str(folder)])
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)
    return tiedlm.load(run), folder, tokenizer, model.eval()


def test_any_text_has_the_same_ids_and_logits_in_transformers(exported):
    ours, _, tokenizer, theirs = exported

    @given(text=TEXT)
    @settings(max_examples=150, deadline=None, derandomize=True)
    def agree(text):
        ids = ours.vocabulary.encode_lines(text.split("\n")).tolist()[:-1]
        assert tokenizer(text)["input_ids"] == ids
        assert tokenizer.decode(ids) == text
        if ids:
            ids_BT = torch.tensor([ids])
            with torch.no_grad():
                expected = ours.decode(ours(ids_BT)[0])
                torch.testing.assert_close(theirs(ids_BT).logits, expected, rtol=0, atol=1e-5)

    agree()


def test_the_exported_tokenizer_is_the_runs(run, exported):
    _, folder, tokenizer, _ = exported
    assert (folder / "tokenizer.json").read_bytes() == (run / "tokenizer.json").read_bytes()
    assert tiedlm.load(folder).vocabulary == tiedlm.load(run).vocabulary
    eos = tiedlm.load(run).vocabulary.eos_id
    assert {tokenizer.eos_token_id, tokenizer.bos_token_id, tokenizer.pad_token_id} == {eos}
    assert tokenizer("\n")["input_ids"] == [eos]


def test_an_exported_folder_is_scored_like_its_run(run, exported, tmp_path, capsys):
    _, folder, _, _ = exported
    path = tmp_path / "text.txt"
    path.write_text("The zebra sees 日本.\n", encoding="utf-8")
    outputs = [run_command(capsys, "score", place, path) for place in (run, folder)]
    assert outputs[0] == outputs[1]
    assert outputs[0][0] == 0


def test_a_pipeline_goes_on_with_the_last_word_of_a_prompt(exported, monkeypatch):
    from transformers import pipeline

    _, folder, tokenizer, _ = exported
    generate = pipeline("text-generation", model=str(folder), trust_remote_code=True)
    for prompt in ("The ca", "The cat", "x\ny"):
        inputs = tokenizer(prompt, return_tensors="pt")
        options = {"max_new_tokens": 6, "do_sample": False}
        whole = tokenizer.decode(generate.model.generate(**inputs, **options)[0])
        assert generate(prompt, **options)[0]["generated_text"] == whole
        new = generate(prompt, return_full_text=False, **options)[0]["generated_text"]
        assert prompt + new == whole


def test_the_model_card_says_how_to_give_it_text(exported):
    card = (exported[1] / "README.md").read_text(encoding="utf-8")
    assert "A sub-word LSTM language model" in card
    assert 'tokenizer("\\nThe"' in card
    assert "Any text has pieces" in card
    assert "- The newline is the piece that ends a line. One also stands" in card


def test_onnx_files_have_the_tokenizer_beside_them(run):
    for module in ("onnx", "onnxruntime"):
        pytest.importorskip(module, reason=f"{module} (tiedlm[onnx])")
    folder = run.parent / "onnx"
    main(["export", str(run), "--to", "onnx", str(folder)])
    assert (folder / "tokenizer.json").read_bytes() == (run / "tokenizer.json").read_bytes()
    onnx = pytest.importorskip("onnx")
    step = onnx.load(folder / "step.onnx")
    metadata = {entry.key: entry.value for entry in step.metadata_props}
    assert metadata["tokenizer"] == "pieces"
    assert int(metadata["eos_id"]) == tiedlm.load(run).vocabulary.eos_id
    assert json.loads((folder / "export.json").read_text())["largest_difference"] < 1e-4


@pytest.fixture(params=["template", "sequence"])
def given_run(request, tmp_path):
    """Write an untrained run of pieces from a file that puts [CLS] and [SEP] around a text."""
    library = pytest.importorskip("tokenizers")
    processors = library.processors
    pieces = ["[UNK]", "[CLS]", "[SEP]", "the", "cat", "##s"]
    ids = {piece: number for number, piece in enumerate(pieces)}
    tokenizer = library.Tokenizer(library.models.WordPiece(ids, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = library.pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(pieces[:3])
    around = processors.TemplateProcessing("[CLS] $A [SEP]", None, [("[CLS]", 1), ("[SEP]", 2)])
    if request.param == "sequence":
        around = processors.Sequence([processors.ByteLevel(trim_offsets=False), around])
    tokenizer.post_processor = around
    tokenizer.save(str(tmp_path / "given.json"))
    chosen = Settings(pieces=str(tmp_path / "given.json")).resolved()
    write_run(tmp_path / "run", read_pieces(str(tmp_path / "given.json")), chosen)
    return tmp_path / "run"


def test_special_tokens_of_a_given_tokenizer_are_left_out_as_in_training(given_run):
    transformers = pytest.importorskip("transformers", reason="transformers (tiedlm[hf])")
    vocabulary = tiedlm.load(given_run).vocabulary
    ids = vocabulary.split("the cats").ids.tolist()
    assert ids == [3, 4, 5]
    for start, before in (("none", []), ("eos", [vocabulary.eos_id])):
        folder = given_run.parent / start
        main(["export", str(given_run), "--to", "hf", str(folder), "--no-check", "--start", start])
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        assert tokenizer("the cats")["input_ids"] == before + ids
        assert tiedlm.load(folder).vocabulary.words == vocabulary.words


def test_the_model_card_of_given_pieces_names_their_own_end_of_a_line(given_run):
    main(["export", str(given_run), "--to", "hf", str(given_run.parent / "hf"), "--no-check"])
    card = (given_run.parent / "hf" / "README.md").read_text(encoding="utf-8")
    assert 'tokenizer("The"' in card
    assert "- What has no piece is unknown to the model. Give it text" in card
    assert "- `[SEP]` is the piece that ends a line." in card
    assert "put `tokenizer.eos_token_id` in front of the ids" in card
    assert "a newline in a text is not read as `[SEP]`" in card
    assert "newline" not in card.replace("a newline in a text is not", "")


def test_the_tokenizer_beside_onnx_files_leaves_them_out_too(given_run):
    for module in ("onnx", "onnxruntime", "tokenizers"):
        pytest.importorskip(module, reason=f"{module} (tiedlm[onnx])")
    from tokenizers import Tokenizer

    main(["export", str(given_run), "--to", "onnx", str(given_run.parent / "onnx")])
    tokenizer = Tokenizer.from_file(str(given_run.parent / "onnx" / "tokenizer.json"))
    assert tokenizer.encode("the cats").ids == [3, 4, 5]
