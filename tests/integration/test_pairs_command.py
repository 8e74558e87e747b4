"""``tiedlm pairs`` works as a user types it."""

import io
import json
import sys

import pytest

from tests_support import run_command as run

TINY = [
    "--d-embed=12", "--d-hidden=12", "--batch-size=4", "--bptt=5", "--epochs=2", "--threads=1",
    "--init-range=0.3", "--quiet",
]  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return a run on raw text; the tests do not depend on what it has learnt."""
    folder = tmp_path_factory.mktemp("raw")
    lines = "The cat sees a dog.\nThe cats see a dog.\nDoes the cat see a dog?\n" * 15
    (folder / "text.txt").write_text(lines)
    data, out = folder / "text.txt", folder / "run"
    assert_fine(None, "train", "small-real", "--data", data, "--out", out, *TINY)
    return out


def assert_fine(capsys, *arguments):
    from tiedlm.cli import main

    if capsys is None:
        main([str(argument) for argument in arguments])
        return None
    status, out, err = run(capsys, *arguments)
    assert status == 0, err
    return out, err


PAIRS = [
    ("agreement", "The cat sees a dog.", "The cat see a dog."),
    ("agreement", "The cats see a dog.", "The cats sees a dog."),
    ("order", "Does the cat see a dog?", "Does the cat dog a see?"),
    ("unknown", "The zebra sees a dog.", "The zebras sees a dog."),
    ("order", "The cat sees a dog.", "the cat sees a dog ."),
]


@pytest.fixture
def blimp(tmp_path):
    names = ("linguistics_term", "sentence_good", "sentence_bad")
    entries = [{**dict(zip(names, one, strict=True)), "UID": "u"} for one in PAIRS]
    path = tmp_path / "blimp.jsonl"
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return path


def rows(path):
    header, *lines = path.read_text(encoding="utf-8").splitlines()
    return [dict(zip(header.split("\t"), line.split("\t"), strict=True)) for line in lines]


def test_accuracies_ties_and_unknown_words_are_counted(capsys, trained, blimp):
    path = blimp.parent / "pairs.tsv"
    out, err = assert_fine(capsys, "pairs", trained, blimp, "--json", "--out", path)
    found, of_pairs = json.loads(out), rows(path)
    right = [float(row["bad"]) > float(row["good"]) for row in of_pairs[:3]]
    assert [row["correct"] for row in of_pairs] == [*(str(int(one)) for one in right), "0", "0"]
    assert [row["tie"] for row in of_pairs] == ["0", "0", "0", "1", "1"]
    assert (found["pairs"], found["correct"], found["ties"]) == (5, sum(right), 2)
    assert (found["unknown_only"], found["same_words"]) == (1, 1)
    assert found["unknown_only_share"] == pytest.approx(0.2)
    assert found["accuracy"] == pytest.approx(sum(right) / 5)
    assert found["mean_accuracy"] == pytest.approx((sum(right[:2]) / 2 + right[2] / 2) / 3)
    low, high = found["interval95"]
    assert low < found["accuracy"] < high
    assert list(found["phenomena"]) == ["agreement", "order", "unknown"]
    assert found["phenomena"]["unknown"]["accuracy"] == 0
    assert found["phenomena"]["order"]["correct"] == right[2]
    assert "note: 1 pair with the same words in both sentences; such a pair is a tie" in err
    assert "looks like raw text" not in err
    shown = assert_fine(capsys, "pairs", trained, blimp)[0]
    for text in ("agreement", "mean of 3 phenomena", "40.00%", f"{sum(right) / 5:.2%}", "Wilson"):
        assert text in shown
    assert "\x1b" not in shown
    shown = assert_fine(capsys, "pairs", trained, blimp, "--by", "UID", "--json")[0]
    assert list(json.loads(shown)["phenomena"]) == ["u"]


ONE_SIDE = {  # pairs, and whether one side only has an unknown word among those that differ
    ("The zebra sees a dog.", "The cat sees a dog."): 1,
    ("The cat sees a dog.", "The cat sees a zebra."): 1,
    ("The zebra zebra sees a dog.", "The zebra sees a dog."): 1,
    ("The zebra sees a dog.", "The zebra see a dog."): 0,
    ("The zebra sees a dog.", "The zebras sees a dog."): 0,
    ("The zebra sees a dog.", "A dog sees the zebra."): 0,
    ("The cat sees a dog.", "The cat see a dog."): 0,
}


def test_pairs_with_an_unknown_word_on_one_side_only_are_counted(capsys, trained, tmp_path):
    path, out = tmp_path / "pairs.tsv", tmp_path / "out.tsv"
    path.write_text("good\tbad\n" + "".join(f"{a}\t{b}\n" for a, b in ONE_SIDE))
    shown, err = assert_fine(capsys, "pairs", trained, path, "--json", "--out", out)
    assert [int(row["unknown_one_side"]) for row in rows(out)] == [*ONE_SIDE.values()]
    assert json.loads(shown)["unknown_one_side"] == 3
    assert "note: 3 of 7 pairs have an unknown word on one side only; their outcome" in err
    path.write_text("good\tbad\nThe cat sees a dog.\tThe cat see a dog.\n")
    assert "on one side only" not in assert_fine(capsys, "pairs", trained, path)[1]


def test_pairs_without_a_word_are_counted_too(capsys, trained, tmp_path):
    path = tmp_path / "pairs.tsv"
    path.write_text("good\tbad\n<eos>\t<eos> <eos>\n")
    out, _ = assert_fine(capsys, "pairs", trained, path, "--no-tokenize", "--json")
    assert (json.loads(out)["pairs"], json.loads(out)["words"]) == (1, 0)


def test_sums_are_those_of_score_per_sentence(capsys, trained, blimp, tmp_path):
    assert_fine(capsys, "pairs", trained, blimp, "--out", tmp_path / "pairs.tsv")
    found = rows(tmp_path / "pairs.tsv")
    texts = [text for row in found for text in (row["sentence_good"], row["sentence_bad"])]
    (tmp_path / "texts.txt").write_text("".join(text + "\n" for text in texts))
    table = tmp_path / "sentences.tsv"
    flags = ["--per", "sentence", "--unit", "line", "--out", table]
    assert_fine(capsys, "score", trained, tmp_path / "texts.txt", *flags)
    sentences = rows(table)
    sums = [float(row[side]) for row in found for side in ("good", "bad")]
    assert sums == pytest.approx([float(row["sum"]) for row in sentences], abs=2e-6)
    unknown = [row[side] for row in found for side in ("unknown_good", "unknown_bad")]
    assert unknown == [row["unknown"] for row in sentences]


def test_tables_and_standard_input_give_the_same_numbers(
    capsys, trained, blimp, tmp_path, monkeypatch
):
    expected = assert_fine(capsys, "pairs", trained, blimp, "--json")[0]
    data = blimp.read_bytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert assert_fine(capsys, "pairs", trained, "-", "--json")[0] == expected
    lines = ["kind\tyes\tno", *("\t".join(one) for one in PAIRS)]
    for name, delimiter in (("t.tsv", "\t"), ("t.csv", ",")):
        (tmp_path / name).write_text("\n".join(lines).replace("\t", delimiter))
        flags = ["--good", "yes", "--bad", "no", "--by", "kind", "--json"]
        assert assert_fine(capsys, "pairs", trained, tmp_path / name, *flags)[0] == expected
    halves = data.splitlines(keepends=True)
    for name, half in (("a", halves[:2]), ("b", halves[2:])):
        (tmp_path / name).write_bytes(b"".join(half))
    both = [tmp_path / "a", tmp_path / "b"]
    assert assert_fine(capsys, "pairs", trained, *both, "--json")[0] == expected
    single = assert_fine(capsys, "pairs", trained, blimp, "--json", "--precision", "fp32")[0]
    assert single == expected


def test_a_table_without_header_is_noted(capsys, trained, tmp_path):
    path = tmp_path / "agreement.tsv"
    path.write_text("The cat sees a dog.\tThe cat see a dog.\n")
    out, err = assert_fine(capsys, "pairs", trained, path, "--json")
    assert list(json.loads(out)["phenomena"]) == ["agreement"]
    assert "agreement.tsv is read as pairs from its first line on" in err


@pytest.mark.parametrize(
    ("good", "flags", "says"),
    [
        ("The cat sees a dog.", ["--no-tokenize"], "pairs.jsonl looks like raw text"),
        ("<s> The cat sees . </s>", [], "</s> 1 time, <s> 1 time in 2 lines: read as words"),
        ("le chien voit une pomme verte aujourd'hui", [], "does not know"),
        ("猫看见了狗老师卖了房子没有人知道今天天气很好", [], "has no spaces between words"),
    ],
)
def test_pairs_gives_the_notes_of_score(capsys, trained, tmp_path, monkeypatch, good, flags, says):
    monkeypatch.chdir(tmp_path)
    entry = {"good": good, "bad": "The cat."}
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps(entry, ensure_ascii=False), encoding="utf-8")
    assert says in assert_fine(capsys, "pairs", trained, "pairs.jsonl", *flags)[1]
    path.write_text('{"good": "The cat sees a dog.", "bad": "The cat see a dog."}')
    assert "note" not in assert_fine(capsys, "pairs", trained, "pairs.jsonl")[1]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["none.jsonl"], "none.jsonl does not exist"),
        (["p.jsonl", "empty"], "empty is empty"),
        (["p.jsonl", "--good", "god"], "p.jsonl, line 1 has no field 'god' (did you mean 'good'?)"),
        (["late.jsonl"], "late.jsonl, line 2: 'bad' is empty"),
        (["p.jsonl", "--out", "p.jsonl"], "--out p.jsonl is an input of this command"),
        (["p.jsonl", "--goood", "x"], "Did you mean --good?"),
        (["p.jsonl", "--base", "3"], "3"),
        (["p.jsonl", "--device", "cuda:99"], "cuda"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_no_file(
    capsys, trained, tmp_path, monkeypatch, arguments, says
):
    monkeypatch.chdir(tmp_path)
    good = '{"good": "The cat.", "bad": "A cat."}\n'
    (tmp_path / "p.jsonl").write_text(good)
    (tmp_path / "late.jsonl").write_text(good + '{"good": "The cat.", "bad": ""}\n')
    (tmp_path / "empty").write_text("")
    before = sorted(tmp_path.iterdir())
    extra = [] if "--out" in arguments else ["--out", "t.tsv"]
    status, out, err = run(capsys, "pairs", trained, *arguments, *extra)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert says in err
    assert sorted(tmp_path.iterdir()) == before
    assert (tmp_path / "p.jsonl").read_text() == good


@pytest.mark.parametrize("command", ["pairs", "score", "rescore"])
def test_swapped_arguments_are_told_apart_in_one_line(capsys, trained, blimp, command):
    status, out, err = run(capsys, command, blimp, trained)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert f"the run comes first: `tiedlm {command} {trained} {blimp}`" in err


@pytest.mark.parametrize("command", ["pairs", "score", "rescore"])
def test_a_lone_dash_after_out_is_told_what_to_do(capsys, trained, blimp, command):
    status, out, err = run(capsys, command, trained, blimp, "--out", "-")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "without --out the result is printed" in err


@pytest.mark.parametrize(("command", "flag"), [("pairs", "--out"), ("score", "--unk-list")])
def test_a_dash_is_not_the_name_of_a_file_to_write(
    capsys, trained, blimp, monkeypatch, command, flag
):
    monkeypatch.chdir(blimp.parent)
    status, out, err = run(capsys, command, trained, blimp, f"{flag}=-")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert f"{flag}: expected a file, got -" in err
    assert list(blimp.parent.iterdir()) == [blimp]


def test_a_folder_of_runs_names_the_runs_in_it(capsys, trained):
    status, out, err = run(capsys, "evaluate", trained.parent)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert f"{trained.parent} is not a run folder, but it has some: run; give one of them" in err
