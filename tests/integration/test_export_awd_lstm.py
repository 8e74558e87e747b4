"""AWD-LSTM exported: the same numbers in transformers and onnxruntime, with its options."""

import sys

import numpy as np
import pytest
import torch

import export_support
from export_support import make_run
from tests_support import run_command

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

NETWORK = {"network": "awd_lstm", "d_embed": 9, "d_hidden": 12, "n_layers": 3}
SHAPES = {
    "awd": {**NETWORK, "tied": True, "decoder_bias": True},
    "awd-untied": {**NETWORK, "tied": False, "options": {"d_last": 7}},
    "mogrifier": {
        **NETWORK, "n_layers": 2, "tied": True,
        "options": {"mogrifier_rounds": 5, "mogrifier_rank": 3},
    },
}  # fmt: skip


@pytest.fixture(autouse=True)
def shapes(monkeypatch):
    monkeypatch.setattr(export_support, "SHAPES", SHAPES)


def words(*shape):
    return np.random.default_rng(0).integers(0, len(export_support.WORDS), shape)


def logits_of(model, ids_BT, state=None):
    with torch.no_grad():
        hidden, state = model(torch.from_numpy(ids_BT), state)
        return model.decode(hidden), state


@pytest.mark.parametrize("shape", SHAPES)
def test_transformers_has_the_same_logits_whole_in_parts_and_padded(shape, tmp_path, capsys):
    transformers = pytest.importorskip("transformers")
    model = make_run(tmp_path / "run", shape)
    status, _, err = run_command(
        capsys, "export", tmp_path / "run", "--to", "hf", tmp_path / "hf", "--no-check"
    )
    assert status == 0, err
    loaded = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "hf", trust_remote_code=True
    ).eval()
    assert sum(p.numel() for p in loaded.parameters()) == model.num_params()
    ids_BT = words(2, 30)
    expected, _ = logits_of(model, ids_BT)
    ids = torch.from_numpy(ids_BT)
    state = sys.modules[type(loaded).__module__].STATE
    with torch.no_grad():
        whole = loaded(ids).logits
        first = loaded(ids[:, :11], use_cache=True)
        second = loaded(ids[:, 11:], **{state: first[state]})
        padded = torch.cat([torch.zeros(2, 4, dtype=torch.int64), ids], 1)
        mask = torch.cat([torch.zeros(2, 4), torch.ones(2, 30)], 1)
        skipped = loaded(padded, attention_mask=mask).logits[:, 4:]
    for found in (whole, torch.cat([first.logits, second.logits], 1), skipped):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", ["awd", "awd-untied"])
def test_onnxruntime_has_the_same_numbers_step_by_step(shape, tmp_path, capsys):
    pytest.importorskip("onnxruntime")
    from tiedlm.export.onnx_check import session, zero_state

    model = make_run(tmp_path / "run", shape)
    status, _, err = run_command(
        capsys, "export", tmp_path / "run", "--to", "onnx", tmp_path / "onnx"
    )
    assert status == 0, err
    step = session(tmp_path / "onnx" / "step.onnx")
    ids_BT = words(2, 20)
    expected, after = logits_of(model, ids_BT)
    h, c = zero_state(step, 2).values()
    found = []
    for ids_B1 in np.split(ids_BT, 20, axis=1):
        log_probs, h, c = step.run(None, {"tokens": ids_B1, "h": h, "c": c})
        found.append(log_probs)
    wanted = expected.log_softmax(-1).numpy()
    np.testing.assert_allclose(np.concatenate(found, 1), wanted, rtol=0, atol=1e-5)
    np.testing.assert_allclose(h, after.h, rtol=0, atol=1e-5)
    np.testing.assert_allclose(c, after.c, rtol=0, atol=1e-5)


def test_the_mogrifier_is_refused_for_onnx_in_one_line(tmp_path, capsys):
    pytest.importorskip("onnxruntime")
    make_run(tmp_path / "run", "mogrifier")
    status, _, err = run_command(
        capsys, "export", tmp_path / "run", "--to", "onnx", tmp_path / "onnx"
    )
    assert status == 2
    assert "--to onnx is for the network awd_lstm without mogrifier_rounds" in err
    assert err.count("\n") == 1
    assert not (tmp_path / "onnx").exists()
