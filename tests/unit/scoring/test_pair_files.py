"""Minimal pairs are read from JSON lines and from tables; what is wrong is named."""

import gzip
import json
import os

import pytest

from tiedlm.errors import UserError
from tiedlm.scoring.pair_files import read_pairs

BLIMP = {
    "sentence_good": "Who should Derek hug after shocking Richard?",
    "sentence_bad": "Who should Derek hug Richard after shocking?",
    "field": "syntax",
    "linguistics_term": "island_effects",
    "UID": "adjunct_island",
    "simple_LM_method": True,
    "pairID": "0",
}


def write(path, data):
    path.write_bytes(data if isinstance(data, bytes) else data.encode("utf-8"))
    return str(path)


def texts(pairs):
    return [(pair.phenomenon, pair.good, pair.bad) for pair in pairs]


def test_blimp_is_read_without_flags(tmp_path):
    path = write(tmp_path / "adjunct_island.jsonl", f"{json.dumps(BLIMP)}\n\n{json.dumps(BLIMP)}\n")
    pairs, named = read_pairs(path)
    assert named
    expected = ("island_effects", BLIMP["sentence_good"], BLIMP["sentence_bad"])
    assert texts(pairs) == [expected, expected]
    assert [pair.line for pair in pairs] == [1, 3]
    assert {pair.phenomenon for pair in read_pairs(path, by="UID")[0]} == {"adjunct_island"}
    assert {p.phenomenon for p in read_pairs(path, by="simple_LM_method")[0]} == {"true"}


def test_without_a_term_the_uid_is_the_phenomenon_and_else_the_file(tmp_path):
    entry = {name: BLIMP[name] for name in ("sentence_good", "sentence_bad", "UID")}
    path = write(tmp_path / "a.jsonl", json.dumps(entry))
    assert read_pairs(path)[0][0].phenomenon == "adjunct_island"
    del entry["UID"]
    path = write(tmp_path / "sub.verb.jsonl.gz", gzip.compress(json.dumps(entry).encode()))
    assert read_pairs(path)[0][0].phenomenon == "sub.verb"


def test_the_name_of_a_file_can_be_written_as_utf8(tmp_path):
    path = write(tmp_path / os.fsdecode(b"pairs\xe9.tsv"), "good\tbad\na b\tb a\n")
    ((pair,), _) = read_pairs(path)
    assert pair.phenomenon == "pairs\ufffd"
    assert pair.file == f"{tmp_path}/pairs\ufffd.tsv"


@pytest.mark.parametrize("delimiter", ["\t", ";", ","], ids=["tabs", "semicolons", "commas"])
def test_a_table_gives_the_same_pairs_by_any_names(tmp_path, delimiter):
    rows = [["id", "ok", "kind", "no"], ["1", "a cat", "x", "cat  a"], ["2", '"b"', "y", "c"]]
    quoted = [['"' + cell.replace('"', '""') + '"' for cell in row] for row in rows]
    text = "\n".join(delimiter.join(row) for row in quoted)
    path = write(tmp_path / "t.csv", f"\ufeff{text}\n\n")
    pairs, named = read_pairs(path, good="ok", bad="no", by="kind")
    assert named
    assert texts(pairs) == [("x", "a cat", "cat a"), ("y", '"b"', "c")]
    assert [pair.line for pair in pairs] == [1, 2]


def test_a_table_of_two_columns_needs_no_header(tmp_path):
    path = write(tmp_path / "t.tsv", "the cat sees\tthe cat see\nsees\tsee\n")
    pairs, named = read_pairs(path)
    assert not named
    assert texts(pairs) == [("t", "the cat sees", "the cat see"), ("t", "sees", "see")]
    assert [pair.line for pair in pairs] == [1, 2]
    pairs, named = read_pairs(write(tmp_path / "h.tsv", "good\tbad\nthe cat sees\tthe cat see\n"))
    assert named
    assert texts(pairs) == [("h", "the cat sees", "the cat see")]


TWO = '{"sentence_good": "a", "sentence_bad": "b"}\n'


@pytest.mark.parametrize(
    ("name", "data", "flags", "says"),
    [
        ("a", b"", {}, "a is empty; expected a text"),
        ("a", b" \n\n", {}, "a has no pairs: every line is blank"),
        ("a.tsv", b"good\tbad\n\t\n", {}, "a.tsv has no pairs: every line after the header"),
        ("a", b"a\tb c\n\0\tb\n", {}, "line 2 holds zero bytes"),
        ("a", b"a\tb c\n\xe9\tb\n", {}, "a is not UTF-8 text (byte 0xe9 in line 2)"),
        ("a.jsonl", TWO + '{"sentence_bad": "b"}', {}, "a.jsonl, line 2 has no field 'sentence_g"),
        ("a.jsonl", '{"sentnce_good": "a"}', {}, "(did you mean 'sentnce_good'?)"),
        ("a.jsonl", TWO, {"good": "sentence_god"}, "(did you mean 'sentence_good'?)"),
        ("a.jsonl", TWO, {"by": "term"}, "a.jsonl, line 1 has no field 'term'"),
        ("a.jsonl", TWO + TWO[:20], {}, "a.jsonl, line 2 is not valid JSON"),
        ("a.jsonl", TWO + "[1]\n", {}, "a.jsonl, line 2: expected a pair, as in {"),
        ("a.json", "[" + TWO + "]", {}, "a.json, line 1: expected one pair a line, as in {"),
        ("a", '{"good": "a", "bad": " "}', {}, "a, line 1: 'bad' is empty"),
        ("a", '{"good": "a", "bad": "\\u0000"}', {}, "a, line 1: 'bad' has a zero character"),
        ("a", '{"good": "a", "bad": 3}', {}, "a, line 1: expected a sentence as 'bad', got 3"),
        ("a", '{"good": "a", "bad": "b", "UID": null}', {}, "expected a name as the phenomenon"),
        ("a", '{"good": "a b", "bad": "a  b"}', {}, "the two sentences are the same in every pair"),
        ("a", TWO, {"good": "sentence_bad"}, "--good and --bad are both 'sentence_bad'"),
        ("a.csv", "good,bad\na,\n", {}, "a.csv, row 1: 'bad' is empty"),
        ("a.csv", "good,bad,UID\na,b,\n", {}, "a.csv, row 1: 'UID' is empty"),
        ("a.csv", "goood,bad\na,b\n", {}, "no column 'sentence_good'; its columns are goood, bad"),
        ("a.csv", "x,yes,no\na,b,c\n", {"good": "yess", "bad": "no"}, "(did you mean 'yes'?)"),
        ("a.csv", "x,yes,no\na,b,c\n", {"good": "yes", "bad": "on"}, "no column 'on' (did you"),
        ("a.csv", "x,yes,no\na,b,c\n", {}, "--good, --bad and --by name the columns"),
        ("a.csv", "good,bad\na,b,c\n", {}, "a.csv, row 1: 3 cells, where the header has 2"),
        ("a.tsv", 'a b\tc\n"a b\tc\nd\te"\n', {}, "runs from line 2 to line 3"),
        ("none", None, {}, "none does not exist"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, monkeypatch, name, data, flags, says):
    monkeypatch.chdir(tmp_path)
    if data is not None:
        write(tmp_path / name, data)
    with pytest.raises(UserError) as caught:
        read_pairs(name, **flags)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
