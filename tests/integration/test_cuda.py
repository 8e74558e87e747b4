"""A GPU gives the same numbers as the CPU. The tests are skipped without a GPU."""

from functools import partial

import numpy as np
import pytest
import torch

from tiedlm import LanguageModel, ModelConfig, augmented_cross_entropy
from tiedlm.arithmetic import arithmetic
from tiedlm.data import load_corpus
from tiedlm.evaluation import evaluate, monte_carlo_losses
from tiedlm.evaluation.cache import Cache
from tiedlm.evaluation.dynamic import SGD, Dynamic
from tiedlm.evaluation.gradients import gradient_rms
from tiedlm.evaluation.methods import Methods, method_losses
from tiedlm.experiments.theory import TheoryRun, train_theory_run
from tiedlm.networks.backends import triton
from tiedlm.networks.lstm_function import lstm_layer
from tiedlm.networks.state import split
from tiedlm.scoring.sentence import Sentence
from tiedlm.scoring.surprisal import score_sentences
from tiedlm.training import captured, updater
from tiedlm.training.loop import train
from tiedlm.training.outcomes import Stopped
from tiedlm.training.run import load
from tiedlm.training.settings import Settings

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU with CUDA")

N, V, D = 300, 1000, 40
NETWORKS = {
    "lstm": {},
    "awd_lstm": {"dropconnect": 0.2, "dropout_output": 0.1},
    "gru": {},
    "elman": {},
    "rhn": {"depth": 2},
    "transformer": {"memory": 150},  # long enough for fused attention to split its sums
    "encoder": {"context": 150},
}


def tensors(dtype):
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(N, D, generator=generator, dtype=torch.float64)
    weight = torch.randn(V, D, generator=generator, dtype=torch.float64)
    targets = torch.randint(V // 20, (N,), generator=generator)
    targets[::7] = -100
    made = (tensor.to("cuda", dtype).requires_grad_() for tensor in (hidden, weight))
    return *made, targets.cuda()


def gradients(impl, dtype, **options):
    hidden, weight, targets = tensors(dtype)
    out = augmented_cross_entropy(hidden, weight, targets, impl=impl, **options)
    loss = out.loss.sum()
    loss.backward()
    return loss.detach(), hidden.grad, weight.grad


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("target_grad", [False, True])
@pytest.mark.parametrize("alpha", [0.0, 13.0])
def test_fused_equals_reference(reduction, target_grad, alpha):
    options = {"alpha": alpha, "target_grad": target_grad, "reduction": reduction}
    expected = gradients("reference", torch.float64, **options)
    for found, wanted in zip(gradients("fused", torch.float64, **options), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)
    for found, wanted in zip(gradients("fused", torch.float32, **options), expected, strict=True):
        torch.testing.assert_close(found, wanted.float(), rtol=2e-3, atol=1e-4)


@pytest.mark.parametrize("target_grad", [False, True])
@pytest.mark.parametrize("alpha", [0.0, 13.0])
def test_without_triton_fused_equals_the_reference_too(monkeypatch, alpha, target_grad):
    monkeypatch.setenv("TIEDLM_TRITON", "0")
    options = {"alpha": alpha, "target_grad": target_grad}
    expected = gradients("reference", torch.float64, **options)
    for found, wanted in zip(gradients("fused", torch.float32, **options), expected, strict=True):
        torch.testing.assert_close(found, wanted.float(), rtol=2e-3, atol=1e-4)


@pytest.mark.parametrize("products", ["fp32", "bf16"])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    ("streams", "steps", "hidden"),
    [
        (3, 5, 10),
        (1, 9, 40),
        (20, 1, 40),
        (20, 35, 200),
        (20, 35, 650),
        (20, 35, 1500),
        (70, 9, 333),
        (20, 2, 4000),
        (20, 2, 9000),
    ],
)
def test_an_lstm_layer_on_a_gpu_equals_the_float64_one(
    monkeypatch, streams, steps, hidden, masked, products
):
    generator = torch.Generator().manual_seed(0)
    shapes = [
        (steps, streams, 30), (streams, hidden), (streams, hidden), (4 * hidden, 30),
        (4 * hidden, hidden), (4 * hidden,),
    ]  # fmt: skip
    scales = (1.0, 0.5, 0.5, 0.1, hidden**-0.5, 0.1)
    values = [
        torch.randn(shape, generator=generator) * scale
        for shape, scale in zip(shapes, scales, strict=True)
    ]
    mask = (torch.rand(streams, hidden, generator=generator) > 0.4) / 0.6 if masked else None

    def layer(dtype):
        inputs = [x.to("cuda", dtype).requires_grad_() for x in values]
        outputs = lstm_layer(*inputs, None if mask is None else mask.to("cuda", dtype))
        upstream = [torch.linspace(-1, 2, x.numel()).view_as(x).to(x) for x in outputs]
        return [*outputs, *torch.autograd.grad(outputs, inputs, upstream)]

    calls = []
    for name in ("run_forward", "run_backward"):
        real = getattr(triton, name)
        counted = partial(lambda real, *args: calls.append(real) or real(*args), real)
        monkeypatch.setattr(triton, name, counted)
    expected = layer(torch.float64)
    assert not calls
    with arithmetic(precision=products, device="cuda") as used:
        found, again = layer(torch.float32), layer(torch.float32)
        gates = torch.empty(steps, streams, 4 * hidden, device="cuda")
        dtype = torch.bfloat16 if used.precision == "bf16" else torch.float32
        assert len(calls) == (4 if triton.serves(gates, products=dtype) else 0)
    rtol = 3e-5 if products == "fp32" else 2e-2
    for one, other, wanted in zip(found, again, expected, strict=True):
        assert torch.equal(one, other)
        assert (one.double() - wanted).norm() <= rtol * wanted.norm()


@pytest.mark.parametrize("has_triton", [True, False])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize(("alpha", "target_grad"), [(0.0, True), (13.0, False), (13.0, True)])
def test_a_bare_call_never_waits_for_the_gpu(
    monkeypatch, has_triton, reduction, alpha, target_grad
):
    if not has_triton:
        monkeypatch.setenv("TIEDLM_TRITON", "0")
    options = {"alpha": alpha, "target_grad": target_grad, "reduction": reduction}
    hidden, weight, targets = tensors(torch.float32)
    for mode in ("default", "error"):  # the first call compiles and allocates
        try:
            torch.cuda.set_sync_debug_mode(mode)
            augmented_cross_entropy(hidden, weight, targets, **options).loss.sum().backward()
        finally:
            torch.cuda.set_sync_debug_mode("default")


def test_a_cuda_graph_of_the_loss_gives_what_eager_gives():
    hidden, weight, targets = tensors(torch.float32)
    targets = targets.where(targets >= 0, 0)
    out = augmented_cross_entropy(hidden, weight, targets)
    out.loss.backward()
    expected, eager = out.loss.detach(), weight.grad.clone()
    del out  # and the tensors that it keeps from its stream
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            hidden.grad = weight.grad = None
            augmented_cross_entropy(hidden, weight, targets).loss.backward()
    torch.cuda.current_stream().wait_stream(stream)
    hidden.grad = weight.grad = None
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = augmented_cross_entropy(hidden, weight, targets)
        out.loss.backward()
    graph.replay()
    torch.testing.assert_close(out.loss.detach(), expected)
    torch.testing.assert_close(weight.grad, eager, rtol=1e-3, atol=1e-5)


def test_the_models_output_equals_the_cpus():
    model = LanguageModel(ModelConfig(vocab_size=50, d_embed=16, d_hidden=16, tied=True)).eval()
    tokens = torch.randint(50, (3, 9))
    with torch.no_grad():
        expected, _ = model(tokens)
        found, _ = model.cuda()(tokens.cuda())
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-4, atol=1e-5)


@pytest.fixture
def settings(tiny_corpus):
    return Settings(
        data=str(tiny_corpus), d_embed=16, d_hidden=16, tied=True, alpha=13.0, dropout_hidden=0.2,
        batch_size=4, bptt=7, epochs=3, device="cuda",
    )  # fmt: skip


def test_a_run_trains_and_evaluates(settings, tmp_path):
    corpus = load_corpus(settings.data, progress=False)
    result = train(settings, corpus, tmp_path)
    found = evaluate(load(tmp_path), corpus.test).perplexity  # on the CPU
    assert found == pytest.approx(result["test_ppl"], rel=1e-3)


def weights(folder):
    return {name: value for name, value in load(folder).state_dict().items()}


def check_recorded(settings, tmp_path, monkeypatch):
    settings = settings.replace(lr=0.01, epochs=1)  # later, rounding alone makes models differ
    corpus = load_corpus(settings.data, progress=False)
    calls, real = [], captured.CapturedStep.__call__
    monkeypatch.setattr(
        captured.CapturedStep, "__call__", lambda *given: calls.append(1) or real(*given)
    )
    recorded = train(settings, corpus, tmp_path / "recorded")
    assert calls
    monkeypatch.setattr(updater, "can_capture", lambda *_: False)
    plain = train(settings, corpus, tmp_path / "plain")
    assert recorded["valid_ppl"] == pytest.approx(plain["valid_ppl"], rel=1e-4)
    for one, other in zip(
        *(weights(tmp_path / name).values() for name in ("recorded", "plain")), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("alpha", [0.0, 13.0])
@pytest.mark.parametrize("tied", [False, True])
def test_a_recorded_step_equals_an_ordinary_step(settings, tmp_path, monkeypatch, tied, alpha):
    check_recorded(settings.replace(tied=tied, alpha=alpha), tmp_path, monkeypatch)


@pytest.mark.parametrize("network", NETWORKS)
def test_a_recorded_step_of_any_network_equals_an_ordinary_step(
    settings, tmp_path, monkeypatch, network
):
    chosen = {"network": network, "options": NETWORKS[network]}
    check_recorded(settings.replace(**chosen, ar=2.0, tar=1.0), tmp_path, monkeypatch)


def test_a_run_of_figure_1_equals_the_cpus(tiny_corpus):
    shared = {
        "data": str(tiny_corpus), "fraction": 1.0, "skip": 0.0, "d_embed": 8, "d_hidden": 8,
        "batch_size": 4, "bptt": 7, "alpha": 500.0, "threads": 1,
    }  # fmt: skip
    on_gpu, on_cpu = (
        train_theory_run(TheoryRun((0.4, 10.0), 1, 2, lr=1e-4, changes=shared | {"device": device}))
        for device in ("cuda", "cpu")
    )
    assert on_gpu["environment"]["cuda"]
    for name in ("ce", "scaled_aug", "distance"):
        assert on_gpu[name] == pytest.approx(on_cpu[name], rel=0.02)


RESUMED = {
    **{name: {"network": name, "options": options} for name, options in NETWORKS.items()},
    "adam": {"optimizer": "adam", "lr": 1e-3},
    "nt-asgd": {"optimizer": "nt-asgd", "average_trigger": 1, "lr_decay": 1.0},
}


@pytest.mark.parametrize("changes", RESUMED.values(), ids=RESUMED)
def test_a_stopped_run_resumes_bit_for_bit(settings, tmp_path, changes):
    settings = settings.replace(**changes)
    corpus = load_corpus(settings.data, progress=False)
    whole = train(settings, corpus, tmp_path / "whole")
    steps = iter([False] * 5 + [True])
    with pytest.raises(Stopped):
        train(settings, corpus, tmp_path / "parts", should_stop=lambda: next(steps))
    parts = train(settings, corpus, tmp_path / "parts")
    assert parts["valid_ppl"] == whole["valid_ppl"]
    for one, other in zip(
        *(weights(tmp_path / name).values() for name in ("whole", "parts")), strict=True
    ):
        assert torch.equal(one, other)


def model_and_text(tied, network="lstm", words=400):
    torch.manual_seed(0)
    shape = {"vocab_size": 50, "d_embed": 16, "d_hidden": 16, "network": network, "tied": tied}
    model = LanguageModel(ModelConfig(**shape, dropout_hidden=0.3, init_range=0.3)).eval()
    return model, np.random.default_rng(0).integers(50, size=words)


METHODS = {
    "rms": Methods(dynamic=Dynamic(lr=1e-5), temperature=1.2, cache=Cache(words=30)),
    "sgd": Methods(dynamic=SGD),
    "cache": Methods(cache=Cache(words=30)),
}


@pytest.mark.parametrize("network", ["lstm", "gru", "transformer"])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("methods", METHODS.values(), ids=METHODS)
def test_methods_of_evaluation_give_the_cpus_losses(methods, tied, network):
    model, text = model_and_text(tied, network)
    expected = method_losses(model, text, methods, rms=gradient_rms(model, text))
    model = model.cuda()
    found = method_losses(model, text, methods, rms=gradient_rms(model, text))
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


def test_monte_carlo_dropout_is_repeatable_and_restores_the_random_state():
    model, text = model_and_text(True)
    model, state = model.cuda(), torch.cuda.get_rng_state()
    first, again = (monte_carlo_losses(model, text, 3) for _ in range(2))
    assert np.array_equal(first, again)
    assert torch.equal(torch.cuda.get_rng_state(), state)


def test_sentences_have_the_cpus_surprisals():
    model, text = model_and_text(True)
    sentences = [Sentence(1, 1, ("word",) * size, text[:size]) for size in (3, 20, 7)]
    expected = list(score_sentences(model, sentences, start=0))
    for found, wanted in zip(
        score_sentences(model.cuda(), sentences, start=0), expected, strict=True
    ):
        np.testing.assert_allclose(found.surprisal, wanted.surprisal, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("network", NETWORKS)
def test_evaluation_reads_on_from_a_part_of_a_state(network):
    model, text = model_and_text(True, network)
    tokens = torch.from_numpy(text[:40]).view(4, 10).cuda()
    model = model.cuda()
    with torch.no_grad():
        _, state = model(tokens)
        expected, _ = model(tokens, state)
        found, _ = model(tokens[:2], split(state, 2)[0])
    torch.testing.assert_close(found, expected[:2])
