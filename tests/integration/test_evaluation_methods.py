"""``tiedlm evaluate`` combines its methods, keeps what is fitted, and goes on."""

import json
import math
import shutil
from contextlib import nullcontext

import numpy as np
import pytest
import torch

from conftest import write_corpus
from tests_support import run_command as run
from tests_support import surprisals
from tiedlm import load
from tiedlm.cli import main
from tiedlm.data import load_corpus
from tiedlm.evaluation import (
    Cache,
    Dynamic,
    Methods,
    gradient_rms,
    method_losses,
    mixture_losses,
    readers,
    summarize,
)
from tiedlm.training import evaluated, signals
from tiedlm.training.run import save_weights
from tiedlm.training.run_files import read_config

FLAGS = ["--d-embed=12", "--d-hidden=12", "--batch-size=4", "--bptt=5", "--epochs=3",
         "--threads=1", "--lr=0.5", "--init-range=0.3"]  # fmt: skip


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("methods"), lines=(150, 50, 50))


@pytest.fixture(scope="module")
def runs(corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for name, recipe, alpha in (("a", "small-real", 13), ("b", "small", 0)):
        where = [f"--data={corpus}", f"--out={folder / name}"]
        main(["train", recipe, *where, f"--alpha={alpha}", "--quiet", *FLAGS])
    return folder


@pytest.fixture
def folder(runs, tmp_path):
    return shutil.copytree(runs, tmp_path / "runs")


def perplexity(capsys, *arguments):
    status, out, err = run(capsys, "evaluate", *arguments, "--json")
    assert status == 0, err
    return json.loads(out)


def test_given_settings_give_the_numbers_of_the_library(capsys, folder, corpus):
    model, text = load(folder / "a"), load_corpus(str(corpus))
    chosen = Methods(
        dynamic=Dynamic(lr=1e-4, decay=0.01, segment=7), temperature=1.1,
        cache=Cache(words=50, theta=0.2, weight=0.15),
    )  # fmt: skip
    losses = method_losses(model, text.test, chosen, rms=gradient_rms(model, text.train))
    found = perplexity(
        capsys, folder / "a", "--dynamic", "--dynamic-lr=1e-4", "--dynamic-decay=0.01",
        "--dynamic-segment=7", "--temperature=1.1", "--cache", "--cache-words=50",
        "--cache-theta=0.2", "--cache-weight=0.15",
    )  # fmt: skip
    expected = summarize(losses, text.test[1:], text.vocabulary.unk_id).perplexity
    assert found["perplexity"] == pytest.approx(expected, rel=1e-6)
    assert found["methods"]["cache"] | {"source": "given"} == found["methods"]["cache"]
    assert found["methods"]["dynamic"]["source"].endswith("lr given, decay given, segment given")
    assert (folder / "a" / "gradient_rms.safetensors").is_file()
    assert not (folder / "a" / "unfinished").exists()


def test_tuned_settings_are_kept_used_later_and_never_touch_the_test_text(capsys, folder, corpus):
    flags = ["--dynamic", "--temperature=fit", "--cache", "--cache-words=60"]
    status, out, err = run(capsys, "evaluate", folder / "a", *flags, "--tune")
    assert status == 0, err
    assert out.count("(fitted on validation") == 3
    weights = (folder / "a" / "model.safetensors").read_bytes()
    log = (folder / "a" / "tuning.jsonl").read_text()
    words = {json.loads(line)["trial"]["words"] for line in log.splitlines()}
    assert words == {len(load_corpus(str(corpus)).valid) - 1}
    assert run(capsys, "evaluate", folder / "a", *flags)[1] == out
    assert run(capsys, "evaluate", folder / "a", *flags, "--tune")[1] == out
    assert (folder / "a" / "tuning.jsonl").read_text() == log
    assert (folder / "a" / "model.safetensors").read_bytes() == weights
    valid = perplexity(capsys, folder / "a", "--split=valid", *flags)["perplexity"]
    assert valid < perplexity(capsys, folder / "a", "--split=valid")["perplexity"]
    alone = perplexity(capsys, folder / "a", "--cache", "--cache-words=60")
    assert alone["methods"]["cache"]["source"] == "published default, words given"

    tuned = json.loads((folder / "a" / "tuned.json").read_text())
    (folder / "a" / "tuned.json").write_text(json.dumps(tuned | {"weights": "another run's"}))
    status, out, err = run(capsys, "evaluate", folder / "a", *flags)
    assert status == 0
    assert "is for other weights of this run, and is not used" in err
    assert "published default" in out


def test_a_mixture_is_at_least_as_good_on_validation_as_each_run(capsys, folder, corpus):
    arguments = [folder / "a", "--mix", folder / "b", "--split=valid"]
    found = perplexity(capsys, *arguments)
    alone = [perplexity(capsys, folder / name, "--split=valid")["perplexity"] for name in "ab"]
    assert found["perplexity"] <= min(alone) + 1e-3
    runs = found["mix"]["runs"]
    assert sum(one["weight"] for one in runs) == pytest.approx(1)
    assert found["mix"]["source"] == "fitted on validation"
    text = load_corpus(str(corpus))
    losses = [method_losses(load(folder / n), text.valid, Methods()) for n in "ab"]
    mixed = mixture_losses(np.stack(losses), [one["weight"] for one in runs])
    assert found["perplexity"] == pytest.approx(math.exp(mixed.mean()), rel=1e-6)
    assert perplexity(capsys, *arguments) == found
    with_cache = [*arguments, "--cache", "--cache-words=40", "--temperature=1.2"]
    status, out, err = run(capsys, "evaluate", *with_cache)
    assert (status, out.count("in the mixture")) == (0, 2), err


def test_progress_names_the_run_of_a_mixture(capsys, folder, monkeypatch):
    titles = []

    def progress(self, title, total):
        titles.append(title)
        return lambda count: None

    monkeypatch.setattr(evaluated.Evaluated, "counter", progress)
    perplexity(capsys, folder / "a", "--mix", folder / "b")
    assert titles[:2] == ["validation, run 1 of 2", "validation, run 2 of 2"]


def test_the_statistics_of_a_further_run_come_from_its_own_training_text(capsys, folder):
    path = folder / "b" / "config.json"
    config = json.loads(path.read_text())
    half = {"fraction": 0.5, "skip": 0.5}
    config["settings"] |= half | {"vocab_from": "whole"}
    config["corpus"] |= half
    path.write_text(json.dumps(config))
    shutil.copytree(folder / "b", folder / "alone")
    expected = perplexity(capsys, folder / "alone", "--dynamic")
    perplexity(capsys, folder / "a", "--mix", folder / "b", "--dynamic")
    assert perplexity(capsys, folder / "b", "--dynamic")["nll"] == expected["nll"]


def test_monte_carlo_dropout_takes_a_temperature(capsys, folder):
    cold = perplexity(capsys, folder / "a", "--mc=2", "--temperature=1")
    fitted = perplexity(capsys, folder / "a", "--mc=2", "--temperature=fit", "--split=valid")
    assert cold["perplexity"] == pytest.approx(
        perplexity(capsys, folder / "a", "--mc=2")["perplexity"]
    )
    plain = perplexity(capsys, folder / "a", "--mc=2", "--split=valid")
    assert fitted["perplexity"] <= plain["perplexity"] + 1e-3


def test_the_masks_of_each_run_of_a_mixture_last_for_its_own_bptt(capsys, folder):
    path = folder / "b" / "config.json"
    config = json.loads(path.read_text())
    config["settings"]["bptt"] = 9
    path.write_text(json.dumps(config))
    perplexity(capsys, folder / "a", "--mc=2", "--mix", folder / "b")
    members = [
        json.loads(line)["trial"]["members"]
        for line in (folder / "a" / "tuning.jsonl").read_text().splitlines()
    ]
    assert [key for _, key, _ in members[0]] == [
        f"mc 2 window={window} seed=1" for window in (5, 9)
    ]


def test_a_temperature_that_was_fitted_with_a_cache_needs_no_text_later(capsys, folder, corpus):
    flags = ["--temperature=fit", "--cache", "--cache-words=9"]
    assert run(capsys, "evaluate", folder / "a", *flags)[0] == 0
    path = folder / "a" / "config.json"
    path.write_text(path.read_text().replace(str(corpus), str(folder / "gone")))
    score = ["score", folder / "a", corpus / "test.txt", "--unit=document"]
    assert run(capsys, *score, *flags)[0] == 0
    assert "does not exist" in run(capsys, *score, "--temperature=fit", "--dynamic")[2]


def test_a_temperature_that_was_fitted_with_adapting_weights_needs_no_text_later(
    capsys, folder, corpus
):
    flags = ["--temperature=fit", "--dynamic"]
    assert run(capsys, "evaluate", folder / "a", *flags)[0] == 0
    path = folder / "a" / "config.json"
    path.write_text(path.read_text().replace(str(corpus), str(folder / "gone")))
    score = ["score", folder / "a", corpus / "test.txt", "--unit=document"]
    status, _, err = run(capsys, *score, *flags)
    assert (status, "published default" in err) == (0, True)
    assert "does not exist" in run(capsys, *score, *flags, "--dynamic-lr=1e-4")[2]


def test_a_quick_fit_of_a_combination_leaves_the_others_as_they_are(capsys, folder):
    whole = perplexity(capsys, folder / "a", "--temperature=fit")
    quick = ["--cache", "--cache-words=9", "--temperature=fit", "--tune", "--tune-words=20"]
    other = perplexity(capsys, folder / "a", *quick)["methods"]["temperature"]
    assert other["value"] != whole["methods"]["temperature"]["value"]
    assert perplexity(capsys, folder / "a", "--temperature=fit") == whole


def test_tune_fits_the_weights_of_a_mixture_anew(capsys, folder):
    noisy = [shutil.copytree(folder / "a", folder / f"noisy-{seed}") for seed in range(2)]
    for seed, place in enumerate(noisy):  # neither is always better, so that both have a weight
        model = load(place)
        torch.manual_seed(seed)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        save_weights(model, place / "model.safetensors", read_config(place)["id"])
    mix = [noisy[0], "--mix", noisy[1]]
    few = perplexity(capsys, *mix, "--tune", "--tune-words=20")
    found = perplexity(capsys, *mix, "--tune")
    assert found["mix"] != few["mix"]
    for name in ("tuned.json", "tuning.jsonl"):
        (noisy[0] / name).unlink()
    assert perplexity(capsys, *mix) == found


def test_what_is_fitted_on_another_text_is_not_kept(capsys, folder, corpus, tmp_path):
    other = shutil.copytree(corpus, tmp_path / "other")
    shutil.copy(corpus / "test.txt", other / "valid.txt")
    flags = ["--dynamic", "--temperature=fit", "--mix", folder / "b"]
    before = {name: sorted(path.name for path in (folder / name).iterdir()) for name in "ab"}
    status, _, err = run(capsys, "evaluate", folder / "a", f"--data={other}", *flags, "--tune")
    assert status == 0, err
    assert f"what is fitted on another text is not kept in {folder / 'a'}" in err
    for name, files in before.items():
        assert sorted(path.name for path in (folder / name).iterdir()) == files
    assert run(capsys, "evaluate", folder / "a", *flags)[0] == 0
    assert all((folder / name / "tuned.json").is_file() for name in "ab")


def test_a_tuned_cache_may_be_longer_than_a_text(capsys, folder, corpus, tmp_path):
    found = perplexity(capsys, folder / "a", "--cache", "--tune")["methods"]["cache"]
    path = folder / "a" / "tuned.json"
    path.write_text(path.read_text().replace(f'"words": {found["words"]},', '"words": 9999,'))
    settings = [f"--cache-theta={found['theta']}", f"--cache-weight={found['weight']}"]
    expected = perplexity(capsys, folder / "a", "--cache", "--cache-words=399", *settings)
    assert perplexity(capsys, folder / "a", "--cache")["nll"] == pytest.approx(expected["nll"])


def test_settings_that_are_all_given_are_not_called_fitted(capsys, folder):
    flags = ["--dynamic", "--dynamic-lr=1e-4", "--dynamic-decay=0.01"]
    found = perplexity(capsys, folder / "a", *flags, "--tune")["methods"]["dynamic"]
    assert found["source"] == "published default, lr given, decay given"
    assert not (folder / "a" / "tuned.json").exists()
    sgd = ["--dynamic", "--dynamic-rule=sgd", "--dynamic-lr=0.01", "--dynamic-decay=0.1"]
    found = perplexity(capsys, folder / "a", *sgd, "--dynamic-segment=5")["methods"]["dynamic"]
    assert found["source"] == "given"


def test_damaged_statistics_are_measured_again(capsys, folder):
    expected = perplexity(capsys, folder / "a", "--dynamic")
    path = folder / "a" / "gradient_rms.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    assert perplexity(capsys, folder / "a", "--dynamic") == expected
    assert path.read_bytes() == whole


@pytest.mark.parametrize("weights", [None, [1.0], [0.5, 0.9], [2.0, -1.0], "ab", ["a", "b"]])
def test_kept_weights_of_a_mixture_that_are_none_are_one_line(capsys, folder, weights):
    mix = [folder / "a", "--mix", folder / "b"]
    perplexity(capsys, *mix)
    path = folder / "a" / "tuned.json"
    kept = json.loads(path.read_text())
    (entry,) = kept["tuned"].values()
    entry["weights"] = weights
    path.write_text(json.dumps(kept))
    status, out, err = run(capsys, "evaluate", *mix)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert f"{path} is damaged; delete it and give --tune again" in err


def test_a_cache_is_tuned_on_few_words_if_it_is_shorter(capsys, folder):
    few = ["--cache", "--cache-words=9", "--tune", "--tune-words=50"]
    assert run(capsys, "evaluate", folder / "a", *few)[0] == 0


@pytest.mark.parametrize("flags", [["--dynamic"], ["--cache", "--cache-words=9"], ["--mc=2"]])
def test_a_stopped_evaluation_goes_on(capsys, folder, flags, monkeypatch):
    monkeypatch.setattr(readers, "PART_WORDS", 100)
    monkeypatch.setattr(readers, "SCORED", 100)
    expected = perplexity(capsys, folder / "a", *flags)
    counted = iter(range(100))
    with monkeypatch.context() as patch:
        # As a signal would, after some of the text.
        patch.setattr(signals, "stop_signals", lambda: nullcontext(lambda: next(counted) == 2))
        status, out, err = run(capsys, "evaluate", folder / "a", *flags)
    assert (status, out) == (130, "")
    assert err == (
        f"tiedlm: stopped; it is saved in {folder / 'a'}, and the same command continues "
        "from there\n"
    )
    assert list((folder / "a" / "unfinished").iterdir())
    assert perplexity(capsys, folder / "a", *flags) == expected
    assert not (folder / "a" / "unfinished").exists()


def test_a_stopped_mixture_reads_no_finished_run_again(capsys, folder, monkeypatch):
    monkeypatch.setattr(readers, "PART_WORDS", 100)
    flags = ["--dynamic", "--mix", folder / "b"]
    expected = perplexity(capsys, folder / "a", *flags)
    counted, titles = iter(range(100)), []
    with monkeypatch.context() as patch:
        patch.setattr(signals, "stop_signals", lambda: nullcontext(lambda: next(counted) == 5))
        assert run(capsys, "evaluate", folder / "a", *flags)[0] == 130
    assert all(list((folder / name / "unfinished").iterdir()) for name in "ab")
    counter = evaluated.Evaluated.counter
    monkeypatch.setattr(
        evaluated.Evaluated,
        "counter",
        lambda self, title, total: titles.append(title) or counter(self, title, total),
    )
    assert perplexity(capsys, folder / "a", *flags) == expected
    assert titles == [f"{folder / 'b'} (2 of 2)"]
    assert not any((folder / name / "unfinished").exists() for name in "ab")


def test_a_default_of_ours_is_not_called_published(capsys, folder):
    status, out, err = run(capsys, "evaluate", folder / "a", "--dynamic", "--dynamic-rule=sgd")
    assert status == 0, err
    assert "(default of ours)" in out


def test_new_trials_do_not_touch_the_log_of_a_run_that_cannot_be_written(
    capsys, folder, monkeypatch
):
    assert run(capsys, "evaluate", folder / "a", "--temperature=fit")[0] == 0
    log = (folder / "a" / "tuning.jsonl").read_text()
    monkeypatch.setattr(evaluated.os, "access", lambda path, mode: False)
    flags = ["--cache", "--cache-words=37", "--tune", "--tune-words=120"]
    status, _, err = run(capsys, "evaluate", folder / "a", *flags)
    assert status == 0, err
    assert (folder / "a" / "tuning.jsonl").read_text() == log


def test_a_run_that_cannot_be_written_is_evaluated_and_stopped(capsys, folder, monkeypatch):
    expected = perplexity(capsys, folder / "a", "--temperature=fit")["perplexity"]
    for name in ("tuned.json", "tuning.jsonl"):
        (folder / "a" / name).unlink()
    before = sorted(path.name for path in (folder / "a").iterdir())
    monkeypatch.setattr(evaluated.os, "access", lambda path, mode: False)
    status, out, err = run(capsys, "evaluate", folder / "a", "--temperature=fit", "--json")
    assert (status, json.loads(out)["perplexity"]) == (0, expected)
    assert f"note: {folder / 'a'} cannot be written: what is fitted" in err
    assert sorted(path.name for path in (folder / "a").iterdir()) == before
    monkeypatch.setattr(signals, "stop_signals", lambda: nullcontext(lambda: True))
    assert run(capsys, "evaluate", folder / "a", "--temperature=1.5")[0] == 130


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--dynamic-lr=1"], "--dynamic-lr needs --dynamic"),
        (["--cache-words=5"], "--cache-words needs --cache"),
        (["--dynamic", "--dynamic-lr=-1"], "--dynamic-lr: expected a positive number, got -1.0"),
        (["--cache", "--cache-weight=1"], "--cache-weight: expected 0 <= lambda < 1, got 1.0"),
        (["--cache", "--cache-words=9999"], "the text has only 400 words; take fewer"),
        (["--dynamic", "--mc=2"], "--dynamic and --mc: it would adapt to one mask"),
        (["--cache", "--mc=2"], "--cache and --mc: each mask has hidden states of its own"),
        (["--temperature=hot"], "--temperature: expected a number or fit, got 'hot'"),
        (["--temperature=0"], "--temperature: expected a number from 0.001 to 1e6, or fit, got 0"),
        (["--temperature=1e-40"], "expected a number from 0.001 to 1e6, or fit, got 1e-40"),
        (["--window=5", "--cache"], "--window has no effect with --cache; leave it out"),
        (["--tune"], "--tune needs --dynamic, --cache, --temperature fit or --mix"),
        (["--tune", "--temperature=1.2"], "--tune needs --dynamic"),
        (["--cache", "--tune-words=5k"], "--tune-words needs --tune"),
        (["--cache", "--tune", "--tune-words=50"],
         "--tune-words 50 is too few for a cache of 100 words; give more, or fewer --cache-words"),
        (["--dynamic", "--dynamic-rule=sgd", "--dynamic-epsilon=1"],
         "--dynamic-epsilon has no effect with --dynamic-rule sgd"),
        (["--mix", "{run}"], "the run is given twice"),
        (["--mix", "{corpus}"], "is not a run folder"),
        (["--dynamic", "--dynamic-rule=sgd", "--dynamic-lr=1e9"], "with lr 1e+09 diverges"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_a_mistake_is_one_line(capsys, runs, corpus, flags, message):
    given = [flag.format(run=runs / "a", corpus=corpus) for flag in flags]
    status, out, err = run(capsys, "evaluate", runs / "a", *given)
    assert (status, out) == (2, "")
    assert err.startswith("tiedlm: error: ")
    assert err.count("\n") == 1
    assert message in err


def test_runs_of_other_words_are_not_mixed(capsys, folder):
    path = folder / "b" / "vocabulary.txt"
    path.write_text(path.read_text().replace("fish", "fowl"))
    status, _, err = run(capsys, "evaluate", folder / "a", "--mix", folder / "b")
    assert status == 2
    assert "is 'fowl' and 'fish'; a mixture needs the same words in the same order" in err


def test_a_training_text_too_short_for_gradient_statistics_is_one_line(capsys, tmp_path):
    text = tmp_path / "text"
    text.mkdir()
    for part in ("train", "valid", "test"):
        (text / f"{part}.txt").write_text("a b c\n")
    flags = ["--d-embed=8", "--d-hidden=8", "--batch-size=1", "--epochs=1", "--threads=1",
             "--min-count=1", "--quiet"]  # fmt: skip
    main(["train", "small-real", f"--data={text}", f"--out={tmp_path / 'run'}", *flags])
    status, out, err = run(capsys, "evaluate", tmp_path / "run", "--dynamic")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "on 6 words or more, and the training text has 4; take --dynamic-rule sgd" in err


def test_a_run_whose_validation_text_is_empty_is_one_line(capsys, folder, corpus, tmp_path):
    other = shutil.copytree(corpus, tmp_path / "corpus")
    config = json.loads((folder / "a" / "config.json").read_text())
    config["settings"]["data"] = str(other)
    (folder / "a" / "config.json").write_text(json.dumps(config))
    (other / "valid.txt").write_text("the\n")
    status, out, err = run(capsys, "evaluate", folder / "a", "--cache", "--tune")
    assert (status, out) == (2, "")
    assert "--cache-words 100: the validation text has only 2 words" in err


@pytest.mark.parametrize(
    "flags",
    [
        ["--temperature=1.3"],
        ["--dynamic", "--dynamic-lr=1e-3", "--cache", "--cache-words=20"],
        ["--mix", "{b}", "--cache", "--cache-words=20", "--temperature=fit"],
    ],
    ids=lambda flags: flags[0],
)
def test_a_document_totals_what_evaluate_says(capsys, folder, corpus, flags):
    flags = [flag.format(b=folder / "b") for flag in flags]
    expected = perplexity(capsys, folder / "a", *flags)["nll"]
    arguments = ["--unit=document", "--base=e", *flags]
    status, out, err = run(capsys, "score", folder / "a", corpus / "test.txt", *arguments)
    assert status == 0, err
    found = surprisals(out)
    assert np.nansum(found) == pytest.approx(expected, rel=1e-5)
    assert f"{folder / 'a'}: " in err


def test_pairs_and_lists_are_scored_by_a_mixture_with_a_temperature(capsys, folder, tmp_path):
    (tmp_path / "pairs.tsv").write_text("good\tbad\nthe cat sees a fish\tthe the cat a fish\n")
    (tmp_path / "nbest.jsonl").write_text(
        '{"id": "u", "hypotheses": [{"text": "the cat sees", "score": 0}, '
        '{"text": "the a", "score": 0}]}\n'
    )
    for name, arguments in (("pairs", ["pairs.tsv", "--out", tmp_path / "table"]),
                            ("rescore", ["nbest.jsonl", "--json"])):  # fmt: skip
        arguments[0] = tmp_path / arguments[0]
        plain = run(capsys, name, folder / "a", *arguments)
        table = (tmp_path / "table").read_text()
        given = ["--temperature=1.5", "--mix", folder / "b"]
        mixed = run(capsys, name, folder / "a", *arguments, *given)
        assert mixed[0] == plain[0] == 0, mixed[2]
        assert "weight" in mixed[2]
        assert "temperature 1.5 (given)" in mixed[2]
        assert (mixed[1], (tmp_path / "table").read_text()) != (plain[1], table)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["score", "--dynamic"], "--unit sentence does not: give --unit document"),
        (["score", "--adapt", "--cache"], "--adapt and --cache: give one of them"),
        (["score", "--temperature=-1"], "--temperature: expected a number from 0.001"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_in_scoring_is_one_line(capsys, runs, corpus, arguments, message):
    command, *flags = [one.format(run=runs / "a") for one in arguments]
    status, out, err = run(capsys, command, runs / "a", corpus / "test.txt", *flags)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert message in err


@pytest.mark.parametrize("command", ["score", "pairs", "rescore"])
def test_a_result_does_not_replace_the_weights_of_a_further_run(
    capsys, folder, corpus, tmp_path, command
):
    text = corpus / "test.txt"
    if command != "score":
        text = tmp_path / "given.tsv"
        text.write_text("good\tbad\nthe cat\tthe the\n" if command == "pairs" else "u\tthe cat\n")
    weights = folder / "b" / "model.safetensors"
    before = weights.read_bytes()
    arguments = [folder / "a", text, "--mix", folder / "b", "--out", weights]
    status, _, err = run(capsys, command, *arguments)
    assert (status, "is an input of this command" in err) == (2, True)
    assert weights.read_bytes() == before


def test_a_missing_text_is_noticed_before_anything_is_fitted(capsys, folder):
    arguments = [folder / "a", folder / "nope.txt", "--unit=document", "--dynamic"]
    status, out, err = run(capsys, "score", *arguments)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "nope.txt does not exist" in err
    assert not (folder / "a" / "gradient_rms.safetensors").exists()
