"""Runs of sub-word pieces: training, resuming, and numbers that can be compared."""

import json
import math
import shutil
from types import SimpleNamespace

import numpy as np
import pytest

import tiedlm
from tests_support import run_command
from tiedlm.cli import main

pytest.importorskip("tokenizers", reason="tokenizers (tiedlm[pieces])")

TINY = [
    "--d-embed=12", "--d-hidden=12", "--batch-size=10", "--bptt=5", "--threads=1",
    "--init-range=0.3", "--quiet",
]  # fmt: skip
WORDS = [
    "the",
    "a",
    "cat",
    "dog",
    "Élan",
    "sees",
    "hears",
    "wörter",
    "unhappily",
    "日本",
    "fish",
    "don't",
    "now",
]


def write_text(path):
    rng = np.random.default_rng(0)
    lines = (" ".join(rng.choice(WORDS, size=rng.integers(3, 9))) for _ in range(120))
    path.write_text("".join(f"{line.capitalize()}.\n" for line in lines), encoding="utf-8")
    return path


def train(text, out, *options):
    arguments = ["train", "small-real", "--data", text, "--out", out, *TINY, *options]
    main([str(argument) for argument in arguments])
    return out


def read(run, name="result.json"):
    return json.loads((run / name).read_text())


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    return write_text(tmp_path_factory.mktemp("text") / "own.txt")


@pytest.fixture(scope="module")
def run(text, tmp_path_factory):
    options = ("--pieces=bpe", "--vocab-size=300", "--epochs=2", "--keep-at=200")
    return train(text, tmp_path_factory.mktemp("runs") / "bpe", *options)


def test_a_run_has_its_pieces_and_says_so(run):
    assert len((run / "vocabulary.txt").read_text(encoding="utf-8").splitlines()) == 300
    assert read(run, "tokenizer.json")["model"]["type"] == "BPE"
    config = read(run, "config.json")
    assert config["settings"]["pieces"] == "bpe"
    assert config["corpus"]["tokenizer"] == "pieces"
    model = tiedlm.load(run)
    assert model.vocabulary.text(model.vocabulary.encode_lines(["Über <eos>"])) == "Über <eos>\n"


def test_the_page_joins_pieces_as_score_does(run, tmp_path, capsys):
    pytest.importorskip("starlette")
    pytest.importorskip("plotly")
    from web_support import Page

    file = tmp_path / "said.txt"
    file.write_text("the café 😀 was  old\n\nA cat\n", encoding="utf-8")
    status, out, err = run_command(capsys, "score", run, file)
    assert status == 0, err
    *_, last = Page(run).ask("surprisal", text=file.read_text(encoding="utf-8"))
    ours, theirs = ([row.split("\t")[2] for row in t.splitlines()] for t in (last["table"], out))
    assert ours == theirs
    assert "😀" in ours


def test_lines_inside_an_epoch_stand_where_they_were_measured(text, tmp_path):
    options = ("--pieces=bpe", "--vocab-size=300", "--epochs=2", "--evaluate-every=150")
    folder = train(text, tmp_path / "run", *options)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert len(lines) > 4
    assert [line["step"] for line in lines] == sorted(line["step"] for line in lines)


def test_runs_with_the_same_pieces_can_be_mixed(run, text, tmp_path, capsys):
    options = ("--pieces=bpe", "--vocab-size=300", "--epochs=1", "--seed=2")
    other = train(text, tmp_path / "other", *options)
    alone = [json.loads(run_command(capsys, "evaluate", one, "--json")[1]) for one in (run, other)]
    status, out, err = run_command(capsys, "evaluate", run, "--mix", other, "--json")
    assert status == 0, err
    worst = max(found["word_perplexity"] for found in alone)
    assert json.loads(out)["word_perplexity"] < worst


def test_a_second_session_of_unigram_pieces_takes_the_first_ones_tokenizer(text, tmp_path):
    options = ("--vocab-size=300", "--epochs=1")
    first = train(text, tmp_path / "first", "--pieces=unigram", *options)
    kept = f"--pieces={first / 'tokenizer.json'}"
    second = train(text, tmp_path / "second", kept, "--epochs=1", f"--init-from={first}")
    assert read(second)["epochs"] == 1
    assert tiedlm.load(second).vocabulary == tiedlm.load(first).vocabulary


def test_numbers_per_word_and_byte_are_of_the_same_total(run, capsys):
    status, out, _ = run_command(capsys, "evaluate", run, "--json")
    assert status == 0
    found, result = json.loads(out), read(run)
    counts = read(run, "config.json")["corpus"]["parts"]["test"]
    assert found["tokens"] == counts["tokens"] - 1
    assert found["words"] == counts["words"] - 1
    assert found["word_perplexity"] == pytest.approx(math.exp(found["nll"] / found["words"]))
    assert found["bits_per_byte"] == pytest.approx(found["nll"] / math.log(2) / counts["bytes"])
    assert found["perplexity"] == pytest.approx(math.exp(found["nll"] / found["tokens"]))
    assert result["test_ppl"] == pytest.approx(found["perplexity"])
    assert result["test_word_perplexity"] == pytest.approx(found["word_perplexity"])
    assert result["test_bits_per_byte"] == pytest.approx(found["bits_per_byte"])
    last = json.loads((run / "metrics.jsonl").read_text().splitlines()[result["best_epoch"] - 1])
    assert last["word_perplexity"] == pytest.approx(result["valid_word_perplexity"])


def test_a_perplexity_per_word_is_shown_first_and_per_piece_last(run, capsys):
    _, out, _ = run_command(capsys, "evaluate", run)
    names = [line.split("  ")[1] for line in out.splitlines()[1:]]
    assert names[:3] == ["perplexity per word", "bits per byte", "perplexity per piece"]


def test_the_best_so_far_is_shown_per_word_as_training_is(text, tmp_path, monkeypatch):
    shown = []
    keep = "tiedlm.progress.Silent.epoch_end"
    monkeypatch.setattr(keep, lambda watcher, line, best: shown.append(best))
    folder = train(text, tmp_path / "run", "--pieces=bpe", "--vocab-size=300", "--epochs=2")
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    per_word = [line["word_perplexity"] for line in lines]
    assert shown == [per_word[0], min(per_word)]


def test_a_resumed_run_has_the_bits_of_one_that_was_not_stopped(run, text, tmp_path):
    options = ("--pieces=bpe", "--vocab-size=300")
    out = train(text, tmp_path / "run", *options, "--epochs=1")
    train(text, out, *options, "--epochs=2", "--resume")
    assert (out / "model.safetensors").read_bytes() == (run / "model.safetensors").read_bytes()


def test_weights_are_kept_by_words_seen_and_can_be_read(run):
    kept = run / "checkpoints" / "200"
    place = read(kept, "config.json")["checkpoint"]
    counts = read(run, "config.json")["corpus"]["parts"]["train"]
    assert place["step"] * 50 * counts["words"] // counts["tokens"] in range(200, 250)
    assert tiedlm.load(kept).vocabulary == tiedlm.load(run).vocabulary


def test_a_perplexity_that_only_per_word_exceeds_any_number_is_divergence(
    text, tmp_path, monkeypatch, capsys
):
    per_piece = SimpleNamespace(perplexity=1e200)
    monkeypatch.setattr("tiedlm.training.held_out.evaluate", lambda *_: per_piece)
    arguments = ["small-re", "--data", text, "--pieces=bpe", "--vocab-size=300", *TINY]
    status, _, err = run_command(capsys, "train", *arguments, "--out", tmp_path / "run")
    assert status == 1
    assert "epoch 1, validation perplexity is inf" in err


def test_a_run_whose_pieces_are_gone_is_one_clear_line(run, tmp_path, capsys):
    out = tmp_path / "run"
    shutil.copytree(run, out)
    (out / "tokenizer.json").unlink()
    status, _, err = run_command(capsys, "evaluate", out)
    assert status == 2
    assert "tokenizer.json does not exist" in err
    (out / "tokenizer.json").write_text('{"model": {"type": "BPE", "vocab": {}, "merges": []}}')
    status, _, err = run_command(capsys, "evaluate", out)
    assert (status, err.count("\n")) == (2, 1)
    assert "has other pieces than" in err


def test_runs_of_pieces_are_compared_per_word_and_not_with_words(run, text, tmp_path, capsys):
    other = train(text, tmp_path / "more", "--pieces=bpe", "--vocab-size=320", "--epochs=1")
    words = train(text, tmp_path / "words", "--epochs=1", "--min-count=1")
    status, out, _ = run_command(capsys, "compare", run, other, words, "--json")
    assert status == 0
    base, pieces, unlike = json.loads(out)
    assert base["test_ppl"] == read(run)["test_word_perplexity"]
    assert pieces["difference"] == pytest.approx(pieces["test_ppl"] - base["test_ppl"])
    assert unlike["difference"] is None
    _, out, _ = run_command(capsys, "compare", run, words)
    assert "words and pieces: no difference is shown between them" in " ".join(out.split())


def test_a_text_with_unk_in_it_is_noted(text, tmp_path, capsys):
    path = tmp_path / "fixed.txt"
    path.write_text(text.read_text(encoding="utf-8").replace("cat", "<unk>"), encoding="utf-8")
    arguments = ["train", "small-real", "--data", path, "--out", tmp_path / "run", *TINY]
    options = ["--pieces=bpe", "--vocab-size=300", "--epochs=1"]
    status, _, err = run_command(capsys, *arguments, *options)
    assert status == 0
    assert err.count("words <unk>, so its vocabulary is fixed") == 1


def test_analyze_shows_pieces_that_may_be_words(run, capsys):
    status, out, _ = run_command(capsys, "analyze", run, "--json")
    shown = json.loads(out)["neighbours"]
    assert status == 0
    assert shown
    assert min(map(len, shown)) >= 4


@pytest.fixture
def lines(tmp_path):
    path = tmp_path / "lines.txt"
    path.write_text("The zebra sees  a fish.\n\nDon't, <eos> says Élan.\n", encoding="utf-8")
    return path


def test_score_writes_a_row_for_each_word_as_written(run, lines, capsys):
    status, out, err = run_command(capsys, "score", run, lines)
    assert status == 0
    rows = [line.split("\t") for line in out.splitlines()[1:]]
    first = ["The", "zebra", "sees", "a", "fish.", "<eos>"]
    assert [row[2] for row in rows] == [*first, "Don't,", "\\<eos>", "says", "Élan.", "<eos>"]
    assert [row[11] for row in rows[:6]] == [*first[:-1], "NA"]
    assert "per word (15 words, <eos> included), " in err
    status, out, err = run_command(capsys, "score", run, lines, "--per", "sentence")
    assert [line.split("\t")[1] for line in out.splitlines()[1:]] == ["5", "4"]
    for options in (["--unit=document", "--adapt"], ["--no-sum-pieces"], ["--no-eos"]):
        assert run_command(capsys, "score", run, lines, *options)[0] == 0


def test_a_run_of_pieces_refuses_to_tokenize(run, lines, capsys):
    for command in (["score", run, lines], ["pairs", run, lines], ["predict", run, "a"]):
        status, _, err = run_command(capsys, *command, "--tokenize")
        assert status == 2
        assert err.count("\n") == 1


def test_pairs_of_equal_sentences_are_noted(run, tmp_path, capsys):
    path = tmp_path / "pairs.tsv"
    path.write_text("good\tbad\nThe cat sees.\tThe cat sees.\nThe cat sees.\tThe cats sees.\n")
    status, _, err = run_command(capsys, "pairs", run, path)
    assert status == 0
    assert err == (
        f"note: 1 pair with the same words in both sentences, as in {path}, row 1; such a pair is "
        "a tie\n"
    )


def test_predict_and_generate_give_whole_words(run, capsys):
    status, out, _ = run_command(capsys, "predict", run, "The cat", "--top=3", "--json")
    assert status == 0
    assert len(json.loads(out)) == 3
    status, out, _ = run_command(capsys, "generate", run, "The cat", "--words=8")
    assert status == 0
    assert out.startswith("The cat")
    assert len(out.split()) + out.count("\n") == 2 + 8 + 1


def test_hypotheses_with_words_that_no_text_had_differ(run, tmp_path, capsys):
    lists = [{"id": "u", "hypotheses": [{"text": t, "score": 0} for t in ("the zebra", "the emu")]}]
    path = tmp_path / "lists.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in lists))
    status, out, err = run_command(capsys, "rescore", run, path, "--json")
    assert status == 0, err
    scores = [one["log_prob"] for one in json.loads(out)["hypotheses"]]
    assert scores[0] != scores[1]
    assert "0.00% of their words unknown" in err


def test_ctrl_c_while_pieces_are_trained_is_one_line_and_leaves_nothing(
    capsys, text, tmp_path, monkeypatch
):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("tiedlm.data.piece_corpus.train_pieces", interrupted)
    monkeypatch.setenv("TIEDLM_CACHE", str(tmp_path / "cache"))
    options = ["--data", text, "--out", tmp_path / "run", "--pieces", "bpe", "--vocab-size", 300]
    status, out, err = run_command(capsys, "train", "small", *options)
    assert (status, out, err) == (130, "", "tiedlm: error: interrupted\n")
    assert not (tmp_path / "run").exists()
    left = [path.name for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert all(name.endswith(".lock") for name in left)
