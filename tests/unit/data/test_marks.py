"""Marks of other tools are counted and reported, and look-alikes are ignored."""

import pytest

from tiedlm.data import load_corpus
from tiedlm.data.check import notes_on_text
from tiedlm.data.marks import Marks, notes_on, notes_on_scored

PLAIN = "the cat sees a dog ."


def notes(lines, tokenized=True):
    marks = Marks(tokenized)
    for line in lines:
        marks.see(line, [line.split()])
    return notes_on(marks.counts())


@pytest.mark.parametrize(
    "mark",
    [
        "<s>", "</s>", "<S>", "</S>", "<bos>", "<BOS>", "<EOS>", "<sos>", "[CLS]", "[SEP]", "[eos]",
        "<|endoftext|>", "<|begin_of_text|>", "<start>", "_GO", "__bos__",
    ],
)  # fmt: skip
@pytest.mark.parametrize("line", ["{} a cat .", "a cat . {}", "{}a cat .", "a {} cat ."])
def test_marks_of_sentences_are_reported(mark, line):
    line = line.replace("{}a", "{} a") if mark[0] == "_" else line
    [said] = notes([line.format(mark)] * 1200)
    assert said.startswith(
        f"{mark} 1,200 times in 1,200 lines: tiedlm ends each line with an <eos>"
    )
    assert "perplexity looks too good; remove them" in said


@pytest.mark.parametrize(
    "mark",
    ["<UNK>", "UNK", "[UNK]", "[unk]", "<Unk>", "<oov>", "<OOV>", "<unknown>", "_UNK", "__unk__"],
)
def test_other_marks_of_unknown_words_are_reported(mark):
    [said] = notes([PLAIN] * 5000 + [f"the {mark} sees <unk> ."])
    assert said.startswith(f"{mark} 1 time: counted as an ordinary word, not as <unk>")
    assert said.endswith("replace it with <unk>")


@pytest.mark.parametrize("mark", ["<pad>", "<PAD>", "[PAD]", "_PAD", "<|pad|>", "__pad__"])
def test_padding_is_reported(mark):
    [said] = notes([f"a cat {mark} {mark}"] * 9)
    assert said.startswith(f"{mark} 18 times: padding is read as words")


def test_each_kind_has_a_line_and_each_mark_its_count():
    said = notes(["<s> a UNK </s> <pad> <pad>", "<s> a [UNK] </s> <pad>"])
    assert [line.split(":")[0] for line in said] == [
        "</s> 2 times, <s> 2 times in 2 lines",
        "UNK 1 time, [UNK] 1 time",
        "<pad> 3 times",
    ]


def test_small_letters_are_a_mark_where_they_are_frequent():
    assert notes(["the unk sees a dog ."] * 9)[0].startswith("unk 9 times: counted as an")
    assert notes([PLAIN] * 500 + ["unk , he said ."]) == []


@pytest.mark.parametrize(
    "line",
    [
        "the <unk> sees $ N @-@ @,@ <eos>",
        "report[s] , [ s ] < s > s/s a_UNK xUNK UNKnown unknown pad start [end] [sic] <b> </sup>",
        "",
        "<eos>",
    ],
)
def test_tiedlms_own_marks_and_ordinary_words_are_not_reported(line):
    assert notes([line] * 9) == []


def test_a_rare_mark_of_a_document_is_not_reported():
    assert notes([PLAIN] * 500 + ["<|endoftext|>"]) == []


def write(folder, lines):
    folder.mkdir()
    for part in ("train", "valid", "test"):
        (folder / f"{part}.txt").write_text("".join(f"{line}\n" for line in lines))
    return str(folder)


@pytest.mark.parametrize(
    ("line", "tokenize", "count"),
    [
        ("<eos> a cat . <eos>", False, 60),
        ("<eos> a cat .", False, 60),
        ("a <eos> b <eos> c", False, 120),
        ("a cat . <eos>", False, 0),
        ("<EOS> A cat, too.", True, 60),
        ("A cat, too. <eos>", True, 60),  # a sentence of its own
    ],
)
def test_an_eos_within_a_line_is_reported(tmp_path, line, tokenize, count):
    corpus = load_corpus(write(tmp_path / "text", [line] * 20), tokenize=tokenize)
    said = notes_on_text(corpus)
    if count:
        assert said[0].startswith(f"<eos> {count} times in 60 lines: tiedlm ends each line")
    assert len(said) == (count > 0)


def test_raw_text_is_checked_as_it_is_written(tmp_path):
    lines = ["<S>The <UNK> cat, too.</S>", "A [UNK], he said. UNK!"] * 5
    corpus = load_corpus(write(tmp_path / "text", lines), tokenize=True)
    said = notes_on_text(corpus)
    assert corpus.vocabulary.unk_id in corpus.train.tolist()  # because <UNK> is read as such there
    assert [line.split(":")[0] for line in said] == [
        "</S> 15 times, <S> 15 times in 30 lines", "UNK 15 times, [UNK] 15 times",
    ]  # fmt: skip


def test_a_table_given_as_a_corpus_is_reported(tmp_path):
    (tmp_path / "A.CSV").write_text("item,text\n" + "1,a cat\n" * 20)
    [said] = notes_on_text(load_corpus(str(tmp_path / "A.CSV")))
    assert said.startswith("A.CSV is read as plain text, header and all columns included")


def test_a_corpus_without_marks_gives_no_warning(tmp_path):
    corpus = load_corpus(write(tmp_path / "text", [PLAIN] * 20))
    assert "marks" not in corpus.info
    assert notes_on_text(corpus) == []


def test_marks_in_a_text_to_score_are_reported_unless_read_as_unknown():
    marks = Marks(tokenized=True)
    for line in ["<s> a UNK </s> <pad> <pad>", "<s> a [UNK] </s> <pad>"]:
        marks.see(line, [line.split()])
    said = notes_on_scored(marks.counts(), {"<s>", "UNK"})
    assert [line.split(":")[0] for line in said] == [
        "</s> 2 times, <s> 2 times in 2 lines",
        "UNK 1 time",
        "<pad> 3 times",
    ]
    assert len(notes_on_scored(marks.counts(), None)) == 3
    assert notes_on_scored(Marks(tokenized=True).counts(), None) == []
