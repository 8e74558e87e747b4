"""``tiedlm score`` works as a user types it."""

import csv
import gzip
import io
import json
import math
import random
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests_support import blocks
from tests_support import run_command as run

TINY = ["--d-embed=12", "--d-hidden=12", "--batch-size=4", "--bptt=5", "--epochs=2", "--threads=1"]
HEADER = (
    "sentence position word in_vocabulary surprisal entropy entropy_reduction rank cumulative line "
    "region as_written"
)


@pytest.fixture(scope="module")
def corpus(tiny_corpus, tmp_path_factory):
    """Return the tiny corpus with new words in its test text."""
    folder = tmp_path_factory.mktemp("corpus")
    for part in ("train", "valid", "test"):
        text = (tiny_corpus / f"{part}.txt").read_text()
        if part == "train":
            text += "the <unk> sees the fish now .\n" * 5
        if part == "test":
            text = text.replace("bird", "ostrich")
        (folder / f"{part}.txt").write_text(text)
    return folder


def train(recipe, data, out):
    from tiedlm.cli import main

    main(["train", recipe, "--data", str(data), "--out", str(out), "--quiet", *TINY])
    return out


@pytest.fixture(scope="module", params=["small", "small-real"])
def trained(request, corpus, tmp_path_factory):
    return train(request.param, corpus, tmp_path_factory.mktemp("runs") / "run")


def table(out):
    """Return the rows of a table as dictionaries."""
    header, *lines = out.splitlines()
    assert header.split("\t") == HEADER.split()
    return [dict(zip(HEADER.split(), line.split("\t"), strict=True)) for line in lines]


def column(rows, name):
    return [float(row[name]) for row in rows if row[name] != "NA"]


def test_a_document_totals_what_evaluate_says(capsys, corpus, trained):
    status, out, err = run(capsys, "score", trained, corpus / "test.txt", "--unit", "document")
    assert status == 0
    rows = table(out)
    said = json.loads(run(capsys, "evaluate", trained, "--json")[1])
    bits = column(rows, "surprisal")
    assert len(bits) == said["tokens"] == len(rows) - 1
    assert rows[0]["surprisal"] == rows[0]["rank"] == "NA"
    assert sum(bits) * math.log(2) == pytest.approx(said["nll"], rel=1e-6)
    assert 2 ** (sum(bits) / len(bits)) == pytest.approx(said["perplexity"], rel=1e-6)
    assert float(rows[-1]["cumulative"]) == pytest.approx(sum(bits), abs=1e-4)
    assert [row["in_vocabulary"] for row in rows].count("0") == said["unk_tokens"] > 0
    share, level, count = re.search(
        r"(\S+)% of them unknown; perplexity (\S+) over (\S+) predictions", err
    ).groups()
    words = [row for row in rows if row["word"] != "<eos>"]
    assert float(share) == pytest.approx(100 * said["unk_tokens"] / len(words), abs=0.01)
    assert float(level) == pytest.approx(said["perplexity"], rel=1e-5)
    assert count == f"{said['tokens']:,}"


def test_raw_text_is_split_as_the_run_s_corpus_was(capsys, tmp_path):
    line = "The cat doesn't see a dog. It hears {}, now, at home.\n"
    for part in ("train", "valid", "test"):
        text = "".join(line.format(word) for word in ("fish", "birds", "it") * 9)
        (tmp_path / f"{part}.txt").write_text(text)
    out = train("small-real", tmp_path, tmp_path / "run")
    rows = table(run(capsys, "score", out, tmp_path / "test.txt", "--unit", "document")[1])
    said = json.loads(run(capsys, "evaluate", out, "--json")[1])
    assert sum(column(rows, "surprisal")) * math.log(2) == pytest.approx(said["nll"], rel=1e-6)
    assert [row["word"] for row in rows[:5]] == ["the", "cat", "does", "n't", "see"]
    assert (rows[9]["sentence"], rows[9]["line"]) == ("2", "1")
    as_is = table(run(capsys, "score", out, tmp_path / "test.txt", "--no-tokenize")[1])
    assert as_is[2]["word"] == "doesn't"


def test_order_of_sentences_changes_no_digit(capsys, corpus, trained, tmp_path):
    lines = (corpus / "test.txt").read_text().splitlines(keepends=True)
    shuffled = random.Random(3).sample(lines, len(lines))
    (tmp_path / "shuffled.txt").write_text("".join(shuffled))
    numbers = {}
    for path in (corpus / "test.txt", tmp_path / "shuffled.txt"):
        by_sentence = {}
        for row in table(run(capsys, "score", trained, path)[1]):
            by_sentence.setdefault(row["sentence"], []).append(
                tuple(value for name, value in row.items() if name not in ("sentence", "line"))
            )
        numbers[path] = sorted(by_sentence.values())
    first, second = numbers.values()
    assert first == second


def test_the_columns_are_consistent(capsys, corpus, trained):
    rows = table(run(capsys, "score", trained, corpus / "test.txt")[1])
    total = 0.0
    for row, after in zip(rows, [*rows[1:], None], strict=True):
        if row["position"] == "1":
            total = 0.0
        total += float(row["surprisal"])
        assert float(row["cumulative"]) == pytest.approx(total, abs=1e-4)
        assert (row["word"] == "<eos>") == (after is None or after["position"] == "1")
        if row["word"] != "<eos>":
            drop = float(row["entropy"]) - float(after["entropy"])
            assert float(row["entropy_reduction"]) == pytest.approx(max(0, drop), abs=2e-6)
        assert (row["rank"] == "1") <= (float(row["surprisal"]) <= float(row["entropy"]) + 1e-6)
    assert {row["in_vocabulary"] for row in rows if row["word"] == "ostrich"} == {"0"}


def test_every_first_word_is_predicted_after_eos_or_not_at_all(capsys, corpus, trained):
    read = lambda *flags: table(run(capsys, "score", trained, corpus / "test.txt", *flags)[1])  # noqa: E731
    firsts = [row for row in read() if row["position"] == "1"]
    assert len({row["surprisal"] for row in firsts if row["word"] == "the"}) == 1
    assert {row["surprisal"] for row in read("--start", "none") if row["position"] == "1"} == {"NA"}
    document = read("--unit", "document", "--start", "eos")
    assert document[0]["surprisal"] == firsts[0]["surprisal"]
    assert len({row["surprisal"] for row in document if row["position"] == "1"}) > 10


def test_bases_differ_by_a_constant_factor(capsys, corpus, trained):
    columns = {}
    for base in ("2", "e", "10"):
        rows = table(run(capsys, "score", trained, corpus / "test.txt", "--base", base)[1])
        columns[base] = [
            value
            for name in ("surprisal", "entropy", "entropy_reduction", "cumulative")
            for value in column(rows, name)
        ]
    for base, factor in (("2", 1 / math.log(2)), ("10", 1 / math.log(10))):
        assert columns[base] == pytest.approx([x * factor for x in columns["e"]], abs=2e-6)


def test_standard_input_gzip_and_a_file_give_the_same_table(
    capsys, corpus, trained, tmp_path, monkeypatch
):
    data = (corpus / "test.txt").read_bytes()
    (tmp_path / "test.txt.gz").write_bytes(gzip.compress(data))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    expected = run(capsys, "score", trained, corpus / "test.txt")[1]
    assert run(capsys, "score", trained, tmp_path / "test.txt.gz")[1] == expected
    assert run(capsys, "score", trained, "-")[1] == expected
    assert run(capsys, "score", trained, corpus / "test.txt", "--out", tmp_path / "t")[1] == ""
    assert (tmp_path / "t").read_text() == expected


def test_no_eos_leaves_the_other_rows_unchanged(capsys, corpus, trained):
    _, out, err = run(capsys, "score", trained, corpus / "test.txt")
    _, without, said = run(capsys, "score", trained, corpus / "test.txt", "--no-eos")
    assert table(without) == [row for row in table(out) if row["word"] != "<eos>"]
    assert said == err  # the perplexity counts <eos> either way


def test_adaptation_changes_the_sentences_after_the_first(capsys, corpus, trained):
    plain = table(run(capsys, "score", trained, corpus / "test.txt")[1])
    status, out, _ = run(capsys, "score", trained, corpus / "test.txt", "--adapt")
    assert status == 0
    adapted = table(out)
    first = [i for i, row in enumerate(plain) if row["sentence"] == "1"]
    assert [adapted[i] for i in first] == [plain[i] for i in first]
    assert sum(column(adapted, "surprisal")) < sum(column(plain, "surprisal"))
    again = run(capsys, "score", trained, corpus / "test.txt")[1]
    assert table(again) == plain  # the run itself is unchanged


def test_single_precision_is_close(capsys, corpus, trained):
    rows = [
        column(
            table(run(capsys, "score", trained, corpus / "test.txt", "--precision", name)[1]),
            "surprisal",
        )
        for name in ("fp64", "fp32")
    ]
    assert rows[1] == pytest.approx(rows[0], abs=1e-4)


def test_pieces_are_summed_where_the_vocabulary_has_them(capsys, tmp_path):
    text = "▁the ▁c at ▁se es ▁a ▁d og\n▁the ▁d og ▁se es ▁a ▁c at\n" * 20
    for part in ("train", "valid", "test"):
        (tmp_path / f"{part}.txt").write_text(text, encoding="utf-8")
    out = train("small-real", tmp_path, tmp_path / "run")
    words = table(run(capsys, "score", out, tmp_path / "test.txt")[1])
    assert [row["word"] for row in words[:6]] == ["the", "cat", "sees", "a", "dog", "<eos>"]
    assert [row["rank"] == "NA" for row in words[:6]] == [False, True, True, False, True, False]
    assert [(row["region"], row["as_written"]) for row in words[:6]] == [
        ("1", "the"), ("2", "cat"), ("3", "sees"), ("4", "a"), ("5", "dog"), ("NA", "NA"),
    ]  # fmt: skip
    pieces = table(run(capsys, "score", out, tmp_path / "test.txt", "--no-sum-pieces")[1])
    assert [row["word"] for row in pieces[:3]] == ["▁the", "▁c", "at"]
    total = sum(column(words[:6], "surprisal"))
    assert total <= sum(column(pieces[:9], "surprisal"))  # the first piece always begins a word
    (tmp_path / "plain.txt").write_text("the cat sees a dog\n")
    status, shown, err = run(capsys, "score", out, tmp_path / "plain.txt")
    assert (status, shown, err.count("\n")) == (2, "", 1)
    assert "split the text as the model's corpus was, or give --no-sum-pieces" in err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["none.txt"], "none.txt does not exist"),
        (["empty.txt"], "empty.txt is empty"),
        (["blank.txt"], "blank.txt has no words"),
        (["binary"], "zero bytes"),
        (["fine.txt", "--unit", "page"], "page"),
        (["fine.txt", "--base", "3"], "3"),
        (["fine.txt", "--adapt-lr", "3"], "--adapt-lr needs --adapt"),
        (["fine.txt", "--adapt", "--adapt-lr", "0"], "positive"),
        (["fine.txt", "--adapt", "--adapt-lr", "nan"], "positive"),
        (["fine.txt", "--adapt", "--adapt-lr", "1e300"], "positive"),
        (["table.csv", "--column", "txt"], "no column 'txt' (did you mean 'text'?)"),
        (["table.csv", "--column", "item"], "has two columns 'item'"),
        (["short.csv", "--column", "text"], "row 2: 1 cells, where the header has 2"),
        (["quotes.tsv", "--column", "text"], "quotes.tsv, line 3 is not a table row"),
        (["open.tsv", "--column", "text"], "cell runs from line 2 to line 3; is a closing quote"),
        (["head.csv", "--column", "text"], "head.csv, line 1 is not a table row"),
        (["blank.csv", "--column", "text"], "blank.csv has no words"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_no_file(
    capsys, tmp_path, monkeypatch, trained, arguments, says
):
    monkeypatch.chdir(tmp_path)
    for name, data in (
        ("empty.txt", b""), ("blank.txt", b"\n \n"), ("binary", b"a\n\0\1\n"),
        ("fine.txt", b"the cat sees a dog\n" * 9), ("table.csv", b"item,text,item\n1,a cat,2\n"),
        ("short.csv", b"item,text\n1,a cat\n2\n"), ("blank.csv", b"item,text\n1,\n"),
        ("quotes.tsv", b'item\ttext\n1\ta cat\n2\t"a" dog\n'),
        ("open.tsv", b'item\ttext\n1\t"a cat\n2\ta dog"\n'), ("head.csv", b'item,wo"rds,"\n1,a\n'),
    ):  # fmt: skip
        (tmp_path / name).write_bytes(data)
    before = sorted(tmp_path.iterdir())
    status, _, err = run(capsys, "score", trained, *arguments, "--out", "table.tsv")
    assert status == 2
    assert err.startswith("tiedlm: error: ")
    assert says in err
    assert err.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before
    assert run(capsys, "score", trained, *arguments)[:2] == (2, "")


def test_a_folder_that_is_not_a_run_is_one_line(capsys, tmp_path):
    status, _, err = run(capsys, "score", tmp_path, "-")
    assert (status, err.count("\n")) == (2, 1)
    assert "is not a run folder" in err


@pytest.mark.slow
@pytest.mark.parametrize("unit", ["sentence", "document"])
def test_a_million_words_need_no_more_memory_than_a_hundred_thousand(corpus, tmp_path, unit):
    trained = train("small", corpus, tmp_path / "run")
    lines = (corpus / "test.txt").read_text().splitlines(keepends=True)
    program = (
        "import resource, sys, tiedlm.cli\n"
        "try: tiedlm.cli.main(sys.argv[1:])\n"
        "except SystemExit as leaving: assert not leaving.code\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, file=sys.stderr)"
    )
    megabytes = []
    for words in (100_000, 1_000_000):
        path = tmp_path / "long.txt"
        path.write_text("".join(random.Random(0).choices(lines, k=words // 7)))
        flags = ["--unit", unit, "--out", tmp_path / "table"]
        command = [sys.executable, "-c", program, "score", trained, path, *flags]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        megabytes.append(float(done.stderr.split()[-1]))
        with (tmp_path / "table").open() as file:
            assert sum(1 for _ in file) > words
    assert megabytes[1] < megabytes[0] + 30, megabytes


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """Return a run on raw text, whose words tiedlm splits."""
    folder = tmp_path_factory.mktemp("raw")
    line = "The cat doesn't see a dog. It sees the bird, and the bird sees it!\n"
    (folder / "text.txt").write_text(line * 40)
    return train("small-real", folder / "text.txt", folder / "run")


STIMULI = "The cat sees a dog. It doesn't see the bird.\n\nThe dog sees the cat.\n"


def test_a_line_can_be_one_unit_and_a_split_line_is_reported(capsys, raw, tmp_path):
    (tmp_path / "s.txt").write_text(STIMULI)
    status, out, err = run(capsys, "score", raw, tmp_path / "s.txt")
    assert status == 0
    assert "note: 1 line with several sentences, each read separately; --unit line" in err
    assert "\n3 sentences, " in err
    by_sentence = table(out)
    status, out, err = run(capsys, "score", raw, tmp_path / "s.txt", "--unit", "line")
    assert (status, "note" in err) == (0, False)
    assert err.startswith("2 lines, 19 words, ")
    by_line = table(out)
    assert [row["word"] for row in by_line] == [row["word"] for row in by_sentence]
    assert [row["sentence"] for row in by_line] == ["1"] * 15 + ["2"] * 7
    alike = [a["surprisal"] == b["surprisal"] for a, b in zip(by_line, by_sentence, strict=True)]
    assert alike[:7] == [True] * 7  # the first sentence and its <eos>
    assert not any(alike[7:15])
    assert alike[15:] == [True] * 7  # the next line starts from <eos
    _, out, _ = run(capsys, "score", raw, tmp_path / "s.txt", "--unit=document", "--start=eos")
    document = table(out)
    for row, of_document in zip(by_line[:15], document, strict=False):
        assert float(row["surprisal"]) == pytest.approx(float(of_document["surprisal"]), abs=2e-6)
    assert float(by_line[14]["cumulative"]) == pytest.approx(
        sum(column(by_line[:15], "surprisal")), abs=1e-4
    )


def test_a_row_says_which_part_of_its_line_it_is_of(capsys, raw, tmp_path):
    (tmp_path / "s.txt").write_text(STIMULI)
    rows = table(run(capsys, "score", raw, tmp_path / "s.txt")[1])
    found = [(row["word"], row["region"], row["as_written"]) for row in rows[4:12]]
    assert found == [
        ("dog", "5", "dog."), (".", "5", "dog."), ("<eos>", "NA", "NA"), ("it", "6", "It"),
        ("does", "7", "doesn't"), ("n't", "7", "doesn't"), ("see", "8", "see"), ("the", "9", "the"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("delimiter", "begin", "end"),
    [("\t", "", "\n"), (",", "\ufeff", "\r\n"), (";", "sep=;\n\n", "\n")],
    ids=["tabs", "commas", "semicolons"],
)
def test_the_text_can_be_a_column_and_the_others_are_copied(
    capsys, monkeypatch, raw, tmp_path, delimiter, begin, end
):
    (tmp_path / "plain.txt").write_text(STIMULI)
    path = tmp_path / "stimuli.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        file.write(begin)
        writer = csv.writer(file, delimiter=delimiter, lineterminator=end)
        writer.writerow(["line", "text", "condition"])
        for number, text in enumerate(STIMULI.splitlines()):
            break_ = " " if delimiter == "\t" else "\n"
            writer.writerow([f"i{number}", text, f'a "b";,\t{number}{break_}c'])
        file.write(end)  # a blank line is a row without text
    expected = table(run(capsys, "score", raw, tmp_path / "plain.txt")[1])
    status, out, err = run(capsys, "score", raw, path, "--column", "text")
    assert (status, "plain text" in err) == (0, False)
    header, *lines = [line.split("\t") for line in out.splitlines()]
    assert header == [*HEADER.split(), "given_line", "condition"]
    assert [line[:-2] for line in lines] == [list(row.values()) for row in expected]
    assert lines[0][-2:] == ["i0", 'a "b";, 0 c']
    assert lines[-1][-2:] == ["i2", 'a "b";, 2 c']
    packed = tmp_path / "stimuli.csv.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert run(capsys, "score", raw, packed, "--column", "text")[1] == out
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(path.read_bytes())))
    assert run(capsys, "score", raw, "-", "--column", "text")[1] == out
    path.rename(path.with_name("S.CSV"))
    _, _, err = run(capsys, "score", raw, path.with_name("S.CSV"))
    assert (
        "S.CSV is read as plain text, its header too; to read one column, give --column NAME" in err
    )


def test_a_file_of_one_word_per_line_is_warned_about(capsys, raw, tmp_path):
    (tmp_path / "words.txt").write_text("The\ncat\nsees\n")
    assert (
        "put the words of an item on one line"
        in run(capsys, "score", raw, tmp_path / "words.txt")[2]
    )
    (tmp_path / "one.txt").write_text("The\n")
    assert "note" not in run(capsys, "score", raw, tmp_path / "one.txt")[2]


def test_a_run_that_does_not_tokenize_warns_of_raw_text(capsys, trained, tmp_path):
    (tmp_path / "s.txt").write_text(STIMULI)
    assert "looks like raw text" in run(capsys, "score", trained, tmp_path / "s.txt")[2]
    assert (
        "note"
        not in run(capsys, "score", trained, tmp_path / "s.txt", "--tokenize", "--unit=line")[2]
    )
    (tmp_path / "t.txt").write_text("the cat sees a dog .\n")
    assert "note" not in run(capsys, "score", trained, tmp_path / "t.txt")[2]


SENTENCE_HEADER = "sentence words unknown predicted sum mean line as_written"


def sentence_table(out):
    """Return the rows of a table per sentence as dictionaries."""
    header, *lines = out.splitlines()
    assert header.split("\t") == SENTENCE_HEADER.split()
    return [dict(zip(SENTENCE_HEADER.split(), line.split("\t"), strict=True)) for line in lines]


@pytest.mark.parametrize(
    "flags",
    [
        [],
        ["--no-eos"],
        ["--unit", "line", "--base", "e"],
        ["--unit", "document"],
        ["--start", "none", "--no-eos"],
        ["--adapt"],
    ],
    ids=" ".join,
)
def test_a_sentence_s_row_sums_the_rows_of_its_words(capsys, corpus, trained, flags):
    words = table(run(capsys, "score", trained, corpus / "test.txt", *flags)[1])
    status, out, err = run(capsys, "score", trained, corpus / "test.txt", "--per=sentence", *flags)
    assert status == 0
    found = sentence_table(out)
    assert err == run(capsys, "score", trained, corpus / "test.txt", *flags)[2]
    assert [row["sentence"] for row in found] == list(dict.fromkeys(w["sentence"] for w in words))
    for row in found:
        own = [word for word in words if word["sentence"] == row["sentence"]]
        surprisals = column(own, "surprisal")
        assert float(row["sum"]) == pytest.approx(sum(surprisals), abs=1e-5)
        assert float(row["mean"]) == pytest.approx(sum(surprisals) / len(surprisals), abs=1e-5)
        assert int(row["predicted"]) == len(surprisals)
        assert int(row["words"]) == sum(word["word"] != "<eos>" for word in own)
        assert int(row["unknown"]) == sum(word["in_vocabulary"] == "0" for word in own)
        assert row["as_written"] == " ".join(w["as_written"] for w in own if w["region"] != "NA")
    assert any(row["unknown"] != "0" for row in found)


def test_a_sentence_s_row_has_its_own_part_of_the_line_and_the_given_cells(capsys, raw, tmp_path):
    path = tmp_path / "s.tsv"
    path.write_text("sum\ttext\n7\tThe cat sees a dog. It doesn't see the bird.\n")
    out = run(capsys, "score", raw, path, "--column", "text", "--per", "sentence")[1]
    header, *lines = [line.split("\t") for line in out.splitlines()]
    assert header == [*SENTENCE_HEADER.split(), "given_sum"]
    assert [(line[0], line[1], *line[6:]) for line in lines] == [
        ("1", "6", "1", "The cat sees a dog.", "7"),
        ("2", "7", "1", "It doesn't see the bird.", "7"),
    ]


def test_unknown_words_are_named_and_listed_with_their_counts(capsys, trained, tmp_path):
    known = "the cat sees the dog .\n"
    unknown = {f"x{i}": 12 - i for i in range(12)}
    path, listed = tmp_path / "t.txt", tmp_path / "unknown.tsv"
    path.write_text(known * 40 + "".join(f"the {w} sees .\n" * n for w, n in unknown.items()))
    status, _, err = run(capsys, "score", trained, path, "--unk-list", listed)
    assert status == 0
    named = ", ".join(f"x{i} ({12 - i})" for i in range(10))
    assert err.splitlines()[-1] == (
        f"{sum(unknown.values())} of 552 words unknown: {named} and 2 others; each has the "
        "probability of all unknown words together, so its surprisal is too low: leave it out"
    )
    expected = "".join(f"{word}\t{number}\n" for word, number in unknown.items())
    assert listed.read_text() == "word\tcount\n" + expected
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(random.Random(0).sample(lines, len(lines))))
    run(capsys, "score", trained, path, "--unk-list", listed, "--unit", "document")
    assert listed.read_text() == "word\tcount\n" + expected
    path.write_text(known)
    assert "words unknown" not in run(capsys, "score", trained, path, "--unk-list", listed)[2]
    assert listed.read_text() == "word\tcount\n"


def test_the_list_of_unknown_words_overwrites_no_other_file(capsys, trained, tmp_path):
    path, out = tmp_path / "s.txt", tmp_path / "t.tsv"
    path.write_text("the cat sees a dog .\n")
    status, shown, err = run(capsys, "score", trained, path, "--unk-list", path)
    assert (status, shown, err.count("\n")) == (2, "", 1)
    assert f"--unk-list {path} is an input of this command; choose another" in err
    status, shown, err = run(capsys, "score", trained, path, "--out", out, "--unk-list", out)
    assert (status, shown, err.count("\n")) == (2, "", 1)
    assert "--out and --unk-list are both" in err
    status, shown, err = run(capsys, "score", trained, path, "--unk-list", path / "u", "--out", out)
    assert (status, shown, err.count("\n")) == (2, "", 1)
    assert sorted(tmp_path.iterdir()) == [path]


def test_the_input_is_not_overwritten(capsys, trained, tmp_path):
    path = tmp_path / "s.txt"
    path.write_text("the cat sees a dog .\n")
    (tmp_path / "link.txt").symlink_to(path)
    for out in (path, tmp_path / "link.txt"):
        status, shown, err = run(capsys, "score", trained, path, "--out", out)
        assert (status, shown, err.count("\n")) == (2, "", 1)
        assert "is an input of this command; choose another" in err
    assert path.read_text() == "the cat sees a dog .\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("<s> the cat sees the dog . </s>\n" * 3, "</s> 3 times, <s> 3 times in 3 lines: read as"),
        ("the cat <pad>\n", "<pad> 1 time: padding is read as words"),
        ("猫看见了狗老师卖了房子没有人知道今天天气很好\n", "has no spaces between words"),
        ("le chien voit une pomme .\n", "does not know 83% of the words: does the text differ"),
    ],
)
def test_score_gives_the_notes_of_data_check(capsys, trained, tmp_path, text, says):
    path = tmp_path / "t.txt"
    path.write_text(text, encoding="utf-8")
    assert says in run(capsys, "score", trained, path)[2]
    path.write_text("the cat sees the dog .\n" * 3)
    assert "note" not in run(capsys, "score", trained, path)[2]


def test_the_page_sums_regions_and_leaves_out_the_incomplete(tmp_path, monkeypatch):
    pytest.importorskip("pandas")
    monkeypatch.chdir(tmp_path)
    rows = [  # in_vocabulary, surprisal, entropy, region, as_written
        (1, "NA", "NA", 1, "I'm"), (1, "2.0", "5.0", 1, "I'm"), (1, "3.0", "4.0", 2, "here,"),
        (1, "0.5", "2.0", 2, "here,"), (0, "1.0", "3.0", 3, "blicket"),
        (1, "1.0", "1.0", "NA", "NA"),
    ]  # fmt: skip
    names = ["in_vocabulary", "surprisal", "entropy", "region", "as_written"]
    table = [[*map(str, row), "7", "NA", "1"] for row in rows]
    lines = ["\t".join(row) for row in [[*names, "item", "condition", "line"], *table]]
    (tmp_path / "surprisal.tsv").write_text("\n".join(lines) + "\n")
    page = Path(__file__).parents[2] / "docs" / "stimuli.md"
    of_regions, of_times, *_ = blocks(page.read_text(encoding="utf-8"), "python")
    found = {}
    exec(of_regions, found)
    regions = found["regions"]
    assert regions["region"].tolist() == [1, 2, 3]
    np.testing.assert_array_equal(regions["surprisal"], [np.nan, 3.5, np.nan])
    np.testing.assert_array_equal(regions["previous"], [np.nan, np.nan, 3.5])
    np.testing.assert_array_equal(regions["entropy"], [np.nan, 4.0, 3.0])
    np.testing.assert_array_equal(regions["entropy_reduction"], [np.nan, 1.0, np.nan])
    assert regions["condition"].tolist() == ["NA"] * 3
    times = ["subject,item,condition,region,time", "s1,7,NA,2,300", "s1,7,NA,3,", "s2,7,NA,2,310"]
    (tmp_path / "times.csv").write_text("\n".join(times) + "\n")
    exec(of_times, found)
    np.testing.assert_array_equal(found["joined"]["surprisal"], [3.5, np.nan, 3.5])
    np.testing.assert_array_equal(found["joined"]["time"], [300, np.nan, 310])
