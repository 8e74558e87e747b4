"""Settings that were fitted for a run are kept beside it, and belong to its weights."""

import json
from typing import ClassVar

import numpy as np
import pytest
import torch

from tiedlm import LanguageModel, ModelConfig
from tiedlm.errors import UserError
from tiedlm.training.evaluated import Evaluated
from tiedlm.training.method_request import Request
from tiedlm.training.method_settings import find_settings
from tiedlm.training.run import digest_of, save_weights

V = 9


class Text:
    """A corpus of which only the validation text is read."""

    info: ClassVar = {}
    valid = np.tile(np.random.default_rng(0).integers(0, V, size=40), 4)


def model(seed=0):
    torch.manual_seed(seed)
    return LanguageModel(ModelConfig(vocab_size=V, d_embed=6, d_hidden=6, n_layers=1)).eval()


@pytest.fixture
def run(tmp_path):
    own = model()
    save_weights(own, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text('{"corpus": {"tokenizer": null}}')
    return Evaluated(tmp_path, own, Text)


@pytest.mark.parametrize(
    "entry",
    [{}, {"cache": None}, {"cache": {"words": "many"}}, {"cache": {"words": 9, "weight": 3}},
     {"cache": {"words": 9}, "temperature": "hot"}],
    ids=str,
)  # fmt: skip
def test_kept_settings_that_are_no_settings_are_one_line(run, entry):
    request = Request(cache={}, temperature="fit")
    content = {"weights": digest_of(run.model), "tuned": {request.key(): entry}}
    path = run.folder / "tuned.json"
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"tuned\.json is damaged; delete it and give --tune"):
        find_settings(run, request)


def test_a_fit_is_kept_for_the_weights_that_were_loaded(run):
    """Training may save better weights between the load and the fit."""
    other = model(seed=1)
    save_weights(other, run.folder / "model.safetensors")
    find_settings(run, Request(temperature="fit"))
    assert json.loads((run.folder / "tuned.json").read_text())["weights"] == digest_of(run.model)
    assert Evaluated(run.folder, other, Text).tuned.is_stale
