"""The same code on a GPU gives the same numbers; skipped where there is none."""

import pytest
import torch

from tiedlm import LanguageModel, ModelConfig, augmented_cross_entropy
from tiedlm.data import load_corpus
from tiedlm.evaluation import evaluate
from tiedlm.training.loop import train
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
def test_tritons_kernels_equal_the_reference(monkeypatch, alpha, target_grad):
    pytest.importorskip("triton")
    monkeypatch.setenv("TIEDLM_TRITON", "1")
    options = {"alpha": alpha, "target_grad": target_grad}
    expected = gradients("reference", torch.float64, **options)
    for found, wanted in zip(gradients("fused", torch.float32, **options), expected, strict=True):
        torch.testing.assert_close(found, wanted.float(), rtol=2e-3, atol=1e-4)


def test_a_cuda_graph_of_the_loss_gives_what_eager_gives():
    hidden, weight, targets = tensors(torch.float32)
    targets = targets.where(targets >= 0, 0)
    expected = augmented_cross_entropy(hidden, weight, targets)
    expected.loss.backward()
    eager = weight.grad.clone()
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
    torch.testing.assert_close(out.loss, expected.loss)
    torch.testing.assert_close(weight.grad, eager, rtol=1e-3, atol=1e-5)


def test_the_models_output_is_that_of_the_cpu():
    model = LanguageModel(ModelConfig(vocab_size=50, d_embed=16, d_hidden=16, tied=True)).eval()
    tokens = torch.randint(50, (3, 9))
    with torch.no_grad():
        expected, _ = model(tokens)
        found, _ = model.cuda()(tokens.cuda())
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-4, atol=1e-5)


def test_a_run_trains_stops_and_evaluates(tiny_corpus, tmp_path):
    settings = Settings(
        data=str(tiny_corpus), d_embed=16, d_hidden=16, tied=True, alpha=13.0, dropout_hidden=0.2,
        batch_size=4, bptt=7, epochs=3, device="cuda",
    )  # fmt: skip
    corpus = load_corpus(str(tiny_corpus), progress=False)
    result = train(settings, corpus, tmp_path)
    found = evaluate(load(tmp_path), corpus.test).perplexity  # on the CPU
    assert found == pytest.approx(result["test_ppl"], rel=1e-3)
