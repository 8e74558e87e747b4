"""GRU and Elman against PyTorch's own, fast layers against the readable ones."""

import pytest
import torch
from torch import nn

from tiedlm import LanguageModel, ModelConfig
from tiedlm.arithmetic import arithmetic
from tiedlm.networks.gru_function import gru_layer
from tiedlm.networks.recurrent import HiddenState

SHAPE = {"vocab_size": 13, "d_embed": 6, "d_hidden": 7, "init_range": 0.5}
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-6}


def network(name, dtype=torch.float64, **options):
    torch.manual_seed(0)
    return LanguageModel(ModelConfig(network=name, **{**SHAPE, **options})).to(dtype).network


def randoms(*shape, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=dtype)


def theirs(name, net, dtype):
    """Return PyTorch's module with the weights of ours."""
    kinds = {
        "gru": (nn.GRU, {}),
        "elman": (nn.RNN, {"nonlinearity": getattr(net, "activation", "")}),
    }
    kind, options = kinds[name]
    made = kind(net.d_input, net.d_hidden, net.n_layers, **options).to(dtype)
    with torch.no_grad():
        for index, layer in enumerate(net.layers):
            for ours in ("weight_ih", "weight_hh"):
                getattr(made, f"{ours}_l{index}").copy_(getattr(layer, ours))
            getattr(made, f"bias_ih_l{index}").copy_(layer.bias)
            getattr(made, f"bias_hh_l{index}").zero_()
            if name == "gru":
                getattr(made, f"bias_hh_l{index}")[2 * net.d_hidden :].copy_(layer.recurrent_bias)
    return made


def close(found, expected, tolerance):
    for one, other in zip(found, expected, strict=True):
        size = max(1.0, other.abs().max().item())
        torch.testing.assert_close(one.detach(), other.detach(), rtol=0, atol=tolerance * size)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(
    ("name", "options"), [("gru", {}), ("elman", {}), ("elman", {"activation": "relu"})]
)
def test_value_and_gradient_are_those_of_pytorch_with_the_same_weights(name, options, dtype):
    net = network(name, dtype, options=options)
    with torch.no_grad():
        for parameter_name, parameter in net.named_parameters():
            if parameter_name.endswith("bias"):
                parameter.uniform_(-0.5, 0.5)
    reference = theirs(name, net, dtype)
    x_TBE, start = randoms(9, 3, 6, dtype=dtype), randoms(2, 3, 7, dtype=dtype)
    results = []
    for run in (
        lambda x, h: net.forward_time_major(x, HiddenState(h)),
        lambda x, h: reference(x, h),
    ):
        x, h = x_TBE.clone().requires_grad_(), start.clone().requires_grad_()
        output, last = run(x, h)
        last = last.h if isinstance(last, HiddenState) else last
        (output.square().sum() + last.sin().sum()).backward()
        results.append([output, last, x.grad, h.grad])
    close(*results, TOLERANCE[dtype])
    for index, layer in enumerate(net.layers):
        for ours in ("weight_ih", "weight_hh"):
            grad = getattr(reference, f"{ours}_l{index}").grad
            close([getattr(layer, ours).grad], [grad], TOLERANCE[dtype])
        close([layer.bias.grad], [getattr(reference, f"bias_ih_l{index}").grad], TOLERANCE[dtype])
        if name == "gru":
            grad = getattr(reference, f"bias_hh_l{index}").grad[2 * net.d_hidden :]
            close([layer.recurrent_bias.grad], [grad], TOLERANCE[dtype])


@pytest.mark.parametrize("name", ["gru", "elman"])
def test_a_layers_mask_is_the_same_where_h_re_enters_and_where_it_leaves(name):
    """A dropped unit acts as one whose outgoing weights are zero, and a kept one as doubled."""
    net = network(name, dropout_hidden=0.5, n_layers=1)
    x_TBE = randoms(5, 1, 6)
    torch.manual_seed(4)
    output, _ = net.forward_time_major(x_TBE, None)
    torch.manual_seed(4)
    mask_1H = net.draw_mask(1, 7, 0.5, x_TBE)
    assert set(mask_1H.unique().tolist()) == {0.0, 2.0}
    net.eval()
    with torch.no_grad():
        net.layers[0].weight_hh.mul_(mask_1H)
        expected, _ = net.forward_time_major(x_TBE, None)
    torch.testing.assert_close(output, expected * mask_1H, rtol=1e-12, atol=1e-12)


def results(net, x_TBE, start, fast):
    net.fast = fast
    net.zero_grad()
    x, s = x_TBE.clone().requires_grad_(), start.clone().requires_grad_()
    torch.manual_seed(3)
    output, state = net.forward_time_major(x, HiddenState(s))
    (output.square().sum() + state.h.sin().sum()).backward()
    return [output, state.h, x.grad, s.grad, *(p.grad.clone() for p in net.parameters())]


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("steps", [3, 12])  # weights are laid out for windows of 8 or more
@pytest.mark.parametrize("drop", [0.0, 0.4])
def test_the_fast_rhn_is_the_readable_one_in_value_and_gradient(dtype, depth, steps, drop):
    net = network(
        "rhn", dtype, dropout_input=drop, dropout_hidden=drop,
        options={"depth": depth, "dropout_output": drop},
    )  # fmt: skip
    x_TBE, start = randoms(steps, 4, 6, dtype=dtype), randoms(2, 4, 7, dtype=dtype) / 2
    fast, readable = (results(net, x_TBE, start, way) for way in (True, False))
    close(fast, readable, TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("steps", [1, 12])
@pytest.mark.parametrize("drop", [0.0, 0.4])
def test_the_fast_gru_is_the_readable_one_in_value_and_gradient(dtype, steps, drop):
    net = network("gru", dtype, dropout_input=drop, dropout_hidden=drop)
    with torch.no_grad():
        for layer in net.layers:
            layer.bias.uniform_(-0.5, 0.5)
            layer.recurrent_bias.uniform_(-0.5, 0.5)
    x_TBE, start = randoms(steps, 4, 6, dtype=dtype), randoms(2, 4, 7, dtype=dtype) / 2
    fast, readable = (results(net, x_TBE, start, way) for way in (True, False))
    close(fast, readable, TOLERANCE[dtype])


@pytest.mark.parametrize("mask_BH", [None, 2.0 * (randoms(2, 3) > 0)])
def test_the_gradient_of_the_fast_gru_agrees_with_finite_differences(mask_BH):
    shapes = (4, 2, 2), (2, 3), (9, 2), (9, 3), (9,), (3,)
    inputs = [randoms(*shape).mul(0.5).requires_grad_() for shape in shapes]
    assert torch.autograd.gradcheck(lambda *args: gru_layer(*args, mask_BH), inputs)


def test_a_step_of_one_stream_leaves_the_parameters_of_the_gru_alone():
    net = network("gru").eval()
    before = [parameter.clone() for parameter in net.parameters()]
    with torch.no_grad():
        net.forward_time_major(randoms(1, 1, 6), None)
    assert all(map(torch.equal, before, net.parameters()))


@pytest.mark.parametrize("wanted", range(6))
def test_one_gradient_of_the_fast_gru_does_not_depend_on_the_others_being_wanted(wanted):
    shapes = (4, 2, 2), (2, 3), (9, 2), (9, 3), (9,), (3,)
    grads = []
    for every in (True, False):
        inputs = [randoms(*shape) / 2 for shape in shapes]
        for index, tensor in enumerate(inputs):
            tensor.requires_grad_(every or index == wanted)
        output, last = gru_layer(*inputs)
        (output.square().sum() + last.sin().sum()).backward()
        grads.append(inputs[wanted].grad)
    assert torch.equal(*grads)


@pytest.mark.parametrize("name", ["gru", "rhn"])
def test_a_fast_layer_in_bfloat16_errs_no_more_than_the_readable_one_under_autocast(name):
    net = network(name, torch.float32, d_embed=32, d_hidden=32, n_layers=1, dropout_hidden=0.3)
    x_TBE, start = randoms(9, 4, 32, dtype=torch.float32), randoms(1, 4, 32, dtype=torch.float32)
    exact = results(net, x_TBE, start, True)
    with arithmetic(precision="bf16"):
        fast = results(net, x_TBE, start, True)
    with torch.autocast("cpu", torch.bfloat16):
        readable = results(net, x_TBE, start, False)
    for one, other, truth in zip(fast, readable, exact, strict=True):
        assert one.dtype == torch.float32
        assert (one - truth).norm() <= 1.5 * (other - truth).norm() + 1e-6 * truth.norm()
    assert not torch.equal(fast[0], exact[0])


def test_the_transform_gates_start_nearly_closed_and_all_else_as_usual():
    model = LanguageModel(
        ModelConfig(network="rhn", init_range=0.04, vocab_size=5, options={"transform_bias": -3.0})
    )
    for _ in range(2):
        for layer in model.network.layers:
            assert layer.bias[:, :200].eq(0).all()
            assert layer.bias[:, 200:].eq(-3).all()
            assert 0.03 < layer.weight_hh.abs().max() <= 0.04
        model.reset_parameters()


@pytest.mark.parametrize("name", ["gru", "rhn"])
def test_a_fast_layer_says_that_it_has_no_second_derivative(name):
    net = network(name)
    x_TBE = randoms(2, 1, 6).requires_grad_()
    output, _ = net.forward_time_major(x_TBE, None)
    with pytest.raises(RuntimeError, match="no second derivative"):
        torch.autograd.grad(output.sum(), x_TBE, create_graph=True)


@pytest.mark.parametrize("name", ["gru", "elman", "rhn"])
def test_a_wrong_shape_is_named(name):
    net = network(name)
    with pytest.raises(ValueError, match=r"x: expected \(T, B, 6\) of one step or more, got"):
        net.forward_time_major(randoms(3, 2, 5), None)
    with pytest.raises(ValueError, match=r"state.h: expected .* = \(2, 2, 7\), got \(2, 3, 7\)"):
        net.forward_time_major(randoms(3, 2, 6), net.initial_state(3))


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("depth", 0, "depth: expected 1 to 1000, got 0"),
        ("depth", 1001, "depth: expected 1 to 1000, got 1001"),
        ("dropout_output", 1.0, "dropout_output is the probability of dropping"),
    ],
)
def test_a_bad_option_of_the_rhn_is_refused(option, value, message):
    with pytest.raises(ValueError, match=message):
        network("rhn", options={option: value})
