"""Pieces of a run are joined to the words as written, and their probabilities are of words."""

import math
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tiedlm import LanguageModel, ModelConfig
from tiedlm.analysis.piece_words import generate_words, next_piece_words
from tiedlm.data.piece_form import BLANKS
from tiedlm.data.pieces import PieceVocabulary, train_pieces
from tiedlm.errors import UserError
from tiedlm.scoring import score_sentences, sentences
from tiedlm.scoring.nbest import Hypothesis
from tiedlm.scoring.pair_files import Pair
from tiedlm.scoring.pairs import score_pairs
from tiedlm.scoring.piece_words import PieceTotals, score_words, sum_to_words
from tiedlm.scoring.pieces import word_starts
from tiedlm.scoring.rescore import log_probs

pytest.importorskip("tokenizers", reason="tokenizers (tiedlm[pieces])")

LINES = ["The cat sees the cats, and the cats don't see it.", "naïve 日本語 x\ty <eos>"] * 4
VOCABULARY = train_pieces(LINES, "bpe", 290)
LINE = st.lists(
    st.sampled_from(["the", "cat", "日本語", "<eos>", " ", "  ", "\t", ",", "é", "\u00a0", "zz"]),
    max_size=10,
).map("".join)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    config = ModelConfig(vocab_size=len(VOCABULARY), d_embed=6, d_hidden=6, init_range=1.5)
    made = LanguageModel(config).double().eval()
    made.vocabulary = VOCABULARY
    return made


def read(*lines, blank_lines=True):
    return sentences(lines, VOCABULARY, tokenizer=False, blank_lines=blank_lines)


def pieces_of(model, *lines):
    starts_V = word_starts(VOCABULARY)
    return list(score_sentences(model, read(*lines), start=VOCABULARY.eos_id, starts_V=starts_V))


@given(line=LINE)
@settings(max_examples=200, deadline=None, derandomize=True)
def test_the_words_of_a_line_are_what_stands_between_blanks(line):
    (one,) = read(line)
    assert list(one.parts) == re.split(f"[{BLANKS}]+", line.strip(BLANKS)) or not one.parts
    assert bool(one.parts) == bool(line.strip(BLANKS))
    assert VOCABULARY.text(one.ids) == line + "\n"
    assert set(one.regions) == set(range(len(one.parts) + 1))


@pytest.mark.parametrize("line", ["The cat sees  it", " the cats", "x\ty <eos> ", "日本語", ""])
def test_the_words_of_a_line_have_the_surprisal_of_its_pieces(model, line):
    (pieces,) = pieces_of(model, line)
    words = sum_to_words(pieces, VOCABULARY)
    written = ["\\<eos>" if word == "<eos>" else word for word in line.split()]
    assert words.sentence.words == (*written, "<eos>")
    total = pieces.surprisal.sum() - pieces.boundary[0]
    assert words.surprisal.sum() == pytest.approx(total, rel=1e-12)


def test_a_words_surprisal_is_worked_by_hand(model):
    (pieces,) = pieces_of(model, "The cat")
    words = sum_to_words(pieces, VOCABULARY)
    numbers = np.array(pieces.sentence.regions)
    first = np.flatnonzero(numbers == 2)
    expected = pieces.surprisal[first].sum()
    expected += pieces.boundary[first[-1] + 1] - pieces.boundary[first[0]]
    assert words.surprisal[1] == pytest.approx(expected, rel=1e-12)


def test_totals_count_words_bytes_and_pieces(model):
    lines = ["The cat isn't here.", "", "日本語 x"]
    totals = PieceTotals(tokenized=False, blank_lines=False)
    read_lines = read(*totals.read(lines), blank_lines=False)
    scored = list(totals.score(score_sentences(model, read_lines, start=VOCABULARY.eos_id)))
    assert totals.words == 7 + 3  # the cat is n't here . <eos>, and 日本語 x <eos>
    assert totals.bytes == len("The cat isn't here.\n日本語 x\n".encode())
    assert totals.pieces == sum(len(one.sentence.ids) for one in scored)
    nll = sum(one.surprisal.sum() for one in scored)
    assert f"perplexity {math.exp(nll / 10):.4f} per word (10 words" in totals.line("")
    assert f", {nll / math.log(2) / totals.bytes:.4f} bits per byte" in totals.line("")


def test_words_that_no_text_had_do_not_tie(model):
    pairs = [Pair("f", 1, "f:1", "p", "the zebra sees", "the zebras sees")]
    (judged,) = score_pairs(model, VOCABULARY, pairs, tokenizer=False)
    good, bad = pieces_of(model, "the zebra sees", "the zebras sees")
    assert judged.good == pytest.approx(good.surprisal.sum(), rel=1e-12)
    assert judged.bad == pytest.approx(bad.surprisal.sum(), rel=1e-12)
    assert not judged.is_tie
    assert (judged.words, judged.unknown) == ((3, 3), (0, 0))
    (without,) = score_pairs(model, VOCABULARY, pairs, tokenizer=False, eos=False)
    words = next(score_words(model, VOCABULARY, read("the zebra sees")))
    assert without.good == pytest.approx(words.surprisal[:-1].sum(), rel=1e-12)


def test_a_model_may_have_no_share_in_a_mixture(model):
    """The weights of the others sum to 1 up to rounding, here to a little more."""
    fitted = [0.4687, 0.1184, 0.4095, 0.0034]
    weights = [one / sum(fitted) for one in fitted]
    assert sum(weights) > 1
    others = [(model, weight) for weight in weights]
    (found,) = score_words(model, VOCABULARY, read("the cat"), others)
    (alone,) = score_words(model, VOCABULARY, read("the cat"))
    np.testing.assert_allclose(found.surprisal, alone.surprisal, rtol=1e-12)


def test_hypotheses_have_the_probability_of_their_pieces_mixed_or_not(model):
    lists = {"u": [Hypothesis(text, 0.0) for text in ("the cat", "日本語 zz", "")]}
    scored = pieces_of(model, "the cat", "日本語 zz", "")
    found, unknown = log_probs(model, VOCABULARY, lists, str.split)
    np.testing.assert_allclose(found, [-one.surprisal.sum() for one in scored], rtol=1e-12)
    assert unknown == 0.0
    seen = []

    def mix(words, values):
        seen.append((list(words), len(values)))
        return values

    mixed, _ = log_probs(model, VOCABULARY, lists, str.split, mix)
    before = [one.boundary[0] for one in scored]
    np.testing.assert_allclose(mixed, found + before, rtol=1e-9)
    assert seen == [(["the", "cat"], 3), (["日本語", "zz"], 3), ([], 1)]


def word_piece_model():
    """A model of pieces as of BERT: an apostrophe is a word, and other letters are unknown."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    pieces = ["[UNK]", "[SEP]", "the", "cat", "##s", "don", "'", "t"]
    vocab = {piece: number for number, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.WordPiece(vocab=vocab, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    torch.manual_seed(0)
    made = LanguageModel(ModelConfig(vocab_size=len(pieces), d_embed=6, d_hidden=6)).eval()
    made.vocabulary = PieceVocabulary(tokenizer.to_str(), 1)
    return made


def test_words_that_the_pieces_split_in_another_way_are_not_mixed_with_an_n_gram_model():
    made = word_piece_model()
    lists = {"u": [Hypothesis("the cats", 0.0), Hypothesis("the cats don't", 0.0)]}
    assert len(log_probs(made, made.vocabulary, lists, str.split)[0]) == 2
    message = r"split \"the cats don't\" into 5 words, and spaces into 3: .* leave --arpa out"
    with pytest.raises(UserError, match=message):
        log_probs(made, made.vocabulary, lists, str.split, lambda words, values: values)


@pytest.mark.parametrize("mix", [None, lambda words, values: values])
def test_an_unknown_word_of_pieces_is_counted_and_costs_its_penalty(mix):
    made = word_piece_model()
    texts = ("the cats", "the zebra", "zebra the emu", "")
    lists = {"u": [Hypothesis(text, 0.0) for text in texts]}
    plain, share = log_probs(made, made.vocabulary, lists, str.split, mix)
    dear, same = log_probs(made, made.vocabulary, lists, str.split, mix, unk_penalty=2.5)
    assert share == same == 3 / 7
    np.testing.assert_allclose(plain - dear, 2.5 * np.array([0, 1, 2, 0]), atol=1e-6)


def letters_and_blanks():
    """The pieces of a file that begin a word at a blank only; letters but a and b are unknown."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    vocab = {"<unk>": 0, "</s>": 1, "▁": 2, "a": 3, "b": 4}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    return PieceVocabulary(tokenizer.to_str(), 1)


def test_a_tab_inside_a_word_does_not_cut_its_row():
    (line,) = sentences(["a\tb a"], letters_and_blanks(), tokenizer=False, blank_lines=False)
    assert line.parts == (r"a\tb", "a")


def test_pairs_of_pieces_count_unknown_words():
    vocabulary = letters_and_blanks()
    made = LanguageModel(ModelConfig(vocab_size=len(vocabulary), d_embed=6, d_hidden=6)).eval()
    texts = [
        ("a cc", "a dd"),  # they differ in unknown words only
        ("a cc ab", "a ba ab"),
        ("a ccc", "a d"),  # a word of several unknown pieces is one unknown word
        ("a b", "a b"),
    ]
    pairs = [Pair("f", line, f"f:{line}", "p", *two) for line, two in enumerate(texts)]
    found = list(score_pairs(made, vocabulary, pairs, tokenizer=False))
    assert [one.unknown for one in found] == [(1, 1), (1, 0), (1, 1), (0, 0)]
    assert [one.unknown_only for one in found] == [True, False, False, False]
    assert [one.unknown_one_side for one in found] == [False, True, False, False]
    assert [one.same_words for one in found] == [False, False, False, True]


def test_a_banned_piece_is_never_sampled():
    made = word_piece_model()
    context = made.vocabulary.context("the")
    assert "[UNK]" in list(generate_words(made, context, 50))
    banned = (made.vocabulary.unk_id,)
    assert "[UNK]" not in list(generate_words(made, context, 50, banned=banned))


def test_a_predicted_word_has_the_probability_that_score_gives(model):
    context = VOCABULARY.context("The cat ")
    found, _ = next_piece_words(model, context, top=5, most=300)
    assert len(found) == 5
    assert [p.probability for p in found] == sorted((p.probability for p in found), reverse=True)
    for word, probability in found:
        line = "The cat" if word == "<eos>" else f"The cat {word} x"
        words = next(score_words(model, VOCABULARY, read(line)))
        assert -math.log(probability) == pytest.approx(words.surprisal[2], rel=1e-9)


def test_no_word_is_more_probable_than_the_predicted_ones(model):
    """With a softmax that nearly forbids long words, a full search ends."""
    short = LanguageModel(model.config).double().eval()
    short.load_state_dict(model.state_dict())
    short.vocabulary = VOCABULARY
    with torch.no_grad():
        short.decoder.bias[:] = torch.from_numpy(np.where(VOCABULARY.begins, 6.0, 0.0))
    context = VOCABULARY.context("the cats")
    found, is_complete = next_piece_words(short, context, top=8)
    assert is_complete
    every = [VOCABULARY.text([n]).strip() for n in np.flatnonzero(VOCABULARY.begins)]
    texts = [f"the cats {word} x" for word in every if word]
    words = score_words(short, VOCABULARY, read(*texts))
    others = {one.sentence.words[2]: math.exp(-one.surprisal[2]) for one in words}
    last = found[-1].probability
    missing = set(others) - {prediction.word for prediction in found}
    assert max(others[word] for word in missing if VOCABULARY.split(word).ids.size == 1) <= last


def test_sampled_words_are_whole_and_the_same_for_a_seed(model):
    context = VOCABULARY.context("the")
    sample = [list(generate_words(model, context, 30, seed=seed)) for seed in (1, 1, 2)]
    assert sample[0] == sample[1] != sample[2]
    assert all(len(words) == 30 for words in sample)
    assert not any(set(word) & set(BLANKS) or not word for word in sample[0])
    assert list(generate_words(model, context, 3, temperature=0)) == list(
        generate_words(model, context, 3, temperature=0, seed=5)
    )
