"""A GPU gives the same numbers as the CPU. The tests are skipped without a GPU."""

from functools import partial

import pytest
import torch

from tiedlm import LanguageModel, ModelConfig, augmented_cross_entropy
from tiedlm.arithmetic import arithmetic
from tiedlm.data import load_corpus
from tiedlm.evaluation import evaluate
from tiedlm.experiments.theory import TheoryRun, train_theory_run
from tiedlm.networks.backends import triton
from tiedlm.networks.lstm_function import lstm_layer
from tiedlm.training import updater
from tiedlm.training.loop import train
from tiedlm.training.outcomes import Stopped
from tiedlm.training.run import load
from tiedlm.training.settings import Settings

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU with CUDA")

N, V, D = 300, 1000, 40


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


@pytest.mark.parametrize("alpha", [0.0, 13.0])
@pytest.mark.parametrize("tied", [False, True])
def test_a_recorded_step_equals_an_ordinary_step(settings, tmp_path, monkeypatch, tied, alpha):
    settings = settings.replace(
        tied=tied, alpha=alpha, lr=0.01, epochs=1
    )  # after more steps, rounding alone makes the models differ
    corpus = load_corpus(settings.data, progress=False)
    recorded = train(settings, corpus, tmp_path / "recorded")
    monkeypatch.setattr(updater, "can_capture", lambda *_: False)
    plain = train(settings, corpus, tmp_path / "plain")
    assert recorded["valid_ppl"] == pytest.approx(plain["valid_ppl"], rel=1e-4)
    for one, other in zip(
        *(weights(tmp_path / name).values() for name in ("recorded", "plain")), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


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


def test_a_stopped_run_resumes_bit_for_bit(settings, tmp_path):
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
