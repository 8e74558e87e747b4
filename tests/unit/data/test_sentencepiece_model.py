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


@pytest.fixture(scope="module", params=["unigram", "bpe"])
def both(request, tmp_path_factory):
    made = io.BytesIO()
    library.SentencePieceTrainer.train(
        sentence_iterator=iter(LINES * 30), model_writer=made, model_type=request.param,
        vocab_size=310, byte_fallback=True, minloglevel=2, hard_vocab_limit=False,
        normalization_rule_name="nmt_nfkc",
    )  # fmt: skip
    path = tmp_path_factory.mktemp("sp") / "own.model"
    path.write_bytes(made.getvalue())
    return library.SentencePieceProcessor(model_proto=made.getvalue()), path


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
