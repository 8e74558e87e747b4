"""The Transformer: equal to Mistral with copied weights, its memory, its masks, its errors."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from tiedlm.networks import attention
from tiedlm.networks import state as states
from tiedlm.networks.attention import rotations
from tiedlm.networks.transformer import Transformer, TransformerOptions

WORDS, WIDTH, INNER, HEADS, LAYERS, MEMORY = 17, 12, 10, 3, 3, 4


def network(
    memory=MEMORY,
    dtype=torch.float64,
    d_input=WIDTH,
    dropouts=(0.0, 0.0),
    init_range=0.8,
    **options,
):
    torch.manual_seed(0)
    options = TransformerOptions(n_heads=HEADS, d_inner=INNER, memory=memory, **options)
    net = Transformer(d_input, WIDTH, LAYERS, *dropouts, options=options)
    net.reset_parameters(init_range)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name.endswith("norm"):
                parameter.uniform_(0.5, 1.5)
    return net.to(dtype)


def vectors(steps, streams=2, width=WIDTH, dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(steps, streams, width, generator=generator, dtype=torch.float64).to(dtype)


class Turns(nn.Module):
    """Mistral's rotations in float64; its own are float32 whatever the type of the model."""

    def forward(self, x_BTH, position_ids):
        cosines, sines = rotations(x_BTH.shape[1], WIDTH // HEADS, x_BTH)
        return cosines[None], sines[None]


def mistral(net, dtype):
    """Return Hugging Face's network with the same weights, and pairs of the two's parameters."""
    transformers = pytest.importorskip("transformers")
    config = transformers.MistralConfig(
        vocab_size=WORDS,
        hidden_size=WIDTH,
        intermediate_size=INNER,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        sliding_window=net.memory + 1,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
        attn_implementation="sdpa",
    )
    other = transformers.MistralForCausalLM(config).model
    pairs = [(net.norm, other.norm.weight)]
    for own, layer in zip(net.layers, other.layers, strict=True):
        attention, mlp = layer.self_attn, layer.mlp
        parts = (attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight)
        pairs += [
            (own.attention_norm, layer.input_layernorm.weight),
            (own.weight_qkv, parts),
            (own.weight_out, attention.o_proj.weight),
            (own.feedforward_norm, layer.post_attention_layernorm.weight),
            (own.weight_gate_up, (mlp.gate_proj.weight, mlp.up_proj.weight)),
            (own.weight_down, mlp.down_proj.weight),
        ]
    with torch.no_grad():
        for own, parts in pairs:
            parts = parts if isinstance(parts, tuple) else (parts,)
            for part, value in zip(parts, own.chunk(len(parts)), strict=True):
                part.copy_(value)
    if dtype == torch.float64:  # norms, too, are float32 there
        for layer in other.layers:
            for name in ("input_layernorm", "post_attention_layernorm"):
                setattr(layer, name, in_float64(getattr(layer, name)))
        other.norm = in_float64(other.norm)
        other.rotary_emb = Turns()
    return other.to(dtype).eval(), pairs


def in_float64(norm):
    same = nn.RMSNorm(WIDTH, eps=norm.variance_epsilon)
    same.weight = norm.weight
    return same


def relative(one, other):
    return ((one - other).abs().max() / other.abs().max()).item()


@pytest.mark.parametrize(("dtype", "level"), [(torch.float32, 1e-6), (torch.float64, 1e-10)])
@pytest.mark.parametrize("memory", [1, MEMORY, 30])
def test_values_and_gradients_are_mistral_s_with_one_more_in_its_window(dtype, level, memory):
    net = network(memory, dtype, init_range=0.3).eval()
    other, pairs = mistral(net, dtype)
    x_TBE, away_TBH = vectors(13, dtype=dtype), vectors(13, dtype=dtype).flip(0)
    mine, theirs = (x_TBE.clone().requires_grad_() for _ in range(2))
    found_TBH = net.forward_time_major(mine)[0]
    expected_BTH = other(inputs_embeds=theirs.transpose(0, 1)).last_hidden_state
    assert relative(found_TBH, expected_BTH.transpose(0, 1)) < level
    found_TBH.backward(away_TBH)
    expected_BTH.backward(away_TBH.transpose(0, 1))
    assert relative(mine.grad, theirs.grad) < level
    for own, parts in pairs:
        parts = parts if isinstance(parts, tuple) else (parts,)
        assert relative(own.grad, torch.cat([part.grad for part in parts])) < level


def test_a_word_sees_itself_and_exactly_the_words_of_the_memory():
    net = network()
    one_layer = Transformer(
        WIDTH, WIDTH, 1, options=TransformerOptions(n_heads=HEADS, memory=MEMORY)
    ).double()
    for layers, model in ((1, one_layer), (LAYERS, net)):
        x_TBE = vectors(25, 1).requires_grad_()
        output_TBH, _ = model.forward_time_major(x_TBE)
        (grad,) = torch.autograd.grad(output_TBH[20].sum(), x_TBE)
        reached = grad.abs().sum((1, 2)).nonzero()[:, 0]
        assert reached.tolist() == list(range(20 - layers * MEMORY, 21))


@pytest.mark.parametrize("cuts", [[1] * 11, [2, 6, 1, 2], [10, 1], [5, 6]])
def test_windows_change_nothing_but_rounding(cuts):
    net = network().eval()
    x_TBE = vectors(11)
    whole, end = net.forward_time_major(x_TBE)
    state, outputs = None, []
    for window in x_TBE.split(cuts):
        output, state = net.forward_time_major(window, state)
        outputs.append(output)
    torch.testing.assert_close(torch.cat(outputs), whole, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(tuple(state), tuple(end), rtol=1e-12, atol=1e-12)


def test_a_window_longer_than_a_block_is_the_same_as_short_ones():
    net = network(memory=5).eval()
    x_TBE = vectors(300, 1)
    whole, _ = net.forward_time_major(x_TBE)
    state, outputs = None, []
    for window in x_TBE.split(37):
        output, state = net.forward_time_major(window, state)
        outputs.append(output)
    torch.testing.assert_close(torch.cat(outputs), whole, rtol=1e-12, atol=1e-12)


def test_far_into_a_text_nothing_loses_precision():
    net = network(dtype=torch.float32).eval()
    x_TBE = vectors(2 * LAYERS * MEMORY, 1, dtype=torch.float32)
    with torch.no_grad():
        fresh, _ = net.forward_time_major(x_TBE)
        _, state = net.forward_time_major(vectors(20_000, 1, dtype=torch.float32))
        late, _ = net.forward_time_major(x_TBE, state)
    torch.testing.assert_close(
        late[LAYERS * MEMORY :], fresh[LAYERS * MEMORY :], rtol=1e-5, atol=1e-5
    )


def test_two_states_meet_exactly_after_as_many_words_as_the_layers_remember():
    net = network().eval()
    x_TBE = vectors(LAYERS * MEMORY, 1)
    _, one = net.forward_time_major(vectors(9, 1).flip(0))
    ends = [net.forward_time_major(x_TBE, state)[1] for state in (None, one)]
    torch.testing.assert_close(*map(tuple, ends), rtol=1e-12, atol=1e-12)
    ends = [net.forward_time_major(x_TBE[:-1], state)[1] for state in (None, one)]
    assert (ends[0].keys - ends[1].keys).abs().max() > 1e-6


def test_an_empty_memory_is_no_words_and_not_words_of_zeros():
    net = network(memory=2).eval()
    x_TBE = vectors(1, 1)
    empty = net.forward_time_major(x_TBE)[0]
    zeros = net.initial_state(1)._replace(known=torch.ones(1, 1, 2, dtype=torch.float64))
    assert (net.forward_time_major(x_TBE, zeros)[0] - empty).abs().max() > 1e-3
    noise = net.initial_state(1)._replace(keys=vectors(2, 3).view(3, 1, 2, WIDTH))
    torch.testing.assert_close(net.forward_time_major(x_TBE, noise)[0], empty)


def test_streams_may_remember_different_numbers_of_words():
    net = network().eval()
    _, long = net.forward_time_major(vectors(6, 1))
    _, short = net.forward_time_major(vectors(2, 1))
    x_TBE = vectors(3, 1)
    alone = [net.forward_time_major(x_TBE, state)[0] for state in (long, short)]
    both = states.join([long, short])
    together, _ = net.forward_time_major(x_TBE.expand(3, 2, WIDTH), both)
    torch.testing.assert_close(together, torch.cat(alone, 1))


def test_masks_are_constant_over_the_window_and_drop_what_they_say():
    net = network(dropouts=(0.5, 0.4), dropout_attention=0.3, dropout_feedforward=0.2)
    masks = net.sample_masks(2000)
    shares = [(masks.input, 0.5, WIDTH), (masks.output, 0.4, WIDTH)]
    for layer in masks.layers:
        shares += [(layer.attention, 0.3, WIDTH), (layer.inner, 0.2, INNER)]
        shares += [(layer.feedforward, 0.2, WIDTH)]
    for mask, p, width in shares:
        assert mask.shape == (2000, width)
        assert (mask == 0).double().mean().item() == pytest.approx(p, abs=0.03)
        assert mask.max() == pytest.approx(1 / (1 - p))
    output_TBH, _ = net.forward_time_major(vectors(9, 8))
    dropped = output_TBH == 0
    assert dropped.any()
    assert (dropped == dropped[0]).all()
    assert all(mask is None for mask in net.eval().sample_masks(3).layers[0])


def test_dropout_hidden_stands_for_those_not_given():
    net = network(dropouts=(0.0, 0.25), dropout_feedforward=0.1)
    assert (net.dropout_attention, net.dropout_feedforward, net.dropout_output) == (0.25, 0.1, 0.25)
    assert network(dropouts=(0.0, 0.25), dropout_output=0.4).dropout_output == 0.4


def test_the_raw_output_is_the_output_before_its_mask():
    net = network(dropouts=(0.0, 0.5))
    output_TBH, raw_TBH, _ = net.forward_with_raw(vectors(3, 9))
    kept = output_TBH != 0
    assert not kept.all()
    torch.testing.assert_close(output_TBH[kept], 2 * raw_TBH[kept])


def test_a_mask_on_attention_alone_changes_what_attention_adds():
    net = network(dropout_attention=0.999999999, dropout_feedforward=0.0)
    silent = network()
    with torch.no_grad():
        for layer in silent.layers:
            layer.weight_out.zero_()
    x_TBE = vectors(5)
    torch.testing.assert_close(
        net.forward_time_major(x_TBE)[0], silent.forward_time_major(x_TBE)[0]
    )


def test_inputs_of_another_width_are_mapped_to_the_hidden_width():
    net, plain = network(d_input=5), network()
    plain.load_state_dict(net.state_dict(), strict=False)
    x_TBE = vectors(6, width=5)
    found, expected = (
        model.forward_time_major(x)[0]
        for model, x in ((net, x_TBE), (plain, x_TBE @ net.weight_input.t()))
    )
    torch.testing.assert_close(found, expected)
    assert plain.weight_input is None


def test_gradients_agree_with_finite_differences():
    net = network(memory=2, d_input=5)
    names, parameters = zip(*net.named_parameters(), strict=True)
    _, state = net.forward_time_major(vectors(1, 1, 5).flip(2))

    def run(x_TBE, keys, values, *parameters):
        own = dict(zip(names, parameters, strict=True))
        given = (x_TBE, state._replace(keys=keys, values=values))
        output, after = torch.func.functional_call(Call(net), renamed(own), given)
        return output, after.keys, after.values

    inputs = (vectors(3, 1, 5), state.keys, state.values, *parameters)
    inputs = [tensor.detach().requires_grad_() for tensor in inputs]
    assert torch.autograd.gradcheck(run, inputs, fast_mode=True)


class Call(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, *inputs):
        return self.net.forward_time_major(*inputs)


def renamed(parameters):
    return {f"net.{name}": value for name, value in parameters.items()}


def test_gains_start_at_one_and_what_adds_to_the_hidden_state_starts_small():
    options = TransformerOptions(n_heads=2, memory=3)
    net = Transformer(8, 8, 8, options=options)
    net.reset_parameters(0.4)
    for name, parameter in net.named_parameters():
        if name.endswith("norm"):
            assert (parameter == 1).all()
        else:
            adds = name.endswith(("weight_out", "weight_down"))
            assert 0.08 < parameter.abs().max() <= (0.1 if adds else 0.4)
    assert net.d_inner == 22


@pytest.mark.parametrize(
    ("shape", "options", "says"),
    [
        ((8, 12, 1), {"n_heads": 5}, "n_heads: expected a divisor of d_hidden = 12"),
        ((8, 12, 1), {"n_heads": 4}, "heads of an even width, got 4"),
        ((8, 12, 1), {"n_heads": 0}, "n_heads: expected at least 1, got 0"),
        ((8, 12, 1), {"n_heads": 2, "memory": 0}, "memory: expected at least 1, got 0"),
        ((8, 12, 1), {"n_heads": 2, "d_inner": 0}, "d_inner: expected at least 1"),
        ((8, 12, 0), {"n_heads": 2}, "n_layers: expected a positive integer"),
        ((8, 12, 1), {"n_heads": 2, "dropout_attention": 1.0}, "dropout_attention is the prob"),
    ],
)
def test_sizes_that_cannot_be_are_refused_by_name(shape, options, says):
    with pytest.raises(ValueError, match=says):
        Transformer(*shape, options=TransformerOptions(**options))


def test_a_state_of_another_shape_is_refused():
    net = network()
    with pytest.raises(ValueError, match=r"state\.known: expected \(1, 2, 4\), got \(1, 2, 3\)"):
        net.forward_time_major(
            vectors(1), net.initial_state(2)._replace(known=torch.zeros(1, 2, 3))
        )
    with pytest.raises(ValueError, match="expected one step or more"):
        net.forward_time_major(vectors(0))


def test_a_gpu_computes_the_gradient_of_attention_in_a_fixed_order():
    fused = torch.backends.cuda.mem_efficient_sdp_enabled
    for wants_gradient in (True, False):
        with attention._repeatable(SimpleNamespace(is_cuda=True, requires_grad=wants_gradient)):
            assert fused() != wants_gradient
    with attention._repeatable(SimpleNamespace(is_cuda=False, requires_grad=True)):
        assert fused()
