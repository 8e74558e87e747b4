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
    ("written", "plain"),
    [
        ("the well\u2011known author", "the well-known author"),
        ("the well\u2010known author", "the well-known author"),
        ("doesn\u00b4t doesn`t doesn\uff07t doesn\u2032t doesn\u201bt", "doesn't " * 5),
        (
            "workers\u00b4 5\u20326",
            "workers \u00b4 5 \u2032 6",
        ),  # not apostrophes, since they are outside words
        ("cat \u2764\ufe0f \u2600\ufe0f.", "cat \u2764 \u2600."),
        ("the \u200ecat\u200f", "the cat"),
        ("\u202athe\u202c \u202bcat\u202c \u202dsees\u202e", "the cat sees"),
        ("\u2066the\u2069 \u2067cat\u2068 s\u061cees", "the cat sees"),
        ("so\u00adft\u2060ly \ufeffto\u200bday c\u034fat", "softly today cat"),
        ("cat\u200d house\u200c \u200dthe", "cat house the"),  # a joiner that joins nothing
        ("\ufb01nd the \ufb02ag, o\ufb03ce sta\ufb00", "find the flag, office staff"),
        ("\uff02now\uff02 \u201fnow\u201d", '"now" "now"'),
        ("a\u2012b \u2e3a", "a--b --"),
        ("now\u037e \u212b \u212a", "now; \u00c5 K"),  # one character in two places of Unicode
        ("one\u00a0two\u2009three\u3000four\x85five\u2028six", "one two three four five six"),
    ],
)
def test_invisible_characters_do_not_change_a_word(written: str, plain: str):
    assert tokenize(written) == tokenize(plain)


@pytest.mark.parametrize(
    "text",
    [
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",  # a Persian verb with a non-joiner
        "\u0d05\u0d35\u0d28\u0d4d\u200d",  # in Malayalam, the joiner changes the last letter
        "\U0001f469\u200d\U0001f4bb",  # a woman with a computer
        "\U0001f44d\U0001f3fd",  # a skin tone
    ],
)
def test_visible_joiners_are_kept(text: str):
    assert tokenize(text) == [text]


def test_a_zero_width_space_separates_words():
    assert tokenize("\u1781\u17d2\u1789\u17bb\u17c6\u200b\u1791\u17c5") == [
        "\u1781\u17d2\u1789\u17bb\u17c6",
        "\u1791\u17c5",
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Ο ΟΔΥΣΣΕΥΣ, ο Οδυσσευς", "ο οδυσσευς , ο οδυσσευς"),
        ("ΣΟΦΟΣ Σ ΜΑΣ'S", "σοφος σ μας 's"),
        ("人々 は 〇", "人々 は 〇"),
        ("İstanbul ISSUE", "i\u0307stanbul issue"),
    ],
)
def test_letters_of_other_scripts_are_lowercased_too(text: str, words: str):
    assert tokenize(text) == words.split()


@pytest.mark.parametrize(
    "text",
    [
        "Տղան գնաց տուն։ Կատուն տեսաւ։",
        "ልጁ ወደ ቤት ሄደ። ድመቷ መጣች፧",
        "सीता आता है। राम खाता है॥",
        "کتا گھر بلی۔ آدمی، کتا؟",
        "我来了。你呢！",
        "我来了．你呢？",
        "ｱｲｳ｡ ｴｵ｡",
        "သွားပြီ။ လာပြီ။",
    ],
)
def test_sentence_ends_of_other_scripts_are_split_off_and_end_sentences(text: str):
    cut = split_sentences(tokenize(text))
    assert len(cut) == 2
    for sentence in cut:
        assert sentence[-1] == sentence[-1][0]
        assert not set(sentence[-1]) & set("".join(sentence[:-1]))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Ինչպե՞ս ես։ Ինչո՞ւ", "ինչպես ՞ ես ։ ինչու ՞"),
        ("Ի՛նչ լավ է, այնքա՜ն։", "ինչ ՛ լավ է , այնքան ՜ ։"),
        ("Հա՞։ հա՞ հա ՞", "հա ՞ ։ հա ՞ հա ՞"),  # it stands at the end already
        ("«Գալի՞ս», ասաց", "« գալիս ՞ » , ասաց"),
        ("ե՞՜ս", "ես ՞ ՜"),
        ("այնուամենա՛յնիվ", "այնուամենայնիվ ՛"),
        ("՞ինչ 5՞5 a՞b", "՞ ինչ N ՞ N a ՞ b"),  # not inside an Armenian word
        ("ա՜՜՜խ", "ախ ՜"),
        ("ժ՟ամ", "ժամ ՟"),
        ("դ՚Արկ", "դ՚արկ"),  # an apostrophe
    ],
)
def test_an_armenian_mark_inside_a_word_moves_behind_it(text: str, words: str):
    assert tokenize(text) == words.split()


def test_an_armenian_word_is_the_same_word_wherever_its_mark_stands():
    word = "ինչպեսներիցդ"
    for place in range(1, len(word) + 1):
        assert tokenize(f"{word[:place]}՞{word[place:]}") == [word, "՞"]


def test_a_quotation_closes_after_its_full_stop():
    assert split_sentences(tokenize("「我来了。」他说。")) == [
        ["「", "我来了", "。", "」"],
        ["他说", "。"],
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("etc... u.s... f... mr.. u.s.a....", "etc. ... u.s. ... f. ... mr. . u.s.a. ..."),
        ("wait.. i... ssa.gov.... 5..6", "wait ... i ... ssa.gov ... N ... N"),
        ("12:30's 5's's x5 5x 1,2,x ३.५ '5", "N 's N 's 's x5 5x N , x N ' N"),
    ],
)
def test_dots_and_digits_that_touch(text: str, words: str):
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
