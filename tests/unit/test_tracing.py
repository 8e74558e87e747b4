"""The loss and the model work without values, when recorded, and on shards."""

from contextlib import nullcontext

import pytest
import torch
import torch.distributed as dist
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

from tiedlm import LanguageModel, ModelConfig, augmented_cross_entropy
from tiedlm.dropout import variational_mask

pytestmark = pytest.mark.filterwarnings(
    "ignore:`torch.jit.trace:DeprecationWarning", "ignore::torch.jit.TracerWarning"
)

REDUCTIONS = ["mean", "sum", "none"]
IMPLS = ["auto", "fused", "reference", "quadratic"]


def problem(dtype=torch.float64, tied=True):
    generator = torch.Generator().manual_seed(0)
    shapes = [(3, 5, 4), (11, 4), (11,), (11, 6)]
    tensors = [torch.randn(shape, generator=generator).to(dtype) for shape in shapes]
    targets = torch.randint(11, (3, 5), generator=generator)
    targets[0, 1] = -100
    return tensors[: 3 if tied else 4], targets


def loss_of(tensors, targets, **options):
    hidden, classifier, bias, *embedding = tensors
    return augmented_cross_entropy(
        hidden, classifier, targets, bias, embedding[0] if embedding else None, **options
    )


def shapes_of(tensors, targets, **options):
    """Return the shape and type of every loss and gradient."""
    leaves = [x.detach().requires_grad_() for x in tensors]
    out = loss_of(leaves, targets, **options)
    grads = torch.autograd.grad(out.loss.sum(), leaves)
    return [(x.shape, x.dtype) for x in (*out, *grads)], {x.device.type for x in (*out, *grads)}


def without_values(tensors, targets, place):
    """Return the same on the meta device or as fake tensors."""
    if place == "meta":
        return [x.to("meta") for x in tensors], targets.to("meta")
    mode = FakeTensorMode()
    return [mode.from_tensor(x) for x in tensors], mode.from_tensor(targets)


def around(targets, inside):
    """Return the mode of fake tensors. They work outside it too."""
    return targets.fake_mode if inside else nullcontext()


PLACES = pytest.mark.parametrize(
    ("place", "inside"), [("meta", False), ("fake", True), ("fake", False)]
)


@PLACES
@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("tied", [True, False])
def test_shapes_without_values_equal_those_with_values(
    place, inside, impl, reduction, tied, pointwise
):
    """Compiled kernels may not follow an address, forward or backward."""
    for dtype in (torch.float32, torch.bfloat16):
        real, options = problem(dtype, tied), dict(impl=impl, reduction=reduction)
        want, _ = shapes_of(*real, **options)
        tensors, targets = without_values(*real, place)
        with around(targets, inside):
            got, devices = shapes_of(tensors, targets, **options)
        assert got == want
        assert devices == {targets.device.type}


@PLACES
def test_shapes_and_types_are_checked_without_values(place, inside):
    tensors, targets = without_values(*problem(), place)
    with around(targets, inside):
        with pytest.raises(ValueError, match=r"targets: expected shape \(3, 5\)"):
            loss_of(tensors, targets[0])
        with pytest.raises(ValueError, match=r"pass targets\.long\(\)"):
            loss_of(tensors, targets.int())


class Criterion(torch.nn.Module):
    def __init__(self, **options):
        super().__init__()
        self.options = options

    def forward(self, hidden, weight, targets):
        return tuple(augmented_cross_entropy(hidden, weight, targets, **self.options))


@pytest.mark.parametrize("impl", IMPLS)
def test_exported_and_traced_losses_equal_the_loss_for_other_targets_too(impl):
    (hidden, weight, _), targets = problem()
    criterion, inputs = Criterion(impl=impl), (hidden, weight, targets)
    others = targets.flip(1).clamp(min=2)  # fewer distinct targets, none ignored
    graphs = [
        torch.export.export(criterion, inputs, strict=False).module(),
        make_fx(criterion)(*inputs),
        make_fx(criterion, tracing_mode="fake")(*inputs),
        torch.jit.trace(criterion, inputs, check_trace=False),
    ]
    for graph in graphs:
        for some in (targets, others):
            got, want = (f(2 * hidden, weight, some) for f in (graph, criterion))
            torch.testing.assert_close(tuple(got), want)


def test_an_export_of_the_reference_has_operators_of_pytorch_only():
    (hidden, weight, _), targets = problem()
    for impl, own in (("auto", True), ("reference", False)):
        inputs = (hidden, weight, targets)
        program = torch.export.export(Criterion(impl=impl), inputs, strict=False)
        assert ("tiedlm" in str(program.graph)) == own


class TrainingLoss(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, tokens):
        hidden, _ = self.model(tokens[:, :-1])
        return self.model.loss(hidden, tokens[:, 1:], alpha=13.0).loss


TOKENS = torch.randint(11, (3, 7), generator=torch.Generator().manual_seed(0))


def config(tied=True, dropout=0.0):
    return ModelConfig(
        vocab_size=11, d_embed=4, d_hidden=4, tied=tied,
        dropout_input=dropout, dropout_hidden=dropout,
    )  # fmt: skip


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("place", ["meta", "fake"])
def test_a_model_without_values_has_shapes_and_gradients(tied, place, pointwise):
    mode = FakeTensorMode() if place == "fake" else torch.device("meta")
    with mode:
        model = LanguageModel(config(tied, dropout=0.3))
        tokens = torch.zeros(3, 6, dtype=torch.int64)
        hidden, state = model(tokens)
        model.loss(hidden, tokens, alpha=13.0).loss.backward()
        assert hidden.shape == (3, 6, 4)
        assert state.h.shape == (2, 3, 4)
        assert all(p.grad.shape == p.shape for p in model.parameters())
        with torch.no_grad():
            assert model.eval()(tokens)[0].shape == (3, 6, 4)


@pytest.mark.parametrize("training", [True, False])
def test_an_exported_model_equals_the_model_for_other_words_too(training):
    torch.manual_seed(0)
    loss = TrainingLoss(LanguageModel(config(dropout=0.3)).train(training))
    graphs = [
        torch.export.export(loss, (TOKENS,), strict=False).module(),
        torch.jit.trace(loss, (TOKENS,), check_trace=False),
    ]
    for graph in graphs:
        torch.manual_seed(1)
        got = graph(TOKENS.flip(0, 1))
        torch.manual_seed(1)
        torch.testing.assert_close(got, loss(TOKENS.flip(0, 1)))


def test_masks_are_the_numbers_that_pytorch_draws_in_place():
    like = torch.ones(())
    torch.manual_seed(0)
    got = variational_mask((7, 41), 0.3, like)
    torch.manual_seed(0)
    assert torch.equal(got, torch.empty(7, 41).bernoulli_(0.7).div_(0.7))


@pytest.fixture
def mesh():
    """Make a group of one process: its shards are whole but still DTensors."""
    from torch.distributed.device_mesh import init_device_mesh

    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    dist.destroy_process_group()


def test_a_sharded_weight_is_refused_with_advice_that_works(mesh):
    from torch.distributed.tensor import DTensor, Shard, distribute_tensor

    (hidden, weight, bias), targets = problem()
    shards = distribute_tensor(weight, mesh, [Shard(0)]).requires_grad_()
    for impl in IMPLS:
        with pytest.raises(ValueError, match=r"classifier\.full_tensor\(\), .*module\.unshard\(\)"):
            augmented_cross_entropy(hidden, shards, targets, impl=impl)
        with pytest.raises(ValueError, match=r"bias\.full_tensor\(\)"):
            augmented_cross_entropy(
                hidden, weight, targets, distribute_tensor(bias, mesh, [Shard(0)]), impl=impl
            )
    augmented_cross_entropy(hidden, shards.full_tensor(), targets).loss.backward()
    assert isinstance(shards.grad, DTensor)
    whole = weight.clone().requires_grad_()
    augmented_cross_entropy(hidden, whole, targets).loss.backward()
    torch.testing.assert_close(shards.grad.full_tensor(), whole.grad)


def test_the_reference_takes_tensors_that_are_all_sharded(mesh):
    from torch.distributed.tensor import Replicate, Shard, distribute_tensor

    (hidden, weight, _), targets = problem()
    sharded = distribute_tensor(weight, mesh, [Shard(0)])
    everywhere = [distribute_tensor(x, mesh, [Replicate()]) for x in (hidden, targets)]
    got = augmented_cross_entropy(everywhere[0], sharded, everywhere[1], impl="reference").loss
    want = augmented_cross_entropy(hidden, weight, targets, impl="reference").loss
    torch.testing.assert_close(got.full_tensor(), want)


def test_a_module_that_fsdp_resharded_is_refused_until_it_is_unsharded(mesh):
    from torch.distributed.fsdp import fully_shard

    (hidden, _, _), targets = problem(torch.float32)
    classifier = torch.nn.Linear(4, 11, bias=False)
    fully_shard(classifier, mesh=mesh)
    with pytest.raises(ValueError, match=r"module\.unshard\(\)"):
        augmented_cross_entropy(hidden, classifier.weight, targets)
    classifier.unshard()
    assert augmented_cross_entropy(hidden, classifier.weight, targets).loss.isfinite()
