"""The variational LSTM computes its equations and masks, and its fast layer equals the readable."""

import pytest
import torch

from tiedlm.arithmetic import arithmetic, gemm_dtype
from tiedlm.networks import LSTMState, VariationalLSTM
from tiedlm.networks.lstm import lstm_layer_reference
from tiedlm.networks.lstm_function import lstm_layer


def layer_inputs(T=5, B=3, E=4, H=6, requires_grad=True, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        drawn = torch.randn(*shape, generator=generator, dtype=torch.float64)
        return drawn.requires_grad_(requires_grad)

    return draw(T, B, E), draw(B, H), draw(B, H), draw(4 * H, E), draw(4 * H, H), draw(4 * H)


def mask(B=3, H=6):
    return torch.rand(B, H, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).round()


def all_outputs(function, inputs, mask_BH):
    """Return every output, and every gradient of a function of all outputs."""
    leaves = [tensor.detach().clone().requires_grad_() for tensor in inputs]
    outputs = function(*leaves, mask_BH)
    sum((output.sin() * (i + 1)).sum() for i, output in enumerate(outputs)).backward()
    return [*outputs, *(leaf.grad for leaf in leaves)]


@pytest.mark.parametrize("mask_BH", [None, mask() * 2], ids=["no mask", "mask"])
@pytest.mark.parametrize("T", [1, 2, 7])
def test_fast_layer_equals_readable_layer_in_value_and_gradient(mask_BH, T):
    inputs = layer_inputs(T=T)
    fast = all_outputs(lstm_layer, inputs, mask_BH)
    readable = all_outputs(lstm_layer_reference, inputs, mask_BH)
    for a, b in zip(fast, readable, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_fast_layer_equals_readable_layer_to_1e6_relative_in_float32(pointwise):
    inputs = [0.1 * tensor.detach().float() for tensor in layer_inputs(T=35, B=20, E=41, H=37)]
    mask_BH = mask(20, 37).float() * 2
    for a, b in zip(
        all_outputs(lstm_layer, inputs, mask_BH),
        all_outputs(lstm_layer_reference, inputs, mask_BH),
        strict=True,
    ):
        assert (a - b).norm() / b.norm() < 1e-6


@pytest.mark.parametrize("mask_BH", [None, mask() * 2], ids=["no mask", "mask"])
def test_gradient_of_fast_layer_agrees_with_finite_differences(mask_BH):
    inputs = layer_inputs(T=3)
    assert torch.autograd.gradcheck(lambda *a: lstm_layer(*a, mask_BH), inputs)


@pytest.mark.parametrize("wanted", range(6))
def test_gradient_of_one_input_does_not_depend_on_the_others_having_one(wanted):
    inputs = layer_inputs(requires_grad=False)
    inputs[wanted].requires_grad_()
    output, h, c = lstm_layer(*inputs, mask())
    (output.sum() + h.sum() + c.sum()).backward()
    alone = inputs[wanted].grad
    together = layer_inputs()
    output, h, c = lstm_layer(*together, mask())
    (output.sum() + h.sum() + c.sum()).backward()
    torch.testing.assert_close(alone, together[wanted].grad)
    assert all(t.grad is None for i, t in enumerate(inputs) if i != wanted)


def test_second_derivative_is_refused_with_a_reason():
    inputs = layer_inputs()
    for function in (torch.sin, torch.clone):  # PyTorch would not notice for a linear function
        output, _, _ = lstm_layer(*inputs)
        with pytest.raises(RuntimeError, match="no second derivative; set fast=False"):
            torch.autograd.grad(function(output).sum(), inputs[0], create_graph=True)


def test_a_batch_of_gradients_is_refused_with_a_reason():
    inputs = layer_inputs()
    output, _, _ = lstm_layer(*inputs)
    upstream = torch.ones(2, *output.shape, dtype=output.dtype)
    with pytest.raises(RuntimeError, match="no batch of gradients; set fast=False"):
        torch.autograd.grad(output, inputs[0], upstream, is_grads_batched=True)


@pytest.mark.parametrize("fast", [True, False])
def test_without_dropout_it_equals_torch_nn_lstm(fast):
    torch.manual_seed(0)
    ours = VariationalLSTM(5, 7, n_layers=2, fast=fast).double()
    theirs = torch.nn.LSTM(5, 7, num_layers=2, batch_first=True).double()
    with torch.no_grad():
        for index, layer in enumerate(ours.layers):
            layer.weight_ih.copy_(getattr(theirs, f"weight_ih_l{index}"))
            layer.weight_hh.copy_(getattr(theirs, f"weight_hh_l{index}"))
            layer.bias.copy_(
                getattr(theirs, f"bias_ih_l{index}") + getattr(theirs, f"bias_hh_l{index}")
            )
    x = torch.randn(3, 11, 5, dtype=torch.float64)
    state = (torch.randn(2, 3, 7).double(), torch.randn(2, 3, 7).double())
    results = []
    for module in (ours, theirs):
        inputs = x.clone().requires_grad_()
        output, (h, c) = module(inputs, state)
        (output.sin().sum() + h.sum() + c.cos().sum()).backward()
        results.append((output, h, c, inputs.grad))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(ours.layers[1].weight_hh.grad, theirs.weight_hh_l1.grad)
    torch.testing.assert_close(ours.layers[0].weight_ih.grad, theirs.weight_ih_l0.grad)
    torch.testing.assert_close(ours.layers[0].bias.grad, theirs.bias_ih_l0.grad)


def test_mask_is_constant_over_time():
    torch.manual_seed(0)
    lstm = VariationalLSTM(4, 50, n_layers=1, dropout_hidden=0.5)
    output, _ = lstm(torch.randn(3, 20, 4))
    dropped = output == 0
    assert 0.3 < dropped.float().mean() < 0.7
    assert torch.equal(dropped, dropped[:, :1].expand_as(dropped))


def test_each_example_and_each_call_has_a_mask_of_its_own():
    torch.manual_seed(0)
    lstm = VariationalLSTM(4, 50, dropout_hidden=0.5)
    x = torch.randn(1, 3, 4).expand(2, 3, 4)
    first, second = lstm(x)[0], lstm(x)[0]
    assert not torch.equal(first[0] == 0, first[1] == 0)
    assert not torch.equal(first == 0, second == 0)


def test_the_mask_on_the_recurrent_input_is_the_mask_on_the_output():
    # A unit dropped from the output must not reach the next step either. The weights of every kept
    # unit are zero, so only dropped units could re-enter the layer.

    torch.manual_seed(0)
    lstm = VariationalLSTM(3, 8, dropout_hidden=0.5)
    input_mask, masks = lstm.sample_masks(1)
    assert input_mask is None
    lstm.sample_masks = lambda batch_size: (None, masks)
    kept = masks[0][0] > 0
    assert 0 < kept.sum() < 8
    x = torch.randn(1, 6, 3)
    with torch.no_grad():
        lstm.layers[0].weight_hh[:, kept] = 0
        with_dropped_weights = lstm(x)[0]
        lstm.layers[0].weight_hh.zero_()
        without = lstm(x)[0]
    torch.testing.assert_close(with_dropped_weights, without)


def test_the_next_layer_reads_the_output_under_the_same_mask():
    torch.manual_seed(0)
    both = VariationalLSTM(3, 8, n_layers=2, dropout_hidden=0.5)
    _, masks = both.sample_masks(2)
    both.sample_masks = lambda batch_size: (None, masks)
    x_TBE = torch.randn(5, 2, 3)
    zeros = torch.zeros(2, 8)
    first, second = both.layers
    middle, _, _ = lstm_layer_reference(
        x_TBE, zeros, zeros, first.weight_ih, first.weight_hh, first.bias, masks[0]
    )
    expected, _, _ = lstm_layer_reference(
        middle, zeros, zeros, second.weight_ih, second.weight_hh, second.bias, masks[1]
    )
    torch.testing.assert_close(both.forward_time_major(x_TBE)[0], expected)


def test_the_input_has_a_mask_of_its_own_constant_over_time():
    torch.manual_seed(0)
    lstm = VariationalLSTM(50, 6, dropout_input=0.5)
    x = torch.randn(2, 9, 50, requires_grad=True)
    lstm(x)[0].sum().backward()
    dropped = x.grad == 0
    assert 0.3 < dropped.float().mean() < 0.7
    assert torch.equal(dropped, dropped[:, :1].expand_as(dropped))


def test_expected_value_of_a_mask_is_one():
    torch.manual_seed(0)
    lstm = VariationalLSTM(2, 1000, dropout_hidden=0.3)
    _, masks = lstm.sample_masks(100)
    values = masks[0].unique()
    torch.testing.assert_close(values, torch.tensor([0.0, 1 / 0.7]))
    assert abs(masks[0].mean() - 1) < 0.02


def test_nothing_is_dropped_in_evaluation_mode():
    torch.manual_seed(0)
    lstm = VariationalLSTM(4, 50, n_layers=2, dropout_input=0.9, dropout_hidden=0.9).eval()
    x = torch.randn(2, 5, 4)
    first, second = lstm(x)[0], lstm(x)[0]
    assert torch.equal(first, second)
    assert (first != 0).all()


def test_the_returned_state_is_not_masked():
    torch.manual_seed(0)
    lstm = VariationalLSTM(4, 50, dropout_hidden=0.5)
    output, state = lstm(torch.randn(2, 5, 4))
    assert (output[:, -1] == 0).any()
    assert (state.h != 0).all()


@pytest.mark.parametrize("fast", [True, False])
def test_splitting_a_sequence_into_windows_changes_nothing(fast):
    torch.manual_seed(0)
    lstm = VariationalLSTM(4, 6, n_layers=2, fast=fast).double()
    x = torch.randn(2, 10, 4, dtype=torch.float64)
    whole, end = lstm(x)
    first, state = lstm(x[:, :3])
    second, state = lstm(x[:, 3:], state)
    torch.testing.assert_close(torch.cat([first, second], 1), whole)
    torch.testing.assert_close(state.h, end.h)
    torch.testing.assert_close(state.c, end.c)


def test_gradient_flows_through_the_carried_state_until_it_is_detached():
    lstm = VariationalLSTM(4, 6)
    x = torch.randn(1, 3, 4, requires_grad=True)
    _, state = lstm(x)
    lstm(torch.randn(1, 3, 4), state)[0].sum().backward()
    assert (x.grad != 0).any()
    x.grad = None
    _, state = lstm(x)
    lstm(torch.randn(1, 3, 4), state.detach())[0].sum().backward()
    assert x.grad is None


def test_no_gradient_is_computed_under_no_grad():
    lstm = VariationalLSTM(4, 6)
    with torch.no_grad():
        output, state = lstm(torch.randn(2, 3, 4))
    assert not output.requires_grad
    assert not state.c.requires_grad


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"d_input": 0}, "d_input"),
        ({"n_layers": 0}, "n_layers"),
        ({"dropout_input": 1.0}, "dropout_input"),
        ({"dropout_hidden": -0.1}, "dropout_hidden"),
    ],
)
def test_a_wrong_option_is_named(options, name):
    with pytest.raises(ValueError, match=name):
        VariationalLSTM(**({"d_input": 3, "d_hidden": 4} | options))


def test_a_wrong_shape_is_named():
    lstm = VariationalLSTM(4, 6)
    with pytest.raises(ValueError, match=r"x: expected \(B, T, 4\), got \(2, 3, 5\)"):
        lstm(torch.randn(2, 3, 5))
    wrong = LSTMState(torch.zeros(1, 3, 6), torch.zeros(1, 3, 6))
    with pytest.raises(ValueError, match=r"state\.h.*\(1, 2, 6\), got \(1, 3, 6\)"):
        lstm(torch.randn(2, 3, 4), wrong)
    with pytest.raises(ValueError, match="x: expected one step or more, got none"):
        lstm(torch.randn(2, 0, 4))


@pytest.mark.parametrize("name", ["fp32", "bf16"])
def test_a_state_of_any_layout_is_accepted(pointwise, name):
    x, h, c, *weights = (tensor.detach().float() for tensor in layer_inputs(T=3))
    with arithmetic(precision=name):
        wanted = all_outputs(lstm_layer, (x, h, c, *weights), None)
        leaves = [t.t().contiguous().t() for t in (h, c)]
        assert not leaves[0].is_contiguous()
        got = lstm_layer(x, *leaves, *weights)
    for a, b in zip(got, wanted, strict=False):
        torch.testing.assert_close(a, b)


def test_evaluation_gives_pytorchs_kernel_a_contiguous_state(monkeypatch):
    def lstm(x, state, *_, **__):
        assert all(part.is_contiguous() for part in state)  # cuDNN refuses others
        return x, *state

    monkeypatch.setattr(torch, "lstm", lstm)
    net, states = VariationalLSTM(4, 4, n_layers=2).eval(), torch.zeros(2, 2, 3, 4)
    with torch.no_grad():
        net(torch.zeros(2, 5, 4), LSTMState(*states[:, :, :2]))


def test_zero_streams_are_accepted(pointwise):
    inputs = [tensor.detach().float() for tensor in layer_inputs(B=0)]
    *outputs, grad_x, grad_h, grad_c, grad_w_ih, grad_w_hh, grad_b = all_outputs(
        lstm_layer, inputs, None
    )
    assert [tuple(t.shape) for t in outputs] == [(5, 0, 6), (0, 6), (0, 6)]
    assert [tuple(t.shape) for t in (grad_x, grad_h, grad_c)] == [(5, 0, 4), (0, 6), (0, 6)]
    assert not any(t.any() for t in (grad_w_ih, grad_w_hh, grad_b))


@pytest.mark.parametrize("own_layers", [False, True])
def test_evaluation_without_gradient_gives_the_numbers_of_evaluation_with_it(
    own_layers, monkeypatch
):
    monkeypatch.setattr(VariationalLSTM, "_is_faster_here", lambda self, batch_size: own_layers)
    torch.manual_seed(0)
    lstm = VariationalLSTM(4, 6, n_layers=2, dropout_input=0.5, dropout_hidden=0.5).eval().double()
    x = torch.randn(3, 9, 4, dtype=torch.float64)
    state = LSTMState(torch.randn(2, 3, 6).double(), torch.randn(2, 3, 6).double())
    with_gradient, end = lstm(x, state)
    with torch.no_grad():
        without, end_without = lstm(x, state)
    assert with_gradient.requires_grad
    assert not without.requires_grad
    torch.testing.assert_close(without, with_gradient.detach())
    torch.testing.assert_close(end_without.h, end.h.detach())
    torch.testing.assert_close(end_without.c, end.c.detach())


@pytest.mark.parametrize("own_layers", [False, True])
def test_evaluation_is_float32_whatever_training_is(own_layers, monkeypatch):
    monkeypatch.setattr(VariationalLSTM, "_is_faster_here", lambda self, batch_size: own_layers)
    torch.manual_seed(0)
    lstm = VariationalLSTM(16, 24).eval()
    x = torch.randn(3, 9, 16)
    with torch.no_grad():
        exact = lstm(x)[0]
        with arithmetic(precision="bf16"):
            torch.testing.assert_close(lstm(x)[0], exact, rtol=0, atol=0)
        with torch.autocast("cpu", torch.bfloat16):
            torch.testing.assert_close(lstm(x)[0], exact, rtol=0, atol=0)
            rounded = lstm(x.bfloat16())
    assert {rounded[0].dtype, rounded[1].h.dtype, rounded[1].c.dtype} == {torch.float32}


def test_evaluation_leaves_the_precision_of_other_threads_alone(monkeypatch):
    seen = []
    run = VariationalLSTM._forward_layers

    def spy(*arguments):
        seen.append(gemm_dtype(torch.zeros(1)))
        return run(*arguments)

    monkeypatch.setattr(VariationalLSTM, "_is_faster_here", lambda self, batch_size: True)
    monkeypatch.setattr(VariationalLSTM, "_forward_layers", spy)
    with arithmetic(precision="bf16"), torch.no_grad():
        VariationalLSTM(4, 5).eval()(torch.randn(2, 3, 4))
    assert seen == [torch.bfloat16]


def test_bfloat16_products_are_as_accurate_as_bfloat16_autograd(pointwise):
    # The error of our bf16 layer is at most the error of the readable layer under autocast.
    inputs = [0.3 * tensor.detach().float() for tensor in layer_inputs(T=12, B=8, E=40, H=48)]
    mask_BH = mask(8, 48).float() * 2
    exact = all_outputs(lstm_layer_reference, [t.double() for t in inputs], mask_BH.double())
    with arithmetic(precision="bf16"):
        ours = all_outputs(lstm_layer, inputs, mask_BH)
    with torch.autocast("cpu", torch.bfloat16):
        naive = all_outputs(lstm_layer_reference, inputs, mask_BH)
    for a, b, reference in zip(ours, naive, exact, strict=True):
        assert a.dtype == torch.float32
        own_error = (a - reference).norm() / reference.norm()
        naive_error = (b - reference).norm() / reference.norm()
        assert 1e-5 < own_error < 1.5 * naive_error + 1e-3
