"""Import of the Transformers of pytorch/examples, as its program before and since 2023 saved them.

The modules here have the structure and the names of that program's ``TransformerModel``.
"""

import math

import pytest
import torch
from torch import nn

import tiedlm
from tests_support import run_command
from tiedlm.errors import UserError
from tiedlm.importers import import_checkpoint, write_run

WORDS = [f"w{n}" for n in range(20)] + ["<unk>", "<eos>"]
WIDTH, INNER = 8, 9


class Original(nn.Module):
    """What that program computes for one window ``(T, B)``; ``old`` has the older names."""

    def __init__(self, old=False, heads=2, layers=2):
        super().__init__()
        layer = nn.TransformerEncoderLayer(WIDTH, heads, INNER, dropout=0.0)
        norm = None if old else nn.LayerNorm(WIDTH)
        stack = nn.TransformerEncoder(layer, layers, norm, enable_nested_tensor=False)
        self.pos_encoder = nn.Module()
        self.pos_encoder.register_buffer("pe", table(5000))
        self.words, self.stack = (
            ("encoder", "transformer_encoder") if old else ("input_emb", "encoder")
        )
        setattr(self, self.words, nn.Embedding(len(WORDS), WIDTH))
        setattr(self, self.stack, stack)
        self.decoder = nn.Linear(WIDTH, len(WORDS))
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -0.5, 0.5)

    def forward(self, tokens_TB):
        x_TBH = getattr(self, self.words)(tokens_TB) * math.sqrt(WIDTH)
        x_TBH = x_TBH + self.pos_encoder.pe[: len(tokens_TB)]
        mask = nn.Transformer.generate_square_subsequent_mask(len(tokens_TB))
        return self.decoder(getattr(self, self.stack)(x_TBH, mask=mask))


def table(length):
    place = torch.arange(length, dtype=torch.float)[:, None]
    rate = torch.exp(torch.arange(0, WIDTH, 2).float() * (-math.log(10_000.0) / WIDTH))
    pairs = torch.stack((torch.sin(place * rate), torch.cos(place * rate)), 2)
    return pairs.flatten(1)[:, None]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    return tmp_path


def imported(folder, state, **options):
    torch.save(state, folder / "model.pt")
    return import_checkpoint(folder / "model.pt", folder / "vocab.txt", options)


@pytest.mark.parametrize("old", [True, False])
@pytest.mark.parametrize(("heads", "window"), [(2, 35), (4, 12)])
def test_logits_are_the_program_s_in_each_of_its_windows(folder, old, heads, window):
    torch.manual_seed(0)
    original = Original(old, heads).eval()
    model = imported(folder, original.state_dict(), n_heads=heads, context=window).model
    tokens_TB = torch.randint(len(WORDS), (80, 3))
    with torch.no_grad():
        expected = torch.cat([original(part) for part in tokens_TB.split(window)])
        hidden, _ = model(tokens_TB.t())
        found = model.decode(hidden)
    torch.testing.assert_close(found, expected.transpose(0, 1), rtol=1e-5, atol=1e-5)
    assert not model.config.tied


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_checkpoint_of_another_type_is_read_and_other_positions_are_not(folder, dtype):
    state = {name: tensor.to(dtype) for name, tensor in Original().state_dict().items()}
    model = imported(folder, state).model
    assert torch.equal(model.embedding.weight, state["input_emb.weight"].float())
    state["pos_encoder.pe"][30] *= 0.9
    with pytest.raises(UserError, match="not hold the sines and cosines"):
        imported(folder, state)


def test_equal_matrices_are_a_tie(folder):
    original = Original()
    original.decoder.weight = original.input_emb.weight
    model = imported(folder, original.state_dict()).model
    assert model.config.tied
    assert model.decoder.weight is model.embedding.weight


def test_the_run_folder_is_read_again_with_its_options(folder):
    torch.manual_seed(0)
    found = imported(folder, Original(heads=4).state_dict(), n_heads=4, context=9)
    write_run(found, folder / "run")
    again = tiedlm.load(folder / "run")
    assert again.config == found.model.config
    tokens_BT = torch.randint(len(WORDS), (2, 20))
    with torch.no_grad():
        one, other = (m.decode(m(tokens_BT)[0]) for m in (again, found.model))
    assert torch.equal(one, other)


def test_the_command_says_what_it_assumed_and_the_run_scores(capsys, folder):
    torch.save(Original().state_dict(), folder / "model.pt")
    words = ("import", folder / "model.pt", "--vocabulary", folder / "vocab.txt")
    status, said, err = run_command(capsys, *words, "--out", folder / "run")
    assert status == 0, err
    assert "Transformer, 2 layers, d_embed 8, d_hidden 8, 22 words; not tied" in said
    assert "does not record n_heads=2 and context=35; if they were others, pass --option" in said
    (folder / "text").write_text("w1 w2 w3\n")
    status, table, err = run_command(capsys, "score", folder / "run", folder / "text")
    assert (status, table.count("\n")) == (0, 5), err
    given = ("--option", "n_heads=3", "--out", folder / "other")
    status, _, err = run_command(capsys, *words, *given)
    assert (status, err.count("\n")) == (2, 1)
    assert "option n_heads: expected a divisor of d_hidden = 8, got 3" in err


@pytest.mark.parametrize(
    ("change", "options", "says"),
    [
        ({"encoder.norm.bias": None}, {}, r"has no tensor 'encoder\.norm\.bias'"),
        ({"pos_encoder.pe": None}, {}, r"has no tensor 'pos_encoder\.pe'"),
        ({"mystery": torch.ones(2)}, {}, "has an unknown tensor 'mystery'"),
        ({"pos_encoder.pe": torch.zeros(50, 1, 8)}, {}, "not hold the sines and cosines of 35"),
        ({"pos_encoder.pe": table(20)}, {}, "not hold the sines and cosines of 35 positions"),
        ({"pos_encoder.pe": torch.tensor(1.0)}, {}, "not hold the sines and cosines"),
        ({"pos_encoder.pe": torch.ones(0, 1, 8)}, {}, "not hold the sines and cosines"),
        ({}, {"context": 10**13}, "not hold the sines and cosines of 10000000000000 positions"),
        ({"input_emb.weight": torch.ones(22)}, {}, "'input_emb.weight' is not a matrix"),
        ({"decoder.weight": torch.ones(22, 7)}, {}, "of wrong shapes"),
        ({"encoder.layers.one.weight": torch.ones(2)}, {}, "an unknown tensor 'encoder.layers.one"),
        ({}, {"d_inner": 9}, "--option d_inner: give only n_heads or context"),
        ({"encoder.layers.1.linear1.bias": None}, {}, r"no tensor 'encoder\.layers\.1\.linear1"),
    ],
)
def test_what_is_not_such_a_transformer_is_one_line(folder, change, options, says):
    state = Original().state_dict() | change
    with pytest.raises(UserError, match=says):
        imported(folder, {k: v for k, v in state.items() if v is not None}, **options)
