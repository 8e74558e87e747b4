"""A sentencepiece model gives the same pieces here as in its own library."""

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiedlm.data import load_corpus
from tiedlm.data.piece_files import read_pieces
from tiedlm.errors import UserError

pytest.importorskip("tokenizers", reason="tokenizers (tiedlm[pieces])")
library = pytest.importorskip("sentencepiece", reason="sentencepiece is not installed")

LINES = ["the cat sees the cats, and the cats see it.", "unhappy happily unhappily", "naïve 日本"]
ODD = ["the", "cat", "cats", "unhappy", "日本", "é", "z", " ", "  ", ",", "</s>", "<s>"]
TEXT = st.lists(st.sampled_from(ODD), max_size=8).map("".join)


def made(kind, path, **options):
    """Train a model, write it and return it as its library reads it."""
    model = io.BytesIO()
    library.SentencePieceTrainer.train(
        sentence_iterator=iter(LINES * 30), model_writer=model, model_type=kind, vocab_size=310,
        byte_fallback=True, minloglevel=2, hard_vocab_limit=False, **options,
    )  # fmt: skip
    path.write_bytes(model.getvalue())
    return library.SentencePieceProcessor(model_proto=model.getvalue())


@pytest.fixture(scope="module", params=["unigram", "bpe"])
def both(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("sp") / "own.model"
    return made(request.param, path, normalization_rule_name="nmt_nfkc"), path


def test_any_line_has_the_pieces_of_the_library(both):
    theirs, path = both
    ours = read_pieces(str(path))
    assert ours.eos_id == theirs.eos_id()
    assert ours.unk_id is None

    @given(text=TEXT)
    @settings(max_examples=200, deadline=None, derandomize=True)
    def agree(text):
        assert ours.split(text).ids.tolist() == theirs.encode(text)

    agree()


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
@pytest.mark.parametrize(
    "options",
    [
        {"user_defined_symbols": ["<sep>", "cat.*"]},
        {"remove_extra_whitespaces": False},
        {"remove_extra_whitespaces": False, "add_dummy_prefix": False},
        {"split_by_whitespace": False},
    ],
    ids=lambda options: "-".join(options),
)
def test_the_options_of_a_model_are_obeyed(tmp_path, kind, options):
    theirs = made(kind, tmp_path / "own.model", **options)
    ours = read_pieces(str(tmp_path / "own.model"))
    texts = ["", *LINES, "cat sees the<sep>cat", "<sep> cats.*", "  cat  sees <sep>", " the cat"]
    for text in texts:
        ids = ours.split(text).ids.tolist()
        assert ids == theirs.encode(text)
        assert ours.text(ids) == theirs.decode(ids)


def test_a_model_with_blanks_behind_words_is_refused(tmp_path):
    made("bpe", tmp_path / "own.model", treat_whitespace_as_suffix=True)
    with pytest.raises(UserError, match=r"own\.model writes blanks behind words; train it without"):
        read_pieces(str(tmp_path / "own.model"))


def test_a_corpus_is_split_with_its_pieces(both, tmp_path):
    path = tmp_path / "own.txt"
    path.write_text("the cat sees it.\n" * 30)
    corpus = load_corpus(str(path), pieces=str(both[1]), progress=False)
    assert corpus.vocabulary.text(corpus.test[:20]).startswith("the cat sees it.\n")
    assert corpus.info["pieces"]["kind"] == "file"


@pytest.mark.parametrize("size", [0, 1, 50, -1])
def test_a_damaged_model_is_one_clear_line(both, tmp_path, size):
    path = tmp_path / "bad.model"
    path.write_bytes(both[1].read_bytes()[:size])
    with pytest.raises(UserError, match=r"--pieces .*bad\.model is "):
        read_pieces(str(path))
