"""A new model that transformers makes from an exported configuration starts as tiedlm's does."""

import pytest
import torch

from export_support import make_run
from tests_support import run_command
from tiedlm import LanguageModel

transformers = pytest.importorskip(
    "transformers", reason="transformers (tiedlm[hf]) is not installed"
)
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

WIDE = {"d_embed": 64, "d_hidden": 64, "tied": True}
SHAPES = {
    "lstm": WIDE,
    "untied": {"d_embed": 40, "d_hidden": 64},
    "awd_lstm": {**WIDE, "network": "awd_lstm", "options": {"mogrifier_rounds": 2}},
    "gru": {**WIDE, "network": "gru"},
    "elman": {**WIDE, "network": "elman"},
    "rhn": {**WIDE, "network": "rhn", "options": {"depth": 2, "transform_bias": -3.0}},
    "transformer": {**WIDE, "network": "transformer", "n_layers": 4},
    "encoder": {**WIDE, "network": "encoder"},
}


def about(parameter):
    """Return what tells two ways to draw a parameter apart: its mean and its largest values."""
    halves = parameter.detach().chunk(2, dim=-1)  # the biases of an RHN: candidates, then gates
    return torch.tensor([[float(half.mean()), float(half.abs().max())] for half in halves])


@pytest.mark.parametrize("shape", SHAPES)
def test_each_parameter_is_drawn_as_tiedlm_draws_it(shape, tmp_path, capsys):
    trained = make_run(tmp_path / "run", SHAPES[shape])
    status, _, err = run_command(
        capsys, "export", tmp_path / "run", "--to", "hf", tmp_path / "hf", "--no-check"
    )
    assert status == 0, err
    config = transformers.AutoConfig.from_pretrained(tmp_path / "hf", trust_remote_code=True)
    torch.manual_seed(5)
    new = transformers.AutoModelForCausalLM.from_config(config, trust_remote_code=True)
    expected = dict(LanguageModel(trained.config).named_parameters())
    found = dict(new.named_parameters())
    assert found.keys() == expected.keys()
    for name, parameter in expected.items():
        spread = 0.2 * float(parameter.detach().abs().max())
        difference = (about(found[name]) - about(parameter)).abs().max()
        assert difference <= spread, (name, about(found[name]), about(parameter))
