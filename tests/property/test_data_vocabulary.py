from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from tiedlm.data import Vocabulary, load_corpus
from tiedlm.data.encode import ids_within

any_word = st.text(st.characters(exclude_categories=["Cs", "Z", "Cc"]), min_size=1, max_size=6)
few_words = st.sampled_from(["a", "b", "c", "d", "<unk>", "été", "n't", ","])
# A part without a known word is refused, so every line has a frequent word.
lines = st.lists(
    st.lists(few_words, min_size=1, max_size=6).map(lambda line: ["z"] * 3 + line),
    min_size=1,
    max_size=12,
)


@given(st.lists(any_word, unique=True))
def test_encoding_and_decoding_known_words_is_a_round_trip(words: list[str]):
    vocabulary = Vocabulary.from_counts(dict.fromkeys(words, 1))
    assert vocabulary.decode(vocabulary.encode(words)) == words


@settings(deadline=None, max_examples=30)
@given(st.lists(any_word, unique=True))
def test_saving_and_loading_is_a_round_trip(words: list[str]):
    vocabulary = Vocabulary.from_counts(dict.fromkeys(words, 1))
    with tempfile.TemporaryDirectory() as folder:
        vocabulary.save(Path(folder) / "vocabulary.txt")
        assert Vocabulary.load(Path(folder) / "vocabulary.txt") == vocabulary


@given(
    st.dictionaries(any_word, st.integers(1, 9), max_size=20),
    st.integers(3, 12),
    st.integers(1, 5),
)
def test_kept_words_are_the_most_frequent(counts: dict[str, int], most: int, least: int):
    vocabulary = Vocabulary.from_counts(counts, max_size=most, min_count=least)
    assert len(vocabulary) <= most
    kept = [counts[word] for word in vocabulary.words[2:]]
    assert kept == sorted(kept, reverse=True)
    assert all(n >= least for n in kept)
    dropped = [n for w, n in counts.items() if w not in vocabulary and n >= least]
    if dropped:
        assert len(vocabulary) == most
        assert max(dropped) <= min(kept)


@settings(deadline=None, max_examples=30)
@given(lines, lines, lines, st.integers(1, 3), st.floats(0.3, 1.0))
def test_the_vocabulary_never_sees_valid_or_test(train, valid, test, least: int, fraction: float):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        def write(part: str, content: list[list[str]]) -> None:
            text = "".join(" ".join(line) + "\n" for line in content)
            (folder / f"{part}.txt").write_text(text, encoding="utf-8")

        def load():
            return load_corpus(
                name, min_count=least, fraction=fraction, tokenize=False, cache=folder / "cache"
            )

        kept, budget = [], ids_within(fraction, sum(len(line) + 1 for line in train))
        for line in train:
            budget -= len(line) + 1
            if budget < 0:
                break
            kept += [*line, "<eos>"]
        write("train", train if kept else [["z"]] * 12)
        kept = kept or ["z", "<eos>"] * (ids_within(fraction, 24) // 2)
        write("valid", valid)
        write("test", test)
        corpus = load()
        counts = Counter(kept)
        assert set(corpus.vocabulary.words) == {"<eos>", "<unk>"} | {
            word for word in counts if counts[word] >= least
        }
        expected = [word if word in corpus.vocabulary else "<unk>" for word in kept]
        assert corpus.vocabulary.decode(corpus.train) == expected
        write("valid", test)
        write("test", valid)
        swapped = load()
        assert swapped.vocabulary == corpus.vocabulary
        assert swapped.test.tolist() == corpus.valid.tolist()
