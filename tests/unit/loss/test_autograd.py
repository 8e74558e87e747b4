import itertools

import pytest
import torch
from torch.nn import functional

from tests_support import peak_numbers
from tiedlm import augmented_cross_entropy, matmul
from tiedlm.arithmetic import arithmetic
from tiedlm.loss import buffers, gradients, stream


def problem(n=41, vocab=31, width=5, embed=None, dtype=torch.float64, words=None, seed=0):
    """Return (hidden, classifier, bias, embedding) with gradients, and repeating targets."""
    generator = torch.Generator().manual_seed(seed)
    shapes = [(n, width), (vocab, width), (vocab,), (vocab, embed or width)]
    tensors = [
        torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
        for shape in shapes
    ]
    if embed is None:
        tensors[3] = tensors[1]
    return tensors, torch.randint(words or vocab, (n,), generator=generator)


def run(tensors, targets, impl="fused", upstream=1.0, **options):
    """Return the three losses and the gradients, None for inputs without one."""
    hidden, classifier, bias, embedding = tensors
    out = augmented_cross_entropy(
        hidden, classifier, targets, bias, embedding, impl=impl, **options
    )
    inputs = [x for x in {id(x): x for x in tensors if x is not None}.values() if x.requires_grad]
    grads = torch.autograd.grad((out.loss * upstream).sum(), inputs, allow_unused=True)
    return [*(part.detach() for part in out), *grads]


def assert_same(got, want, **tolerance):
    for one, other in zip(got, want, strict=True):
        if one is None or other is None:
            assert one is other
        else:
            torch.testing.assert_close(one, other, **tolerance)


@pytest.fixture
def small_budget(monkeypatch):
    """Make chunks of a few tokens, smaller strips, and groups of a few words."""
    monkeypatch.setattr(buffers, "LEAST_ROWS", 1)
    monkeypatch.setattr(buffers, "CHUNK", 31 * 9)
    monkeypatch.setattr(buffers, "STRIP", 31 * 4)


OPTIONS = list(itertools.product((None, 3), (True, False), (0.0, 13.0), ("mean", "none")))


@pytest.mark.parametrize(("embed", "target_grad", "alpha", "reduction"), OPTIONS)
@pytest.mark.parametrize("words", [3, 31])
def test_fused_equals_reference_in_any_chunks(
    small_budget, embed, target_grad, alpha, reduction, words
):
    tensors, targets = problem(embed=embed, words=words)
    targets[5] = -100
    options = dict(
        target_grad=target_grad, alpha=alpha, reduction=reduction, temperature=1.7,
        upstream=torch.linspace(0, 2, len(targets)) if reduction == "none" else 1.0,
    )  # fmt: skip
    got = run(tensors, targets, "fused", **options)
    assert_same(got, run(tensors, targets, "reference", **options), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("n", "vocab", "width"), [(1, 1, 1), (1, 401, 41), (41, 1, 3), (401, 41, 2)]
)
def test_fused_equals_reference_for_odd_shapes(n, vocab, width):
    tensors, targets = problem(n, vocab, width)
    assert_same(run(tensors, targets), run(tensors, targets, "reference"), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("embed", "target_grad", "alpha", "reduction"), OPTIONS)
def test_gradients_pass_gradcheck(embed, target_grad, alpha, reduction):
    tensors, targets = problem(n=6, vocab=5, width=3, embed=embed)
    targets[2] = -100
    if not target_grad:  # a numerical gradient cannot be detached, so the embedding is held fixed
        tensors[3] = tensors[3].detach().clone()

    def loss(*tensors):
        hidden, classifier, bias, *embedding = tensors
        return augmented_cross_entropy(
            hidden, classifier, targets, bias, embedding[0] if embedding else None, alpha=alpha,
            temperature=0.7, reduction=reduction, target_grad=target_grad, impl="fused",
        ).loss  # fmt: skip

    inputs = tensors if embed is not None or not target_grad else tensors[:3]
    assert torch.autograd.gradcheck(loss, inputs)


class Products:
    """Count the matrix products of the fused loss by their operands and results."""

    def __init__(self, monkeypatch):
        self.count = 0
        for module in (stream, gradients):
            monkeypatch.setattr(module, "matmul", self)

    def __call__(self, a, b, out, *, accumulate=False):
        self.count += 1
        return matmul.matmul(a, b, out, accumulate=accumulate)


@pytest.mark.parametrize("wanted", list(itertools.product((False, True), repeat=4)))
@pytest.mark.parametrize("alpha", [0.0, 13.0])
@pytest.mark.parametrize("target_grad", [False, True])
def test_only_what_requires_a_gradient_is_computed(monkeypatch, wanted, alpha, target_grad):
    tensors, targets = problem(embed=3)
    everything = run(tensors, targets, alpha=alpha, target_grad=target_grad)
    for tensor, is_wanted in zip(tensors, wanted, strict=True):
        tensor.requires_grad_(is_wanted)
    products = Products(monkeypatch)
    out = augmented_cross_entropy(
        tensors[0], tensors[1], targets, tensors[2], tensors[3], alpha=alpha,
        target_grad=target_grad, impl="fused",
    )  # fmt: skip
    soft = wanted[3] and target_grad and alpha > 0
    forward = 1 + (alpha > 0)  # scores of the tokens, scores of the distinct words
    assert products.count == forward + wanted[0] + wanted[1] + 2 * soft
    assert out.loss.requires_grad == any(wanted)
    if any(wanted):
        out.loss.backward()
    for tensor, is_wanted, grad in zip(tensors, wanted, everything[3:], strict=True):
        assert (tensor.grad is not None) == (is_wanted and grad is not None)
        if tensor.grad is not None:
            torch.testing.assert_close(tensor.grad, grad)


@pytest.mark.parametrize("alpha", [0.0, 13.0])
def test_no_gradient_work_without_grad_mode(monkeypatch, alpha):
    tensors, targets = problem()
    with_grad = run(tensors, targets, alpha=alpha)
    products = Products(monkeypatch)
    for mode in (torch.no_grad, torch.inference_mode):
        products.count = 0
        with mode():
            out = augmented_cross_entropy(tensors[0], tensors[1], targets, tensors[2], alpha=alpha)
        assert products.count == 1 + (alpha > 0)
        assert not out.loss.requires_grad
        assert_same(list(out), with_grad[:3])


def test_second_backward_through_a_retained_graph_is_the_same():
    tensors, targets = problem()
    loss = augmented_cross_entropy(tensors[0], tensors[1], targets, tensors[2]).loss * 3
    first = torch.autograd.grad(loss, tensors[:3], retain_graph=True)
    kept = [grad.clone() for grad in first]
    second = torch.autograd.grad(loss, tensors[:3])
    assert_same(second, kept)
    assert_same(first, kept, rtol=0, atol=0)


@pytest.mark.parametrize("target_grad", [False, True])
def test_same_inputs_give_the_same_bits(pointwise, target_grad):
    tensors, targets = problem(n=401, vocab=1271, width=41, dtype=torch.float32, words=50)
    once, again = (run(tensors, targets, target_grad=target_grad) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_recording_gives_the_same_without_reading_the_targets(monkeypatch, reduction):
    """As in a CUDA graph, every token is a distinct word and ignored ones weigh 0."""
    tensors, targets = problem(words=5)
    targets[7] = -100
    want = run(tensors, targets, reduction=reduction)
    for module in ("augmented", "arguments", "stream"):
        monkeypatch.setattr(f"tiedlm.loss.{module}.is_recording", lambda tensor: True)
    monkeypatch.setattr(torch, "unique", None)
    assert_same(run(tensors, targets, reduction=reduction), want)


@pytest.mark.parametrize("alpha", [0.0, 13.0])
@pytest.mark.parametrize("target_grad", [False, True])
def test_at_most_two_chunks_and_the_distinct_targets_are_held(
    pointwise, monkeypatch, alpha, target_grad
):
    n, vocab, width = 400, 1000, 2
    tensors, targets = problem(n, vocab, width, words=300, dtype=torch.float32)
    chunk = 64 * vocab
    monkeypatch.setattr(buffers, "LEAST_ROWS", 1)
    monkeypatch.setattr(buffers, "CHUNK", chunk)
    monkeypatch.setattr(buffers, "MOST_KEPT", 0)
    monkeypatch.setattr(buffers, "STRIP", chunk // 4)
    peak = peak_numbers(lambda: run(tensors, targets, alpha=alpha, target_grad=target_grad))
    soft = (2 if target_grad else 1) * chunk if alpha else 0
    gradients = 2 * vocab * width + n * width + vocab
    assert peak <= 2 * chunk + soft + 4 * gradients
    naive = peak_numbers(
        lambda: run(tensors, targets, "reference", alpha=alpha, target_grad=target_grad)
    )
    assert naive >= 3 * n * vocab  # the measurement sees the memory of the reference


def naive_losses(tensors, targets, alpha, temperature):
    """Return the loss as usually written, each step in the tensors' type: per token, gradients."""
    hidden, weight = tensors[:2]
    scores = hidden @ weight.t()
    loss_N = functional.cross_entropy(scores, targets, reduction="none")
    log_soft = torch.log_softmax(weight[targets] @ weight.t() / temperature, dim=-1)
    log_prediction = torch.log_softmax(scores / temperature, dim=-1)
    terms = functional.kl_div(log_prediction, log_soft, log_target=True, reduction="none")
    loss_N = loss_N + alpha * terms.sum(-1)
    return [loss_N.detach(), *torch.autograd.grad(loss_N.mean(), (hidden, weight))]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("temperature", [1.0, 20.0])
@pytest.mark.parametrize("scale", [0.1, 1.0])
def test_low_precision_error_is_at_most_the_naive_implementations(
    pointwise, dtype, temperature, scale
):
    """The bound allows a factor of 2.5 and one rounding of the largest number.

    Two cases need the factor. With peaked soft targets (scale 1, tau 1), the residual form of the
    gradient through them sums before it centres. In the compiled form, one product sums the
    gradients of both losses; single numbers then exceed the naive error, their mean does not.
    """
    is_special = temperature == scale == 1 or pointwise == "compiled"
    tensors, targets = problem(n=401, vocab=1271, width=41, words=200)
    low = [(x.detach() * scale).to(dtype).requires_grad_() for x in tensors[:2]]
    exact_inputs = [x.detach().double().requires_grad_() for x in low]
    exact = naive_losses(exact_inputs, targets, 13.0, temperature)
    naive = naive_losses(low, targets, 13.0, temperature)
    single = augmented_cross_entropy(*low, targets, temperature=temperature, reduction="none")
    out = augmented_cross_entropy(*low, targets, temperature=temperature)
    fused = [single.loss.detach(), *torch.autograd.grad(out.loss, low)]
    for ours, theirs, right in zip(fused, naive, exact, strict=True):
        rounding = torch.finfo(dtype).eps * right.abs().max()
        error, bound = ((x.double() - right).abs().max() for x in (ours, theirs))
        assert error <= (2.5 if is_special else 1.25) * bound + rounding


@pytest.mark.parametrize("target_grad", [False, True])
def test_bf16_products_change_gradients_by_less_than_a_percent(pointwise, target_grad):
    tensors, targets = problem(n=401, vocab=1271, width=41, dtype=torch.float32, words=200)
    full = run(tensors, targets, target_grad=target_grad)
    with arithmetic(precision="bf16"):
        rounded = run(tensors, targets, target_grad=target_grad)
    assert not torch.equal(rounded[0], full[0])
    for one, other in zip(rounded[3:], full[3:], strict=True):
        assert one.dtype == torch.float32
        assert (one - other).norm() < 0.01 * other.norm()


def train(impl, dtype, steps=200, target_grad=True):
    """Train a tiny tied network to predict each word's successor and return the losses."""
    generator = torch.Generator().manual_seed(0)
    vocab, width = 60, 12
    embedding = (torch.rand(vocab, width, generator=generator) - 0.5).to(dtype).requires_grad_()
    mixing = (torch.rand(width, width, generator=generator) - 0.5).to(dtype).requires_grad_()
    successor = torch.randperm(vocab, generator=generator)
    losses = []
    for _ in range(steps):
        words = torch.randint(vocab, (40,), generator=generator)
        hidden = torch.tanh(embedding[words] @ mixing)
        out = augmented_cross_entropy(
            hidden, embedding, successor[words], target_grad=target_grad, impl=impl
        )
        grads = torch.autograd.grad(out.loss, (embedding, mixing))
        with torch.no_grad():
            for parameter, grad in zip((embedding, mixing), grads, strict=True):
                parameter -= 0.5 * grad
        losses.append(out.loss.item())
    return torch.tensor(losses, dtype=torch.float64)


@pytest.mark.parametrize("target_grad", [False, True])
def test_training_curve_equals_the_references_up_to_rounding(pointwise, target_grad):
    exact = train("reference", torch.float64, target_grad=target_grad)
    assert exact[-1] < 0.8 * exact[0]
    fused = train("fused", torch.float64, target_grad=target_grad)
    torch.testing.assert_close(fused, exact, rtol=1e-10, atol=0)
    noise = (train("reference", torch.float32, target_grad=target_grad) - exact).abs().max()
    fused = train("fused", torch.float32, target_grad=target_grad)
    assert (fused - exact).abs().max() <= 2 * noise


@pytest.mark.parametrize("products", ["fp32", "bf16"])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(
    "vocab", [331, 336]
)  # rows whose length is and is not a multiple of 16 bytes
def test_old_contents_of_buffers_change_nothing(pointwise, monkeypatch, vocab, tied, products):
    embed = None if tied else 24
    tensors, targets = problem(97, vocab, 19, embed, torch.float32, words=50)
    taken = []

    def full_of_nan(buffer, rows, columns, like):
        taken.append(buffer)
        return like.new_full((rows, columns), torch.nan)

    with arithmetic(precision=products):
        expected = run(tensors, targets)
        monkeypatch.setattr(buffers.Buffer, "_take", full_of_nan)
        found = run(tensors, targets)
    assert taken
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)
