"""The encoder: equal to torch.nn.TransformerEncoder in each context, whatever the windows."""

import math

import pytest
import torch
from torch import nn

from tiedlm import LanguageModel, ModelConfig
from tiedlm.errors import UserError
from tiedlm.networks import EncoderOptions
from tiedlm.networks.encoder import position_table

WIDTH, CONTEXT, LAYERS = 8, 5, 3


def network(dtype=torch.float64, d_embed=WIDTH, d_hidden=WIDTH, dropouts=(0.0, 0.0), **options):
    torch.manual_seed(0)
    options = {"context": CONTEXT, "d_inner": 7, **options}
    config = ModelConfig(
        vocab_size=11,
        network="encoder",
        d_embed=d_embed,
        d_hidden=d_hidden,
        n_layers=LAYERS,
        dropout_input=dropouts[0],
        dropout_hidden=dropouts[1],
        init_range=0.2,
        options=options,
    )
    net = LanguageModel(config).network
    for name, parameter in net.named_parameters():
        if "norm" in name or name.endswith("bias"):
            nn.init.uniform_(parameter, 0.8, 1.2)
    return net.to(dtype)


def vectors(steps, streams=2, dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(steps, streams, WIDTH, generator=generator, dtype=torch.float64).to(dtype)


def pytorch(net, x_TBE):
    """Run PyTorch's own encoder over one context, as pytorch/examples does over a window."""
    layer = nn.TransformerEncoderLayer(WIDTH, net.n_heads, net.d_inner, dropout=0.0)
    norm = nn.LayerNorm(WIDTH) if net.norm is not None else None
    encoder = nn.TransformerEncoder(layer, LAYERS, norm, enable_nested_tensor=False).to(x_TBE.dtype)
    encoder.load_state_dict(net.state_dict())
    steps = len(x_TBE)
    places = torch.zeros(steps, WIDTH, dtype=x_TBE.dtype)
    for p in range(steps):
        for i in range(WIDTH // 2):
            angle = p * math.exp(2 * i * -math.log(10_000.0) / WIDTH)
            places[p, 2 * i], places[p, 2 * i + 1] = math.sin(angle), math.cos(angle)
    mask = nn.Transformer.generate_square_subsequent_mask(steps, dtype=x_TBE.dtype)
    return encoder, encoder(x_TBE * math.sqrt(WIDTH) + places[:, None], mask=mask)


def relative(one, other):
    return ((one - other).abs().max() / other.abs().max()).item()


@pytest.mark.parametrize(("dtype", "level"), [(torch.float32, 1e-6), (torch.float64, 1e-10)])
@pytest.mark.parametrize("options", [{}, {"n_heads": 4, "final_norm": False}])
def test_values_and_gradients_of_a_context_are_pytorch_s(dtype, level, options):
    net = network(dtype, **options)
    x_TBE, away_TBH = vectors(CONTEXT, dtype=dtype), vectors(CONTEXT, dtype=dtype).flip(0)
    mine, theirs = (x_TBE.clone().requires_grad_() for _ in range(2))
    found, _ = net.forward_time_major(mine)
    encoder, expected = pytorch(net, theirs)
    assert relative(found, expected) < level
    found.backward(away_TBH)
    expected.backward(away_TBH)
    assert relative(mine.grad, theirs.grad) < level
    others = dict(encoder.named_parameters())
    for name, parameter in net.named_parameters():
        assert relative(parameter.grad, others[name].grad) < level, name


@pytest.mark.parametrize("cuts", [[18], [1] * 18, [3, 7, 4, 4], [5, 5, 5, 3], [12, 6]])
def test_windows_change_nothing_and_contexts_begin_afresh(cuts):
    net = network().eval()
    x_TBE = vectors(18)
    expected = torch.cat([pytorch(net, part)[1] for part in x_TBE.split(CONTEXT)])
    state, outputs = None, []
    for window in x_TBE.split(cuts):
        output, state = net.forward_time_major(window, state)
        outputs.append(output)
    torch.testing.assert_close(torch.cat(outputs), expected, rtol=1e-10, atol=1e-10)
    assert state.known.sum(2).tolist() == [[3.0, 3.0]]


def test_streams_may_be_at_different_places_of_their_contexts():
    net = network().eval()
    starts = [net.forward_time_major(vectors(steps, 1))[1] for steps in (2, 9)]
    x_TBE = vectors(6, 1)
    alone = [net.forward_time_major(x_TBE, state)[0] for state in starts]
    both = type(starts[0])(*(torch.cat(parts, 1) for parts in zip(*starts, strict=True)))
    together, _ = net.forward_time_major(x_TBE.expand(-1, 2, -1), both)
    torch.testing.assert_close(together, torch.cat(alone, 1))


def test_positions_are_those_of_the_equations_at_every_place():
    table = position_table(4, 6, torch.zeros((), dtype=torch.float64))
    assert table[0].tolist() == [0, 1, 0, 1, 0, 1]
    assert table[3, 4].item() == pytest.approx(math.sin(3 * 10_000 ** (-4 / 6)))
    assert table[3, 1].item() == pytest.approx(math.cos(3))


def test_a_mask_lasts_for_the_window():
    net = network(dropouts=(0.0, 0.4), final_norm=False)
    masks = net.sample_masks(vectors(1000, 1))
    assert masks.input is None
    for layer in masks.layers:
        for mask, width in zip(layer, (WIDTH, 7, WIDTH), strict=True):
            assert mask.shape == (1000, width)
            assert (mask == 0).double().mean().item() == pytest.approx(0.4, abs=0.05)


@pytest.mark.parametrize(
    ("shape", "says"),
    [
        ({"d_embed": 6}, "d_embed and d_hidden to be the same even number, got 6 and 8"),
        ({"d_embed": 9, "d_hidden": 9}, "the same even number, got 9 and 9"),
        ({"n_heads": 3}, "option n_heads: expected a divisor of d_hidden = 8, got 3"),
        ({"context": 1}, "option context: expected at least 2, got 1"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(shape, says):
    with pytest.raises(UserError, match=says):
        network(**shape)


def test_options_start_as_the_program_s_do():
    assert EncoderOptions() == EncoderOptions(n_heads=2, d_inner=200, context=35, final_norm=True)
