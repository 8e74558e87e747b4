from __future__ import annotations

import pytest

from tiedlm.data import split_sentences, tokenize


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("It doesn't cost $1,000.", "it does n't cost $ N ."),
        ("We've won; they'll see.", "we 've won ; they 'll see ."),
        ("can't won't", "ca n't wo n't"),
        ("America's workers' rights", "america 's workers ' rights"),
        ("O'Neill came at 5 o'clock", "o'neill came at N o'clock"),
        ("It’s here—“now,” he said…", "it 's here -- `` now , '' he said ..."),
        ('"Go," he said. ("Why?")', "`` go , '' he said . ( `` why ? '' )"),
        ("tried—and failed——twice -- ever", "tried -- and failed -- twice -- ever"),
        ("Mr. Lee left the U.S. at 12:30 p.m.", "mr. lee left the u.s. at N p.m."),
        ("John F. Kennedy and I.", "john f. kennedy and i ."),
        ("a 13-year-old in the 1990s, the 1980's", "a 13-year-old in the 1990s , the N 's"),
        ("the 21st of 9/11, 3.5% or 1/2", "the 21st of 9/11 , N % or 1/2"),
        ("p < .05, $.50 or a .22... no.5", "p < N , $ N or a N ... no.5"),
        ("at peace.We see ssa.gov", "at peace . we see ssa.gov"),
        ("N <unk> <eos> n", "N <unk> <eos> n"),
        ("हिन्दी में है। می‌خواهم", "हिन्दी में है । می‌خواهم"),
        ("cafe\u0301 soft\u00adly", "café softly"),
        (" \t ", ""),
    ],
)
def test_worked_examples(text: str, words: str):
    assert tokenize(text) == words.split()


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("He went. She stayed!", ["he went .", "she stayed !"]),
        ('"Why?" he asked. "No." I left', ["`` why ? ''", "he asked .", "`` no . ''", "i left"]),
        ("Dr. No of the U.S. won. 3 times", ["dr. no of the u.s. won .", "N times"]),
        ("What?! (Really.) Yes...", ["what ? !", "( really . )", "yes ..."]),
        ("It fell to .300 that year.", ["it fell to N that year ."]),
        ("", []),
    ],
)
def test_a_sentence_ends_after_its_mark_and_what_closes_it(text: str, sentences: list[str]):
    assert [" ".join(words) for words in split_sentences(tokenize(text))] == sentences
