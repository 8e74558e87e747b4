from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tiedlm.data import Vocabulary, load_corpus
from tiedlm.data import corpus as corpus_module
from tiedlm.data import source as source_module
from tiedlm.data.check import check_corpus, notes_on_text
from tiedlm.errors import UserError
from tiedlm.files import cache_folder

HAS_DATA = bool(os.environ.get("TIEDLM_DATA"))
DATA_ROOT = Path(os.environ.get("TIEDLM_DATA", ""))


def cached_folder(cache: Path) -> Path:
    (found,) = (cache / "corpora").iterdir()
    return found


def test_every_line_ends_in_eos_and_blank_lines_count(folder: Path):
    corpus = load_corpus(str(folder), min_count=1)
    words = corpus.vocabulary.decode(corpus.train)
    assert " ".join(words) == "the cat sat <eos> the dog sat <eos> the cat ran <eos>"
    assert corpus.vocabulary.decode(corpus.test) == ["<eos>", "<unk>", "dog", "sat", "<eos>"]
    assert corpus.train.dtype == np.int32
    assert not corpus.train.flags.writeable


def test_an_eos_that_the_text_holds_is_not_doubled(folder: Path):
    (folder / "valid.txt").write_text("the cat <eos>\nsat <eos>\n")
    corpus = load_corpus(str(folder), min_count=1)
    assert corpus.vocabulary.decode(corpus.valid) == ["the", "cat", "<eos>", "sat", "<eos>"]


def test_words_seen_once_become_unk_unless_the_text_has_its_own(folder: Path):
    corpus = load_corpus(str(folder))
    assert set(corpus.vocabulary.words) == {"<eos>", "<unk>", "the", "cat", "sat"}
    assert corpus.info["parts"]["train"] == {"tokens": 12, "unk": 2}
    (folder / "train.txt").write_text("the <unk> sat\n")
    corpus = load_corpus(str(folder))
    assert set(corpus.vocabulary.words) == {"<eos>", "<unk>", "the", "sat"}


def test_vocabulary_size_can_be_limited(folder: Path):
    (folder / "valid.txt").write_text("the dog\n")
    (folder / "test.txt").write_text("a cat\n")
    corpus = load_corpus(str(folder), vocab_size=4, min_count=1)
    assert corpus.vocabulary.words == ("<eos>", "<unk>", "the", "cat")
    assert corpus.info["vocabulary"] == {"types": 4, "max_size": 4, "min_count": 1}


def test_a_vocabulary_without_words_is_refused_before_the_text_is_read(folder: Path, monkeypatch):
    def read(*given, **options):
        pytest.fail("the text is read")

    monkeypatch.setattr("tiedlm.data.corpus.find_source", read)
    with pytest.raises(UserError, match="--vocab-size 2 is too small"):
        load_corpus(folder, vocab_size=2)


def test_raw_text_is_tokenized_and_tokenized_text_left_alone(folder: Path):
    (folder / "train.txt").write_text("We don't know, Sir. We don't.\n")
    for part in ("valid", "test"):
        (folder / f"{part}.txt").write_text("we don't.\n")
    raw = load_corpus(str(folder), min_count=1)
    expected = "we do n't know , sir . <eos> we do n't . <eos>"
    assert " ".join(raw.vocabulary.decode(raw.train)) == expected
    assert raw.info["tokenizer"] == "tiedlm"
    kept = load_corpus(str(folder), min_count=1, tokenize=False)
    assert "don't." in kept.vocabulary
    assert kept.info["tokenizer"] is None


@pytest.mark.parametrize("fraction", [0.34, 0.5, 0.66])
def test_a_fraction_keeps_whole_lines_and_rebuilds_the_vocabulary(folder: Path, fraction: float):
    corpus = load_corpus(str(folder), fraction=fraction, min_count=1)
    assert corpus.vocabulary.decode(corpus.train) == ["the", "cat", "sat", "<eos>"]
    assert set(corpus.vocabulary.words) == {"<eos>", "<unk>", "the", "cat", "sat"}
    assert corpus.vocabulary.decode(corpus.test) == ["<eos>", "<unk>", "<unk>", "sat", "<eos>"]
    assert corpus.info["fraction"] == fraction


def test_a_fraction_of_no_line_is_an_error(folder: Path):
    with pytest.raises(UserError, match=r"--fraction 0\.2 keeps no whole line of 12 train"):
        load_corpus(str(folder), fraction=0.2)


@pytest.mark.parametrize("fraction", [0.0, -1.0, 1.5, float("nan")])
def test_a_fraction_outside_0_to_1_is_an_error(folder: Path, fraction: float):
    with pytest.raises(UserError, match="fraction must be"):
        load_corpus(str(folder), fraction=fraction)


@pytest.mark.parametrize("blank", ["\n" * 5, " \n\t\n", "<eos>\n" * 5], ids=repr)
@pytest.mark.parametrize("words", ["Some words, and more.\n", "some words and more\n"])
@pytest.mark.parametrize("without", ["train", "valid", "test"])
def test_a_part_without_a_word_is_an_error(tmp_path: Path, without, words, blank):
    for part in ("train", "valid", "test"):
        (tmp_path / f"{part}.txt").write_text(blank if part == without else words * 8)
    with pytest.raises(UserError, match=f"the {without} text of .* has no words: every line is"):
        load_corpus(str(tmp_path))


def test_a_fraction_of_blank_lines_is_an_error(tmp_path: Path):
    for part, text in (("train", "\n" * 90 + "a word a word\n"), ("valid", "a"), ("test", "a")):
        (tmp_path / f"{part}.txt").write_text(text)
    assert len(load_corpus(str(tmp_path)).train) == 95
    with pytest.raises(UserError, match=r"the train text of .* has no words"):
        load_corpus(str(tmp_path), fraction=0.5, vocab_from="whole")


@pytest.mark.parametrize("part", ["valid", "test"])
def test_a_part_whose_words_are_all_unknown_is_an_error(tmp_path: Path, part):
    for name in ("train", "valid", "test"):
        text = "palabras <unk> nunca vistas\n" if name == part else "some words some words\n"
        (tmp_path / f"{name}.txt").write_text(text)
    with pytest.raises(UserError, match=f"the {part} text of .* has no word of the vocabulary"):
        load_corpus(str(tmp_path))
    (tmp_path / f"{part}.txt").write_text("palabras words\n")
    assert load_corpus(str(tmp_path)).info["parts"][part] == {"tokens": 3, "unk": 1}


def test_a_training_text_whose_words_are_all_unknown_is_an_error(tmp_path: Path):
    for part in ("train", "valid", "test"):
        (tmp_path / f"{part}.txt").write_text("every word once\n")
    with pytest.raises(UserError, match=r"no word occurs 2 times, .*; use --min-count 1"):
        load_corpus(str(tmp_path))
    assert load_corpus(str(tmp_path), min_count=1).info["parts"]["train"]["unk"] == 0


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("pbt", "did you mean 'ptb'"),
        ("sotu-shrt", "did you mean 'sotu-short'"),
        ("nothing", "give one of sotu, sotu-modern"),
        ("no/such/folder", "does not exist"),
        ("book.txt", "does not exist"),
    ],
)
def test_an_unknown_name_or_path_is_an_error(name: str, message: str):
    with pytest.raises(UserError, match=message):
        load_corpus(name)


def test_the_second_load_reads_the_cache(folder: Path, cache: Path, monkeypatch):
    first = load_corpus(str(folder))
    monkeypatch.setattr("tiedlm.data.encode.encode", None)
    second = load_corpus(str(folder))
    assert second.vocabulary == first.vocabulary
    assert second.info == json.loads(json.dumps(first.info))
    for part in ("train", "valid", "test"):
        assert np.array_equal(getattr(first, part), getattr(second, part))


def test_the_cache_is_readable_by_others_if_the_umask_allows(folder: Path, cache: Path):
    before = os.umask(0o022)
    try:
        load_corpus(str(folder))
    finally:
        os.umask(before)
    place = cached_folder(cache)
    assert place.stat().st_mode & 0o777 == 0o755
    assert {file.stat().st_mode & 0o777 for file in place.iterdir()} == {0o644}


def test_a_changed_text_or_option_is_not_served_from_the_cache(folder: Path):
    before = load_corpus(str(folder), min_count=1)
    assert len(load_corpus(str(folder), min_count=2).vocabulary) < len(before.vocabulary)
    (folder / "train.txt").write_text("the cat sat\nthe dog sat\nthe cow ran\n")
    assert "cow" in load_corpus(str(folder), min_count=1).vocabulary


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("file", ["train.npy", "test.npy", "vocabulary.txt", "info.json"])
@pytest.mark.parametrize(
    "damage",
    [
        flip_a_bit,
        lambda path: path.write_bytes(path.read_bytes()[:-3]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"[]"),
        Path.unlink,
    ],
)
def test_a_damaged_cache_is_rebuilt(folder: Path, cache: Path, file: str, damage):
    first = load_corpus(str(folder))
    before = {part: getattr(first, part).tolist() for part in ("train", "valid", "test")}
    damage(cached_folder(cache) / file)
    second = load_corpus(str(folder))
    assert second.info == first.info
    assert Vocabulary.load(cached_folder(cache) / "vocabulary.txt") == first.vocabulary
    assert {part: getattr(second, part).tolist() for part in before} == before


def test_without_locks_a_corpus_that_another_process_cached_is_used(folder: Path, cache: Path):
    import tiedlm.data.encode as module

    original = module.encode

    def slow(*arguments):
        if not (cache / "meanwhile").exists():
            (cache / "meanwhile").touch()
            load_corpus(str(folder))
        return original(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "encode", slow)
        patch.setattr("tiedlm.data.place._locked", lambda *arguments: None)
        corpus = load_corpus(str(folder))
    assert len(corpus.train) == 12
    assert [path.name[0] for path in (cache / "corpora").iterdir()] != ["."]
    assert len(list((cache / "corpora").iterdir())) == 1


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS])
def test_a_disk_that_cannot_be_written_leaves_nothing_behind(
    folder: Path, cache: Path, monkeypatch, code: int
):
    def fail(*arguments):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("numpy.lib.format.write_array_header_1_0", fail)
    with pytest.raises(UserError, match=f"cannot write .*{os.strerror(code)}.*TIEDLM_CACHE"):
        load_corpus(str(folder))
    assert list((cache / "corpora").iterdir()) == []


def test_a_cache_folder_that_is_a_file_is_named(folder: Path, cache: Path):
    cache.write_text("a file")
    with pytest.raises(UserError, match=r"cannot write .*set TIEDLM_CACHE"):
        load_corpus(str(folder))


def test_a_text_that_changes_while_it_is_read_is_not_cached(folder: Path, monkeypatch):
    def grow(*arguments):
        with (folder / "train.txt").open("a") as file:
            file.write("the cow sat\n")
        build(*arguments)

    build = corpus_module._build
    monkeypatch.setattr(corpus_module, "_build", grow)
    with pytest.raises(UserError, match=r"train\.txt was changed while it was read"):
        load_corpus(str(folder))
    monkeypatch.undo()
    (folder / "train.txt").write_text("the cat sat\nthe dog sat\nthe cat ran\n", encoding="utf-8")
    assert load_corpus(str(folder)).info["parts"]["train"]["tokens"] == 12


def test_a_text_that_changes_while_it_is_hashed_is_not_cached(folder: Path, monkeypatch):
    old = (folder / "train.txt").read_text()

    def examine(path):
        found = real(path)
        if path.name == "train.txt":
            path.write_text("the bird sat\n" + old)
        return found

    real = source_module.examine_documents
    monkeypatch.setattr(source_module, "examine_documents", examine)
    with pytest.raises(UserError, match=r"train\.txt was changed while it was read"):
        load_corpus(str(folder))
    monkeypatch.undo()
    (folder / "train.txt").write_text(old)
    assert "bird" not in load_corpus(str(folder)).vocabulary


def test_bad_text_leaves_nothing_in_the_cache(folder: Path, cache: Path):
    (folder / "test.txt").write_bytes(b"r\xe9sum\xe9\n")
    with pytest.raises(UserError, match="not UTF-8"):
        load_corpus(str(folder))
    assert list((cache / "corpora").iterdir()) == []


def test_the_cache_is_in_the_users_cache_folder(monkeypatch, tmp_path: Path):
    monkeypatch.delenv("TIEDLM_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "tiedlm"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "tiedlm"
    assert cache_folder(tmp_path) == tmp_path


def test_a_file_that_is_not_the_canonical_one_is_refused(tmp_path: Path):
    (tmp_path / "ptb").mkdir()
    for part in ("train", "valid", "test"):
        (tmp_path / "ptb" / f"ptb.{part}.txt").write_text("not the treebank\n")
    with pytest.raises(UserError, match=r"ptb\.train\.txt is not the canonical file"):
        load_corpus("ptb", data_root=tmp_path)


@pytest.mark.skipif(not HAS_DATA, reason="TIEDLM_DATA is not set")
@pytest.mark.parametrize(
    ("name", "tokens", "types"),
    [
        ("ptb", (929_589, 73_760, 82_430), 10_000),
        ("wikitext-2", (2_088_628, 217_646, 245_569), 33_278),
    ],
)
def test_standard_corpora_have_exactly_the_published_counts(name: str, tokens, types: int):
    corpus = load_corpus(name, data_root=DATA_ROOT, download=False)
    assert (len(corpus.train), len(corpus.valid), len(corpus.test)) == tokens
    assert len(corpus.vocabulary) == types
    assert corpus.info["tokenizer"] is None
    assert corpus.info["verified"] is True
    lines = (DATA_ROOT / name).iterdir()
    first = next(p for p in lines if "train" in p.name).read_text(encoding="utf-8")[:2000]
    expected = " <eos> ".join(line.strip() for line in first.split("\n")[:-1]).split()
    assert corpus.vocabulary.decode(corpus.train[: len(expected)]) == expected


@pytest.mark.skipif(not HAS_DATA, reason="TIEDLM_DATA is not set")
def test_part_of_the_treebank_has_a_vocabulary_of_its_own():
    whole = load_corpus("ptb", data_root=DATA_ROOT)
    part = load_corpus("ptb", data_root=DATA_ROOT, fraction=0.1)
    assert 0.0999 * len(whole.train) < len(part.train) <= 0.1 * len(whole.train)
    assert len(part.vocabulary) < len(whole.vocabulary)
    assert len(part.test) == len(whole.test)
    assert part.info["parts"]["test"]["unk"] > whole.info["parts"]["test"]["unk"]


@pytest.mark.parametrize("cut", [0.2, 0.34, 0.5, 0.61])
def test_the_part_that_is_kept_and_the_part_that_is_skipped_share_no_line(
    tmp_path: Path, cut: float
):
    (tmp_path / "train.txt").write_text("".join(f"a{i} b c{i}\n" for i in range(9)))
    for part in ("valid", "test"):
        (tmp_path / f"{part}.txt").write_text("b\n")
    options = {"min_count": 1, "vocab_from": "whole"}
    whole = load_corpus(str(tmp_path), **options)
    first = load_corpus(str(tmp_path), fraction=cut, **options)
    second = load_corpus(str(tmp_path), fraction=1 - cut, skip=cut, **options)
    assert first.vocabulary == second.vocabulary == whole.vocabulary
    assert [*first.train, *second.train] == list(whole.train)
    assert second.info["skip"] == cut


def test_parts_that_meet_at_a_line_end_share_no_line_whatever_the_rounding(tmp_path: Path):
    # 0.14 + 0.15 > 0.29, and 0.29 * 100 < 29.
    (tmp_path / "train.txt").write_text("a " * 23 + "\n" + "b " * 4 + "\n" + "c " * 70 + "\n")
    for part in ("valid", "test"):
        (tmp_path / f"{part}.txt").write_text("b\n")
    options = {"min_count": 1, "vocab_from": "whole"}
    whole = load_corpus(str(tmp_path), **options)
    assert len(whole.train) == 100
    first = load_corpus(str(tmp_path), skip=0.14, fraction=0.15, **options)
    second = load_corpus(str(tmp_path), skip=0.29, fraction=0.71, **options)
    assert [*first.train, *second.train] == list(whole.train)
    assert len(load_corpus(str(tmp_path), fraction=0.29, **options).train) == 29


def test_the_vocabulary_comes_from_the_part_unless_the_whole_is_asked_for(folder: Path):
    part = load_corpus(str(folder), fraction=0.5, min_count=1)
    whole = load_corpus(str(folder), fraction=0.5, min_count=1, vocab_from="whole")
    assert len(part.vocabulary) < len(whole.vocabulary)
    assert whole.vocabulary == load_corpus(str(folder), min_count=1).vocabulary
    assert len(part.train) == len(whole.train)


def test_a_wrong_skip_or_vocabulary_rule_is_an_error(folder: Path):
    with pytest.raises(UserError, match="skip must be"):
        load_corpus(str(folder), skip=1.0)
    with pytest.raises(UserError, match="vocab_from must be"):
        load_corpus(str(folder), vocab_from="valid")


def test_text_without_blanks_is_reported_as_having_no_words(tmp_path: Path):
    text = tmp_path / "book.txt"
    line = "他昨天早上去北京大学看朋友了，大家都很高兴{}。"
    text.write_text("\n".join(line.format(chr(0x4E10 + i)) for i in range(40)), encoding="utf-8")
    corpus = load_corpus(str(text), vocab_size=10)
    warnings = check_corpus(corpus)["warnings"]
    (note,) = notes_on_text(corpus)
    assert "no spaces between words" in note
    assert note in warnings
    assert not any("larger vocabulary" in warning for warning in warnings)
    assert any("is <unk>" in warning and "told apart" in warning for warning in warnings)


def test_text_with_blanks_gives_no_warning(folder: Path):
    assert notes_on_text(load_corpus(str(folder))) == []


def test_the_name_of_a_text_may_be_as_long_as_the_file_system_allows(tmp_path: Path, cache: Path):
    path = tmp_path / ("语" * 83 + ".txt")
    path.write_text("the cat sat\n" * 20, encoding="utf-8")
    loaded = load_corpus(str(path))
    assert loaded.name == path.stem
    (folder,) = (cache / "corpora").iterdir()
    assert folder.name.startswith("语" * 26 + "-")


def test_the_ids_do_not_depend_on_the_length_of_a_block(folder: Path, tmp_path: Path, monkeypatch):
    (folder / "train.txt").write_text("the cat sat .\nwe saw it , we saw it\n\nthe end .\n" * 40)
    options = {"min_count": 1, "fraction": 0.7, "skip": 0.2}
    whole = load_corpus(str(folder), **options)
    monkeypatch.setattr("tiedlm.data.encode.BLOCK", 50)
    blocks = load_corpus(str(folder), cache=tmp_path / "other", **options)
    assert blocks.vocabulary == whole.vocabulary
    assert blocks.info == whole.info
    for part in ("train", "valid", "test"):
        assert getattr(blocks, part).tolist() == getattr(whole, part).tolist()


def test_a_document_begins_with_the_text_and_after_blank_lines(folder: Path, monkeypatch):
    for part, text in (("train", "\na a\na\n\n\nb b b\n \nc\n\n"), ("valid", "a"), ("test", "b")):
        (folder / f"{part}.txt").write_text(text)
    corpus = load_corpus(str(folder), min_count=1)
    text = " ".join(corpus.vocabulary.decode(corpus.train))
    assert text == "<eos> a a <eos> a <eos> <eos> <eos> b b b <eos> <eos> c <eos> <eos>"
    assert corpus.documents.tolist() == [0, 1, 8, 13]
    monkeypatch.setattr("tiedlm.data.encode.BLOCK", 3)
    again = load_corpus(str(folder), min_count=1, vocab_size=6)
    assert again.documents.tolist() == [0, 1, 8, 13]
    part = load_corpus(str(folder), min_count=1, skip=0.3, fraction=0.6)
    assert len(part.train) == 9
    assert part.documents.tolist() == [0, 4]


def test_a_long_text_in_the_cache_is_not_read_again(folder: Path, monkeypatch):
    monkeypatch.setattr("tiedlm.data.facts.LONG", 1)
    monkeypatch.setattr("tiedlm.data.corpus.LONG", 1)
    first = load_corpus(str(folder))
    with monkeypatch.context() as patch:
        for name in ("corpus.digest", "text.hashlib", "documents.examine"):
            patch.setattr(f"tiedlm.data.{name}", None)
        assert load_corpus(str(folder)).train.tolist() == first.train.tolist()
    (folder / "train.txt").write_text("the dog sat\nthe dog sat\nthe cat ran\n")
    assert "dog" in load_corpus(str(folder)).vocabulary
    assert load_corpus(str(folder)).info["sha256"] != first.info["sha256"]


@pytest.mark.parametrize("file", ["train.npy", "documents.npy", "vocabulary.txt"])
def test_a_long_file_of_the_cache_that_was_changed_is_made_anew(
    folder: Path, cache: Path, monkeypatch, file: str
):
    monkeypatch.setattr("tiedlm.data.corpus.LONG", 1)
    before = load_corpus(str(folder)).train.tolist()
    flip_a_bit(cached_folder(cache) / file)
    assert load_corpus(str(folder)).train.tolist() == before


PREPARE = """
import sys, time
from pathlib import Path
from tiedlm.data import encode, load_corpus
original = encode.encode
def slow(*arguments):
    Path(sys.argv[2], "encoded-" + sys.argv[3]).touch()
    time.sleep(float(sys.argv[4]))
    return original(*arguments)
encode.encode = slow
print(len(load_corpus(sys.argv[1]).train))
"""


def prepare(folder: Path, tmp_path: Path, name: str, seconds: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PREPARE, folder, tmp_path, name, str(seconds)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True)


def wait_for(path: Path) -> None:
    while not path.exists():
        time.sleep(0.02)


def test_of_two_processes_one_prepares_a_text_and_the_other_waits(folder: Path, tmp_path: Path):
    first = prepare(folder, tmp_path, "first", 2.0)
    wait_for(tmp_path / "encoded-first")
    second = prepare(folder, tmp_path, "second", 0.0)
    assert first.communicate(timeout=60)[0] == second.communicate(timeout=60)[0] == "12\n"
    assert not (tmp_path / "encoded-second").exists()


def test_a_text_is_prepared_anew_after_a_process_that_was_killed(
    folder: Path, tmp_path: Path, cache: Path
):
    first = prepare(folder, tmp_path, "first", 60.0)
    wait_for(tmp_path / "encoded-first")
    first.kill()
    first.communicate()
    (left,) = (cache / "corpora").iterdir()
    assert left.name.startswith(".")
    assert len(load_corpus(str(folder)).train) == 12
    assert not left.exists()
