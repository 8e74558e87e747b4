"""The loss and the model work in torch.func transforms and forward-mode differentiation."""

import pytest
import torch
from torch.autograd import forward_ad
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, linearize, vjp, vmap

from tiedlm import LanguageModel, ModelConfig, augmented_cross_entropy

# Warnings of forward mode and linearize about PyTorch's own code.
pytestmark = pytest.mark.filterwarnings(
    "ignore:`torch.jit.script` is deprecated", "ignore:Attempted to insert a get_attr Node"
)

REDUCTIONS = ["mean", "sum", "none"]
IMPLS = ["auto", "reference", "quadratic"]


def problem(examples=3, n=5, vocab=11, width=4):
    """Return hidden states (examples, n, width), a classifier and targets with one ignored."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(examples, n, width, dtype=torch.float64, generator=generator)
    weight = torch.randn(vocab, width, dtype=torch.float64, generator=generator)
    targets = torch.randint(vocab, (examples, n), generator=generator)
    targets[0, 1] = -100
    return hidden, weight, targets


def loss_of(**options):
    def loss(hidden, weight, targets):
        return augmented_cross_entropy(hidden, weight, targets, temperature=3.0, **options).loss

    return loss


def by_autograd(loss, hidden, weight, targets):
    """Return gradients for hidden states and classifier without any transform."""
    leaves = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
    return torch.autograd.grad(loss(*leaves, targets).sum(), leaves)


def assert_close(got, want):
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-13)


@pytest.fixture(params=[(i, r) for i in IMPLS for r in REDUCTIONS], ids="-".join)
def loss(request):
    impl, reduction = request.param
    return loss_of(impl=impl, reduction=reduction)


def summed(loss):
    return lambda *inputs: loss(*inputs).sum()


def test_functional_gradients_equal_those_of_autograd(loss):
    hidden, weight, targets = problem()
    want = by_autograd(loss, hidden, weight, targets)
    assert_close(grad(summed(loss), (0, 1))(hidden, weight, targets), want)
    _, pull_back = vjp(lambda h, w: summed(loss)(h, w, targets), hidden, weight)
    assert_close(pull_back(torch.ones((), dtype=torch.float64)), want)


def test_jacobians_of_both_modes_equal_those_of_autograd(loss):
    hidden, weight, targets = problem()
    want = by_autograd(loss, hidden, weight, targets)
    for jacobian in (jacrev, jacfwd):
        assert_close(jacobian(summed(loss), (0, 1))(hidden, weight, targets), want)


def test_a_directional_derivative_is_the_gradients_product_with_the_direction(loss):
    hidden, weight, targets = problem()
    for_hidden, for_weight = by_autograd(loss, hidden, weight, targets)
    direction = hidden.cos(), weight.sin()
    want = (for_hidden * direction[0]).sum() + (for_weight * direction[1]).sum()

    def of_both(h, w):
        return summed(loss)(h, w, targets)

    assert_close(jvp(of_both, (hidden, weight), direction)[1], want)
    assert_close(linearize(of_both, hidden, weight)[1](*direction), want)
    with forward_ad.dual_level():
        duals = map(forward_ad.make_dual, (hidden, weight), direction)
        assert_close(forward_ad.unpack_dual(of_both(*duals)).tangent, want)


@pytest.mark.parametrize("mapped", [(0, None, 0), (0, None, None), (None, None, 0), (0, 0, 0)])
def test_mapping_over_examples_is_a_loop(loss, mapped):
    hidden, weight, targets = problem()
    weights = torch.stack([weight * (i + 1) for i in range(3)])
    inputs = [
        every if axis == 0 else one
        for every, one, axis in zip(
            (hidden, weights, targets), (hidden[1], weight, targets[0]), mapped, strict=True
        )
    ]
    loop = [
        [x if axis is None else x[i] for x, axis in zip(inputs, mapped, strict=True)]
        for i in range(3)
    ]
    assert_close(vmap(loss, mapped)(*inputs), torch.stack([loss(*one) for one in loop]))
    gradients = vmap(grad(summed(loss), (0, 1)), mapped)(*inputs)
    for got, want in zip(
        gradients, zip(*(by_autograd(loss, *one) for one in loop), strict=True), strict=True
    ):
        assert_close(got, torch.stack(want))


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("target_grad", [True, False])
@pytest.mark.parametrize("impl", IMPLS)
def test_second_derivatives_agree_with_differences_of_gradients(impl, tied, target_grad):
    hidden, weight, targets = problem(examples=1)
    embedding = None if tied else 1.5 * weight.cos()
    loss = loss_of(impl=impl, target_grad=target_grad, embedding=embedding)
    if tied and not target_grad:  # the target stays fixed
        embedding = weight.clone()
    frozen = loss_of(impl=impl, target_grad=target_grad, embedding=embedding)
    step = 1e-5
    for wanted, x in ((0, hidden), (1, weight)):
        got = hessian(loss, wanted)(hidden, weight, targets).flatten(x.dim())
        assert got.abs().max() > 1e-2

        def gradient(moved, wanted=wanted):
            inputs = [hidden, weight, targets]
            inputs[wanted] = moved
            return by_autograd(frozen, *inputs)[wanted]

        directions = torch.eye(x.numel(), dtype=x.dtype).view(-1, *x.shape) * step
        columns = [(gradient(x + d) - gradient(x - d)) / (2 * step) for d in directions]
        torch.testing.assert_close(got, torch.stack(columns, -1), rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("impl", IMPLS)
def test_hessian_vector_product_is_the_hessians_product_with_the_vector(impl):
    hidden, weight, targets = problem()
    loss, vector = loss_of(impl=impl), weight.sin()
    _, product = jvp(lambda w: grad(loss, 1)(hidden, w, targets), (weight,), (vector,))
    whole = hessian(loss, 1)(hidden, weight, targets)
    assert_close(product, torch.tensordot(whole, vector, 2))


@pytest.mark.parametrize("impl", IMPLS)
def test_the_logged_parts_have_no_derivative(impl):
    hidden, weight, targets = problem()

    def logged(w):
        out = augmented_cross_entropy(hidden, w, targets, impl=impl)
        return out.ce + out.aug

    assert not grad(logged)(weight).any()
    assert not jvp(logged, (weight,), (weight,))[1].any()


def test_auto_is_the_reference_bit_for_bit():
    hidden, weight, targets = problem()
    auto, reference = (
        grad(loss_of(impl=impl), (0, 1))(hidden, weight, targets) for impl in ("auto", "reference")
    )
    assert all(torch.equal(a, b) for a, b in zip(auto, reference, strict=True))


def test_a_target_outside_the_vocabulary_is_refused_if_it_can_be_read():
    hidden, weight, targets = problem()
    targets[2, 2] = 11
    with pytest.raises(ValueError, match=r"targets: expected ids in \[0, 11\) .*got 11"):
        grad(loss_of())(hidden, weight, targets)


def test_shapes_and_types_are_checked_under_vmap_too():
    hidden, weight, targets = problem()
    with pytest.raises(ValueError, match=r"targets: expected shape \(5,\)"):
        vmap(loss_of(), (0, None, None))(hidden, weight, targets[0, :3])
    with pytest.raises(ValueError, match=r"pass targets\.long\(\)"):
        vmap(loss_of(), (0, None, 0))(hidden, weight, targets.int())


def test_fused_says_that_it_cannot_be_transformed():
    hidden, weight, targets = problem()
    loss = loss_of(impl="fused")
    message = "impl='fused' does not work inside torch.func .*use impl='auto' or impl='reference'"
    with pytest.raises(RuntimeError, match=message):
        grad(loss)(hidden, weight, targets)
    with forward_ad.dual_level(), pytest.raises(RuntimeError, match=message):
        loss(forward_ad.make_dual(hidden, hidden), weight, targets)


@pytest.mark.parametrize("reentrant", [True, False])
def test_a_checkpoint_and_a_retained_graph_give_the_same_gradients(loss, reentrant):
    hidden, weight, targets = problem()
    want = by_autograd(loss, hidden, weight, targets)
    leaves = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
    out = torch.utils.checkpoint.checkpoint(loss, *leaves, targets, use_reentrant=reentrant)
    out.sum().backward()
    assert_close(tuple(leaf.grad for leaf in leaves), want)
    out = loss(*leaves, targets).sum()
    torch.autograd.grad(out, leaves, retain_graph=True)
    assert_close(torch.autograd.grad(out, leaves), want)


class TrainingLoss(torch.nn.Module):
    """Model and loss in one module, for functional_call."""

    def __init__(self, tied=True, dropout=0.0):
        super().__init__()
        torch.manual_seed(0)
        config = ModelConfig(
            vocab_size=11, d_embed=4, d_hidden=4, tied=tied,
            dropout_input=dropout, dropout_hidden=dropout,
        )  # fmt: skip
        self.model = LanguageModel(config).double()

    def forward(self, tokens):
        hidden, _ = self.model(tokens[:, :-1])
        return self.model.loss(hidden, tokens[:, 1:], alpha=2.0, temperature=3.0).loss


def functional(module):
    parameters = {name: p.detach() for name, p in module.named_parameters()}
    return parameters, lambda parameters, tokens: functional_call(module, parameters, (tokens,))


TOKENS = torch.randint(11, (3, 7), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_a_model_has_the_same_gradients_by_transforms(tied, dropout):
    module = TrainingLoss(tied, dropout)
    parameters, loss = functional(module)
    torch.manual_seed(1)
    module(TOKENS).backward()
    want = {name: p.grad for name, p in module.named_parameters()}
    torch.manual_seed(1)
    assert_close(grad(loss)(parameters, TOKENS), want)
    torch.manual_seed(1)
    assert_close(jacrev(loss)(parameters, TOKENS), want)
    torch.manual_seed(1)
    _, along = jvp(lambda p: loss(p, TOKENS), (parameters,), (parameters,))
    assert_close(along, sum((want[name] * parameters[name]).sum() for name in want))


def test_a_model_has_a_gradient_for_each_example():
    parameters, loss = functional(TrainingLoss())
    every = vmap(grad(loss), (None, 0))(parameters, TOKENS[:, None])
    for i, tokens in enumerate(TOKENS):
        assert_close(
            {name: g[i] for name, g in every.items()}, grad(loss)(parameters, tokens[None])
        )


def test_each_mapped_example_draws_its_own_mask_on_request():
    lstm = TrainingLoss(dropout=0.5).model.lstm.train()
    same_inputs = torch.ones(4, 1, 6, 4, dtype=torch.float64)
    torch.manual_seed(0)
    masks = [vmap(lambda x: lstm(x)[0], randomness=r)(same_inputs) for r in ("different", "same")]
    assert not torch.equal(masks[0][0] == 0, masks[0][1] == 0)
    assert all(torch.equal(masks[1][0], mask) for mask in masks[1])


def test_a_model_is_mapped_in_evaluation_without_gradients():
    model = TrainingLoss(dropout=0.3).model.eval()
    with torch.no_grad():
        assert_close(vmap(lambda x: model(x[None])[0][0])(TOKENS), model(TOKENS)[0])
