"""``tiedlm export --to hf`` of networks with a memory: the same numbers, and what a mask skips."""

import pytest
import torch

import tiedlm.cli
from tests_support import run_command
from tiedlm import LanguageModel, ModelConfig, Vocabulary
from tiedlm.files import write_json
from tiedlm.training.run import config_of, save_weights
from tiedlm.training.settings import Settings

transformers = pytest.importorskip(
    "transformers", reason="transformers (tiedlm[hf]) is not installed"
)
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

SHAPES = {
    "transformer": {
        "d_embed": 10,
        "d_hidden": 12,
        "tied": True,
        "options": {"n_heads": 3, "memory": 4},
    },
    "encoder": {"d_embed": 12, "d_hidden": 12, "options": {"context": 5, "d_inner": 7}},
}
WORDS = ["<eos>", "<unk>", *(f"w{n}" for n in range(12))]


@pytest.fixture(scope="module", params=SHAPES)
def exported(request, tmp_path_factory):
    """Return (tiedlm's model, what transformers loads, the folder)."""
    folder = tmp_path_factory.mktemp(request.param)
    torch.manual_seed(7)
    shape = {"init_range": 0.5, **SHAPES[request.param]}
    model = LanguageModel(ModelConfig(vocab_size=len(WORDS), network=request.param, **shape)).eval()
    model.vocabulary = Vocabulary(WORDS)
    run = folder / "run"
    run.mkdir()
    corpus = {"name": "tiny", "origin": str(folder), "tokenizer": None}
    settings = Settings(data="tiny", network=request.param).to_dict()
    write_json(run / "config.json", config_of(model, settings, corpus) | {"id": "0123456789abcdef"})
    save_weights(model, run / "model.safetensors", "0123456789abcdef")
    model.vocabulary.save(run / "vocabulary.txt")
    tiedlm.cli.main(["export", str(run), "--to", "hf", str(folder / "hf")])
    loaded = transformers.AutoModelForCausalLM.from_pretrained(
        folder / "hf", trust_remote_code=True
    )
    return model.double(), loaded.eval().double(), folder


def words(*shape):
    return torch.randint(len(WORDS), shape, generator=torch.manual_seed(1))


def logits_of(model, ids_BT):
    with torch.no_grad():
        return model.decode(model(ids_BT)[0])


def cache(out):
    return out["cache"] if "cache" in out else out["past_key_values"]


def test_logits_are_the_same_over_many_memories(exported):
    model, loaded, _ = exported
    ids_BT = words(3, 40)
    torch.testing.assert_close(
        loaded(ids_BT).logits, logits_of(model, ids_BT), rtol=1e-9, atol=1e-9
    )
    assert loaded.num_parameters() == model.num_params()


def test_a_new_model_of_the_configuration_begins_with_zero_biases_and_gains_of_one(exported):
    _, loaded, _ = exported
    new = transformers.AutoModelForCausalLM.from_config(loaded.config, trust_remote_code=True)
    for name, parameter in new.named_parameters():
        values = set(parameter.flatten().tolist())
        if name.endswith("bias"):
            assert values == {0.0}, name
        elif "norm" in name:
            assert values == {1.0}, name
        else:
            assert len(values) > 1, name
            assert max(map(abs, values)) <= loaded.config.initializer_range


@pytest.mark.parametrize("options", [{}, {"num_beams": 3}], ids=str)
def test_generate_with_the_carried_state_equals_full_recomputation(exported, options):
    _, loaded, _ = exported
    ids_BT = words(2, 5)
    options = {"max_new_tokens": 12, "attention_mask": torch.ones_like(ids_BT), **options}
    written = [loaded.generate(ids_BT, use_cache=use, **options) for use in (True, False)]
    assert torch.equal(*written)


def test_a_masked_position_is_not_read_and_the_state_is_as_without_it(exported):
    _, loaded, _ = exported
    ids_BT = words(4, 9)
    mask_BT = torch.tensor(
        [
            [0, 0, 0, 1, 1, 1, 1, 1, 1],
            [1, 1, 1, 1, 1, 1, 1, 1, 0],
            [0, 1, 0, 0, 1, 0, 1, 1, 0],
            [1, 1, 1, 1, 1, 1, 1, 1, 1],
        ]
    )
    out = loaded(ids_BT, attention_mask=mask_BT)
    following = words(4, 3)
    after = loaded(following, past_key_values=cache(out))
    for row, read in enumerate(mask_BT.bool()):
        alone = loaded(ids_BT[row, read][None])
        torch.testing.assert_close(out.logits[row, read], alone.logits[0], rtol=0, atol=1e-9)
        torch.testing.assert_close(out.logits[row, -1], alone.logits[0, -1], rtol=0, atol=1e-9)
        next_alone = loaded(following[row : row + 1], past_key_values=cache(alone))
        torch.testing.assert_close(after.logits[row], next_alone.logits[0], rtol=0, atol=1e-9)


def test_a_row_that_is_masked_throughout_keeps_its_state(exported):
    _, loaded, _ = exported
    before = cache(loaded(words(2, 4)))
    mask_BT = torch.tensor([[1] * 7, [1] * 4 + [0] * 3])
    after = cache(loaded(words(2, 3), attention_mask=mask_BT, past_key_values=before))
    for one, other in zip(after.state, before.state, strict=True):
        assert torch.equal(one[:, 1], other[:, 1])
    assert not torch.equal(after.state.keys[:, 0], before.state.keys[:, 0])


def test_onnx_is_refused_in_one_line(capsys, exported):
    model, _, folder = exported
    status, _, err = run_command(capsys, "export", folder / "run", "--to", "onnx", folder / "onnx")
    assert (status, err.count("\n")) == (2, 1)
    assert f"and this run has {model.config.network}" in err
    assert not (folder / "onnx").exists()
