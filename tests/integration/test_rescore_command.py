"""``tiedlm rescore`` corrects n-best lists that are made so that a model can correct them."""

import io
import json
import random
import re
import shlex
import shutil
import sys

import pytest

from tests_support import run_command as run

TINY = [
    "--d-embed=12", "--d-hidden=12", "--batch-size=4", "--bptt=5", "--epochs=6", "--threads=1",
    "--init-range=0.3",  # with 0.1, so narrow a model learns only its bias
]  # fmt: skip


@pytest.fixture(scope="module")
def trained(tiny_corpus, tmp_path_factory):
    from tiedlm.cli import main

    out = tmp_path_factory.mktemp("runs") / "run"
    main(["train", "small-real", "--data", str(tiny_corpus), "--out", str(out), "--quiet", *TINY])
    return out


@pytest.fixture(scope="module")
def lists(tiny_corpus, tmp_path_factory):
    """Return a folder with one list in every layout, and its references.

    An utterance has the spoken sentence and versions with swapped words. The recogniser's scores
    carry no information.
    """
    folder = tmp_path_factory.mktemp("lists")
    rng = random.Random(0)
    said = (tiny_corpus / "test.txt").read_text().splitlines()
    entries = []
    for number, reference in enumerate(said):
        texts = {reference}
        while len(texts) < 6:
            words = reference.split()
            i, j = rng.sample(range(len(words)), 2)
            words[i], words[j] = words[j], words[i]
            texts.add(" ".join(words))
        hypotheses = [
            {"text": text, "score": rng.uniform(-9, 0), "lm_score": rng.uniform(-9, 0)}
            for text in rng.sample(sorted(texts), 6)
        ]
        entries.append({"id": f"spk-{number}", "hypotheses": hypotheses})
    (folder / "refs").write_text(
        "".join(f"spk-{number} {text}\n" for number, text in enumerate(said))
    )
    (folder / "lists.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    rows = [
        (entry["id"], k, h) for entry in entries for k, h in enumerate(entry["hypotheses"], start=1)
    ]
    kaldi = folder / "kaldi"
    kaldi.mkdir()
    costs = {
        "words_text": lambda h: h["text"],
        "acwt": lambda h: -h["score"],
        "lmwt.nolm": lambda _: 0.0,
        "lmwt.withlm": lambda h: -h["lm_score"],
    }
    for name, value in costs.items():
        (kaldi / name).write_text("".join(f"{key}-{k} {value(h)}\n" for key, k, h in rows))
    for key, k, h in rows:
        place = folder / "espnet" / f"{k}best_recog"
        place.mkdir(parents=True, exist_ok=True)
        for name, value in (("text", h["text"]), ("score", f"tensor({h['score']})")):
            with (place / name).open("a") as file:
                file.write(f"{key} {value}\n")
    return folder


def error_rates(err):
    pattern = r"([\d.]+)% as ranked, ([\d.]+)% tuned without .*, ([\d.]+)% with it, ([\d.]+)% at"
    return [float(rate) for rate in re.search(pattern, err).groups()]


def test_tuning_lowers_the_error_rate_and_its_flags_repeat_it(capsys, trained, lists):
    status, out, err = run(
        capsys, "rescore", trained, lists / "lists.jsonl", "--tune", lists / "refs"
    )
    assert status == 0
    first, without, best, oracle = error_rates(err)
    assert first >= without > best >= oracle == 0
    flags = re.search(r"used (--weight .*)", err)[1].split()
    again = run(capsys, "rescore", trained, lists / "lists.jsonl", *flags)
    assert again[1] == out
    assert len(out.splitlines()) == 30
    right = set((lists / "refs").read_text().splitlines()) & set(out.splitlines())
    assert len(right) > 20


def test_the_flags_to_repeat_have_all_that_changes_the_scores(capsys, trained, lists, tmp_path):
    other = tmp_path / "another run"
    shutil.copytree(trained, other)
    flags = ["--unk-penalty", "0.5", "--no-tokenize", "--temperature", "1.7", "--mix", str(other)]
    given = ["--penalty", "0.123456789", "--weight", "2.0"]
    command = ["rescore", trained, lists / "lists.jsonl", "--json"]
    assert "used --weight 2 --penalty 0.123456789 --unk" in run(capsys, *command, *given, *flags)[2]
    _, expected, err = run(capsys, *command, "--tune", lists / "refs", *flags)
    used = shlex.split(re.search(r"used (.*)", err)[1])
    assert used[-len(flags) :] == flags
    assert run(capsys, *command, *used)[1] == expected


def test_every_layout_gives_the_same_result(capsys, trained, lists, monkeypatch):
    kaldi = lists / "kaldi"
    costs = ["--acoustic-cost", kaldi / "acwt", "--lm-cost", kaldi / "lmwt.withlm"]
    weights = ["--weight", "0.7", "--penalty", "0.5", "--lm-scale", "3"]
    _, expected, _ = run(capsys, "rescore", trained, lists / "lists.jsonl", *weights)
    assert run(capsys, "rescore", trained, kaldi, *weights)[1] == expected
    assert run(capsys, "rescore", trained, kaldi / "words_text", *costs, *weights)[1] == expected
    standard_input = io.TextIOWrapper(io.BytesIO((lists / "lists.jsonl").read_bytes()))
    monkeypatch.setattr(sys, "stdin", standard_input)
    assert run(capsys, "rescore", trained, "-", *weights)[1] == expected
    # ESPnet has a single score, without a part for the recogniser's language model.
    acoustic_only = run(capsys, "rescore", trained, kaldi / "words_text", *costs[:2], *weights)
    assert run(capsys, "rescore", trained, lists / "espnet", *weights)[1] == acoustic_only[1]


def test_json_lines_have_every_score_and_can_be_rescored_again(capsys, trained, lists, tmp_path):
    out = tmp_path / "scored.jsonl"
    flags = ["--weight", "0.7", "--penalty", "0.5"]
    run(capsys, "rescore", trained, lists / "lists.jsonl", *flags, "--json", "--out", out)
    _, best, _ = run(capsys, "rescore", trained, lists / "lists.jsonl", *flags)
    entries = [json.loads(line) for line in out.read_text().splitlines()]
    assert best == "".join(f"{e['id']} {e['hypotheses'][0]['text']}\n" for e in entries)
    for entry in entries:
        totals = [h["total"] for h in entry["hypotheses"]]
        assert totals == sorted(totals, reverse=True)
        for h in entry["hypotheses"]:
            words = len(h["text"].split())
            lm = 0.3 * h["lm_score"] + 0.7 * h["log_prob"] - 0.5 * words
            assert h["total"] == pytest.approx(h["score"] + lm)
    assert run(capsys, "rescore", trained, out, *flags)[1] == best


def test_a_line_of_text_has_one_utterance(capsys, trained, tmp_path):
    path = tmp_path / "list.jsonl"
    entry = {"id": "u", "hypotheses": [{"text": "the\r\ncat\n", "score": 0}]}
    path.write_text(json.dumps(entry) + "\n")
    assert run(capsys, "rescore", trained, path)[1] == "u the cat\n"
    for name in ("u 1", "", "u\n1"):
        path.write_text(json.dumps(entry | {"id": name}) + "\n")
        status, out, err = run(capsys, "rescore", trained, path)
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert f"utterance {name!r} has a name that is not one word; give --json" in err
        status, out, _ = run(capsys, "rescore", trained, path, "--json")
        assert (status, json.loads(out)["id"]) == (0, name)


def test_lists_are_not_overwritten(capsys, trained, lists):
    before = (lists / "lists.jsonl").read_bytes()
    path = lists / "lists.jsonl"
    status, out, err = run(capsys, "rescore", trained, path, "--json", "--out", path)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "is an input of this command" in err
    assert path.read_bytes() == before
    inside = lists / "kaldi" / "words_text"
    status, _, err = run(capsys, "rescore", trained, inside.parent, "--out", inside)
    assert (status, "is an input of this command" in err) == (2, True)


def test_log_probs_are_the_surprisals_of_score(capsys, trained, lists, tmp_path):
    _, out, _ = run(capsys, "rescore", trained, lists / "lists.jsonl", "--json")
    hypotheses = [h for line in out.splitlines() for h in json.loads(line)["hypotheses"]]
    (tmp_path / "texts").write_text("".join(h["text"] + "\n" for h in hypotheses))
    table = run(capsys, "score", trained, tmp_path / "texts", "--base", "e")[1]
    ends = [line.split("\t") for line in table.splitlines() if line.split("\t")[2] == "<eos>"]
    assert [-h["log_prob"] for h in hypotheses] == pytest.approx([float(e[8]) for e in ends])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["none.jsonl"], "none.jsonl does not exist"),
        (["kaldi/words_text"], "--acoustic-cost"),
        (["lists.jsonl", "--lm-cost", "kaldi/acwt"], "--acoustic-cost"),
        (["lists.jsonl", "--tune", "refs", "--weight", "0.3"], "--weight and --tune"),
        (["lists.jsonl", "--tune", "none"], "none does not exist"),
        (
            ["lists.jsonl", "--tune", "kaldi/acwt"],
            "of the n-best list has no reference; its first line is",
        ),
        (["lists.jsonl", "--arpa", "kaldi/acwt", "--arpa-weight", "1"], "--arpa-weight"),
        (["lists.jsonl", "--arpa-weight", "0.3"], "--arpa-weight needs --arpa"),
        (["lists.jsonl", "--unk-penalty", "inf"], "--unk-penalty: expected a number, got inf"),
        (["lists.jsonl", "--lm-scale", "0"], "--lm-scale: expected a positive number"),
        (["lists.jsonl", "--weight", "1e300"], "--weight: expected a number, got 1e+300"),
        (["lists.jsonl", "--acoustic-cost", "kaldi/acwt"], "leave out --acoustic-cost"),
        (["lists.jsonl", "--tune", "lists.jsonl"], "expected a key and a text on each line\n"),
    ],
)
def test_a_mistake_is_one_line(capsys, trained, lists, monkeypatch, arguments, says):
    monkeypatch.chdir(lists)
    status, out, err = run(capsys, "rescore", trained, *arguments)
    assert (status, out) == (2, "")
    assert says in err
    assert err.count("\n") == 1


def test_arpa_without_kenlm_names_the_extra(capsys, trained, lists, monkeypatch):
    monkeypatch.setitem(sys.modules, "kenlm", None)
    status, _, err = run(capsys, "rescore", trained, lists / "lists.jsonl", "--arpa", "x.arpa")
    assert status == 2
    assert "pip install 'tiedlm[kenlm]'" in err


def test_an_arpa_model_is_mixed_word_by_word(capsys, trained, lists, tmp_path):
    pytest.importorskip("kenlm")
    words = sorted(set((lists / "refs").read_text().split()) - {"."})
    unigrams = "".join(f"-1.5\t{word}\t0\n" for word in ["<unk>", "<s>", "</s>", *words])
    path = tmp_path / "two.arpa"
    path.write_text(
        f"\\data\\\nngram 1={len(words) + 3}\nngram 2=1\n\n\\1-grams:\n{unigrams}\n"
        "\\2-grams:\n-1.5\t<s> the\n\n\\end\\\n"
    )
    found = []
    for flags in ([], ["--arpa", path], ["--arpa", path, "--arpa-weight", "0.999999"]):
        _, out, _ = run(capsys, "rescore", trained, lists / "lists.jsonl", "--json", *flags)
        first = json.loads(out.splitlines()[0])["hypotheses"]
        found.append({h["text"]: h["log_prob"] for h in first})
    alone, half, almost = found
    for text in alone:
        n = len(text.split()) + 1
        assert almost[text] == pytest.approx(n * -1.5 * 2.302585, rel=0.01)
        assert half[text] >= max(alone[text], almost[text]) - n * 0.6932


def test_an_arpa_model_that_knows_few_words_is_named(capsys, trained, lists, monkeypatch):
    class Capitals:
        def __contains__(self, word):
            return not word.isalpha()

        def full_scores(self, text, bos, eos):
            return iter([(-1.0, 1, True)] * (len(text.split()) + 1))

    monkeypatch.setattr("tiedlm.scoring.arpa.load_arpa", lambda path: Capitals())
    status, _, err = run(
        capsys, "rescore", trained, lists / "lists.jsonl", "--arpa", lists / "up.arpa"
    )
    assert status == 0
    assert "0.00% of their words unknown, 85.71% unknown to --arpa" in err  # six words and a dot
    assert f"note: --arpa {lists / 'up.arpa'} does not know 86% of the words: does" in err


def test_a_run_that_knows_few_words_of_a_list_is_named(capsys, trained, tmp_path):
    path = tmp_path / "n.jsonl"
    path.write_text('{"id": "u", "hypotheses": [{"text": "THE CAT .", "score": -1}]}')
    _, _, err = run(capsys, "rescore", trained, path, "--no-tokenize")
    assert f"note: {trained} does not know 67% of the words" in err


@pytest.mark.parametrize("flag", ["--tokenize", "--no-tokenize"])
def test_special_tokens_in_the_hypotheses_are_named(capsys, trained, tmp_path, flag):
    path = tmp_path / "list.jsonl"
    texts = ["<s> the cat sees </s>", "the cat <pad>", "a dog <eos>"]
    hypotheses = [{"text": text, "score": 0} for text in texts]
    path.write_text(json.dumps({"id": "u", "hypotheses": hypotheses}))
    _, _, err = run(capsys, "rescore", trained, path, flag)
    assert "note: </s> 1 time, <eos> 1 time, <s> 1 time in 3 lines: read as words" in err
    assert "note: <pad> 1 time: padding is read as words" in err
    path.write_text(json.dumps({"id": "u", "hypotheses": [{"text": "the cat", "score": 0}]}))
    assert "note" not in run(capsys, "rescore", trained, path, flag)[2]
    hypotheses = [{"text": text, "score": 0} for text in ("the cat", "", " ")]
    path.write_text(json.dumps({"id": "u", "hypotheses": hypotheses}))
    assert "note" not in run(capsys, "rescore", trained, path, flag)[2]


def test_a_penalty_turns_the_choice_away_from_unknown_words(capsys, trained, tmp_path):
    path = tmp_path / "n.jsonl"
    texts = [("the zebra zebra .", 0.0), ("the cat .", -4.0)]
    entry = {"id": "u", "hypotheses": [{"text": text, "score": score} for text, score in texts]}
    path.write_text(json.dumps(entry))
    found = {}
    for penalty in ("0", "50", "-50"):
        flags = ["--json", "--weight", "1", "--unk-penalty", penalty]
        _, out, err = run(capsys, "rescore", trained, path, *flags)
        best, *_ = json.loads(out)["hypotheses"]
        found[penalty] = {h["text"]: h["log_prob"] for h in json.loads(out)["hypotheses"]}
        assert ("--unk-penalty" in err) == (penalty != "0")
        if penalty != "0":
            assert best["text"] == texts[penalty == "50"][0]
            again = re.search(r"used (--weight .*)", err)[1].split()
            assert run(capsys, "rescore", trained, path, "--json", *again)[1] == out
    for text, unknown in (("the zebra zebra .", 2), ("the cat .", 0)):
        cost = found["0"][text] - found["50"][text]
        assert cost == pytest.approx(50 * unknown)


def test_an_impossible_hypothesis_comes_last_and_lists_of_only_such_are_named(
    capsys, trained, tmp_path
):
    path = tmp_path / "n.jsonl"
    entries = {
        "u": [("the cat", "-Infinity"), ("a dog", "-5")],
        "v": [("the dog", "-Infinity"), ("a cat", "-Infinity")],
    }
    path.write_text(
        "".join(
            f'{{"id": "{key}", "hypotheses": ['
            + ", ".join(f'{{"text": "{text}", "score": {score}}}' for text, score in found)
            + "]}\n"
            for key, found in entries.items()
        )
    )
    status, out, err = run(capsys, "rescore", trained, path)
    assert (status, out) == (0, "u a dog\nv the dog\n")
    assert "note: every hypothesis of 'v' is impossible; the first of the list is used" in err
    again = tmp_path / "again.jsonl"
    run(capsys, "rescore", trained, path, "--json", "--out", again)
    assert run(capsys, "rescore", trained, again)[1] == out
