"""The page shows what the package's own functions and commands compute."""

import csv
import io
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("starlette")
pytest.importorskip("plotly")

from tests_support import run_command
from tiedlm import augmented_cross_entropy
from tiedlm.analysis.predictions import jensen_shannon, next_distribution, next_words
from tiedlm.analysis.projection import principal_components
from tiedlm.errors import UserError
from tiedlm.evaluation.subspace import describe_geometry, nearest_words
from tiedlm.files import read_json, write_json
from tiedlm.training.run import save_weights
from tiedlm.web.runs import names_of, open_runs
from tiedlm.web.views import VIEWS
from web_support import WORDS, Page, make_run, write_curve

OTHER = ("<eos>", "<unk>", "the", "cat", "moon", "sees")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    models = {
        "untied": make_run(folder / "untied"),
        "tied": make_run(folder / "tied", tied=True, seed=1, d_hidden=8, decoder_bias=True),
        "other": make_run(folder / "other", OTHER, seed=2, raw=True),
    }
    return folder, models, Page(*(folder / name for name in models))


def context(model, text):
    return model.vocabulary.encode(["<eos>", *text.split()])


def test_next_words_are_those_of_predict_with_entropy_and_rank(runs):
    _, models, page = runs
    answer = page.ask("words", text="the cat ", runs=["untied"], top=4)
    model = models["untied"]
    expected = next_words(model, context(model, "the cat"), 4)
    assert [row["word"] for row in answer["rows"]] == [one.word for one in expected]
    for place, (row, one) in enumerate(zip(answer["rows"], expected, strict=True), start=1):
        assert row["cells"][0]["p"] == pytest.approx(one.probability, rel=1e-5)
        assert row["cells"][0]["rank"] == place
        assert row["ratio"] is None
    p = next_distribution(model, context(model, "the cat")).double()
    entropy = -float((p * p.log2()).sum())
    assert answer["runs"][0]["entropy"] == pytest.approx(entropy, rel=1e-5)
    assert answer["runs"][0]["choices"] == pytest.approx(2**entropy, rel=1e-5)
    assert answer["apart"] is None


def test_models_are_side_by_side_with_their_disagreement(runs):
    _, models, page = runs
    answer = page.ask("words", text="the ", top=20, order="disagreement")
    ratios = [row["ratio"] or 0 for row in answer["rows"]]
    assert ratios == sorted(ratios, reverse=True)
    assert {row["word"] for row in answer["rows"]} == {*WORDS, *OTHER}
    ps = [next_distribution(model, context(model, "the")) for model in models.values()]
    row = next(row for row in answer["rows"] if row["word"] == "cat")
    values = [cell["p"] for cell in row["cells"]]
    assert values == pytest.approx([float(p[3]) for p in ps], rel=1e-5)
    assert row["ratio"] == pytest.approx(max(values) / min(values))
    moon = next(row for row in answer["rows"] if row["word"] == "moon")
    assert [cell is None for cell in moon["cells"]] == [True, True, False]
    assert answer["apart"]["runs"] == ["untied", "tied"]  # the third has other words
    assert answer["apart"]["bits"] == pytest.approx(jensen_shannon(ps[0], ps[1]), rel=1e-4)


def test_a_word_is_looked_up_whatever_its_rank(runs):
    _, _, page = runs
    answer = page.ask("words", text="the ", top=1, runs=["untied"], word="today")
    row = next(row for row in answer["rows"] if row["word"] == "today")
    assert 1 <= row["cells"][0]["rank"] <= len(WORDS)
    unknown = page.ask("words", text="the ", top=1, runs=["untied"], word="zebra")["rows"]
    assert next(row for row in unknown if row["word"] == "zebra")["cells"] == [None]


def test_pieces_have_rows_of_their_own_and_are_found_as_words(tmp_path):
    pieces = ("<eos>", "<unk>", "cat", "\u2581cat", "\u2581dog", "\u2581dogs", "s")
    make_run(tmp_path / "words", ("<eos>", "<unk>", "cat", "dog", "s"))
    make_run(tmp_path / "pieces", pieces)
    page = Page(tmp_path / "words", tmp_path / "pieces")
    assert [run["pieces"] for run in page.ask("runs")] == [False, True]
    answer = page.ask("words", text="", top=10, word="cat")
    of_cat = [row["cells"] for row in answer["rows"] if row["word"] == "cat"]
    assert sorted([cell is None for cell in cells] for cells in of_cat) == [
        [False, True], [True, False]
    ]  # fmt: skip
    assert all(row["ratio"] is None for row in answer["rows"])
    (of_dog,) = page.ask("neighbours", word="Dog", runs=["pieces"])["runs"]
    assert of_dog["word"] == "\u2581dog"
    (of_do,) = page.ask("neighbours", word="do", runs=["pieces"])["runs"]
    assert of_do["suggestions"] == ["\u2581dog", "\u2581dogs"]


@pytest.mark.parametrize(
    ("text", "read", "unknown", "unfinished"),
    [
        ("", 0, [], ""),
        ("the cat", 2, [], ""),
        ("the ca", 1, [], "ca"),
        ("the zebra ", 2, ["zebra"], ""),
        ("  the\tzebra\nsees   ", 3, ["zebra"], ""),
    ],
)
def test_a_text_is_read_up_to_the_word_that_is_being_typed(runs, text, read, unknown, unfinished):
    _, models, page = runs
    (run,) = page.ask("words", text=text, runs=["untied"])["runs"]
    assert (run["read"], run["unknown"], run["unfinished"]) == (read, unknown, unfinished)
    model = models["untied"]
    words = text.split()[:-1] if unfinished else text.split()
    p = next_distribution(model, context(model, " ".join(words))).double()
    assert run["entropy"] == pytest.approx(-float((p * p.log2()).sum()), rel=1e-5)


def test_a_word_that_is_being_typed_is_not_unknown_yet(tmp_path):
    make_run(tmp_path / "run", ("<eos>", "the", "cat"))  # without <unk>
    page = Page(tmp_path / "run")
    run = page.one("words", text="the ca")
    assert (run["read"], run["unfinished"]) == (1, "ca")
    assert "'ca' is not in the vocabulary" in page.one("words", text="the ca ")["error"]


def test_raw_text_is_split_as_the_corpus_was(runs):
    _, models, page = runs
    (run,) = page.ask("words", text="The cat sees. The ", runs=["other"])["runs"]
    model = models["other"]
    ids = model.vocabulary.encode(["<eos>", "the", "cat", "sees", ".", "<eos>", "the"])
    p = next_distribution(model, ids).double()
    assert run["entropy"] == pytest.approx(-float((p * p.log2()).sum()), rel=1e-5)
    assert run["unknown"] == ["."]


def test_what_is_typed_word_by_word_is_read_as_the_whole_text(runs):
    folder, _, _ = runs
    page = Page(folder / "untied")
    typed = "the cat sees the dog now "
    entropies = {}
    for end in [*range(len(typed) + 1), *range(len(typed), 0, -4)]:  # and back again
        text = typed[:end]
        found = page.one("words", text=text)["entropy"]
        assert entropies.setdefault(text, found) == pytest.approx(found, rel=1e-5)
    for text in ("the cat ", "the cat sees the ", typed):
        again = Page(folder / "untied")
        assert again.one("words", text=text)["entropy"] == pytest.approx(entropies[text], rel=1e-5)


def test_only_the_last_words_of_a_long_text_are_read(runs):
    _, _, page = runs
    long = page.ask("words", text="cat " * 40_000, runs=["untied"])["runs"][0]
    assert (long["read"], long["left_out"]) == (200, 39_800)


@pytest.mark.parametrize("name", ["untied", "tied"])
@pytest.mark.parametrize(("tau", "gamma"), [(20.0, 0.65), (0.5, 2.0), (3.0, 0.0)])
def test_the_soft_target_and_the_push_are_those_of_the_equations(runs, name, tau, gamma):
    _, models, page = runs
    model = models[name]
    question = {"word": "dog", "text": "the cat ", "temperature": tau, "gamma": gamma, "top": 50}
    (run,) = page.ask("target", runs=[name], **question)["runs"]
    hidden, _ = model(torch.from_numpy(context(model, "the cat")).long()[None])
    projected = model.decoder.project(hidden[0, -1]).detach()
    z = (model.decoder.weight @ projected).detach().double().numpy()
    rows_L = model.embedding.weight.detach().double().numpy()

    def softmax(x):
        e = np.exp(x - x.max())
        return e / e.sum()

    soft, prediction = softmax(rows_L @ rows_L[4] / tau), softmax(z / tau)
    p = softmax(z + model.decoder.bias.detach().double().numpy())
    push = -(p - np.eye(len(p))[4] + gamma * (prediction - soft))
    by_word = {row["word"]: row for row in run["rows"]}
    assert len(by_word) == len(WORDS)
    for index, word in enumerate(WORDS):
        row = by_word[word]
        assert row["soft"] == pytest.approx(soft[index], rel=1e-4)
        assert row["prediction"] == pytest.approx(prediction[index], rel=1e-4)
        assert row["p"] == pytest.approx(p[index], rel=1e-4)
        assert row["push"] == pytest.approx(push[index], abs=1e-6)
        assert row["is_target"] is (word == "dog")
    vectors = model.embedding.weight.detach().double()
    expected = augmented_cross_entropy(
        projected.double()[None], model.decoder.weight.detach().double(), torch.tensor([4]),
        bias=model.decoder.bias.detach().double(), embedding=vectors,
        alpha=gamma * tau, temperature=tau,
    )  # fmt: skip
    assert run["total"] == pytest.approx(float(expected.loss), rel=1e-4)
    assert run["ce"] == pytest.approx(float(expected.ce), rel=1e-4)
    assert run["entropy"] == pytest.approx(-(soft * np.log2(soft)).sum(), rel=1e-4)


def test_the_curves_of_the_soft_target_pass_through_its_table(runs):
    _, _, page = runs
    (run,) = page.ask("target", runs=["untied"], word="cat", temperature=1.0)["runs"]
    at = run["temperatures"].index(1.0)
    for curve in run["curves"]:
        row = next(row for row in run["rows"] if row["word"] == curve["word"])
        assert curve["values"][at] == pytest.approx(row["soft"], rel=1e-6)
    # A high temperature gives every word an equal share.
    assert run["curves"][0]["values"][-1] == pytest.approx(1 / len(WORDS), rel=0.1)


@pytest.mark.parametrize("view", ["target", "neighbours", "map"])
def test_an_unknown_word_brings_those_that_begin_alike(runs, view):
    _, _, page = runs
    page.wait(lambda: "pending" not in page.ask(view, runs=["untied"])["runs"][0])
    (run,) = page.ask(view, runs=["untied"], word="t")["runs"]
    assert run["missing"] == "t"
    assert run["suggestions"] == ["the", "today"]
    (run,) = page.ask(view, runs=["untied"], word="CAT")["runs"]
    assert "missing" not in run  # lower case is known


def test_neighbours_are_nearest_in_each_matrix(runs):
    _, models, page = runs
    untied, tied = page.ask("neighbours", word="cat", runs=["untied", "tied"], top=3)["runs"]
    for run, name in ((untied, "untied"), (tied, "tied")):
        expected = nearest_words(models[name], "cat", 3)
        assert [one["word"] for one in run["lists"]["L"]] == [word for word, _ in expected]
        found = [one["cosine"] for one in run["lists"]["L"]]
        assert found == pytest.approx([cosine for _, cosine in expected], abs=1e-5)
    W = models["untied"].decoder.weight.detach().double()
    cosines = torch.nn.functional.cosine_similarity(W, W[3][None])
    order = [WORDS[i] for i in cosines.argsort(descending=True).tolist()][1:4]
    assert [one["word"] for one in untied["lists"]["W"]] == order
    in_both = {one["word"] for one in untied["lists"]["L"]} & set(order)
    assert set(untied["shared"]) == in_both
    assert tied["tied"]
    assert "W" not in tied["lists"]


def test_the_map_has_the_principal_components(runs):
    _, models, page = runs
    found = []
    for space, matrix in (
        ("L", models["untied"].embedding.weight),
        ("W", models["untied"].decoder.weight),
    ):
        question = {"space": space, "word": "dog", "count": 10, "runs": ["untied"]}
        run = page.one("map", **question)
        expected = principal_components(matrix)
        places = np.array(run["places"]).T
        largest = float(expected.coordinates_VK.abs().max())
        np.testing.assert_allclose(places, expected.coordinates_VK, atol=1e-4 * largest)
        assert run["shares"] == pytest.approx(expected.shares)
        assert run["found"][0] == "dog"
        dog = [column[WORDS.index("dog")] for column in run["places"]]
        assert [column[0] for column in run["found_places"]] == dog
        again = page.one("map", **(question | {"count": 0}))  # the page has the places
        assert again == run | {"words": [], "places": [[], []]}
        found.append(run["places"])
    assert found[0] != found[1]


def test_angles_are_those_of_analyze(runs):
    _, models, page = runs
    for name in ("untied", "tied"):
        expected = describe_geometry(models[name], ["cat"])
        del expected["neighbours"]
        assert page.one("angles", runs=[name]) == {"name": name, **expected}


def test_curves_are_those_of_the_run_and_grow_with_it(tmp_path):
    make_run(tmp_path / "run", epochs=3, finished=False)
    page = Page(tmp_path / "run")
    run = page.one("training")
    assert [line["valid_ppl"] for line in run["curve"]] == [180.0, 90.0, 60.0]
    assert (run["best"], run["best_epoch"], run["test"]) == (60.0, 3, None)
    assert run["state"] == "running"
    write_curve(tmp_path / "run", 4)
    assert len(page.one("training")["curve"]) == 4


def test_runs_whose_perplexities_can_be_compared_have_the_same_text(tmp_path):
    for name, words in (("a", WORDS), ("b", OTHER), ("c", WORDS)):
        make_run(tmp_path / name, words)
    config = tmp_path / "damaged" / "config.json"
    make_run(config.parent)
    write_json(config, read_json(config) | {"corpus": {"parts": [1]}})
    page = Page(*(tmp_path / name for name in ("a", "b", "c", "damaged")), wait=False)
    *texts, damaged = page.ask("training")["runs"]
    assert [run["text"] for run in texts] == [0, 1, 0]
    assert "has no valid 'corpus'" in damaged["error"]


def test_the_perplexity_of_pieces_is_per_word_as_in_compare(tmp_path):
    folder = tmp_path / "run"
    make_run(folder)
    parts = {"train": {"tokens": 300, "words": 200}, "valid": {"words": 9}, "test": {"words": 9}}
    config = read_json(folder / "config.json")
    config["corpus"] |= {"pieces": {}, "parts": parts}
    write_json(folder / "config.json", config)
    line = {"epoch": 1, "train_ppl": 100.0, "valid_ppl": 20.0, "word_perplexity": 90.0,
            "tokens_per_second": 300.0}  # fmt: skip
    (folder / "metrics.jsonl").write_text(json.dumps(line))
    result = read_json(folder / "result.json")
    write_json(folder / "result.json", result | {"test_word_perplexity": 95.0})
    (run,) = Page(folder, wait=False).ask("training")["runs"]
    (shown,) = run["curve"]
    assert shown["train_ppl"] == pytest.approx(1000)  # 100 ** (300 / 200)
    assert shown["tokens_per_second"] == pytest.approx(200)
    assert (shown["valid_ppl"], run["best"], run["test"]) == (90, 90, 95)
    assert run["per_word"]


def test_a_strangers_metrics_are_no_numbers_of_ours(tmp_path):
    make_run(tmp_path / "run")
    metrics = tmp_path / "run" / "metrics.jsonl"
    metrics.write_text(
        '{"epoch": "<b>", "valid_ppl": 5, "lr": [1], "tokens_per_second": 1e400}\n'
        '{"epoch": 2, "valid_ppl": NaN, "train_ppl": true}\n'
    )
    page = Page(tmp_path / "run")
    (run,) = page.ask("training")["runs"]
    assert run["curve"][0]["epoch"] is None
    assert [line["valid_ppl"] for line in run["curve"]] == [5.0, None]
    assert {line["train_ppl"] for line in run["curve"]} == {None}
    metrics.write_text("half a li")
    assert "is damaged" in page.ask("training")["runs"][0]["error"]


def scored_by_command(capsys, folder, text, tmp_path):
    (tmp_path / "text.txt").write_text(text, encoding="utf-8")
    command = ["score", folder, tmp_path / "text.txt", "--precision", "fp32"]
    status, table, err = run_command(capsys, *command)
    assert status == 0, err
    return table, err


@pytest.mark.parametrize("name", ["untied", "other"])
def test_the_table_is_that_of_score(runs, capsys, tmp_path, name):
    folder, _, page = runs
    text = "the cat sees the zebra\n\ndog dog hears . The cat .\n" + "the cat " * 200 + "\nnow\n"
    text += "the\u2028cat\x0csees\n"  # marks that end no line
    *steps, last = page.ask("surprisal", text=text, runs=[name])
    table, err = scored_by_command(capsys, folder / name, text, tmp_path)
    ours, theirs = (
        list(csv.reader(io.StringIO(t), delimiter="\t")) for t in (last["table"], table)
    )
    assert len(ours) == len(theirs) > 400
    for one, other in zip(ours, theirs, strict=True):
        for mine, its in zip(one, other, strict=True):
            if "." in its and its[-1].isdigit():
                assert float(mine) == pytest.approx(float(its), abs=2e-3)
            else:
                assert mine == its
    words = [word for step in steps for word in step["words"]]
    assert [word[0] for word in words] == [row[2] for row in theirs[1:]]
    assert [word[4] for word in words] == [int(row[3]) for row in theirs[1:]]
    bits = [word[1] for word in words]
    assert bits == pytest.approx([float(row[4]) for row in theirs[1:]], abs=2e-3)
    assert last["summary"].partition(";")[0] in err


def test_a_long_line_is_answered_in_steps(runs):
    _, _, page = runs
    answers = page.ask("surprisal", text="cat " * 25_000, runs=["untied"])  # 100 kB
    assert len(answers) > 100
    assert sum(len(answer["words"]) for answer in answers) == 25_001
    assert answers[-1]["table"].count("\n") == 25_002


def test_pairs_are_those_of_pairs(runs, capsys, tmp_path):
    folder, _, page = runs
    good = ["the cat sees", "dog hears the fish", "the zebra"]
    bad = ["cat the sees", "the dog fish", "the moon"]
    (run,) = page.ask("pairs", good=good, bad=bad, runs=["untied"])["runs"]
    table = tmp_path / "pairs.tsv"
    table.write_text("good\tbad\n" + "".join(f"{a}\t{b}\n" for a, b in zip(good, bad, strict=True)))
    out = tmp_path / "out.tsv"
    assert run_command(capsys, "pairs", folder / "untied", table, "--out", out)[0] == 0
    rows = list(csv.DictReader(io.StringIO(out.read_text()), delimiter="\t"))
    for pair, row in zip(run["pairs"], rows, strict=True):
        assert pair["good"] == pytest.approx(float(row["good"]), abs=1e-4)
        assert pair["difference"] == pytest.approx(float(row["difference"]), abs=1e-4)
        assert pair["correct"] is (row["correct"] == "1")
        assert pair["tie"] is (row["tie"] == "1")
    assert run["pairs"][2]["unknown_only"]
    assert run["correct"] == sum(pair["correct"] for pair in run["pairs"])
    assert run["judged"] == 3
    assert run["interval"][0] < run["correct"] / 3 < run["interval"][1]


def test_a_sentence_without_words_spoils_only_its_own_pair(runs):
    _, _, page = runs
    (run,) = page.ask("pairs", good=["the cat", " "], bad=["cat the", "x"], runs=["untied"])["runs"]
    assert "error" not in run["pairs"][0]
    assert "has no words" in run["pairs"][1]["error"]
    assert run["judged"] == 1


def test_only_a_pair_that_changed_is_read_again(runs, monkeypatch):
    from tiedlm.web.views import pairs as view

    read = []

    def seen(model, vocabulary, pairs, **options):
        read.append([pair.good for pair in pairs])
        return score_pairs(model, vocabulary, pairs, **options)

    score_pairs = view.score_pairs
    monkeypatch.setattr(view, "score_pairs", seen)
    folder, _, _ = runs
    page = Page(folder / "untied")
    good, bad = ["the cat", "dog dog", "the cat"], ["cat the", "fish", "cat the"]
    before = page.one("pairs", good=good, bad=bad)["pairs"]
    assert read == [["the cat", "dog dog", "the cat"]]
    good[1] = "dog now"
    after = page.one("pairs", good=good, bad=bad)["pairs"]
    assert read[1:] == [["dog now"]]
    assert after[0] == before[0] == after[2]
    assert after[1]["bad"] == pytest.approx(before[1]["bad"], abs=1e-4)
    assert after[1]["good"] != before[1]["good"]


def test_the_soft_target_of_another_word_is_that_of_a_fresh_page(runs):
    folder, _, _ = runs
    page = Page(folder / "untied")
    for word in ("cat", "dog", "cat"):
        found = page.one("target", word=word, temperature=2.0)
        assert found == Page(folder / "untied").one("target", word=word, temperature=2.0)


def test_a_run_without_a_model_yet_says_so_and_is_there_when_it_has_one(tmp_path):
    make_run(tmp_path / "run", epochs=0, finished=False)
    (tmp_path / "run" / "model.safetensors").rename(tmp_path / "kept")
    page = Page(tmp_path / "run")
    for view in VIEWS:
        if view.name not in ("training", "surprisal"):
            (run,) = page.ask(view.name, word="cat")["runs"]
            assert "has no trained model yet" in run["error"]
    assert "has no trained model yet" in page.ask("surprisal", text="cat")[0]["error"]
    assert page.one("training")["curve"] == []
    shutil.copy(tmp_path / "kept", tmp_path / "run" / "model.safetensors")
    assert page.one("words")["words"] == len(WORDS)


def test_imported_weights_are_not_said_to_be_in_training(tmp_path):
    make_run(tmp_path / "run", finished=False)
    (tmp_path / "run" / "metrics.jsonl").unlink()
    page = Page(tmp_path / "run")
    assert "note" not in page.ask("runs")[0]
    assert page.one("training")["state"] == "no curve"
    (tmp_path / "run" / "model.safetensors").unlink()
    assert page.one("training")["state"] == "waiting"


def test_a_better_model_replaces_the_earlier_one_which_answers_until_then(tmp_path):
    make_run(tmp_path / "run", finished=False)
    page = Page(tmp_path / "run")
    before = page.one("words", text="the ")["entropy"]
    assert "not finished" in page.ask("runs")[0]["note"]
    make_run(tmp_path / "run", seed=5)
    page.wait(lambda: page.one("words", text="the ")["entropy"] != before)
    assert "note" not in page.ask("runs")[0]


def test_a_better_model_changes_the_state_that_the_page_follows(tmp_path):
    make_run(tmp_path / "run", finished=False)
    page = Page(tmp_path / "run")
    before = page.ask("runs")
    assert page.ask("runs") == before
    make_run(tmp_path / "run", seed=5, finished=False)
    page.wait(lambda: page.ask("runs") != before)


def test_a_damaged_file_says_so_and_the_earlier_model_stays(tmp_path):
    make_run(tmp_path / "run")
    page = Page(tmp_path / "run")
    before = page.one("words")["entropy"]
    (tmp_path / "run" / "model.safetensors").write_bytes(b"half a fi")
    for _ in range(5):
        assert page.one("words")["entropy"] == before
    broken = Page(tmp_path / "run")
    assert "is damaged" in broken.one("words")["error"]
    assert "is damaged" in broken.ask("runs")[0]["error"]


def test_a_run_whose_vocabulary_is_copied_last_is_there_when_it_has_it(tmp_path):
    make_run(tmp_path / "run")
    (tmp_path / "run" / "vocabulary.txt").rename(tmp_path / "kept")
    page = Page(tmp_path / "run")
    assert "vocabulary.txt" in page.one("words")["error"]
    shutil.copy(tmp_path / "kept", tmp_path / "run" / "vocabulary.txt")
    assert page.one("words")["words"] == len(WORDS)


def test_a_vanished_run_is_still_shown_and_says_that_it_is_gone(tmp_path):
    make_run(tmp_path / "run")
    page = Page(tmp_path / "run")
    before = page.one("words")["entropy"]
    shutil.rmtree(tmp_path / "run")
    assert page.one("words")["entropy"] == before
    assert "folder is gone" in page.ask("runs")[0]["note"]
    assert "is gone" in page.ask("training")["runs"][0]["error"]


def test_numbers_that_are_not_finite_are_answered_as_none(tmp_path, monkeypatch):
    model = make_run(tmp_path / "run")
    with torch.no_grad():
        model.embedding.weight.fill_(math.nan)
    monkeypatch.setattr("tiedlm.web.runs.load", lambda folder: model)
    page = Page(tmp_path / "run")
    assert page.one("words", text="the ")["entropy"] is None
    for view in ("map", "angles"):
        assert "are not finite: restore the model's file" in page.one(view)["error"]


def test_weights_that_are_not_finite_are_an_error(tmp_path):
    model = make_run(tmp_path / "run")
    with torch.no_grad():
        model.embedding.weight.fill_(math.nan)
    save_weights(model, tmp_path / "run" / "model.safetensors")
    page = Page(tmp_path / "run")
    for view in ("words", "map", "angles"):
        assert "'embedding.weight' has values that are not finite" in page.one(view)["error"]


def test_what_is_no_run_is_refused_at_the_start(tmp_path):
    with pytest.raises(UserError, match="is not a run folder: it has no config"):
        open_runs([tmp_path], None)


def test_names_are_as_short_as_they_can_be(tmp_path):
    a, b = tmp_path / "a" / "run", tmp_path / "b" / "run"
    assert names_of([a, tmp_path / "c"]) == ["run", "c"]
    assert names_of([a, b]) == ["a/run", "b/run"]
    assert len(set(names_of([a, a, b]))) == 3  # the same folder twice
    assert names_of([a, a, b])[1].endswith("a/run (2)")
    assert names_of([Path("/")]) == ["/"]
