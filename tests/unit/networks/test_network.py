"""Every registered network has the properties that the package relies on."""

import ast
from pathlib import Path

import pytest
import torch

import own_network
import tiedlm
from tiedlm import LanguageModel, ModelConfig
from tiedlm.errors import UserError
from tiedlm.networks import builder_of, register, registered
from tiedlm.networks import state as states
from tiedlm.networks.network import MEMBERS

SHAPE = {"vocab_size": 13, "d_embed": 6, "d_hidden": 7, "n_layers": 2, "init_range": 0.5}
OWN = {  # where the shape is not possible, or a default too large
    "encoder": {"d_hidden": 6, "options": {"d_inner": 5, "context": 4}},
    "transformer": {"d_hidden": 8, "options": {"n_heads": 2, "memory": 5}},
}
NAMES = [*registered()]


def shape(name, **options):
    return {**SHAPE, **OWN.get(name, {}), **options}


def model(name, **options):
    torch.manual_seed(0)
    return LanguageModel(ModelConfig(network=name, **shape(name, **options))).double()


def vectors(steps, streams):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(steps, streams, 6, generator=generator, dtype=torch.float64)


def close(one, other):
    torch.testing.assert_close(tuple(one), tuple(other), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", NAMES)
def test_the_state_is_a_named_tuple_whose_axis_1_is_the_stream(name):
    net = model(name).network
    state = net.initial_state(3)
    assert type(state)._fields
    output, after = net.forward_time_major(vectors(4, 3), state)
    assert output.shape == (4, 3, net.d_hidden)
    assert type(after) is type(state)
    for before, part in zip(state, after, strict=True):
        assert part.shape == before.shape
        assert part.shape[1] == 3
        assert part.dtype == torch.float64


@pytest.mark.parametrize("name", NAMES)
def test_no_state_is_the_initial_state(name):
    net = model(name).network
    x_TBE = vectors(4, 3)
    given, none = (net.forward_time_major(x_TBE, s) for s in (net.initial_state(3), None))
    close([given[0], *given[1]], [none[0], *none[1]])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("wants_gradient", [True, False])
def test_windows_change_nothing_in_evaluation(name, wants_gradient):
    net = model(name, dropout_input=0.3, dropout_hidden=0.3).eval().network
    x_TBE = vectors(9, 2)
    with torch.set_grad_enabled(wants_gradient):
        whole, end = net.forward_time_major(x_TBE, None)
        state, outputs = None, []
        for window in x_TBE.split([1, 5, 3]):
            output, state = net.forward_time_major(window, state)
            outputs.append(output)
    close([torch.cat(outputs), *state], [whole, *end])


@pytest.mark.parametrize("name", [name for name in NAMES if name != "own"])
def test_evaluation_of_a_network_of_ours_is_exact_under_autocast(name):
    net = model(name).float().eval().network
    x_TBE = vectors(9, 2).float()
    with torch.no_grad():
        expected, end = net.forward_time_major(x_TBE, None)
        with torch.autocast("cpu", torch.bfloat16):
            output, state = net.forward_time_major(x_TBE, None)
    assert output.dtype == torch.float32
    torch.testing.assert_close([output, *state], [expected, *end], rtol=0, atol=0)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "own"])
def test_the_state_after_autocast_has_the_type_of_the_weights_and_goes_on_without_it(name):
    net = model(name).float().network
    x_TBE = vectors(3, 2).float()
    with torch.autocast("cpu", torch.bfloat16):
        _, state = net.forward_time_major(x_TBE, None)
    assert {part.dtype for part in state} == {torch.float32}
    net.forward_time_major(x_TBE, state)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "own"])
@pytest.mark.parametrize("wants_gradient", [True, False])
def test_no_steps_and_a_state_of_other_streams_are_refused(name, wants_gradient):
    net = model(name).eval().network
    with torch.set_grad_enabled(wants_gradient):
        for streams in (1, 4):  # one stream would be broadcast
            with pytest.raises(ValueError, match=r"state\.\w+: expected .*3, .*got .*, "):
                net.forward_time_major(vectors(4, 3), net.initial_state(streams))
        with pytest.raises(ValueError, match=r"x: expected .*one step or more"):
            net.forward_time_major(vectors(0, 3), None)


@pytest.mark.parametrize("name", ["lstm", "awd_lstm", "gru", "rhn", "elman"])
@pytest.mark.parametrize("dtype", [torch.int64, torch.float16, torch.float32])
@pytest.mark.parametrize("wants_gradient", [True, False])
def test_an_input_of_another_type_than_the_weights_is_refused(name, dtype, wants_gradient):
    net = model(name).network
    expected = f"x: expected dtype torch.float64, like the weights, got {dtype}"
    with torch.set_grad_enabled(wants_gradient), pytest.raises(ValueError, match=expected):
        net.forward_time_major(vectors(4, 2).to(dtype), None)


@pytest.mark.parametrize("name", NAMES)
def test_streams_do_not_see_each_other(name):
    net = model(name).eval().network
    x_TBE, rows = vectors(5, 4), torch.tensor([2, 0])
    _, state = net.forward_time_major(vectors(3, 4), None)
    together = net.forward_time_major(x_TBE, state)
    alone = net.forward_time_major(x_TBE[:, rows], states.select(state, rows))
    close([alone[0], *alone[1]], [together[0][:, rows], *states.select(together[1], rows)])


@pytest.mark.parametrize("name", NAMES)
def test_gradient_flows_through_the_state_until_it_is_detached(name):
    net = model(name).network
    x_TBE = vectors(3, 2).requires_grad_()
    _, state = net.forward_time_major(x_TBE, None)
    net.forward_time_major(vectors(2, 2), states.detach(state))[0].sum().backward()
    assert x_TBE.grad is None
    net.forward_time_major(vectors(2, 2), state)[0].pow(3).sum().backward()
    assert x_TBE.grad.ne(0).any()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("wants_gradient", [True, False])
def test_zero_streams_are_accepted(name, wants_gradient):
    net = model(name).network
    with torch.set_grad_enabled(wants_gradient):
        output, state = net.forward_time_major(vectors(4, 0), None)
    assert output.shape == (4, 0, net.d_hidden)
    assert [part.shape for part in state] == [part.shape for part in net.initial_state(0)]


@pytest.mark.parametrize("name", NAMES)
def test_gradients_agree_with_finite_differences(name):
    net = model(name).network
    state = [part.requires_grad_() for part in net.initial_state(2)]

    def run(x_TBE, *parts):
        output, after = net.forward_time_major(x_TBE, type(net.initial_state(2))(*parts))
        return output, *after

    assert torch.autograd.gradcheck(run, (vectors(3, 2).requires_grad_(), *state))


@pytest.mark.parametrize("name", NAMES)
def test_masks_are_drawn_in_training_and_not_in_evaluation(name):
    whole = model(name, dropout_hidden=0.5)
    net, x_TBE = whole.network, vectors(4, 3)
    first, second = (net.forward_time_major(x_TBE, None)[0] for _ in range(2))
    assert not torch.equal(first, second)
    whole.eval()
    first, second = (net.forward_time_major(x_TBE, None)[0] for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize("name", NAMES)
def test_a_stream_has_the_same_mask_in_one_process_and_in_two(name):
    net = model(name, dropout_input=0.4, dropout_hidden=0.4).network
    x_TBE, outputs = vectors(4, 6), []
    for rank, world in ((0, 1), (0, 2), (1, 2)):
        net.share_masks(rank, world)
        torch.manual_seed(3)
        outputs.append(net.forward_time_major(x_TBE.chunk(world, 1)[rank], None)[0])
    torch.testing.assert_close(torch.cat(outputs[1:], 1), outputs[0], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", NAMES)
def test_a_network_that_forgets_converges_from_two_states_to_one(name):
    net = model(name).eval().network
    if not net.forgets:
        pytest.skip("it is read as one stream")
    x_TBE = vectors(400, 1)
    ends = []
    for scale in (0.0, 1.0):
        start = states.map_state(lambda part, scale=scale: part + scale, net.initial_state(1))
        ends.append(net.forward_time_major(x_TBE, start)[1])
    torch.testing.assert_close(*map(tuple, ends), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("tied", [True, False])
def test_counting_parameters_allocates_and_draws_nothing(name, tied):
    config = ModelConfig(network=name, **shape(name, vocab_size=12_345, tied=tied))
    before = torch.get_rng_state()
    count = config.num_params()
    assert torch.equal(torch.get_rng_state(), before)
    assert count == sum(p.numel() for p in LanguageModel(config).parameters())


def test_counting_the_largest_model_takes_no_memory():
    config = ModelConfig(vocab_size=10**9, d_embed=10**4, d_hidden=10**4)
    assert config.num_params() == 2 * 10**13 + 10**9 + 2 * 4 * 10**4 * (2 * 10**4 + 1)


def test_the_network_is_a_module_under_its_name():
    own = model("own")
    assert isinstance(own.network, own_network.OwnNetwork)
    assert own.network is own.get_submodule("own")
    assert "own.weight_hh" in own.state_dict()
    assert "lstm.layers.0.weight_ih" in model("lstm").state_dict()


def test_no_other_part_of_the_package_names_a_network():
    package = Path(tiedlm.__file__).parent
    found = set()
    for path in package.rglob("*.py"):
        part = path.relative_to(package)
        if part.parts[0] in ("networks", "export", "importers"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [getattr(node, key, None) for key in ("id", "attr", "arg", "name", "module")]
            found |= {(str(part), n) for n in names if n and "lstm" in str(n).lower()}
    assert found == {("__init__.py", "VariationalLSTM")}  # public


def test_an_unknown_network_is_named_with_those_that_are_known():
    with pytest.raises(ValueError, match=r"'lstn' is not registered \(did you mean 'lstm'\?\)"):
        ModelConfig(network="lstn", vocab_size=5)
    assert {"lstm", "own"} <= set(registered())


@pytest.mark.parametrize("name", ["embedding", "decoder", "two words", "a.b", ""])
def test_a_name_that_is_not_a_module_name_is_refused(name):
    with pytest.raises(ValueError, match="expected an identifier other than embedding and decoder"):
        register(name)


@pytest.mark.parametrize("name", ["loss", "network", "config", "training"])
def test_a_network_with_the_name_of_another_attribute_is_refused(own_networks, name):
    register(name)(own_network.OwnNetwork)
    config = ModelConfig(network=name, vocab_size=5)
    for build in (LanguageModel, ModelConfig.num_params):
        with pytest.raises(UserError, match=f"network '{name}': a model has another attribute"):
            build(config)


@pytest.mark.parametrize("member", MEMBERS)
def test_a_network_that_lacks_a_member_is_refused_before_training(own_networks, member):
    def build(config):
        whole = {name: None for name in MEMBERS if name != member}
        return type("Lacking", (torch.nn.Module,), whole)()

    register("lacking")(build)
    with pytest.raises(UserError, match=f"network 'lacking' has no {member}; a network has"):
        LanguageModel(ModelConfig(network="lacking", vocab_size=5))


def test_a_name_belongs_to_one_network_and_rerunning_a_notebook_cell_is_allowed(own_networks):
    def define():
        class Cell(own_network.OwnNetwork):
            pass

        return Cell

    first, again = define(), define()
    assert register("cell")(first) is first
    register("cell")(again)
    assert builder_of("cell") is again
    with pytest.raises(ValueError, match="the network 'lstm' is registered already"):
        register("lstm")(first)
