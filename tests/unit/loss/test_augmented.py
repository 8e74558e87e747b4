import copy
import math
import pickle

import numpy as np
import pytest
import torch
from torch.nn import functional

from tiedlm import AugmentedCrossEntropy, LossOutput, augmented_cross_entropy

IMPLS = ["reference", "fused", "quadratic"]
EXACT = ["reference", "fused"]


def problem(n=7, vocab=11, width=4, dtype=torch.float64, seed=0):
    """Return hidden states and a classifier that require gradients, and targets."""
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(n, width, dtype=torch.float64, generator=generator)
    weight = torch.randn(vocab, width, dtype=torch.float64, generator=generator)
    targets = torch.randint(vocab, (n,), generator=generator)
    return hidden.to(dtype).requires_grad_(), weight.to(dtype).requires_grad_(), targets


@pytest.mark.parametrize("impl", EXACT)
def test_worked_example(impl):
    """The loss of a case worked by hand.

    Two words, d = 1, L = W = (0, ln 3), h = 2, target 1, tau = 2, alpha = 10, b = (ln 9, 0).

    z = (0, 2 ln 3), with b the logits are (ln 9, ln 9): p = (1/2, 1/2), J = ln 2.
    z / tau = (0, ln 3): y^ = (1/4, 3/4). u = ln 3: L u / tau = (0, (ln 3)^2 / 2).
    """
    ln3 = math.log(3)
    soft = 1 / (1 + math.exp(ln3**2 / 2))  # y~ of word 0
    aug = soft * math.log(soft / 0.25) + (1 - soft) * math.log((1 - soft) / 0.75)
    weight = torch.tensor([[0.0], [ln3]], dtype=torch.float64)
    hidden = torch.tensor([[2.0]], dtype=torch.float64, requires_grad=True)
    bias = torch.tensor([math.log(9), 0.0], dtype=torch.float64)
    out = augmented_cross_entropy(
        hidden, weight, torch.tensor([1]), bias, alpha=10.0, temperature=2.0, impl=impl
    )
    assert out.ce.item() == pytest.approx(math.log(2))
    assert out.aug.item() == pytest.approx(aug)
    assert out.loss.item() == pytest.approx(math.log(2) + 10 * aug)
    out.loss.backward()
    by_scores = (0.5 - 1) + 10 / 2 * (0.75 - (1 - soft))  # of word 1; word 0's row of W is 0
    assert hidden.grad.item() == pytest.approx(by_scores * ln3)


def test_output_is_a_named_tuple_whose_parts_are_detached():
    out = augmented_cross_entropy(*problem())
    assert isinstance(out, LossOutput)
    assert out._fields == ("loss", "ce", "aug")
    assert out.loss.requires_grad
    assert not out.ce.requires_grad
    assert not out.aug.requires_grad


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_loss_is_ce_plus_alpha_times_aug(impl, reduction):
    out = augmented_cross_entropy(*problem(), alpha=3.0, reduction=reduction, impl=impl)
    torch.testing.assert_close(out.loss.detach(), out.ce + 3.0 * out.aug)


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("bias", [None, torch.linspace(-1, 1, 11, dtype=torch.float64)])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_alpha_zero_is_cross_entropy(impl, bias, reduction):
    hidden, weight, targets = problem()
    targets[3] = -100
    out = augmented_cross_entropy(
        hidden, weight, targets, bias, alpha=0.0, reduction=reduction, impl=impl
    )
    expected = functional.cross_entropy(
        functional.linear(hidden, weight, bias), targets, reduction=reduction
    )
    torch.testing.assert_close(out.loss, expected)
    assert torch.equal(out.loss.detach(), out.ce)
    assert not out.aug.any()
    upstream = torch.ones_like(expected)
    for got, want in zip(
        torch.autograd.grad(out.loss, (hidden, weight), upstream),
        torch.autograd.grad(expected, (hidden, weight), upstream),
        strict=True,
    ):
        torch.testing.assert_close(got, want)


def test_bias_is_in_the_cross_entropy_only():
    hidden, weight, targets = problem()
    bias = torch.linspace(-1, 1, 11, dtype=torch.float64)
    with_bias = augmented_cross_entropy(hidden, weight, targets, bias)
    without = augmented_cross_entropy(hidden, weight, targets)
    assert not torch.isclose(with_bias.ce, without.ce)
    torch.testing.assert_close(with_bias.aug, without.aug)


def test_default_is_the_exact_loss_of_the_tied_classifier():
    hidden, weight, targets = problem()
    default = augmented_cross_entropy(hidden, weight, targets)
    spelled_out = augmented_cross_entropy(
        hidden, weight, targets, bias=None, embedding=weight, alpha=13.0, temperature=20.0,
        ignore_index=-100, reduction="mean", target_grad=True, impl="fused",
    )  # fmt: skip
    assert torch.equal(default.loss, spelled_out.loss)


def test_module_stores_the_options_of_the_function():
    options = dict(
        alpha=2.0, temperature=3.0, ignore_index=5, reduction="sum", target_grad=False,
        impl="reference",
    )  # fmt: skip
    hidden, weight, targets = problem()
    embedding, bias = weight.detach() + 1, weight.detach()[:, 0]
    criterion = pickle.loads(pickle.dumps(copy.deepcopy(AugmentedCrossEntropy(**options))))
    got = criterion(hidden, weight, targets, bias, embedding)
    want = augmented_cross_entropy(hidden, weight, targets, bias, embedding, **options)
    assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))
    assert not list(criterion.parameters())
    assert "temperature=3.0" in repr(criterion)


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("shape", [(), (1,), (7,), (2, 3), (2, 1, 3)])
def test_any_leading_shape_is_a_list_of_tokens(impl, shape):
    count = math.prod(shape)
    hidden, weight, targets = problem(n=count)
    flat = augmented_cross_entropy(hidden, weight, targets, reduction="none", impl=impl)
    shaped = augmented_cross_entropy(
        hidden.view(*shape, 4), weight, targets.view(shape), reduction="none", impl=impl
    )
    for one, other in zip(flat, shaped, strict=True):
        assert other.shape == shape
        assert torch.equal(one, other.reshape(-1))


@pytest.mark.parametrize("impl", IMPLS)
def test_non_contiguous_inputs_are_the_same_numbers(impl):
    hidden, weight, targets = (x.detach() for x in problem())
    strided = (hidden.t().contiguous().t(), torch.stack([weight, weight], dim=-1)[..., 0],
               torch.stack([targets, targets], dim=-1)[:, 0])  # fmt: skip
    assert not any(x.is_contiguous() for x in strided)
    got = augmented_cross_entropy(*strided, impl=impl)
    torch.testing.assert_close(got, augmented_cross_entropy(hidden, weight, targets, impl=impl))


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_ignored_tokens_may_be_nan(impl, reduction):
    hidden, classifier = torch.randn(4, 5), torch.randn(7, 5, requires_grad=True)
    hidden[1] = torch.nan
    hidden.requires_grad_()
    targets = torch.tensor([0, -100, 2, 3])
    out = augmented_cross_entropy(
        hidden, classifier, targets, alpha=2.0, impl=impl, reduction=reduction
    )
    out.loss.sum().backward()
    assert torch.isfinite(out.loss).all()
    assert torch.isfinite(classifier.grad).all()
    assert hidden.grad[1].abs().sum() == 0


@pytest.mark.parametrize("recording", [False, True])
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("impl", IMPLS)
def test_ignored_targets_weigh_nothing_where_word_0_is_forbidden(
    impl, reduction, recording, monkeypatch
):
    """A recorded graph cannot leave tokens out, so word 0 stands for the ignored ones."""
    for module in ("augmented", "stream", "operator"):
        monkeypatch.setattr(f"tiedlm.loss.{module}.is_recording", lambda *_: recording)
    hidden, weight, targets = problem()
    bias = torch.zeros(11, dtype=torch.float64)
    bias[0] = -torch.inf
    targets = targets.clamp(min=1).where(torch.arange(7) % 3 != 1, -100)
    out = augmented_cross_entropy(
        hidden, weight, targets, bias, alpha=2.0, temperature=3.0, reduction=reduction, impl=impl
    )
    logits = hidden @ weight.t() + bias
    torch.testing.assert_close(
        out.ce, functional.cross_entropy(logits, targets, reduction=reduction)
    )
    assert out.loss.isfinite().all()
    grads = torch.autograd.grad(out.loss.sum(), (hidden, weight))
    assert all(grad.isfinite().all() for grad in grads)
    assert not grads[0][targets == -100].any()


@pytest.mark.parametrize("impl", IMPLS)
def test_ignored_targets_do_not_count(impl):
    hidden, weight, targets = problem()
    keep = torch.tensor([True, False, True, True, False, True, True])
    padded = targets.where(keep, torch.tensor(-1))
    out = augmented_cross_entropy(hidden, weight, padded, ignore_index=-1, impl=impl)
    short = augmented_cross_entropy(hidden[keep], weight, targets[keep], impl=impl)
    torch.testing.assert_close(out, short)
    got = torch.autograd.grad(out.loss, (hidden, weight))
    want = torch.autograd.grad(short.loss, (hidden, weight))
    torch.testing.assert_close(got, want)
    assert not got[0][~keep].any()
    single = augmented_cross_entropy(
        hidden, weight, padded, ignore_index=-1, reduction="none", impl=impl
    )
    assert not single.loss[~keep].any()


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("n", [0, 3])
@pytest.mark.parametrize("alpha", [0.0, 13.0])
def test_no_token_that_counts_gives_zero_loss_and_zero_gradients(impl, reduction, n, alpha):
    hidden, weight, _ = problem(n=n)
    bias = torch.zeros(11, dtype=torch.float64, requires_grad=True)
    targets = torch.full((n,), -100)
    out = augmented_cross_entropy(
        hidden, weight, targets, bias, alpha=alpha, reduction=reduction, impl=impl
    )
    out.loss.sum().backward()
    for value in (*out, hidden.grad, weight.grad, bias.grad):
        assert value.isfinite().all()
        assert not value.any()


@pytest.mark.parametrize("impl", EXACT)
@pytest.mark.parametrize("temperature", [0.1, 1.0, 20.0, 1e6])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_huge_scores_stay_finite_and_right(impl, temperature, dtype):
    """Scores of +-1e4 are compared with the float64 reference."""
    hidden, weight, targets = problem(dtype=dtype)
    scale = 1e4 / (hidden @ weight.t()).abs().max().item()
    inputs = (hidden.detach() * scale).requires_grad_(), weight, targets
    out = augmented_cross_entropy(*inputs, temperature=temperature, impl=impl)
    exact_inputs = [x.detach().double().requires_grad_() for x in inputs[:2]]
    exact = augmented_cross_entropy(
        *exact_inputs, targets, temperature=temperature, impl="reference"
    )
    torch.testing.assert_close(out.loss.double(), exact.loss, rtol=1e-5, atol=1e-5)
    got = torch.autograd.grad(out.loss, inputs[:2])
    want = torch.autograd.grad(exact.loss, exact_inputs)
    for one, other in zip(got, want, strict=True):
        assert one.isfinite().all()
        torch.testing.assert_close(one.double(), other, rtol=1e-3, atol=1e-3 * other.abs().max())


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_gives_float32_losses_and_gradients_of_its_own_type(impl, dtype):
    hidden, weight, targets = problem(dtype=dtype)
    bias = torch.zeros(11, dtype=dtype, requires_grad=True)
    out = augmented_cross_entropy(hidden, weight, targets, bias, impl=impl)
    assert {part.dtype for part in out} == {torch.float32}
    out.loss.backward()
    assert {x.grad.dtype for x in (hidden, weight, bias)} == {dtype}


@pytest.mark.parametrize("alpha", [0.0, 13.0])
@pytest.mark.parametrize("tied", [True, False])
def test_many_tokens_cost_float16_no_digits(pointwise, alpha, tied):
    """h / N is subnormal in float16, so the gradient must not be computed from it."""
    generator = torch.Generator().manual_seed(0)
    hidden = 0.05 * torch.randn(2**15, 8, generator=generator)
    weight = torch.randn(11, 8, generator=generator).requires_grad_()
    embedding = weight if tied else torch.randn(11, 8, generator=generator).requires_grad_()
    targets = torch.randint(11, (2**15,), generator=generator)
    inputs = {weight, embedding} if alpha else {weight}
    grads = []
    for dtype in (torch.float16, torch.float64):
        operands = [
            x if dtype == torch.float16 else x.double() for x in (hidden, weight, embedding)
        ]
        with torch.autocast("cpu", dtype, enabled=dtype == torch.float16):
            out = augmented_cross_entropy(
                operands[0], operands[1], targets, alpha=alpha,
                embedding=operands[1] if tied else operands[2],
            )  # fmt: skip
        grads.append(torch.autograd.grad(out.loss, list(inputs)))
    for one, other in zip(*grads, strict=True):
        assert (one - other).norm() < 1e-3 * other.norm()


@pytest.mark.parametrize("impl", IMPLS)
def test_autocast_rounds_the_operands_and_nothing_else(impl):
    hidden, weight, targets = problem(dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        out = augmented_cross_entropy(hidden, weight, targets, impl=impl)
    assert out.loss.dtype == torch.float32
    grads = torch.autograd.grad(out.loss, (hidden, weight))
    assert {grad.dtype for grad in grads} == {torch.float32}
    full = augmented_cross_entropy(hidden, weight, targets, impl=impl)
    assert not torch.equal(out.loss, full.loss)
    torch.testing.assert_close(out.loss, full.loss, rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("impl", EXACT)
def test_autocast_takes_half_precision_hidden_states_beside_float32_weights(impl):
    hidden, weight, targets = problem(dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        rounded_inside = augmented_cross_entropy(hidden, weight, targets, impl=impl)
        rounded_before = augmented_cross_entropy(hidden.bfloat16(), weight, targets, impl=impl)
    torch.testing.assert_close(rounded_before, rounded_inside)


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("factor", [0.25, 3.0])
def test_scaling_the_loss_scales_the_gradients(impl, factor):
    hidden, weight, targets = problem()
    once = augmented_cross_entropy(hidden, weight, targets, impl=impl).loss
    again = augmented_cross_entropy(hidden, weight, targets, impl=impl).loss
    plain = torch.autograd.grad(once, (hidden, weight))
    scaled = torch.autograd.grad(again * factor, (hidden, weight))
    torch.testing.assert_close(scaled, tuple(factor * grad for grad in plain))


@pytest.mark.parametrize("impl", IMPLS)
def test_detached_target_is_a_frozen_embedding(impl):
    hidden, weight, targets = problem()
    detached = augmented_cross_entropy(hidden, weight, targets, target_grad=False, impl=impl)
    frozen = augmented_cross_entropy(
        hidden, weight, targets, embedding=weight.detach().clone(), impl=impl
    )
    torch.testing.assert_close(detached.loss, frozen.loss)
    torch.testing.assert_close(
        torch.autograd.grad(detached.loss, (hidden, weight)),
        torch.autograd.grad(frozen.loss, (hidden, weight)),
    )


@pytest.mark.parametrize("impl", IMPLS)
def test_tied_gradient_is_the_sum_of_the_classifiers_and_the_embeddings(impl):
    hidden, weight, targets = problem()
    tied = augmented_cross_entropy(hidden, weight, targets, impl=impl)
    embedding = weight.detach().clone().requires_grad_()
    untied = augmented_cross_entropy(hidden, weight, targets, embedding=embedding, impl=impl)
    (tied_grad,) = torch.autograd.grad(tied.loss, weight)
    by_classifier, by_embedding = torch.autograd.grad(untied.loss, (weight, embedding))
    assert by_embedding.abs().max() > 1e-6
    torch.testing.assert_close(tied_grad, by_classifier + by_embedding)


def nested(tensor):
    return torch.nested.nested_tensor(list(tensor.split([3, 4])), layout=torch.jagged)


def bad_calls():
    hidden, weight, targets = (x.detach() for x in problem())
    bias, embedding = weight[:, 0], weight
    ok = dict(hidden=hidden, classifier=weight, targets=targets, bias=bias, embedding=embedding)
    wrong_target = targets.clone()
    wrong_target[4] = 11
    negative = targets.clone()
    negative[1] = -1
    for change, message in [
        ({"hidden": hidden[0, 0]}, r"hidden: expected shape \(\.\.\., D\), got \(\)"),
        ({"hidden": hidden.long()}, "hidden: expected a floating dtype, got torch.int64"),
        ({"classifier": weight[:, :3]}, r"classifier: expected shape \(V, 4\).*got \(11, 3\)"),
        ({"classifier": weight[0]}, r"classifier: expected shape \(V, 4\).*got \(4,\)"),
        ({"classifier": weight.float()}, "classifier: expected dtype torch.float64, .*float32"),
        ({"classifier": weight.to("meta")}, "classifier: expected device cpu, .*got meta"),
        ({"classifier": torch.nn.Embedding(11, 4)}, r"got Embedding; pass its \.weight"),
        ({"bias": torch.nn.Linear(4, 11)}, r"bias: expected a tensor, got Linear; pass its \.bias"),
        ({"bias": 13.0}, "bias: expected a tensor, got float"),
        ({"targets": targets.tolist()}, "targets: expected a tensor, got list"),
        ({"hidden": nested(hidden)}, "hidden: expected a dense tensor, got a nested one; pass the"),
        (
            {"classifier": weight.to_sparse()},
            "classifier: .* dense tensor, got a torch.sparse_c",
        ),
        ({"targets": targets[:3]}, r"targets: expected shape \(7,\).*got \(3,\)"),
        ({"targets": targets.int()}, r"int64, got torch.int32; pass targets\.long\(\)"),
        ({"targets": targets.double()}, "targets: expected dtype torch.int64, got .*float64$"),
        ({"targets": wrong_target}, r"targets: expected ids in \[0, 11\) .*got 11"),
        ({"targets": negative}, r"targets: expected ids in \[0, 11\) or ignore_index -100, got -1"),
        ({"bias": bias[:5]}, r"bias: expected shape \(11,\), got \(5,\)"),
        ({"bias": bias.float()}, "bias: expected dtype torch.float64"),
        ({"embedding": weight[:5]}, r"embedding: expected shape \(11, E\).*got \(5, 4\)"),
        ({"embedding": weight.float()}, "embedding: expected dtype torch.float64"),
        ({"alpha": torch.tensor(1.0)}, r"alpha: .* 0, got a tensor; pass alpha\.item\(\)"),
        ({"alpha": "13"}, "alpha: expected a finite number of at least 0, got '13'"),
        ({"alpha": 1j}, "alpha: expected a finite number of at least 0, got 1j"),
        ({"temperature": torch.tensor(1.0)}, r"got a tensor; pass temperature\.item\(\)"),
        ({"temperature": None}, "temperature: expected a finite number above 0, got None"),
        ({"ignore_index": None}, "ignore_index: expected an integer, got None"),
        ({"classifier": weight.flatten()}, "gather a weight that FSDP or ZeRO has sharded"),
        ({"alpha": -1.0}, "alpha: expected a finite number of at least 0, got -1.0"),
        ({"alpha": math.nan}, "alpha: expected a finite number of at least 0, got nan"),
        ({"temperature": 0.0}, "temperature: expected a finite number above 0, got 0.0"),
        ({"temperature": math.inf}, "temperature: expected a finite number above 0, got inf"),
        ({"reduction": "avg"}, "reduction: expected one of .*'mean'.* got 'avg'"),
        ({"impl": "fast"}, "impl: expected one of .*'fused'.* got 'fast'"),
    ]:
        yield pytest.param(ok | change, message, id=f"{next(iter(change))}: {message[-24:]}")


@pytest.mark.parametrize(("arguments", "message"), list(bad_calls()))
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        augmented_cross_entropy(**arguments)


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("of_hidden", [True, False])
def test_half_precision_beside_float32_outside_autocast_names_both_ways_out(half, of_hidden):
    hidden, weight, targets = problem(dtype=torch.float32)
    hidden, weight = (hidden.to(half), weight) if of_hidden else (hidden, weight.to(half))
    advice = rf"cast one of them, as with classifier\.to.*torch\.autocast\('cpu', {half}\)"
    with pytest.raises(ValueError, match=advice):
        augmented_cross_entropy(hidden, weight, targets)
    augmented_cross_entropy(hidden, weight.to(hidden.dtype), targets)
    with torch.autocast("cpu", half):
        augmented_cross_entropy(hidden, weight, targets)


def test_numpy_numbers_are_accepted():
    given = dict(alpha=np.float32(2), temperature=np.int64(3), ignore_index=np.int64(-100))
    plain = dict(alpha=2.0, temperature=3.0)
    assert augmented_cross_entropy(*problem(), **given) == augmented_cross_entropy(
        *problem(), **plain
    )


def test_a_batch_of_gradients_is_a_clear_error_of_the_fused_loss_only():
    hidden, weight, targets = problem()
    upstream = torch.eye(7, dtype=torch.float64)
    for impl in ("fused", "auto"):
        out = augmented_cross_entropy(hidden, weight, targets, reduction="none", impl=impl)
        with pytest.raises(RuntimeError, match="no batch of gradients; use impl='reference'"):
            torch.autograd.grad(out.loss, hidden, upstream, is_grads_batched=True)
    out = augmented_cross_entropy(hidden, weight, targets, reduction="none", impl="reference")
    (grads,) = torch.autograd.grad(out.loss, hidden, upstream, is_grads_batched=True)
    assert grads.shape == (7, *hidden.shape)


def test_second_derivative_is_a_clear_error_of_the_fused_loss_only():
    hidden, weight, targets = problem()
    out = augmented_cross_entropy(hidden, weight, targets, impl="fused")
    with pytest.raises(RuntimeError, match="no second derivative; use impl='reference'"):
        torch.autograd.grad(out.loss, hidden, create_graph=True)
    out = augmented_cross_entropy(hidden, weight, targets, impl="reference")
    (grad,) = torch.autograd.grad(out.loss, hidden, create_graph=True)
    assert grad.requires_grad


def test_impl_auto_never_chooses_the_approximation():
    hidden, weight, targets = problem()
    auto = augmented_cross_entropy(hidden, weight, targets, temperature=0.5)
    exact = augmented_cross_entropy(hidden, weight, targets, temperature=0.5, impl="reference")
    torch.testing.assert_close(auto.aug, exact.aug)
