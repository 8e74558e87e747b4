"""Every registered network in every command: its contracts with the rest of the package.

A new network adds its name, and options that make it small, to ``NETWORKS``.
"""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

import own_network
from tests_support import kill_when_saved, outcome, run_command, surprisals
from tiedlm import LanguageModel, ModelConfig, load
from tiedlm.cli import main
from tiedlm.data import load_corpus
from tiedlm.evaluation import evaluate, segments
from tiedlm.export.supported import hf_networks as export_networks
from tiedlm.networks import registered
from tiedlm.scoring import surprisal
from tiedlm.training.loop import train
from tiedlm.training.outcomes import Stopped
from tiedlm.training.settings import Settings
from tiedlm.tying import is_tied

NETWORKS = {
    "own": {},
    "awd_lstm": {"dropconnect": 0.2, "dropout_output": 0.1},
    "gru": {},
    "elman": {"activation": "relu"},
    "rhn": {"depth": 2, "dropout_output": 0.2, "transform_bias": 0.0},
    "transformer": {"n_heads": 2, "memory": 7, "dropout_attention": 0.1},
    "encoder": {"n_heads": 2, "d_inner": 10, "context": 6},
}
ATTENTION = ("transformer", "encoder")  # they read a window of words instead of a state
LEARNS_WITH = {
    **{name: {"n_layers": 1, "lr": 1.0} for name in ("awd_lstm", "rhn")},
    **{name: {"d_hidden": 12, "lr": 0.1, "init_range": 0.1} for name in ATTENTION},
}
PROGRAM = [sys.executable, own_network.__file__]
TORCHRUN = [
    sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2",
    own_network.__file__,
]  # fmt: skip
TINY = {
    "d_embed": 12, "d_hidden": 10, "dropout_input": 0.1, "dropout_hidden": 0.2,
    "dropout_words": 0.1, "init_range": 0.3, "temperature": 5.0, "batch_size": 4, "bptt": 5,
    "epochs": 3, "decay_after": 2, "lr": 0.5, "clip": 1.0, "threads": 1,
}  # fmt: skip
VARIANTS = {"small": (False, 0), "small-al": (False, 2), "small-re": (True, 0),
            "small-real": (True, 2)}  # fmt: skip


def flags(network, corpus, out, **changes):
    """Return the arguments of ``train`` after the recipe."""
    settings = TINY | LEARNS_WITH.get(network, {})
    named = {**settings, "network": network, "data": corpus, "out": out, **changes}
    given = [f"--{name.replace('_', '-')}={value}" for name, value in named.items()]
    return [*given, *(f"--option={name}={value}" for name, value in NETWORKS[network].items())]


@pytest.fixture(scope="module", params=NETWORKS)
def network(request):
    return request.param


@pytest.fixture(scope="module")
def runs(network, tiny_corpus, tmp_path_factory):
    """Return a folder with a run of each variant."""
    folder = tmp_path_factory.mktemp(network)
    for recipe, (_, alpha) in VARIANTS.items():
        epochs = 3 if recipe == "small-real" else 1
        arguments = flags(network, tiny_corpus, folder / recipe, alpha=alpha, epochs=epochs)
        main(["train", recipe, *arguments, "--quiet"])
    return folder


@pytest.fixture
def real(runs):
    return runs / "small-real"


def test_every_network_is_here():
    assert set(registered()) - {"lstm"} == set(NETWORKS)


@pytest.mark.parametrize("recipe", VARIANTS)
def test_it_is_trained_as_each_variant_and_its_folder_says_what_it_is(runs, network, recipe):
    _, lines, result = outcome(runs / recipe)
    model = load(runs / recipe)
    assert model.config.network == network
    assert NETWORKS[network].items() <= model.config.options.items()
    assert is_tied(model.embedding, model.decoder) == VARIANTS[recipe][0]
    assert lines[-1]["aug"] > 0 or not VARIANTS[recipe][1]
    assert result["valid_ppl"] < len(model.vocabulary) / (2 if recipe == "small-real" else 1)
    assert result["parameters"] == model.config.num_params() == model.num_params()


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_run_stopped_within_an_epoch_carries_its_state_on(
    network, tiny_corpus, tmp_path, accumulate
):
    corpus = load_corpus(str(tiny_corpus), progress=False)
    settings = Settings(
        data=str(tiny_corpus), network=network, options=NETWORKS[network], tied=True, alpha=2.0,
        accumulate=accumulate, **{**TINY, **LEARNS_WITH.get(network, {}), "epochs": 1},
    )  # fmt: skip
    train(settings, corpus, tmp_path / "whole")
    with pytest.raises(Stopped):
        train(settings, corpus, tmp_path / "parts", should_stop=iter([False] * 7 + [True]).__next__)
    train(settings, corpus, tmp_path / "parts")
    assert outcome(tmp_path / "parts") == outcome(tmp_path / "whole")


@pytest.mark.slow
def test_a_killed_run_goes_on_bit_for_bit(capsys, network, tiny_corpus, tmp_path):
    def command(name, epochs):
        return ["train", "small-real", *flags(network, tiny_corpus, tmp_path / name, epochs=epochs)]

    done = kill_when_saved([*PROGRAM, *command("parts", 1000), "--quiet"], tmp_path / "parts")
    for name in ("parts", "whole"):
        status, _, err = run_command(capsys, *command(name, done + 2))
        assert status == 0, err
    assert outcome(tmp_path / "parts") == outcome(tmp_path / "whole")


@pytest.mark.slow
def test_two_processes_have_the_curve_of_one(capsys, network, tiny_corpus, tmp_path):
    def arguments(name):
        return ["train", "small-real", *flags(network, tiny_corpus, tmp_path / name, epochs=1)]

    assert run_command(capsys, *arguments("one"))[0] == 0
    done = subprocess.run(
        [*TORCHRUN, *arguments("two")], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    (_, one, _), (_, two, _) = (outcome(tmp_path / name) for name in ("one", "two"))
    for a, b in zip(one, two, strict=True):
        for key in ("train_ppl", "valid_ppl", "aug"):
            assert b[key] == pytest.approx(a[key], rel=1e-5)


def test_perplexity_does_not_depend_on_the_window_or_on_how_many_streams_are_read(
    capsys, monkeypatch, real
):
    expected = outcome(real)[2]["test_ppl"]
    for least in (10**9, 1):  # one stream; segments side by side
        monkeypatch.setattr(segments, "LEAST_LENGTH", least)
        for window in (3, 50, 1000):
            arguments = ("evaluate", real, "--window", window, "--json")
            out = json.loads(run_command(capsys, *arguments)[1])
            assert out["perplexity"] == pytest.approx(expected, rel=1e-5)


def test_a_network_that_reads_a_window_of_words_reads_the_text_as_one_stream(network, real):
    count = segments.segments_for(load(real), 10**9)
    assert (count == 1) == (network in ATTENTION)


def test_monte_carlo_dropout_samples_its_masks(capsys, real):
    status, out, err = run_command(capsys, "evaluate", real, "--mc", 2, "--json")
    assert status == 0, err
    exact = outcome(real)[2]["test_ppl"]
    assert json.loads(out)["perplexity"] == pytest.approx(exact, rel=0.5)
    assert json.loads(out)["perplexity"] != pytest.approx(exact, rel=1e-6)


def test_scores_are_those_of_evaluate_and_of_any_batch(capsys, monkeypatch, tiny_corpus, real):
    text = tiny_corpus / "test.txt"
    document = surprisals(run_command(capsys, "score", real, text, "--unit", "document")[1])
    corpus = load_corpus(str(tiny_corpus), progress=False)
    expected = evaluate(load(real), corpus.test).bits_per_word
    assert np.nanmean(document) == pytest.approx(expected, rel=1e-4)
    together = surprisals(run_command(capsys, "score", real, text)[1])
    monkeypatch.setattr(surprisal, "BATCH", 1)
    np.testing.assert_allclose(surprisals(run_command(capsys, "score", real, text)[1]), together)


def test_it_adapts_while_it_reads(capsys, tiny_corpus, real):
    text = tiny_corpus / "test.txt"
    status, out, err = run_command(capsys, "score", real, text, "--adapt", "--adapt-lr", 0.5)
    assert status == 0, err
    adapted, fixed = surprisals(out), surprisals(run_command(capsys, "score", real, text)[1])
    np.testing.assert_allclose(adapted[:8], fixed[:8])  # nothing is learnt before it is scored
    assert abs(adapted[8:] - fixed[8:]).max() > 1e-3


def test_n_best_lists_are_scored_prefix_by_prefix_as_sentence_by_sentence(
    capsys, tmp_path, tiny_corpus, real
):
    said = (tiny_corpus / "test.txt").read_text().splitlines()[:3]
    texts = [*said, " ".join(reversed(said[0].split()))]
    hypotheses = [{"text": text, "score": 0.0} for text in texts]
    (tmp_path / "lists.jsonl").write_text(json.dumps({"id": "u", "hypotheses": hypotheses}) + "\n")
    (tmp_path / "lines.txt").write_text("".join(text + "\n" for text in texts))
    status, out, err = run_command(capsys, "rescore", real, tmp_path / "lists.jsonl", "--json")
    assert status == 0, err
    found = {h["text"]: h["log_prob"] for h in json.loads(out)["hypotheses"]}
    scores = surprisals(
        run_command(capsys, "score", real, tmp_path / "lines.txt", "--base", "e")[1]
    )
    for text, nats in zip(texts, scores.reshape(4, -1).sum(1), strict=True):
        assert found[text] == pytest.approx(-nats, rel=1e-5)


def test_it_predicts_and_generates(capsys, real):
    status, out, err = run_command(capsys, "predict", real, "the cat", "--json", "--top", 3)
    assert status == 0, err
    assert {word["word"] for word in json.loads(out)} & {"sees", "hears"}
    texts = [run_command(capsys, "generate", real, "--words", 12)[1] for _ in range(2)]
    assert texts[0] == texts[1]
    assert set(texts[0].split()) <= set(load(real).vocabulary.words)


def test_a_run_starts_from_another_one_with_the_same_options_only(
    capsys, network, tiny_corpus, tmp_path, real
):
    fresh = flags(network, tiny_corpus, tmp_path / "second", epochs=1, lr=1e-9, alpha=2)
    status, _, err = run_command(capsys, "train", "small-real", *fresh, "--init-from", real)
    assert status == 0, err
    first, second = (outcome(out)[2]["valid_ppl"] for out in (real, tmp_path / "second"))
    assert second == pytest.approx(first, rel=1e-5)


def exported(capsys, real, to, folder):
    status, _, err = run_command(capsys, "export", real, "--to", to, folder)
    return status, err


def test_transformers_gets_the_same_logits_and_generates(capsys, network, tmp_path, real):
    transformers = pytest.importorskip("transformers")
    if network not in export_networks():
        pytest.skip("it has no code for transformers")
    status, err = exported(capsys, real, "hf", tmp_path / "hf")  # compares the logits to 1e-5
    assert status == 0, err
    model, made = (
        load(real),
        transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "hf", trust_remote_code=True),
    )
    assert made.num_parameters() == model.num_params()
    assert network in dict(made.named_children())
    made = made.double()
    ids_BT = torch.randint(model.config.vocab_size, (2, 9), generator=torch.manual_seed(1))
    mask_BT = torch.tensor([[0, 0, 1, 1, 1, 1, 1, 1, 1], [1, 0, 1, 1, 1, 1, 1, 0, 0]])
    together = made(ids_BT, attention_mask=mask_BT).logits
    for row, read in enumerate(mask_BT.bool()):
        alone = made(ids_BT[row : row + 1, read]).logits
        torch.testing.assert_close(together[row, read], alone[0])
    options = {"attention_mask": torch.ones_like(ids_BT), "max_new_tokens": 6, "num_beams": 2}
    written = [made.generate(ids_BT, use_cache=use, **options) for use in (True, False)]
    assert torch.equal(*written)


def test_onnxruntime_gets_the_same_probabilities(capsys, network, tmp_path, real):
    pytest.importorskip("onnxruntime")
    from tiedlm.export import onnx_networks
    from tiedlm.export.onnx_check import onnx_perplexity, session

    status, err = exported(capsys, real, "onnx", tmp_path / "onnx")
    if network not in onnx_networks.NETWORKS:
        assert status == 2
        assert "--to onnx is for the networks " in err
        instead = "--to hf exports it" if network in export_networks() else "tiedlm.load reads it"
        assert f"and this run has {network}; {instead}" in err
        return
    assert status == 0, err  # after it compared the step model
    model = load(real)
    ids = np.random.default_rng(0).integers(0, model.config.vocab_size, 300)
    expected = evaluate(model, ids).perplexity
    assert onnx_perplexity(tmp_path / "onnx" / "step.onnx", ids) == pytest.approx(
        expected, rel=1e-5
    )
    whole = session(tmp_path / "onnx" / "no-state.onnx")
    x_NL, x_lens = ids[:24].reshape(2, 12), np.array([12, 7])
    (nll_N,) = whole.run(None, {"x": x_NL, "x_lens": x_lens})
    eos = model.vocabulary.eos_id
    for nll, words, length in zip(nll_N, x_NL, x_lens, strict=True):
        sentence = torch.tensor([[eos, *words[:length], eos]])
        with torch.no_grad():
            hidden, _ = model(sentence[:, :-1])
            loss = model.loss(hidden, sentence[:, 1:]).ce * (length + 1)
        assert nll == pytest.approx(loss.item(), rel=1e-5)


@pytest.mark.slow
def test_transformers_needs_no_tiedlm(capsys, network, tmp_path, real):
    pytest.importorskip("transformers")
    if network not in export_networks():
        pytest.skip("it has no code for transformers")
    assert exported(capsys, real, "hf", tmp_path / "hf")[0] == 0
    program = (
        "import sys, torch\n"
        "sys.modules['tiedlm'] = None\n"
        "from transformers import AutoModelForCausalLM\n"
        "made = AutoModelForCausalLM.from_pretrained(sys.argv[1], trust_remote_code=True)\n"
        "torch.save(made(torch.arange(9)[None]).logits.detach(), sys.argv[1] + '/logits')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "hf")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    model = load(real)
    with torch.no_grad():
        expected = model.decode(model(torch.arange(9)[None])[0])
    torch.testing.assert_close(torch.load(tmp_path / "hf" / "logits"), expected, rtol=0, atol=1e-5)


def test_words_are_dropped_before_the_network_reads_them(network):
    """With almost every word dropped, the network reads almost nothing but zeros."""
    torch.manual_seed(0)
    shape = {"vocab_size": 50, "d_embed": 12, "d_hidden": 12}
    config = ModelConfig(network=network, options=NETWORKS[network], **shape, dropout_words=0.999)
    model = LanguageModel(config)
    with torch.no_grad():
        seen, _ = model.read(torch.randint(50, (2, 4)), None, model.embedding.weight)
        model.embedding.weight.zero_()
        expected, _ = model.read(torch.randint(50, (2, 4)), None, model.embedding.weight)
    if not NETWORKS[network].get("dropout_output"):
        torch.testing.assert_close(seen, expected)


@pytest.mark.parametrize(
    ("network", "given", "says"),
    [
        ("transformer", "n_heads=4", "option n_heads: expected a divisor of d_hidden = 12"),
        ("transformer", "memory=0", "option memory: expected at least 1, got 0"),
        ("transformer", "dropout_feedforward=1", "dropout_feedforward is the probability of drop"),
        ("encoder", "context=1", "option context: expected at least 2, got 1"),
    ],
    indirect=["network"],
)
def test_a_wrong_option_is_one_line_and_nothing_is_written(
    capsys, tiny_corpus, tmp_path, monkeypatch, network, given, says
):
    name = given.partition("=")[0]
    others = {one: value for one, value in NETWORKS[network].items() if one != name}
    monkeypatch.setitem(NETWORKS, network, others)
    command = flags(network, tiny_corpus, tmp_path / "run", alpha=2)
    status, _, err = run_command(capsys, "train", "small-real", *command, "--option", given)
    assert (status, err.count("\n")) == (2, 1)
    assert says in err
    assert not (tmp_path / "run").exists()
