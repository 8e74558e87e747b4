"""The functions of a state serve any NamedTuple of tensors whose axis 1 is the stream."""

from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from tiedlm.errors import UserError
from tiedlm.networks import LSTMState
from tiedlm.networks import state as states


class Uneven(NamedTuple):
    """Tensors of several ranks and types."""

    h: Tensor  # (2, B, 3)
    keys: Tensor  # (1, B, 4, 2)
    count: Tensor  # (1, B)


@pytest.fixture
def state():
    generator = torch.Generator().manual_seed(0)
    shapes = ((2, 6, 3), (1, 6, 4, 2), (1, 6))
    drawn = [torch.randn(shape, generator=generator) for shape in shapes]
    return Uneven(drawn[0], drawn[1], drawn[2].mul(9).long())


def same(one, other):
    return type(one) is type(other) and all(map(torch.equal, one, other))


def test_map_keeps_the_kind_and_the_names(state):
    doubled = states.map_state(lambda part: 2 * part, state)
    assert isinstance(doubled, Uneven)
    assert torch.equal(doubled.keys, 2 * state.keys)
    assert doubled.count.dtype == torch.int64


def test_detach_cuts_the_graph_of_every_tensor():
    state = LSTMState(*(torch.ones(1, 2, 3, requires_grad=True) * 2 for _ in "hc"))
    assert not any(part.requires_grad for part in states.detach(state))
    assert all(part.requires_grad for part in state)


@pytest.mark.parametrize("wrong", [torch.ones(1, 2, 3), (torch.ones(1, 2, 3),), {"h": 1}])
def test_a_state_that_is_no_named_tuple_is_refused(wrong):
    kind = type(wrong).__name__
    with pytest.raises(UserError, match=f"expected a NamedTuple of tensors, got a {kind}; init"):
        states.detach(wrong)


@pytest.mark.parametrize("rows", [[0], [5, 0], [2, 2, 2], []])
def test_select_takes_streams_in_the_order_asked_for(state, rows):
    chosen = states.select(state, torch.tensor(rows, dtype=torch.int64))
    for part, whole in zip(chosen, state, strict=True):
        assert torch.equal(part, whole[:, rows])
        assert part.is_contiguous()


@pytest.mark.parametrize("parts", [1, 2, 3, 6])
def test_join_undoes_split(state, parts):
    pieces = states.split(state, parts)
    assert [piece.h.shape[1] for piece in pieces] == [6 // parts] * parts
    assert same(states.join(pieces), state)


def test_the_state_round_trips_through_named_tensors(state):
    tensors = states.named(state)
    assert list(tensors) == ["h", "keys", "count"]
    shuffled = dict(reversed(tensors.items()))
    assert same(states.from_named(states.select(state, torch.tensor([0])), shuffled), state)


@pytest.mark.parametrize("names", [["h"], ["h", "c", "x"], ["a", "b"]])
def test_tensors_of_another_state_are_refused(names):
    like = LSTMState(torch.zeros(1, 1, 2), torch.zeros(1, 1, 2))
    with pytest.raises(ValueError, match=f"expected the tensors h, c, got {', '.join(names)}"):
        states.from_named(like, dict.fromkeys(names, torch.zeros(1, 1, 2)))


def test_a_state_without_tensors_has_a_part_for_each_group_of_streams():
    class Empty(NamedTuple):
        """What a network carries that looks at one word only: nothing."""

    assert states.split(Empty(), 2) == [Empty(), Empty()]
    assert states.join([Empty(), Empty()]) == Empty()
