"""Every command works as a user types it, and each mistake gives one clear line."""

import json
import math
import os
import re
import shutil
import subprocess
import sys

import pytest
import torch

from tests_support import run_command as run
from tiedlm import Vocabulary
from tiedlm.arithmetic import arithmetic, in_use
from tiedlm.cli import main
from tiedlm.cli.models import load_model
from tiedlm.evaluation import subspace
from tiedlm.matmul import kinds
from tiedlm.native import routes
from tiedlm.training import hardware
from tiedlm.training.hardware import fast_arithmetic
from tiedlm.training.run import save_weights

TINY = ["--d-embed=12", "--d-hidden=12", "--batch-size=4", "--bptt=5", "--epochs=2", "--threads=1"]


@pytest.fixture(scope="module")
def trained(tiny_corpus, tmp_path_factory):
    """Return two run folders: untied, and REAL."""
    folder = tmp_path_factory.mktemp("runs")
    os.environ["TIEDLM_CACHE"] = str(tmp_path_factory.getbasetemp() / "cache")
    for recipe in ("small", "small-real"):
        main(["train", recipe, "--data", str(tiny_corpus), "--out", str(folder / recipe),
              "--quiet", *TINY])  # fmt: skip
    return folder / "small", folder / "small-real"


def test_a_run_is_evaluated_without_a_writable_cache(capsys, trained, tmp_path, monkeypatch):
    expected = run(capsys, "evaluate", trained[0])[1]
    (tmp_path / "file").touch()
    monkeypatch.setenv("TIEDLM_CACHE", str(tmp_path / "file" / "cache"))
    status, out, err = run(capsys, "evaluate", trained[0])
    assert (status, out) == (0, expected)
    assert err.startswith("note: cannot write ")
    assert err.endswith("until then each command encodes the text again\n")


def test_train_and_check_warn_of_marks_of_other_tools(capsys, tiny_corpus, tmp_path):
    for part in ("train", "valid", "test"):
        lines = (tiny_corpus / f"{part}.txt").read_text().splitlines()
        text = "".join(f"<s> {line} </s>\n" for line in lines)
        (tmp_path / f"{part}.txt").write_text(text)
    said = "</s> 180 times, <s> 180 times in 180 lines: tiedlm ends each line with an <eos> already"
    status, _, err = run(
        capsys, "train", "small-re", "--data", tmp_path, "--out", tmp_path / "run", "--quiet", *TINY
    )
    assert status == 0
    assert err.startswith(f"note: {said}")
    status, out, _ = run(capsys, "data", "check", tmp_path)
    assert status == 0
    assert f"warning: {said}" in out


@pytest.mark.parametrize("ending", [[], ["--no-such-flag"], ["nobody-knows-this-word"]])
def test_a_command_leaves_the_arithmetic_of_its_process_as_it_was(capsys, trained, ending):
    with arithmetic(threads=1) as before:
        run(capsys, "analyze", trained[0], *ending)
        assert in_use() == before


def test_a_command_uses_the_fastest_exact_arithmetic_while_it_runs(capsys, trained, monkeypatch):
    seen = []
    monkeypatch.setattr(subspace, "describe_geometry", lambda *_: seen.append(in_use()) or {})
    run(capsys, "analyze", trained[0], "--json")
    with fast_arithmetic() as expected:
        assert seen == [expected]


def test_reading_a_run_imports_no_compiler(trained):
    program = (
        "import sys, tiedlm\n"
        "tiedlm.load(sys.argv[1])\n"
        "assert 'torch._dynamo' not in sys.modules, 'it takes a second'"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(trained[0])], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_help_is_quick_and_imports_no_torch():
    program = (
        "import sys, tiedlm.cli\n"
        "try: tiedlm.cli.main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "assert 'torch' not in sys.modules, 'torch was imported'"
    )
    for arguments in (["--help"], ["train", "--help"], ["train", "--list"], ["evaluate", "--help"]):
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout


@pytest.mark.parametrize(
    "command",
    ["demo", "train", "evaluate", "compare", "predict", "generate", "analyze", "info", "data"],
)
def test_every_command_has_help(capsys, command):
    status, out, _ = run(capsys, command, "--help")
    assert status == 0
    assert "Usage: tiedlm" in out


def test_train_help_begins_with_an_example_and_has_every_flag_in_its_group(capsys):
    import dataclasses

    from tiedlm.training.settings import Settings

    _, out, _ = run(capsys, "train", "--help")
    start, *panels = re.split(r"^\S+ (\w+) [^\w\s]+$", out, flags=re.MULTILINE)
    assert "    tiedlm train small-real --data my.txt --out runs/mine\n" in start
    names = ["Arguments", "Text", "Model", "Loss", "Schedule", "Machine", "Output", "Research"]
    assert panels[::2] == names
    text = dict(zip(names, panels[1::2], strict=True))
    assert re.findall(r"^\S+ (--[a-z]+)", text["Output"], re.MULTILINE) == [
        "--out", "--resume", "--quiet", "--tensorboard", "--list", "--show", "--keep", "--evaluate",
    ]  # fmt: skip
    for field in dataclasses.fields(Settings):
        if field.name != "recipe":
            name = {"options": "option"}.get(field.name, field.name)  # given one by one
            flag = f"--{name.replace('_', '-')}"
            assert re.search(rf"^\S+ {flag} ", text[field.metadata["group"]], re.MULTILINE), flag


@pytest.mark.parametrize(
    ("command", "groups"),
    [
        ("score", ["Arguments", "Text", "Output", "Adapting", "Methods", "Machine"]),
        (
            "rescore",
            ["Arguments", "List", "Weights", "N-gram model", "Methods", "Output", "Machine"],
        ),
        ("export", ["Arguments", "Output", "Hugging Face", "ONNX"]),
        ("info", ["What to show", "Output"]),
    ],
)
def test_help_has_the_flags_in_groups(capsys, command, groups):
    _, out, _ = run(capsys, command, "--help")
    names = re.findall(r"^\S+ (\w[\w -]*\w) [^\w\s]+$", out, flags=re.MULTILINE)
    assert names == groups


def test_a_long_help_is_one_line_in_the_list_of_commands(capsys):
    _, out, _ = run(capsys, "--help")
    assert re.search(r" train +Train one model from a recipe\.", out)
    assert "small-real" not in out


def test_train_shows_progress_and_the_result(capsys, tiny_corpus, tmp_path):
    status, out, err = run(
        capsys, "train", "small-re", "--data", tiny_corpus, "--out", tmp_path / "run", *TINY
    )
    assert status == 0
    assert "epoch   2/2" in err
    assert "tokens/s" in err
    assert "validation perplexity" in out
    assert "1 seed (1)" in out
    assert json.loads((tmp_path / "run" / "config.json").read_text())["model"]["tied"] is True


def test_train_writes_tensorboards_files(capsys, tiny_corpus, tmp_path):
    pytest.importorskip("tensorboard")
    flags = ["--out", tmp_path / "run", "--tensorboard", *TINY]
    assert run(capsys, "train", "small-re", "--data", tiny_corpus, *flags)[0] == 0
    assert len(list((tmp_path / "run" / "tensorboard").glob("events*"))) == 1


def test_the_same_command_again_and_resume_find_the_finished_run(capsys, trained, tiny_corpus):
    _, real = trained
    before = (real / "result.json").read_text()
    for extra in ([], ["--resume"]):
        status, out, _ = run(
            capsys, "train", "small-real", "--data", tiny_corpus, "--out", real, *TINY, *extra
        )
        assert status == 0
        assert str(real) in out
    assert (real / "result.json").read_text() == before


def test_a_run_finds_its_text_from_any_folder_and_resumes_after_the_text_moved(
    capsys, tiny_corpus, tmp_path, monkeypatch
):
    text = tmp_path / "texts" / "mine"
    shutil.copytree(tiny_corpus, text)
    train = ("train", "small-re", "--out", tmp_path / "run", "--quiet", *TINY, "--data")
    monkeypatch.chdir(text.parent)
    assert run(capsys, *train, "mine")[0] == 0
    monkeypatch.chdir(tmp_path)
    status, _, err = run(capsys, "evaluate", tmp_path / "run")
    assert status == 0, err
    assert "has changed" not in err
    moved = tmp_path / "moved"
    text.rename(moved)
    status, _, err = run(capsys, *train, "./moved")
    assert status == 0, err
    with (moved / "test.txt").open("a") as file:
        file.write("one more line\n")
    assert "the text of 'moved' has changed since" in run(capsys, "evaluate", tmp_path / "run")[2]
    assert run(capsys, *train, "./moved")[0] == 2
    assert run(capsys, "evaluate", tmp_path / "run")[0] == 0


@pytest.mark.parametrize("flag", ["--tokenize", "--no-tokenize"])
def test_whether_a_text_is_tokenized_can_be_decided_by_hand(capsys, tiny_corpus, tmp_path, flag):
    arguments = ("--data", tiny_corpus, "--out", tmp_path / "run", "--quiet", *TINY, flag)
    assert run(capsys, "train", "small-re", *arguments)[0] == 0
    corpus = json.loads((tmp_path / "run" / "config.json").read_text())["corpus"]
    assert corpus["tokenizer"] == ("tiedlm" if flag == "--tokenize" else None)
    assert run(capsys, "evaluate", tmp_path / "run")[0] == 0


def test_a_run_without_a_digest_of_its_text_is_evaluated(capsys, trained, tmp_path):
    # An exported folder has none.

    shutil.copytree(trained[1], tmp_path / "run")
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    del config["corpus"]["sha256"]
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    status, _, err = run(capsys, "evaluate", tmp_path / "run")
    assert status == 0, err
    assert "has changed" not in err


def test_a_perplexity_that_overflows_is_null_in_json(capsys, trained, tmp_path):
    shutil.copytree(trained[1], tmp_path / "run")
    model, _ = load_model(trained[1])
    with torch.no_grad():
        model.embedding.weight *= 1e6
    run_id = json.loads((tmp_path / "run" / "config.json").read_text())["id"]
    save_weights(model, tmp_path / "run" / "model.safetensors", run_id)
    status, out, err = run(capsys, "evaluate", tmp_path / "run", "--json")
    assert status == 0, err
    found = json.loads(out, parse_constant=pytest.fail)
    assert found["perplexity"] is None
    assert found["tokens"] > 0


def test_monte_carlo_evaluation_says_what_it_sampled(capsys, trained):
    real = trained[1]
    arguments = ("evaluate", real, "--mc", "4", "--seed", "3")
    status, out, _ = run(capsys, *arguments, "--json")
    assert status == 0
    found = json.loads(out)
    assert (found["mc"], found["seed"]) == (4, 3)
    plain = json.loads(run(capsys, "evaluate", real, "--json")[1])
    assert "mc" not in plain
    assert found["tokens"] == plain["tokens"]
    assert found["perplexity"] != plain["perplexity"]
    assert "4 samples of the dropout masks (seed 3)" in run(capsys, *arguments)[1]


def test_evaluate_agrees_with_the_result_and_states_its_denominator(capsys, trained, tiny_corpus):
    _, real = trained
    result = json.loads((real / "result.json").read_text())
    status, out, _ = run(capsys, "evaluate", real, "--json")
    assert status == 0
    found = json.loads(out)
    assert found["perplexity"] == pytest.approx(result["test_ppl"], rel=1e-9)
    words = (tiny_corpus / "test.txt").read_text().split()
    lines = (tiny_corpus / "test.txt").read_text().count("\n")
    assert found["tokens"] == len(words) + lines - 1
    status, out, _ = run(capsys, "evaluate", real, "--split", "valid", "--window", "3", "--json")
    assert json.loads(out)["perplexity"] == pytest.approx(result["valid_ppl"], rel=1e-5)
    status, out, _ = run(capsys, "evaluate", real)
    assert f"{found['tokens']:,} (all but the first)" in out
    assert "<unk>" in out
    assert "bits per word" in out


def test_compare_shows_a_row_for_each_recipe(capsys, trained):
    status, out, _ = run(capsys, "compare", *trained, "--json")
    assert status == 0
    rows = json.loads(out)
    assert [row["recipe"] for row in rows] == ["small", "small-real"]
    assert rows[1]["difference"] == pytest.approx(rows[1]["test_ppl"] - rows[0]["test_ppl"])
    assert rows[1]["settings"] == {"alpha": 52.0, "tied": True}
    _, out, _ = run(capsys, "compare", *trained)
    assert "small-real" in out
    assert "difference: in test perplexity, from the first row\n" in out
    assert "standard deviation" not in out  # one seed each


def test_compare_says_when_a_difference_is_of_validation(capsys, trained, tmp_path, monkeypatch):
    """The second run has not finished. The first is named by its folder, also from inside it."""
    unfinished = shutil.copytree(trained[1], tmp_path / "unfinished")
    (unfinished / "result.json").unlink()
    monkeypatch.chdir(trained[0])
    _, out, _ = run(capsys, "compare", ".", unfinished)
    assert "difference: in validation perplexity, from the first row\n" in out
    assert f"small ({trained[0].name})" in " ".join(out.split())


def test_predict_gives_the_most_probable_words_first(capsys, trained):
    status, out, _ = run(capsys, "predict", trained[1], "the cat", "--top", "5", "--json")
    assert status == 0
    found = json.loads(out)
    probabilities = [prediction["probability"] for prediction in found]
    assert len(found) == 5
    assert probabilities == sorted(probabilities, reverse=True)
    assert 0 < sum(probabilities) <= 1
    _, out, _ = run(capsys, "predict", trained[1], "the cat", "--top", "1")
    assert found[0]["word"] in out


def test_control_characters_of_a_word_are_not_sent_to_the_terminal(capsys, trained, tmp_path):
    run_dir = shutil.copytree(trained[1], tmp_path / "run")
    words = run_dir / "vocabulary.txt"
    words.write_text(words.read_text().replace("\ncat\n", "\nc\x1b[2Jat\u200cs\n"))
    for arguments in (
        ["predict", run_dir, "the", "--top", "1000"],
        ["generate", run_dir, "the", "--words", "300", "--temperature", "9"],
        ["analyze", run_dir, "the", "c\x1b[2Jat\u200cs"],
    ):
        _, out, _ = run(capsys, *arguments)
        assert "c\\x1b[2Jat\u200cs" in out
        assert "\x1b" not in out


def test_a_context_may_begin_with_a_hyphen_after_two_hyphens(capsys, trained):
    status, out, err = run(capsys, "predict", trained[1], "--top", "1", "--json", "--", "-- cat")
    assert status == 0
    assert len(json.loads(out)) == 1
    assert "read as <unk>: --" in err


def test_predict_names_the_words_that_it_reads_as_unk(capsys, trained):
    status, out, err = run(capsys, "predict", trained[1], "the Blorbistan sees", "--json")
    assert status == 0
    assert json.loads(out)
    assert err == "read as <unk>: Blorbistan\n" or "blorbistan" in err


@pytest.mark.parametrize(
    ("context", "is_raw", "read"),
    [
        ("the cat\nsees", False, "<eos> the cat <eos> sees"),
        ("the cat\r\n\n", False, "<eos> the cat <eos> <eos>"),
        ("the cat <eos>\nsees", False, "<eos> the cat <eos> sees"),
        ("", False, "<eos>"),
        ("The cat. Sees\n\nthe cat", True, "<eos> the cat . <eos> sees <eos> the cat"),
        ("The cat.\n", True, "<eos> the cat . <eos>"),
        ("\n", True, "<eos>"),
    ],
)
def test_an_eos_stands_between_the_lines_of_a_context(tmp_path, context, is_raw, read):
    from tiedlm.cli.models import context_ids

    vocabulary = Vocabulary(["<eos>", "<unk>", "the", "cat", "sees", "."])
    ids = context_ids(tmp_path, vocabulary, context, is_raw)
    assert vocabulary.decode(ids.tolist()) == read.split()


def test_a_line_that_is_generated_begins_without_a_blank(capsys, trained):
    for seed in range(1, 5):  # some begin with an <eos>
        flags = ["--words", "3", "--seed", seed]
        _, out, _ = run(capsys, "generate", trained[1], "the cat\n", *flags)
        assert "\n " not in out


def test_a_context_of_several_sentences_is_split_as_the_corpus_was(capsys, tmp_path):
    line = "The cat doesn't see a dog. It sees the bird, and the bird sees it!\n"
    (tmp_path / "text.txt").write_text(line * 40)
    out = tmp_path / "run"
    arguments = ["--data", tmp_path / "text.txt", "--out", out, "--quiet", "--init-range=1", *TINY]
    assert run(capsys, "train", "small-real", *arguments)[0] == 0

    def probability_of_sees(*context):
        _, shown, _ = run(capsys, "predict", out, *context, "--top", "1000", "--json")
        (found,) = (p["probability"] for p in json.loads(shown) if p["word"] == "sees")
        return found

    as_sentences = probability_of_sees("The cat sees a dog. It")
    (tmp_path / "s.txt").write_text("The cat sees a dog. It sees\n")
    _, table, _ = run(capsys, "score", out, tmp_path / "s.txt", "--unit", "line", "--base", "e")
    row = table.splitlines()[-2].split("\t")
    assert row[2] == "sees"
    assert math.exp(-float(row[4])) == pytest.approx(as_sentences, rel=1e-4)
    as_one_line = probability_of_sees("the cat sees a dog . it", "--no-tokenize")
    assert as_one_line != pytest.approx(as_sentences, rel=1e-2)


def test_evaluate_finds_a_corpus_that_has_moved(capsys, trained, tiny_corpus, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(tiny_corpus, moved)
    shutil.copytree(trained[1], tmp_path / "run")
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    config["settings"]["data"] = str(tmp_path / "gone")
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    status, _, err = run(capsys, "evaluate", tmp_path / "run")
    assert (status, err.count("\n")) == (2, 1)
    assert f"{tmp_path / 'gone'}, the text of {tmp_path / 'run'}, does not exist; give" in err
    _, expected, _ = run(capsys, "evaluate", trained[1], "--json")
    _, found, _ = run(capsys, "evaluate", tmp_path / "run", "--data", moved, "--json")
    assert json.loads(found)["nll"] == json.loads(expected)["nll"]


def test_train_shows_the_settings_of_a_recipe_and_trains_nothing(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, _ = run(capsys, "train", "small-real", "--show", "--lr", "0.25")
    shown = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert status == 0
    columns = {len(line) - len(line.split(maxsplit=1)[1]) for line in out.splitlines()}
    assert columns == {max(map(len, shown)) + 1}
    assert (shown["alpha"], shown["lr"], shown["data"], shown["decoder_bias"]) == (
        "52.0",
        "0.25",
        "-",
        "True",
    )
    assert not list(tmp_path.iterdir())


def test_compare_takes_a_folder_of_runs(capsys, trained):
    status, out, _ = run(capsys, "compare", trained[1].parent, "--json")
    assert status == 0
    found = {folder for row in json.loads(out) for folder in row["runs"]}
    assert {str(folder) for folder in trained} <= found


def test_compare_leaves_out_and_names_runs_without_a_finished_epoch(capsys, trained, tmp_path):
    shutil.copytree(trained[1], tmp_path / "run")
    (tmp_path / "begun").mkdir()
    shutil.copy(trained[1] / "config.json", tmp_path / "begun")
    status, out, err = run(capsys, "compare", tmp_path, "--json")
    assert status == 0
    assert [row["runs"] for row in json.loads(out)] == [[str(tmp_path / "run")]]
    assert err == f"note: {tmp_path / 'begun'} is left out: it has no result of an epoch\n"
    assert run(capsys, "compare", tmp_path / "begun")[0] == 2


def test_generate_is_repeatable_and_never_writes_unk(capsys, trained):
    arguments = ("generate", trained[1], "the cat", "--words", "50", "--temperature", "3")
    status, out, _ = run(capsys, *arguments)
    assert status == 0
    assert out.startswith(("the cat ", "the cat\n"))
    assert not any(line.endswith(" ") for line in out.splitlines())
    assert "<unk>" not in out
    assert run(capsys, *arguments)[1] == out
    assert run(capsys, *arguments, "--seed", "2")[1] != out


def test_analyze_shows_the_distance(capsys, trained):
    untied, real = trained
    assert json.loads(run(capsys, "analyze", untied, "--json")[1])["subspace_distance"] > 0.1
    status, out, _ = run(capsys, "analyze", real, "cat")
    assert status == 0
    assert "subspace distance of L^T and W  0.0000" in out
    assert "cat " in out


def test_info_names_versions_threads_and_processor(capsys):
    status, out, _ = run(capsys, "info", "--json")
    assert status == 0
    assert {"torch", "python", "processor", "threads", "device"} <= json.loads(out).keys()


def test_info_measures_the_ways_of_products_and_shows_the_choice(capsys, monkeypatch):
    monkeypatch.setattr(hardware, "WIDTHS", (40,))
    monkeypatch.setattr(kinds, "_LEAST_PRODUCT", 0)
    monkeypatch.setattr(routes, "_choices", {})
    monkeypatch.setattr(routes, "_SECONDS", 0)
    status, out, _ = run(capsys, "info", "--measure", "--json")
    assert status == 0
    rows = [row for row in json.loads(out)["products"] if row["in"] == "library"]
    assert [row["product"] for row in rows] == [
        "scores", "gradient of hidden", "gradient of the classifier", "input of a layer",
        "recurrent step", "recurrent step, backward",
    ]  # fmt: skip
    for row in rows:
        assert row["route"] in row["milliseconds"]
        assert row["errors"][row["route"]] < routes.FP32_LEVEL
    status, text, _ = run(capsys, "info", "--measure")
    assert status == 0
    for row in rows:  # the times that are kept: nothing is measured again
        times = row["milliseconds"]
        shown = next(line for line in text.splitlines() if f"| {row['product']} |" in line)
        assert f"| {row['route']} |" in shown
        assert all(f"| {time:.2f} |" in shown for time in times.values())
    table, legend = text.split("\nused by  ")
    heading = next(line for line in table.splitlines() if "made by" in line)
    columns = {cell.strip().removesuffix(", ms") for cell in heading.strip(" |").split("|")}
    assert {name for name in columns - {"product"} if name not in f"used by{legend}"} == set()


def test_info_shows_networks_or_measurements_and_refuses_both(capsys):
    status, out, err = run(capsys, "info", "--networks", "--measure")
    assert (status, out) == (2, "")
    assert "--networks and --measure" in err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["trian"], "Did you mean \"train\""),
        (["train"], "which recipe?"),
        (["train", "small-real", "--data", "{corpus}", "--out", "{corpus}"], "holds other files"),
        (["demo", "--jobs", "0"], "--jobs: expected at least 1"),
        (["export", "none", "--to", "hf"], "write --to hf FOLDER or --to onnx FOLDER"),
        (["export", "none", "--to", "hf", "--out", "x"], "write --to hf FOLDER"),
        (["export", "none", "--out", "x"], "write --to hf FOLDER"),
        (["export", "none", "--to", "hf", "there"], "none is not a run folder"),
        (["train", "small-reel", "--data", "x"], "did you mean 'small-real'"),
        (["train", "small-real"], "give --data"),
        (["train", "small-real", "--data", "ptv"], "did you mean 'ptb'"),
        (["train", "small-real", "--lrr", "1"], "Did you mean"),
        (["train", "small-real", "--lr", "fast"], "unable to convert \"fast\" into float"),
        (["train", "small-real", "--epochs", "many"], "--epochs"),
        (["train", "small-real", "--epochs", "3.5"], "expected a whole number, got '3.5'"),
        (["train", "small-real", "--vocab-size", "99.5"], "expected a whole number, got '99.5'"),
        (["demo", "--jobs", "1.5"], "expected a whole number, got '1.5'"),
        (["evaluate", "{run}", "--window", "2.5"], "expected a whole number, got '2.5'"),
        (["generate", "{run}", "--words", "1.5"], "expected a whole number, got '1.5'"),
        (["train", "small-real", "--lr", "-1"], "--lr"),
        (["train", "small-real", "--dropout-hidden", "1"], "--dropout-hidden"),
        (["train", "small-real", "--precision", "fp8"], "--precision"),
        (["train", "small-real", "--data", "{corpus}", "--device", "gpu"], "--device gpu"),
        (["train", "small-real", "--data", "{corpus}", "--batch-size", "4000"], "too few"),
        (["train", "small-real", "--data", "{corpus}", "--out", "{empty}", "--resume"], "--resume"),
        (["evaluate", "{empty}"], "is not a run folder"),
        (["evaluate", "{run}", "--split", "tset"], "--split"),
        (["evaluate", "{run}", "--window", "0"], "--window"),
        (["evaluate", "{run}", "--mc", "0"], "--mc"),
        (["evaluate", "{run}", "--mc", "2", "--window", "5"], "--mc last for the run's --bptt"),
        (["evaluate", "{run}", "--seed", "2"], "--seed needs --mc"),
        (["evaluate", "{run}", "--mc", "2", "--seed", "99999999999999999999"], "a 64-bit integer"),
        (["evaluate", "{run}", "--data", "nowhere.txt"], "nowhere.txt does not exist"),
        (["evaluate", "{run}", "my.txt"], "`tiedlm score RUN FILE` gives the perplexity"),
        (["train", "small-real", "{corpus}"], "to train on your own text, give --data"),
        (["train", "small-real", "--quiet", "true"], "see `tiedlm train --help`"),
        (["train", "small-real", "--seed", "99999999999999999999"], "a 64-bit integer"),
        (["train", "small-real", "--lr", "1e300"], "--lr (setting 'lr'): expected a number"),
        (["train", "small-real", "--init-range", "1e39"], "--init-range"),
        (["train", "small-real", "--threads", "99999999999"], "at most 4096"),
        (["train", "small-real", "--data", "{corpus}", "--device", "meta"], "--device meta"),
        (["train", "small-re", "--soft-target", "uniform"],
         "--soft-target uniform needs --alpha above 0"),
        (["train", "small-real", "--data", "{corpus}", "--skip", "0.5", "--fraction", "0.9"],
         "reach past the end"),
        (["train", "small-real", "--data", "{corpus}", "--init-from", "{run}"],
         "has d_embed 12, this run 200"),
        (["predict", "{run}", "the", "president"], "in one pair of quotes"),
        (["predict", "{run}", "the", "-k", "3"], "--top gives the number of words; write --"),
        (["predict", "the cat", "{run}"], "{run} is a run folder; the run comes first: `tiedlm"),
        (["generate", "the", "{run}"], "the run comes first: `tiedlm generate {run} the`"),
        (["train", "{corpus}", "--data", "small-real"],
         "to train on your own text, give --data {corpus}: `tiedlm train small-real --data"),
        (["train", "small-real", "--data", "{run}"], "{run} is a run folder, not a text"),
        (["data", "check", "{run}"], "is a run folder, not a text; give the text itself"),
        (["predict", "{run}", "-- and"], "write -- before a context that begins with -"),
        (["generate", "{run}", "-lrb- the"], "write -- before a context that begins with -"),
        (["score", "{run}"], "see `tiedlm score --help`"),
        (["compare"], "at least one run folder"),
        (["trian"], 'Did you mean "train"?'),
        (["xyzzy"], "see `tiedlm --help`"),
        (["compare", "{empty}"], "is not a run folder"),
        (["predict", "{empty}", "a b"], "is not a run folder"),
        (["predict", "{run}", "a b", "--top", "0"], "--top"),
        (["generate", "{run}", "--temperature", "-1"], "--temperature"),
        (["generate", "{run}", "--words", "0"], "--words"),
        (["analyze", "{run}", "xylophone"], "'xylophone' is not among"),
        (["predict", "x" * 400, "the"], "the name is too long; choose a shorter one"),
        (["export", "{run}", "--to", "hf", "b\udcffd"], "not UTF-8: transformers cannot read"),
        (["export", "{run}", "--to", "onnx", "b\udcffd"], "not UTF-8: onnxruntime cannot read"),
        (["reproduce", "table1", "--out", "b\udcffd"], "not UTF-8: config.json cannot hold"),
        (["score", "{run}", "{corpus}/test.txt", "--out", "{run}/vocabulary.txt"], "an input of"),
        (["data", "check", "/dev/null"], "is a pipe or a device; save the text as a file"),
    ],
    ids=lambda value: ascii(" ".join(value)) if isinstance(value, list) else "",
)  # fmt: skip
def test_a_mistake_is_one_line_and_exit_2(
    capsys, trained, tiny_corpus, tmp_path, monkeypatch, arguments, expected
):
    monkeypatch.chdir(tmp_path)
    places = {"run": trained[1], "corpus": tiny_corpus, "empty": tmp_path / "empty"}
    (tmp_path / "empty").mkdir()
    status, out, err = run(capsys, *(argument.format(**places) for argument in arguments))
    assert status == 2
    assert out == ""
    assert err.startswith("tiedlm: error: ")
    assert err.count("\n") == 1
    assert expected.format(**places) in err
    assert not list(tmp_path.glob("runs/*/*")), "something was left behind"


@pytest.mark.parametrize("name", ["config.json", "result.json"])
@pytest.mark.parametrize(
    "text",
    ["[]", "{}", '{"settings": {}, "corpus": {}}', "3", "[" * 99_999, '{"a": 1, "a": 2}'],
    ids=lambda text: text[:40],
)
def test_a_malformed_configuration_or_result_is_one_line(capsys, trained, tmp_path, name, text):
    folder = tmp_path / "run"
    shutil.copytree(trained[1], folder)
    (folder / name).write_text(text)
    commands = [["compare"], ["export", "--to", "hf", tmp_path / "hf", "--no-check"]]
    if name == "config.json":
        commands += [["predict"], ["score"], ["evaluate"]]
    for command, *options in commands:
        more = {"predict": ["the"], "score": [trained[1] / "config.json"]}.get(command, [])
        if (command, text) == ("compare", '{"settings": {}, "corpus": {}}') and name[0] == "c":
            continue  # compare needs no more than these two keys
        status, _, err = run(capsys, command, folder, *more, *options)
        assert status == 2, (command, err)
        assert name in err
        assert err.count("\n") == 1


@pytest.mark.parametrize("value", [10**400, -(10**400), 10**30, 10**12, 8.5, "8", [], None])
@pytest.mark.parametrize("name", ["d_hidden", "n_layers", "vocab_size", "dropout_input"])
def test_a_model_that_cannot_be_built_is_one_line(capsys, trained, tmp_path, name, value):
    for file in ("config.json", "vocabulary.txt", "model.safetensors"):
        shutil.copy(trained[1] / file, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["model"][name] = value
    (tmp_path / "config.json").write_text(json.dumps(config))
    status, _, err = run(capsys, "predict", tmp_path, "the")
    assert (status, err.count("\n")) == (2, 1), err
    assert "config.json" in err


def test_names_with_brackets_are_shown_as_they_are(capsys, trained, tmp_path):
    folder = tmp_path / "mine[v2]"
    shutil.copytree(trained[1], folder)
    assert "mine[v2]" in run(capsys, "compare", folder)[1]


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes")
def test_a_run_whose_name_is_not_utf8_is_read_and_named_byte_for_byte(
    capfdbinary, trained, tmp_path, monkeypatch
):
    folder = tmp_path / "b\udcffd"
    shutil.copytree(trained[1], folder)
    with open(os.dup(1), "w", encoding="utf-8") as stdout, monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", stdout)
        for command in (["predict", folder, "the"], ["analyze", folder], ["compare", folder]):
            assert run(capfdbinary, *command)[::2] == (0, b"")
        print(folder.name, file=stdout, flush=True)
    assert capfdbinary.readouterr().out == b"b\xffd\n"


@pytest.mark.parametrize(
    ("command", "has_out"), [(["predict", "{run}", "the"], False), (["score", "{run}", "-"], True)]
)
def test_a_character_that_standard_output_lacks_is_named_with_what_helps(
    capfd, trained, monkeypatch, command, has_out
):
    def fails(*_, **__):
        "\N{SNOWMAN}".encode("ascii")

    monkeypatch.setattr("tiedlm.cli.models.load_model", fails)  # in place of printing
    status, _, err = run(capfd, *(word.format(run=trained[0]) for word in command))
    assert status == 2
    assert "standard output is ascii, which has no '\N{SNOWMAN}'; set PYTHONIOENCODING" in err
    assert ("--out" in err) == has_out


@pytest.mark.skipif(not os.path.exists("/bin/sh"), reason="needs a shell")
def test_closed_standard_streams_are_handled(trained, tiny_corpus, tmp_path):
    def shell(line):
        return subprocess.run(
            ["/bin/sh", "-c", f'exec "$0" -m tiedlm {line}', sys.executable],
            capture_output=True, text=True, check=False,
        )  # fmt: skip

    score = f"score {trained[1]} {tiny_corpus}/test.txt"
    plain = shell(score)
    assert shell(f"{score} 2>&-").stdout == plain.stdout  # without the summary after it
    assert shell("train --list >&-").returncode == 0
    empty = shell(f"score {trained[1]} - <&-")
    assert (empty.returncode, empty.stderr.count("\n")) == (2, 1)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_command_ends_as_usual_if_its_notes_and_progress_cannot_be_written(tiny_corpus, tmp_path):
    command = [sys.executable, "-m", "tiedlm", "train", "small", "--data", tiny_corpus, *TINY]
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*command, "--out", tmp_path / "run"],
            stdout=subprocess.PIPE, stderr=full, check=False,
        )  # fmt: skip
        mistake = subprocess.run([*command, "--lr=-1"], stderr=full, check=False)
    assert (done.returncode, mistake.returncode) == (0, 2)
    assert b"validation perplexity" in done.stdout


@pytest.mark.skipif(os.name != "posix", reason="a pipe is no file there")
@pytest.mark.parametrize(
    "command", [["compare", "{run}"], ["score", "{run}", "{text}", "--unk-list", "{list}"]]
)
def test_a_command_whose_reader_is_gone_ends_silently(trained, tiny_corpus, tmp_path, command):
    names = {"run": trained[1], "text": tiny_corpus / "test.txt", "list": tmp_path / "list"}
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "tiedlm", *(word.format(**names) for word in command)],
        stdout=writer, stderr=subprocess.PIPE, check=False,
    )  # fmt: skip
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")
    assert not names["list"].exists()


@pytest.mark.skipif(os.geteuid() == 0 and not os.path.exists("/proc"), reason="needs /proc")
def test_a_folder_that_cannot_be_written_is_named(capsys, tiny_corpus):
    status, _, err = run(
        capsys, "train", "small-real", "--data", tiny_corpus, "--out", "/proc/run", *TINY
    )
    assert status == 2
    assert err.count("\n") == 1
    assert "/proc/run" in err


def test_adam_with_the_rate_of_sgd_is_noted(capsys, tiny_corpus, tmp_path):
    common = ["train", "small", "--data", tiny_corpus, "--optimizer", "adam", "--epochs", "1"]
    sizes = ["--d-embed", "8", "--d-hidden", "8", "--quiet"]
    _, _, err = run(capsys, *common, *sizes, "--lr", "0.01", "--out", tmp_path / "fine")
    assert "too large" not in err
    _, _, err = run(capsys, *common, *sizes, "--lr", "1", "--out", tmp_path / "large")
    assert "--lr 1 is far too large for adam; 0.003 is usual" in err


def test_a_gpu_that_is_too_small_is_one_line(capsys, tiny_corpus, tmp_path, monkeypatch):
    def too_small(*arguments, **more):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")

    monkeypatch.setattr("tiedlm.training.loop.train", too_small)
    arguments = ["--data", tiny_corpus, "--out", tmp_path / "run", *TINY]
    status, _, err = run(capsys, "train", "small", *arguments)
    assert (status, err.count("\n")) == (2, 1)
    assert "give a smaller --batch-size, or --accumulate" in err
