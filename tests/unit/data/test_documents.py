from __future__ import annotations

import gzip
import json
import ntpath
import os
import struct
import sys
from pathlib import Path, PurePath

import pytest

from tiedlm.data import load_corpus
from tiedlm.data.check import notes_on_text
from tiedlm.data.documents import read_documents
from tiedlm.data.find import find_source, is_missing, place_of
from tiedlm.errors import UserError

TEXTS = [f"the cat sat\nand saw dog{n % 4}\n\nit ran ." for n in range(20)]


def compress(path: Path, data: bytes) -> None:
    """Write a file in the format that its name asks for, in two parts."""
    half = len(data) // 2
    if path.suffix == ".zst":
        zstandard = pytest.importorskip("zstandard")
        pack = zstandard.ZstdCompressor().compress
    else:
        pack = gzip.compress if path.suffix == ".gz" else bytes
    path.write_bytes(pack(data[:half]) + pack(data[half:]))


def write_records(path: Path, texts: list[str], field: str = "text") -> None:
    if path.suffix == ".parquet":
        pa = pytest.importorskip("pyarrow")
        import pyarrow.parquet

        pyarrow.parquet.write_table(pa.table({field: texts, "id": range(len(texts))}), path)
    else:
        lines = [json.dumps({"id": n, field: text}) + "\n" for n, text in enumerate(texts)]
        compress(path, "".join(lines).encode())


def same(first, second) -> bool:
    return first.vocabulary == second.vocabulary and all(
        getattr(first, name).tolist() == getattr(second, name).tolist()
        for name in ("train", "valid", "test", "documents")
    )


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_a_compressed_text_is_the_same_text(tmp_path: Path, suffix: str):
    data = "\n".join(TEXTS).encode()
    (tmp_path / "book.txt").write_bytes(data)
    compress(tmp_path / f"book.txt{suffix}", data)
    plain = load_corpus(str(tmp_path / "book.txt"))
    packed = load_corpus(str(tmp_path / f"book.txt{suffix}"))
    assert same(plain, packed)
    assert (packed.name, packed.info["split"]) == ("book", plain.info["split"])
    assert list(packed.info["sha256"].values()) == list(plain.info["sha256"].values())


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_a_text_beside_its_compressed_copy_is_refused(tmp_path: Path, suffix: str):
    data = "\n".join(TEXTS).encode()
    (tmp_path / "book.txt").write_bytes(data)
    compress(tmp_path / f"book.txt{suffix}", data)
    for given in (str(tmp_path), f"{tmp_path}/book.*"):
        with pytest.raises(UserError, match=rf"has book.txt and book.txt{suffix}, .* same text"):
            load_corpus(given)
    compress(tmp_path / f"book.txt{suffix}", data + b"\nmore text .")
    load_corpus(str(tmp_path))


@pytest.mark.parametrize("suffix", [".json", ".JSON", ".json.gz"])
def test_records_that_are_read_as_plain_text_are_noted(tmp_path: Path, suffix: str):
    write_records(tmp_path / f"texts{suffix}", TEXTS)
    (note,) = notes_on_text(load_corpus(str(tmp_path / f"texts{suffix}")))
    assert f"texts{suffix} is read as plain text" in note
    assert "in a file called .jsonl" in note


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".jsonl.zst", ".parquet"])
def test_a_record_is_a_document_and_stays_whole(tmp_path: Path, suffix: str):
    write_records(tmp_path / f"texts{suffix}", TEXTS, "content")
    corpus = load_corpus(str(tmp_path / f"texts{suffix}"), field="content", min_count=1)
    words = corpus.vocabulary.decode(corpus.train)
    ends = [*corpus.documents[1:], len(words)]
    texts = [" ".join(words[a:b]) for a, b in zip(corpus.documents, ends, strict=True)]
    expected = "the cat sat <eos> and saw dog{} <eos> <eos> it ran . <eos>"
    assert texts == [expected.format(n % 4) for n in range(20) if n % 10 < 8]
    assert "records" in corpus.info["split"]
    assert "'content'" in corpus.info["split"]


def test_records_and_text_files_give_the_same_documents(tmp_path: Path):
    write_records(tmp_path / "texts.jsonl", [text.replace("\n\n", "\n") for text in TEXTS])
    folder = tmp_path / "files"
    (folder / "deep").mkdir(parents=True)
    for number, text in enumerate(TEXTS):
        place = folder if number < 10 else folder / "deep"
        (place / f"{chr(97 + number)}.txt").write_text(text.replace("\n\n", "\n"))
    (folder / ".hidden.txt").write_text("hidden")
    (folder / "notes.pdf").write_bytes(b"%PDF")
    options = {"min_count": 1}
    records = load_corpus(str(tmp_path / "texts.jsonl"), **options)
    by_name = sorted(folder.rglob("[a-z].txt"))
    (tmp_path / "ordered.jsonl").write_text(
        "".join(json.dumps({"text": path.read_text()}) + "\n" for path in by_name)
    )
    ordered = load_corpus(str(tmp_path / "ordered.jsonl"), **options)
    assert len(ordered.train) == len(records.train)
    given = str(folder), f"{folder}/**/*.txt", ",".join(map(str, by_name))
    for one in given:
        corpus = load_corpus(one, **options)
        assert same(corpus, ordered), one
        assert corpus.name == "files"


def test_parts_may_be_compressed_records(tmp_path: Path):
    for part in ("train", "valid", "test"):
        write_records(tmp_path / f"{part}.jsonl.gz", TEXTS[:3])
    corpus = load_corpus(str(tmp_path))
    assert corpus.documents.tolist() == [0, 13, 26]
    assert corpus.info["split"] == "as given: one file a part; field 'text'"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"id": 1}', r"line 3 of .* has no field 'text'; it has 'id': give one as"),
        ("{'text': 'a'}", "line 3 of .* is not JSON"),
        ("[" * 100_000, "line 3 of .* (nested too deeply|is not JSON)"),
        ("[1]", "line 3 of .* is a list, not a record"),
        ('{"text": null}', "line 3 of .*: 'text' is null, not a text"),
        ('{"text": ""}', "line 3 of .*: 'text' is empty; remove the record"),
        ('{"text": " \\n "}', "line 3 of .*: 'text' is empty; remove the record"),
        ('{"text": "a\\u0000b"}', "line 3 of .*: 'text' holds a zero character"),
        ('{"text": "a\\ud800b"}', "line 3 of .*: 'text' holds '.ud800', half a character"),
    ],
)
def test_a_record_without_a_text_is_named(tmp_path: Path, cache: Path, line: str, message: str):
    records = [json.dumps({"text": text}) for text in TEXTS]
    (tmp_path / "t.jsonl").write_text("\n".join([*records[:2], line, *records[2:]]))
    with pytest.raises(UserError, match=message) as error:
        load_corpus(str(tmp_path / "t.jsonl"))
    assert "\n" not in str(error.value)
    assert not list(cache.glob("corpora/*"))


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["a", None], "^row 2 of .*: 'text' is empty; remove the row$"),
        (["a", " "], "^row 2 of .*: 'text' is empty; remove the record$"),
        ([1, 2], "column 'text' is of type int64, not of text"),
    ],
)
def test_a_row_without_a_text_is_named(tmp_path: Path, texts: list, message: str):
    write_records(tmp_path / "t.parquet", texts * 10)
    with pytest.raises(UserError, match=message):
        load_corpus(str(tmp_path / "t.parquet"))
    with pytest.raises(UserError, match="has no column 'body'; it has 'text', 'id': give one"):
        load_corpus(str(tmp_path / "t.parquet"), field="body")
    (tmp_path / "t.parquet").write_bytes((tmp_path / "t.parquet").read_bytes()[:-9])
    with pytest.raises(UserError, match=r"t\.parquet cannot be read as Parquet: .*download it"):
        load_corpus(str(tmp_path / "t.parquet"))


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
@pytest.mark.parametrize("damage", [lambda d: d[:-10], lambda d: d[:4] + b"\xff" * 60 + d[64:]])
def test_damaged_compressed_data_is_named(tmp_path: Path, cache: Path, suffix: str, damage):
    path = tmp_path / f"book.txt{suffix}"
    compress(path, "\n".join(TEXTS).encode() * 9)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=r"book\.txt\S* is damaged: .*; copy or do") as error:
        load_corpus(str(path))
    assert "\n" not in str(error.value)
    assert not list(cache.glob("corpora/*"))


def test_a_zst_file_with_a_long_window_is_read(tmp_path: Path):
    zstandard = pytest.importorskip("zstandard")
    parameters = zstandard.ZstdCompressionParameters(window_log=28)
    pack = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    data = "\n".join(TEXTS).encode() * 9
    (tmp_path / "book.txt").write_bytes(data)
    (tmp_path / "book.txt.zst").write_bytes(pack.compress(data) + pack.flush())
    packed, plain = (load_corpus(str(tmp_path / f"book.txt{one}")) for one in (".zst", ""))
    assert packed.train.tolist() == plain.train.tolist()


def test_a_zst_file_of_pzstd_is_read(tmp_path: Path):
    zstandard = pytest.importorskip("zstandard")
    pack, lines = zstandard.ZstdCompressor().compress, "\n".join(TEXTS).encode().splitlines(True)
    packed = [pack(b"".join(some)) for some in (lines[:30], lines[30:])]
    frames = [struct.pack("<3I", 0x184D2A50, 4, len(frame)) + frame for frame in packed]
    (tmp_path / "book.txt.zst").write_bytes(b"".join(frames))
    (tmp_path / "book.txt").write_bytes(b"".join(lines))
    found, plain = (load_corpus(str(tmp_path / f"book.txt{one}")) for one in (".zst", ""))
    assert found.train.tolist() == plain.train.tolist()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (b"a \xff b", r"is not UTF-8 text \(byte 0xff in line 60001\)"),
        (b"a \0 b", "is not a text file .line 60001 holds zero bytes"),
        (b"a\rb", "line 60001 of .* has carriage returns inside"),
    ],
)
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_wrong_byte_far_into_a_text_is_named_with_its_line(
    tmp_path: Path, cache: Path, wrong: bytes, message: str, suffix: str
):
    path = tmp_path / f"long.txt{suffix}"
    line = b"the cat sat on the mat and saw the dog\n"
    data = line * 60_000 + wrong + b"\n" + line * 9
    path.write_bytes(gzip.compress(data, 1) if suffix else data)
    with pytest.raises(UserError, match=message):
        load_corpus(str(path))
    assert not list(cache.glob("corpora/*"))


def test_a_package_that_is_missing_is_named(tmp_path: Path, monkeypatch):
    (tmp_path / "a.txt.zst").write_bytes(b"\x28\xb5\x2f\xfd")
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    for name, extra in (("zstandard", "zstd"), ("pyarrow.parquet", "parquet")):
        monkeypatch.setitem(sys.modules, name, None)
        path = tmp_path / ("a.txt.zst" if extra == "zstd" else "a.parquet")
        with pytest.raises(UserError, match=rf"needs \w+: pip install 'tiedlm\[{extra}\]'"):
            load_corpus(str(path))


def test_too_few_records_and_missing_files_are_named(tmp_path: Path):
    write_records(tmp_path / "few.jsonl", TEXTS[:9])
    with pytest.raises(UserError, match="has 9 documents, too few to split"):
        load_corpus(str(tmp_path / "few.jsonl"))
    with pytest.raises(UserError, match=r"no file matches '.*none.*txt'"):
        load_corpus(f"{tmp_path}/none*.txt")
    with pytest.raises(UserError, match=r"there is no file '.*other\.jsonl'"):
        load_corpus(f"{tmp_path}/few.jsonl,{tmp_path}/other.jsonl")
    with pytest.raises(UserError, match="twice"):
        load_corpus(f"{tmp_path}/few.jsonl,{tmp_path}/*.jsonl")
    (tmp_path / "void.txt").write_bytes(b"")
    with pytest.raises(UserError, match=r"void\.txt is empty"):
        load_corpus(f"{tmp_path}/few.jsonl,{tmp_path}/void.txt")


def test_the_files_of_a_pattern_are_not_each_compared_with_all_others(tmp_path: Path, monkeypatch):
    for number in range(100):
        (tmp_path / f"{number}.txt").write_text("the cat sat .")
    compare, calls = PurePath.__eq__, []
    monkeypatch.setattr(
        PurePath, "__eq__", lambda one, other: calls.append(0) or compare(one, other)
    )
    find_source(f"{tmp_path}/*.txt")
    assert len(calls) < 1000


def test_files_on_several_drives_of_windows_are_one_line(tmp_path: Path, monkeypatch):
    for name in "ab":
        (tmp_path / f"{name}.txt").write_text("\n".join(TEXTS))
    monkeypatch.setattr(
        os.path, "commonpath", lambda _: ntpath.commonpath(["C:\\texts", "D:\\texts"])
    )
    with pytest.raises(UserError, match="has files on several drives; copy them to one folder"):
        find_source(f"{tmp_path}/a.txt,{tmp_path}/b.txt")


def test_a_pattern_and_a_list_are_found_from_any_folder(tmp_path: Path, monkeypatch):
    for name in "ab":
        (tmp_path / f"{name}.txt").write_text("\n".join(TEXTS))
    monkeypatch.chdir(tmp_path)
    for given in ("*.txt", "a.txt,b.txt"):
        place = place_of(given)
        assert place == ",".join(f"{tmp_path}/{item}" for item in given.split(","))
        with monkeypatch.context() as elsewhere:
            elsewhere.chdir("/")
            assert [path.name for path in find_source(place).files] == ["a.txt", "b.txt"]
        assert not is_missing(place)
        assert is_missing(place.replace(str(tmp_path), "/nowhere"))
    for given in ("a.txt,", ",a.txt", "a.txt,,b.txt"):
        for reader in (place_of, find_source):
            with pytest.raises(UserError, match=f"'{given}' has a comma too many"):
                reader(given)
    assert place_of("ptb") == "ptb"
    assert not is_missing("ptb")


@pytest.mark.parametrize("folder", ["old[1]", "Smith, J"])
def test_a_pattern_and_a_list_are_found_in_a_folder_of_any_name(tmp_path, monkeypatch, folder):
    (tmp_path / folder).mkdir()
    monkeypatch.chdir(tmp_path / folder)
    for name in ("a.txt", "b.txt"):
        Path(name).write_text("the cat sat .\n" * 20)
    for given in ("*.txt", "a.txt,b.txt"):
        place = place_of(given)
        assert [path.name for path in find_source(place).files] == ["a.txt", "b.txt"]
        assert not is_missing(place)
        if "," not in folder:
            monkeypatch.chdir("/")
            assert [path.name for path in find_source(place).files] == ["a.txt", "b.txt"]
            monkeypatch.chdir(tmp_path / folder)


def test_a_list_may_be_longer_than_any_path(tmp_path: Path, monkeypatch):
    names = [f"part-{n:0200}.txt" for n in range(22)]
    for name in names:
        (tmp_path / name).write_text("the cat sat .\n")
    monkeypatch.chdir(tmp_path)
    place = place_of(",".join(names))
    assert place == ",".join(str(tmp_path / name) for name in names)
    assert len(place) > 4096
    for given in (",".join(names), place):
        assert [path.name for path in find_source(given).files] == names
    assert not is_missing(place)
    assert is_missing(place.replace("part-", "no-part-"))


def test_a_document_of_records_keeps_its_lines(tmp_path: Path):
    (tmp_path / "t.jsonl").write_text(json.dumps({"text": "a\r\nb\rc\n\nd\u2028e\n"}) + "\n\n")
    [lines] = read_documents(tmp_path / "t.jsonl")
    assert lines == (["a", "b", "c", "", "d\u2028e"], [0])


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\r"])
def test_the_line_end_at_the_end_of_a_record_begins_no_line(tmp_path: Path, end: str):
    (tmp_path / "t.jsonl").write_text(json.dumps({"text": f"a b{end}"}) + "\n")
    [lines] = read_documents(tmp_path / "t.jsonl")
    assert lines.lines == ["a b"]
