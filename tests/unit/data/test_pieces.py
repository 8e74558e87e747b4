"""Sub-word pieces: every text has pieces, and they give it back."""

import copy
import errno
import json
import os
import pickle
import signal
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiedlm.data import EOS, interruptible, load_corpus
from tiedlm.data.piece_corpus import PieceEncoder
from tiedlm.data.piece_files import read_pieces
from tiedlm.data.pieces import (
    PieceVocabulary,
    count_words,
    load_vocabulary,
    train_pieces,
)
from tiedlm.errors import UserError

tokenizers = pytest.importorskip("tokenizers", reason="tokenizers (tiedlm[pieces])")

LINES = [
    "The cat sees the cats, and the cats don't see it.",
    "Élan, naïve wörter; 日本語のテキスト, हिन्दी भाषा — 1,000 <unk> <eos>",
    "unhappily unhappiness happy happily   indented\tand tabbed",
] * 4
TRAINED = {kind: train_pieces(LINES, kind, 330) for kind in ("bpe", "unigram")}
LINE = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n"), max_size=40)
ODD = ["<eos>", "<unk>", "<s>", "Ċ", "Ġ", "▁", "<0x0A>", " ", "\t", "the", "日本", "\u0301"]
MIXED = st.lists(st.sampled_from(ODD) | LINE, max_size=8).map("".join)
kinds = pytest.mark.parametrize("kind", ["bpe", "unigram"])


@kinds
@given(line=LINE | MIXED)
@settings(max_examples=250, deadline=None, derandomize=True)
def test_any_line_comes_back_from_its_pieces_and_has_one_eos(kind, line):
    vocabulary = TRAINED[kind]
    ids = vocabulary.encode_lines([line])
    assert vocabulary.text(ids) == line + "\n"
    assert np.flatnonzero(ids == vocabulary.eos_id).tolist() == [len(ids) - 1]


@kinds
@given(lines=st.lists(LINE | MIXED, max_size=4))
@settings(max_examples=150, deadline=None, derandomize=True)
def test_the_newline_of_a_text_is_the_eos_of_its_lines(kind, lines):
    vocabulary = TRAINED[kind]
    whole = tokenizers.Tokenizer.from_str(vocabulary.tokenizer_json)
    encoded = whole.encode("".join(line + "\n" for line in lines))
    assert encoded.ids == vocabulary.encode_lines(lines).tolist()
    assert whole.decode(encoded.ids) == "".join(line + "\n" for line in lines)


@kinds
def test_every_line_begins_with_a_piece_that_begins_a_word(kind):
    vocabulary = TRAINED[kind]
    for line in ["The cat", "日本", " two blanks", "\ttab", "<eos>", "."]:
        assert vocabulary.begins[vocabulary.split(line).ids[0]]


def test_only_a_piece_with_a_blank_in_front_and_eos_begin_a_word():
    vocabulary = TRAINED["bpe"]
    begins = [w for w, begins in zip(vocabulary.words, vocabulary.begins, strict=True) if begins]
    assert {"▁the", EOS, "<0x20>"} & set(begins) == {"▁the", EOS}
    assert all(word == EOS or word[0] == "▁" or word.startswith("<0x") for word in begins)
    inside = set(vocabulary.words) - set(begins)
    assert not any(word.startswith("▁") for word in inside)


def test_reserved_pieces_in_a_text_are_spelled():
    vocabulary = TRAINED["bpe"]
    ids = vocabulary.split("a <eos> b").ids
    assert vocabulary.eos_id not in ids
    assert vocabulary.text(ids) == "a <eos> b"
    assert vocabulary.unk_id is None


def test_pieces_are_the_same_each_time_they_are_trained():
    again = train_pieces(iter(LINES), "bpe", 330)
    assert again == TRAINED["bpe"] != train_pieces(LINES, "bpe", 320)
    assert hash(again) == hash(TRAINED["bpe"])


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_ctrl_c_ends_the_training_of_pieces_while_it_waits_for_text(monkeypatch, kind):
    monkeypatch.setattr(interruptible, "PATIENCE", 0.05)
    go_on, seen, others = threading.Event(), [], {*threading.enumerate()}

    def lines():
        yield "the cats"
        os.kill(os.getpid(), signal.SIGINT)
        go_on.wait(5)
        for _ in range(9):
            seen.append(1)
            yield "the dogs"

    # A shell's background jobs ignore SIGINT, and so would this test in one.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            train_pieces(lines(), kind, 300)
    finally:
        signal.signal(signal.SIGINT, before)
    assert not seen
    reading = {*threading.enumerate()} - others
    go_on.set()
    for thread in reading:
        thread.join(20)
        assert not thread.is_alive()
    assert len(seen) <= 1


def test_an_error_of_the_text_passes_through_the_training_of_pieces():
    def lines():
        yield "the cats"
        raise UserError("line 2 is not UTF-8")

    with pytest.raises(UserError, match="line 2 is not UTF-8"):
        train_pieces(lines(), "bpe", 300)


def test_pieces_survive_saving_and_copying(tmp_path):
    vocabulary = TRAINED["bpe"]
    vocabulary.save(tmp_path / "vocabulary.txt")
    found = load_vocabulary(tmp_path / "vocabulary.txt", "pieces")
    assert found == copy.deepcopy(vocabulary) == vocabulary
    lines = (tmp_path / "vocabulary.txt").read_text(encoding="utf-8").splitlines()
    assert lines == list(vocabulary.words)
    assert len(set(lines)) == len(lines) == 330


def test_pieces_can_be_sent_to_another_process():
    for vocabulary in TRAINED.values():
        sent = pickle.loads(pickle.dumps(vocabulary))
        assert sent == vocabulary
        assert sent.eos_id == vocabulary.eos_id
        lines = ["<eos> the cats", *ODD]
        assert sent.encode_lines(lines).tolist() == vocabulary.encode_lines(lines).tolist()


def test_pieces_of_another_model_are_refused(tmp_path):
    TRAINED["bpe"].save(tmp_path / "vocabulary.txt")
    other = train_pieces(LINES, "bpe", 300)
    (tmp_path / "tokenizer.json").write_text(other.tokenizer_json, encoding="utf-8")
    with pytest.raises(UserError, match=r"has other pieces than .*: 300 and 330"):
        PieceVocabulary.load(tmp_path / "vocabulary.txt")
    (tmp_path / "tokenizer.json").write_text("{}", encoding="utf-8")
    with pytest.raises(UserError, match=r"tokenizer\.json is not a tokenizer\.json"):
        PieceVocabulary.load(tmp_path / "vocabulary.txt")
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(UserError, match=r"tokenizer\.json does not exist"):
        PieceVocabulary.load(tmp_path / "vocabulary.txt")


def test_a_run_of_pieces_without_the_extra_is_one_clear_line(tmp_path, monkeypatch):
    TRAINED["bpe"].save(tmp_path / "vocabulary.txt")
    monkeypatch.setitem(__import__("sys").modules, "tokenizers", None)
    with pytest.raises(UserError, match=r"needs tokenizers: pip install 'tiedlm\[pieces\]'"):
        load_vocabulary(tmp_path / "vocabulary.txt", "pieces")


def test_a_vocabulary_below_the_bytes_is_refused():
    with pytest.raises(UserError, match="--vocab-size 256 is too small for --pieces bpe"):
        train_pieces(LINES, "bpe", 256)
    assert len(train_pieces(LINES, "bpe", 257)) == 257


@pytest.mark.parametrize(
    ("line", "tokenized", "words"),
    [
        ("The cat isn't here. It left.", False, 5 + 1 + 1 + 3 + 1),
        ("The cat isn't here. It left.", True, 6 + 1),
        ("", False, 0),
        ("", True, 1),
        ("ends with <eos>", True, 3),
    ],
)
def test_words_are_counted_as_a_corpus_of_words_has_them(line, tokenized, words):
    assert count_words(line, tokenized) == words


TEXT = "".join(f"The {n} cats, naïve as ever, can't see №{n}.  日本語 {n}.\n\n" for n in range(60))


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "own.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


def test_a_corpus_of_pieces_is_its_text_and_counts_the_words_of_a_corpus_of_words(text):
    pieces = load_corpus(str(text), pieces="bpe", vocab_size=300, progress=False)
    words = load_corpus(str(text), progress=False)
    whole = "".join(pieces.vocabulary.text(getattr(pieces, p)) for p in ("train", "valid", "test"))
    assert sorted(whole.splitlines()) == sorted(TEXT.splitlines())
    for part in ("train", "valid", "test"):
        counted = pieces.info["parts"][part]
        assert counted["words"] == words.info["parts"][part]["tokens"]
        found = pieces.vocabulary.text(getattr(pieces, part))
        assert counted["bytes"] == len(found.encode())
        assert counted["lines"] == found.count("\n")
    assert pieces.info["tokenizer"] == "pieces"
    again = load_corpus(str(text), pieces="bpe", vocab_size=300, progress=False)
    assert again.vocabulary == pieces.vocabulary
    assert again.train.tolist() == pieces.train.tolist()


@pytest.mark.parametrize("share", [(0.5, 0.0), (0.25, 0.5), (0.1, 0.0)])
def test_a_share_of_the_text_has_the_same_lines_as_for_words(tmp_path, share):
    for part, count in (("train", 40), ("valid", 3), ("test", 3)):
        lines = (f"a b c {n} " + "d " * (n % 5) for n in range(count))
        (tmp_path / f"{part}.txt").write_text("".join(line.strip() + "\n" for line in lines))
    fraction, skip = share
    options = {"fraction": fraction, "skip": skip, "tokenize": False, "progress": False}
    pieces = load_corpus(str(tmp_path), pieces="bpe", vocab_size=280, **options)
    words = load_corpus(str(tmp_path), min_count=1, **options)
    expected = " ".join(words.vocabulary.decode(words.train)).split("<eos>")
    assert pieces.vocabulary.text(pieces.train).split("\n") == [line.strip() for line in expected]
    assert pieces.info["parts"]["train"]["words"] == len(words.train)


def test_pieces_in_several_blocks_and_processes_are_the_same(tmp_path, monkeypatch):
    lines = [
        f"Word{n % 97} and <unk> , naïve {n % 13} .\n" + "\n" * (n % 5 == 0) for n in range(600)
    ]
    (tmp_path / "t.txt").write_text("".join(lines))
    given = {"pieces": "bpe", "vocab_size": 300, "fraction": 0.6, "skip": 0.2, "progress": False}
    one = load_corpus(str(tmp_path / "t.txt"), **given)
    monkeypatch.setattr("tiedlm.data.encode.BLOCK", 2000)
    monkeypatch.setattr("tiedlm.data.encode.PARALLEL", 5000)
    monkeypatch.setattr("tiedlm.data.encode.available_cores", lambda: 2)
    several = load_corpus(str(tmp_path / "t.txt"), cache=tmp_path / "cache", **given)
    assert several.vocabulary == one.vocabulary
    assert several.info == one.info
    assert one.info["parts"]["train"]["unk_words"] > 0
    for part in ("train", "valid", "test", "documents"):
        assert getattr(several, part).tolist() == getattr(one, part).tolist()
    begins = one.documents.tolist()
    assert len(begins) > 50
    newlines = [n - 1 for n in begins[1:]]
    assert {int(one.train[n]) for n in newlines} == {one.vocabulary.eos_id}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [(b"a \xff b", r"byte 0xff in line 9001"), (b"a \0", "line 9001 holds zero bytes")],
)
def test_a_wrong_byte_is_named_by_any_number_of_processes(tmp_path, monkeypatch, wrong, message):
    (tmp_path / "t.txt").write_bytes(b"the cat sat\n" * 9000 + wrong + b"\n" + b"a b\n" * 99)
    for processes in (1, 2):
        monkeypatch.setattr("tiedlm.data.encode.PARALLEL", 200_000 // processes)
        monkeypatch.setattr("tiedlm.data.encode.available_cores", lambda: 2)
        with pytest.raises(UserError, match=message):
            load_corpus(str(tmp_path / "t.txt"), pieces="bpe", vocab_size=300, fraction=0.5)
    assert not list(tmp_path.glob("*/corpora/*"))


def test_a_full_disk_leaves_no_pieces(text, tmp_path, monkeypatch):
    def fail(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("numpy.lib.format.write_array_header_1_0", fail)
    given = {"pieces": "bpe", "vocab_size": 300, "cache": tmp_path / "cache"}
    with pytest.raises(UserError, match=r"cannot write .*No space left.*TIEDLM_CACHE"):
        load_corpus(str(text), **given)
    assert list(tmp_path.glob("cache/corpora/*")) == []


def test_pieces_are_trained_on_the_kept_part_of_the_training_text_only(tmp_path):
    for part, word in (("valid", "zebra"), ("test", "zebra")):
        (tmp_path / f"{part}.txt").write_text(f"{word} {word}\n" * 30)
    (tmp_path / "train.txt").write_text("apple apple\n" * 30 + "cherry cherry\n" * 30)
    options = {"pieces": "bpe", "vocab_size": 300, "fraction": 0.5, "progress": False}
    found = set(load_corpus(str(tmp_path), **options).vocabulary.words)
    assert "▁apple" in found
    assert not {"▁cherry", "▁zebra"} & found
    whole = load_corpus(str(tmp_path), vocab_from="whole", **options)
    assert {"▁apple", "▁cherry"} <= set(whole.vocabulary.words)


def test_a_run_reads_its_text_with_its_own_pieces(text, tmp_path):
    """Even if training them again would give others, as a newer library might."""
    own = train_pieces(["own pieces of an earlier library"], "bpe", 270)
    own.save(tmp_path / "vocabulary.txt")
    saved = tmp_path / "vocabulary.txt"
    options = {"pieces": "bpe", "vocab_size": 300, "progress": False}
    assert load_corpus(str(text), saved=saved, **options).vocabulary == own
    trained = load_corpus(str(text), **options)
    trained.vocabulary.save(saved)
    same = load_corpus(str(text), saved=saved, **options)
    assert same.train.filename == trained.train.filename  # not encoded twice


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pieces": "bpe"}, "--pieces bpe needs --vocab-size"),
        ({"pieces": "bpe", "vocab_size": 300, "min_count": 2}, "--min-count"),
        ({"pieces": "bep", "vocab_size": 300}, r"no such file \(did you mean 'bpe'\?\)"),
        ({"pieces": "."}, "is a folder"),
    ],
)
def test_options_that_do_not_go_together_are_one_clear_line(text, options, message):
    with pytest.raises(UserError, match=message):
        load_corpus(str(text), progress=False, **options)


def test_files_that_hold_no_pieces_are_one_clear_line(tmp_path, text):
    for content in ["not json", "{}", "[1]", '{"model": {"type": "BPE"}}']:
        (tmp_path / "t.json").write_text(content)
        with pytest.raises(UserError, match=r"--pieces .*t\.json is not a tokenizer\.json"):
            load_corpus(str(text), pieces=str(tmp_path / "t.json"), progress=False)
    model = {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}
    (tmp_path / "t.json").write_text(json.dumps({"version": "1.0", "model": model}))
    with pytest.raises(UserError, match="whole words"):
        load_corpus(str(text), pieces=str(tmp_path / "t.json"), progress=False)


@pytest.mark.parametrize(
    "content",
    [
        b"\x0a\x02\x18\x01",  # a piece without a text
        b"\x0a\x07\x08\xff\xff\xff\xff\xff\x1f",  # a number in place of its text
        b"\x10\xff\xff\xff\xff\xff\x1f",  # a number in place of the training options
        b"\x0a\x03\x0a\x01a\x12\x03\xc0\x02\x63",  # unigram: an unknown piece that is missing
        b"\x0a\x03\x0a\x01a\x12\x05\x18\x02\xc0\x02\x63",  # the same of BPE
        b"\x0a\x03\x0a\x01a\x1a\x03\x12\x01x",  # no table of characters
    ],
)
def test_a_damaged_sentencepiece_model_is_one_clear_line(tmp_path, content):
    (tmp_path / "own.model").write_bytes(content)
    with pytest.raises(UserError, match=r"--pieces .*own\.model .* damaged"):
        read_pieces(str(tmp_path / "own.model"))


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_pieces_need_a_text_with_words(kind):
    with pytest.raises(UserError, match="the text to train the pieces on has no words"):
        train_pieces(["", "  "], kind, 300)


def test_a_blank_part_is_one_clear_line(tmp_path):
    for part, content in (("train", "a b\n"), ("valid", "\n\n"), ("test", "a\n")):
        (tmp_path / f"{part}.txt").write_text(content)
    with pytest.raises(UserError, match=r"the valid text of .* is blank"):
        load_corpus(str(tmp_path), pieces="bpe", vocab_size=260, progress=False)


def test_pieces_of_another_run_can_be_given_as_a_file(tmp_path, text):
    (tmp_path / "tokenizer.json").write_text(TRAINED["bpe"].tokenizer_json, encoding="utf-8")
    found = read_pieces(str(tmp_path / "tokenizer.json"))
    assert found.words == TRAINED["bpe"].words
    corpus = load_corpus(str(text), pieces=str(tmp_path / "tokenizer.json"), progress=False)
    assert corpus.info["pieces"]["kind"] == "file"
    with pytest.raises(UserError, match="--vocab-size 300: the file of --pieces decides"):
        load_corpus(str(text), pieces=str(tmp_path / "tokenizer.json"), vocab_size=300)


def test_a_file_that_does_not_name_the_kind_of_its_model_is_read(tmp_path):
    content = json.loads(TRAINED["bpe"].tokenizer_json)
    del content["model"]["type"]  # as in files of early versions of the library
    (tmp_path / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    assert read_pieces(str(tmp_path / "tokenizer.json")) == TRAINED["bpe"]


def test_a_dropout_of_merges_in_a_file_is_turned_off(tmp_path):
    content = json.loads(TRAINED["bpe"].tokenizer_json)
    content["model"]["dropout"] = 0.5
    (tmp_path / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    found = read_pieces(str(tmp_path / "tokenizer.json"))
    ids = TRAINED["bpe"].encode_lines(LINES).tolist()
    assert all(found.encode_lines(LINES).tolist() == ids for _ in range(5))
    found.save(tmp_path / "vocabulary.txt")
    kept = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert kept.model.dropout is None


def test_pieces_that_lack_an_end_get_one_and_unknown_characters_are_unk(tmp_path):
    model = {"type": "BPE", "vocab": {"?": 0, "a": 1, "b": 2, "ab": 3}, "merges": [["a", "b"]]}
    content = {"version": "1.0", "model": model | {"unk_token": "?"}}
    (tmp_path / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    found = read_pieces(str(tmp_path / "tokenizer.json"))
    assert found.words == ("<unk>", "a", "b", "ab", "<eos>")
    assert found.encode_lines(["abz", "<eos>"]).tolist()[:3] == [3, 0, 4]
    assert found.encode_lines(["<eos>"]).tolist().count(found.eos_id) == 1


def trained_elsewhere(path, model, trainer, is_bytes=False):
    """Write a tokenizer that the library trained on a text without z."""
    tokenizer = tokenizers.Tokenizer(model)
    parts = tokenizers.pre_tokenizers
    tokenizer.pre_tokenizer = parts.ByteLevel() if is_bytes else parts.Metaspace()
    tokenizer.train_from_iterator(["the cat sat on the mat"] * 9, trainer)
    tokenizer.save(str(path))
    return str(path)


@pytest.mark.parametrize("is_bytes", [False, True])
def test_pieces_that_drop_what_they_cannot_spell_are_refused(tmp_path, is_bytes):
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=60, show_progress=False)
    path = trained_elsewhere(tmp_path / "bpe.json", tokenizers.models.BPE(), trainer, is_bytes)
    with pytest.raises(
        UserError, match=r"bpe\.json: .* would be left out without a word.* unk_tok"
    ):
        read_pieces(path)


def test_pieces_that_cannot_spell_a_text_and_have_no_unknown_piece_are_one_clear_line(tmp_path):
    trainer = tokenizers.trainers.UnigramTrainer(vocab_size=60, show_progress=False)
    path = trained_elsewhere(tmp_path / "unigram.json", tokenizers.models.Unigram(), trainer)
    pieces = read_pieces(path)
    assert "".join(pieces.decode(pieces.split("the cat").ids)) == "▁the▁cat"
    with pytest.raises(UserError, match="the pieces cannot spell 'zebra'"):
        pieces.split("zebra")


def test_a_line_that_spells_the_end_of_a_text_is_one_line(tmp_path):
    trainer = tokenizers.trainers.UnigramTrainer(
        vocab_size=60, show_progress=False, special_tokens=["<unk>", "</s>"], unk_token="<unk>"
    )
    path = trained_elsewhere(tmp_path / "unigram.json", tokenizers.models.Unigram(), trainer)
    pieces = read_pieces(path)
    block = PieceEncoder(pieces, tokenized=True).encode_lines(["the </s> cat", "mat", ""])
    assert block.ids.tolist().count(pieces.eos_id) == 4
    lengths = [len(pieces.split(line).ids) + 1 for line in ("the </s> cat", "mat", "")]
    assert block.lengths.tolist() == lengths


def test_documents_of_pieces_begin_where_those_of_words_do(tmp_path):
    for part in ("train", "valid", "test"):
        lines = (f"a b c{n}\n" + "\n" * (n % 3 == 2) for n in range(12))
        (tmp_path / f"{part}.txt").write_text("".join(lines))
    for share in ({}, {"fraction": 0.5, "skip": 0.25}):
        options = {"tokenize": False, "progress": False, **share}
        pieces = load_corpus(str(tmp_path), pieces="bpe", vocab_size=280, **options)
        words = load_corpus(str(tmp_path), min_count=1, **options)
        ends = [np.flatnonzero(c.train == c.vocabulary.eos_id) + 1 for c in (pieces, words)]
        starts = [np.append(0, e[:-1]) for e in ends]
        lines = [
            np.searchsorted(s, c.documents) for s, c in zip(starts, (pieces, words), strict=True)
        ]
        assert lines[0].tolist() == lines[1].tolist()
        assert len(lines[0]) > 1
