"""AWD-LSTM against plain PyTorch: its layers, its dropouts, DropConnect, the Mogrifier."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from tests_support import run_command
from tiedlm import LanguageModel, ModelConfig
from tiedlm.errors import UserError
from tiedlm.networks import awd_lstm

ALL = {
    "dropout_output": 0.4, "dropconnect": 0.5, "mogrifier_rounds": 3, "mogrifier_rank": 2,
}  # fmt: skip


def config(tied=True, n_layers=3, dropout_input=0.3, dropout_hidden=0.25, **options):
    return ModelConfig(
        vocab_size=9, network="awd_lstm", d_embed=5, d_hidden=7, n_layers=n_layers, tied=tied,
        dropout_input=dropout_input, dropout_hidden=dropout_hidden, options=options,
    )  # fmt: skip


def network(dtype=torch.float64, **options):
    torch.manual_seed(0)
    return LanguageModel(config(**options)).to(dtype).network


def vectors(steps=6, streams=3, dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(steps, streams, 5, generator=generator, dtype=torch.float64).to(dtype)


def locked(x_TBE, p, training):
    """Return AWD-LSTM's LockedDropout of a window."""
    if not training or p == 0:
        return x_TBE
    mask = x_TBE.new_empty(x_TBE.shape[1:]).bernoulli_(1 - p)
    return x_TBE * (mask / (1 - p))


def twin(net, x_TBE, state=None):
    """Compute the network as one writes it with plain PyTorch, an operation at a time."""
    x_TBE = locked(x_TBE, net.dropout_input, net.training)
    state = net.initial_state(x_TBE.shape[1]) if state is None else state
    h_all, c_all, start, ends = state.h[0], state.c[0], 0, []
    for index, (layer, width) in enumerate(zip(net.layers, net.widths, strict=True)):
        h, c = (part[:, start : start + width] for part in (h_all, c_all))
        start += width
        if index > 0:
            x_TBE = locked(x_TBE, net.dropout_between, net.training)
        weight_hh = layer.weight_hh
        if net.training and net.dropconnect > 0:
            keep = 1 - net.dropconnect
            weight_hh = weight_hh * (torch.empty_like(weight_hh).bernoulli_(keep) / keep)
        outputs = []
        for x in x_TBE:
            for r, gate in enumerate(layer.gates):
                matrix = torch.linalg.multi_dot([*gate.factors]) if len(gate.factors) > 1 else (
                    gate.factors[0]
                )  # fmt: skip
                if r % 2 == 0:
                    x = 2 * torch.sigmoid(functional.linear(h, matrix)) * x
                else:
                    h = 2 * torch.sigmoid(functional.linear(x, matrix)) * h
            gates = functional.linear(x, layer.weight_ih, layer.bias_ih)
            gates = gates + functional.linear(h, weight_hh, layer.bias_hh)
            i, f, g, o = gates.chunk(4, 1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
            outputs.append(h)
        x_TBE = torch.stack(outputs)
        ends.append((h, c))
    last = tuple(torch.cat(parts, 1)[None] for parts in zip(*ends, strict=True))
    return locked(x_TBE, net.dropout_output, net.training), x_TBE, last


def gradients(net, outputs, inputs):
    hidden, raw, state = outputs
    weigh = torch.linspace(-1, 1, hidden.numel(), dtype=hidden.dtype).view(hidden.shape)
    loss = (hidden * weigh).sum() + (raw * weigh).square().sum() + state[0].sum() + state[1].sum()
    return torch.autograd.grad(loss, [*inputs, *net.parameters()])


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-6)])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "options",
    [
        {"dropconnect": 0.5}, {"dropout_output": 0.4}, {"mogrifier_rounds": 4}, ALL,
        {**ALL, "tied": False, "d_last": 4}, {"n_layers": 1, "tied": False, "dropconnect": 0.2},
    ],
    ids=str,
)  # fmt: skip
def test_value_and_gradient_are_those_of_plain_pytorch(dtype, tolerance, training, options):
    net = network(dtype, **options).train(training)
    x_TBE = vectors(dtype=dtype).requires_grad_()
    start = awd_lstm.AWDState(*(torch.randn_like(part) for part in net.initial_state(3)))
    found = []
    for compute in (net.forward_with_raw, lambda *a: twin(net, *a)):
        torch.manual_seed(2)
        outputs = compute(x_TBE, start)
        found.append([outputs[0], outputs[1], *outputs[2], *gradients(net, outputs, [x_TBE])])
    for ours, theirs in zip(*found, strict=True):
        scale = max(1.0, theirs.abs().max().item())
        assert ((ours - theirs).abs().max() / scale).item() < tolerance


@pytest.mark.parametrize("training", [True, False])
def test_without_options_it_is_a_stack_of_nn_lstm(training):
    net = network(dropout_input=0.0, dropout_hidden=0.0).train(training)
    x_TBE = vectors(steps=8)
    out, ends = x_TBE, []
    for layer in net.layers:
        one = nn.LSTM(layer.weight_ih.shape[1], layer.d_hidden).double()
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            getattr(one, f"{name}_l0").data.copy_(getattr(layer, name))
        out, (h, c) = one(out)
        ends.append((h, c))
    hidden, state = net.forward_time_major(x_TBE, None)
    torch.testing.assert_close(hidden, out, rtol=1e-10, atol=1e-12)
    for part, expected in zip(state, zip(*ends, strict=True), strict=True):
        torch.testing.assert_close(part, torch.cat(expected, -1), rtol=1e-10, atol=1e-12)


def test_the_fast_layer_and_the_readable_one_agree_without_gradients():
    net = network(**ALL).eval()
    with torch.no_grad():
        hidden, raw, state = net.forward_with_raw(vectors(), None)
    expected, expected_raw, expected_state = twin(net, vectors())
    torch.testing.assert_close((hidden, raw, *state), (expected, expected_raw, *expected_state))


def test_dropconnect_acts_in_training_on_value_and_gradient_and_not_in_evaluation():
    """In ports of AWD-LSTM to newer PyTorch it silently did nothing: perplexity 75, not 59."""
    net = network(dropconnect=0.5, dropout_input=0.0, dropout_hidden=0.0, n_layers=1)
    plain = network(dropout_input=0.0, dropout_hidden=0.0, n_layers=1)
    plain.load_state_dict(net.state_dict())
    x_TBE = vectors()

    def run(one):
        hidden, _ = one.forward_time_major(x_TBE, None)
        (gradient,) = torch.autograd.grad(hidden.square().sum(), one.layers[0].weight_hh)
        return hidden.detach(), gradient

    (first, gradient), (second, other), (whole, expected) = run(net), run(net), run(plain)
    assert not torch.equal(first, second)
    assert not torch.equal(first, whole)
    assert torch.equal(first[0], whole[0]), "the first step has no recurrence"
    share = gradient.eq(0).double().mean()
    assert 0.3 < share < 0.7, "a dropped weight has no gradient"
    assert not torch.equal(gradient.eq(0), other.eq(0))
    assert expected.ne(0).all()
    net.eval()
    assert torch.equal(net.forward_time_major(x_TBE, None)[0], whole)


def test_a_dropped_weight_is_dropped_in_all_steps_and_streams_of_a_window():
    net = network(dropconnect=0.5, dropout_input=0.0, dropout_hidden=0.0, n_layers=1)
    x_TBE = vectors(steps=4, streams=1).expand(4, 6, 5)
    hidden, _ = net.forward_time_major(x_TBE, None)
    torch.testing.assert_close(hidden, hidden[:, :1].expand_as(hidden))


@pytest.mark.parametrize(
    ("where", "options"),
    [
        ("input", {"dropout_input": 0.5, "dropout_hidden": 0.0}),
        ("between", {"dropout_input": 0.0, "dropout_hidden": 0.5}),
        ("output", {"dropout_input": 0.0, "dropout_hidden": 0.0, "dropout_output": 0.5}),
    ],
)
def test_each_dropout_has_a_place_of_its_own_and_lasts_for_the_window(where, options):
    net = network(**options)
    _, raw, _ = net.forward_with_raw(vectors(), None)
    plain = copy.deepcopy(net).eval()
    whole, _, _ = plain.forward_with_raw(vectors(), None)
    if where == "output":
        hidden, raw, _ = net.forward_with_raw(vectors(), None)
        assert torch.equal(raw, whole)
        dropped = hidden.eq(0)
        assert torch.equal(dropped, dropped[:1].expand_as(dropped))
        assert dropped.any()
        torch.testing.assert_close(hidden[~dropped], 2 * raw[~dropped])
    else:
        assert not torch.equal(raw, whole)


def test_the_last_layer_is_as_wide_as_the_word_vectors_where_they_are_tied():
    assert network().widths == [7, 7, 5]
    assert network(tied=False).widths == [7, 7, 7]
    assert network(d_last=4).widths == [7, 7, 4]
    assert LanguageModel(config(d_last=4)).decoder.projection is not None
    assert LanguageModel(config()).decoder.projection is None


def test_weights_and_biases_start_as_those_of_nn_lstm():
    net = network()
    for layer in net.layers:
        for parameter in layer.parameters():
            bound = layer.d_hidden**-0.5
            assert bound * 0.8 < parameter.abs().max() <= bound


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("dropconnect=1", "dropconnect is the probability of dropping: expected 0 <= p < 1"),
        ("dropout_output=-0.1", "dropout_output is the probability of dropping"),
        ("mogrifier_rounds=-1", "mogrifier_rounds: expected 0 to 100, got -1"),
        ("mogrifier_rank=0", "mogrifier_rank: expected at least 1, got 0"),
        ("mogrifier_rank=4", "mogrifier_rank: needs mogrifier_rounds, such as 5"),
        ("d_last=0", "d_last: expected at least 1, got 0"),
        ("drop_connect=0.5", "did you mean 'dropconnect'"),
    ],
)
def test_a_wrong_option_is_one_line(capsys, tmp_path, option, message):
    arguments = ["--data", tmp_path, "--network", "awd_lstm", "--option", option]
    status, _, err = run_command(capsys, "train", "small", *arguments)
    assert status == 2
    assert message in err
    assert err.count("\n") == 1
    name, value = option.split("=")
    with pytest.raises(UserError):
        config(**{name: float(value) if "drop" in name else int(value)})
