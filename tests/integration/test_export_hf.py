"""After ``tiedlm export --to hf``, transformers gets the same numbers, keeps ties and generates."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import tiedlm
import tiedlm.cli
from export_support import SHAPES, make_run
from tests_support import blocks, is_a_best_word, run_command
from tiedlm.export.hf import export_hf
from tiedlm.training.run import save_weights
from tiedlm.tying import count_parameters

transformers = pytest.importorskip(
    "transformers", reason="transformers (tiedlm[hf]) is not installed"
)
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
    pytest.mark.usefixtures("quiet_transformers"),
]


@pytest.fixture(scope="module", params=SHAPES)
def exported(request, tmp_path_factory):
    """Return (shape, tiedlm's model, the exported folder)."""
    folder = tmp_path_factory.mktemp(request.param)
    model = make_run(folder / "run", request.param)
    tiedlm.cli.main(["export", str(folder / "run"), "--to", "hf", str(folder / "hf")])
    return request.param, model, folder / "hf"


def from_pretrained(folder):
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)
    return model.eval()


def state_name(loaded):
    """Return the installed transformers' name for the state."""
    return sys.modules[type(loaded).__module__].STATE


def random_words(model, *shape):
    return torch.randint(model.config.vocab_size, shape, generator=torch.manual_seed(1))


def expected_logits(model, ids_BT):
    with torch.no_grad():
        hidden, _ = model(ids_BT)
        return model.decode(hidden)


def distinct(model):
    return count_parameters(model.parameters())


def test_a_fresh_process_without_tiedlm_gets_the_same_logits(tmp_path):
    program = (
        "import sys, torch, numpy\n"
        "sys.modules['tiedlm'] = None\n"
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n"
        "ids = torch.from_numpy(numpy.load(sys.argv[1]))\n"
        "for folder in sys.argv[2:]:\n"
        "    model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)\n"
        "    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)\n"
        "    assert tokenizer('the cat').input_ids == [2, 4]\n"
        "    numpy.save(folder + '/logits.npy', model(ids).logits.detach().numpy())\n"
    )
    models, folders = [], []
    for shape in SHAPES:
        models.append(make_run(tmp_path / shape, shape))
        folders.append(tmp_path / f"{shape}-hf")
        tiedlm.cli.main(
            ["export", str(tmp_path / shape), "--to", "hf", str(folders[-1]), "--no-check"]
        )
    ids_BT = random_words(models[0], 3, 40)
    np.save(tmp_path / "ids.npy", ids_BT.numpy())
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "ids.npy", *folders],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for model, folder in zip(models, folders, strict=True):
        logits = torch.from_numpy(np.load(folder / "logits.npy"))
        torch.testing.assert_close(logits, expected_logits(model, ids_BT), rtol=0, atol=1e-5)


def test_a_user_without_a_home_folder_exports_and_gets_no_folder_called_tilde(tmp_path):
    program = (
        "import os, pwd, sys\n"
        "def no_entry(number): raise KeyError(number)\n"
        "pwd.getpwuid = no_entry\n"
        "import tiedlm.cli\n"
        "tiedlm.cli.main(['export', '../run', '--to', 'hf', '../hf'])\n"
    )
    make_run(tmp_path / "run", "one-layer")
    (tmp_path / "here").mkdir()
    gone = ("HOME", "XDG_CACHE_HOME", "HF_HOME", "HF_MODULES_CACHE")
    kept = {name: value for name, value in os.environ.items() if name not in gone}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path / "here", env=kept, capture_output=True,
        text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "hf" / "config.json").is_file()
    assert list((tmp_path / "here").iterdir()) == []


def test_parameters_are_counted_as_in_tiedlm_and_a_tie_is_one_parameter(exported):
    shape, model, folder = exported
    loaded = from_pretrained(folder)
    assert distinct(loaded) == loaded.num_parameters() == model.num_params()
    assert (loaded.decoder.weight is loaded.embedding.weight) == SHAPES[shape]["tied"]


def test_save_and_load_again_keeps_tie_and_logits(exported, tmp_path):
    shape, model, folder = exported
    from_pretrained(folder).save_pretrained(tmp_path)
    loaded = from_pretrained(tmp_path)
    assert (loaded.decoder.weight is loaded.embedding.weight) == SHAPES[shape]["tied"]
    ids_BT = random_words(model, 2, 30)
    torch.testing.assert_close(
        loaded(ids_BT).logits, expected_logits(model, ids_BT), rtol=0, atol=1e-5
    )


def test_the_models_file_names_all_code_itself(exported):
    """transformers before 4.56 copies from a folder what this file imports, and no further."""
    folder = exported[2]
    code = {path.stem for path in folder.glob("*.py")} - {"modeling_tiedlm"}
    imports = transformers.dynamic_module_utils.get_relative_imports(folder / "modeling_tiedlm.py")
    assert len(code) > 5
    assert set(imports) == code


def test_a_tied_tensor_is_stored_once_whoever_saves_it(exported, tmp_path):
    from safetensors import safe_open

    shape, _, folder = exported
    from_pretrained(folder).save_pretrained(tmp_path)
    for written in (folder, tmp_path):
        with safe_open(written / "model.safetensors", "pt") as file:
            assert ("decoder.weight" in file.keys()) != SHAPES[shape]["tied"]  # noqa: SIM118
            assert "embedding.weight" in file.keys()  # noqa: SIM118


@pytest.mark.parametrize("change", [3, -3])
def test_resized_embeddings_keep_tie_bias_projection_and_old_words(exported, tmp_path, change):
    shape, model, folder = exported
    size = model.config.vocab_size + change
    kept = min(size, model.config.vocab_size)
    loaded = from_pretrained(folder)
    loaded.resize_token_embeddings(size)
    loaded.save_pretrained(tmp_path)
    for resized in (loaded, from_pretrained(tmp_path)):
        assert resized.config.vocab_size == resized.decoder.out_features == size
        assert (resized.decoder.weight is resized.embedding.weight) == SHAPES[shape]["tied"]
        assert resized.decoder.weight.shape[0] == resized.embedding.weight.shape[0] == size
        if resized.decoder.bias is not None:
            assert resized.decoder.bias.shape == (size,)
        ids_BT = random_words(model, 2, 20) % kept
        torch.testing.assert_close(
            resized(ids_BT).logits[..., :kept],
            expected_logits(model, ids_BT)[..., :kept],
            rtol=0, atol=1e-5,
        )  # fmt: skip


def test_a_text_read_in_pieces_gives_the_logits_of_the_whole(exported):
    _, model, folder = exported
    loaded = from_pretrained(folder)
    ids_BT = random_words(model, 2, 17)
    first = loaded(ids_BT[:, :9])
    assert first[state_name(loaded)].get_seq_length() == 9
    rest = loaded(ids_BT[:, 9:], past_key_values=first[state_name(loaded)])
    torch.testing.assert_close(
        torch.cat([first.logits, rest.logits], dim=1), loaded(ids_BT).logits, rtol=0, atol=1e-6
    )


def test_a_masked_position_is_not_read_and_repeats_the_prediction_before_it(exported):
    _, model, folder = exported
    loaded = from_pretrained(folder)
    ids_BT = random_words(model, 4, 6)
    mask_BT = torch.tensor(
        [[1, 1, 1, 1, 1, 1], [0, 0, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0], [0, 1, 0, 1, 1, 0]]
    )
    out = loaded(ids_BT, attention_mask=mask_BT)
    for row in range(4):
        read = mask_BT[row].bool()
        alone = loaded(ids_BT[row : row + 1, read])
        torch.testing.assert_close(out.logits[row, read], alone.logits[0], rtol=0, atol=1e-6)
        torch.testing.assert_close(out.logits[row, -1], alone.logits[0, -1], rtol=0, atol=1e-6)
        torch.testing.assert_close(
            out[state_name(loaded)].state.c[:, row],
            alone[state_name(loaded)].state.c[:, 0],
            rtol=0,
            atol=1e-6,
        )


def test_a_row_that_is_masked_throughout_keeps_its_state(exported):
    _, model, folder = exported
    loaded = from_pretrained(folder)
    before = loaded(random_words(model, 2, 5))[state_name(loaded)]
    mask_BT = torch.tensor([[1, 1, 1], [0, 0, 0]])
    after = loaded(random_words(model, 2, 3), attention_mask=mask_BT, past_key_values=before)[
        state_name(loaded)
    ]
    assert torch.equal(after.state.h[:, 1], before.state.h[:, 1])
    assert not torch.equal(after.state.h[:, 0], before.state.h[:, 0])


GENERATION = [
    {},
    {"num_beams": 3},
    {"num_beams": 4, "num_return_sequences": 2},
    {"do_sample": True, "num_return_sequences": 3},
]


@pytest.mark.parametrize("options", GENERATION, ids=str)
def test_generate_with_the_carried_state_equals_full_recomputation(exported, options):
    _, model, folder = exported
    loaded = from_pretrained(folder).double()  # no near ties
    ids_BT = random_words(model, 2, 5)
    options = {"max_new_tokens": 12, "attention_mask": torch.ones_like(ids_BT), **options}
    written = []
    for use_cache in (True, False):
        torch.manual_seed(3)
        written.append(loaded.generate(ids_BT, use_cache=use_cache, **options))
    assert torch.equal(*written)


def test_generate_reads_every_word_once(exported):
    _, model, folder = exported
    loaded = from_pretrained(folder)
    read = []
    loaded.embedding.register_forward_hook(lambda _, inputs, __: read.append(inputs[0].shape[1]))
    ids_BT = random_words(model, 1, 9)
    mask_BT = torch.ones_like(ids_BT)
    loaded.generate(ids_BT, attention_mask=mask_BT, max_new_tokens=6, min_new_tokens=6)
    assert read == [9, 1, 1, 1, 1, 1]


def test_greedy_generation_writes_the_words_that_tiedlm_finds_most_probable(exported):
    _, model, folder = exported
    loaded = from_pretrained(folder)
    ids_BT = random_words(model, 1, 4)
    written = loaded.generate(
        ids_BT, attention_mask=torch.ones_like(ids_BT), max_new_tokens=10, do_sample=False
    )[0]
    for length in range(4, len(written)):
        logits_V = expected_logits(model, written[None, :length])[0, -1]
        assert is_a_best_word(written[length], logits_V)


@pytest.mark.parametrize("side", ["left", "right"])
def test_padded_prompts_continue_as_they_do_alone(exported, side):
    _, _, folder = exported
    loaded = from_pretrained(folder).double()  # no near ties
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
    assert tokenizer.padding_side == "left"
    prompts = ["<eos> the cat does", "<eos> it"]
    inputs = tokenizer(prompts, return_tensors="pt", padding=True, padding_side=side)
    together = loaded.generate(**inputs, max_new_tokens=8, do_sample=False)
    for row, prompt in enumerate(prompts):
        alone = loaded.generate(
            **tokenizer(prompt, return_tensors="pt"), max_new_tokens=8, do_sample=False
        )
        written = alone[0, len(prompt.split()) :]
        assert torch.equal(together[row, 4 : 4 + len(written)], written)


@pytest.fixture(scope="module")
def folder_for_pipelines(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pipelines")
    make_run(folder / "run", "tied", "tiedlm")
    tiedlm.cli.main(["export", str(folder / "run"), "--to", "hf", str(folder / "hf"), "--no-check"])
    return folder / "hf"


@pytest.mark.parametrize("saved_by", ["tiedlm", "model", "pipeline"])
def test_the_pipeline_puts_a_blank_between_prompt_and_continuation(
    folder_for_pipelines, tmp_path, saved_by
):
    folder = folder_for_pipelines
    options = {"max_new_tokens": 4, "min_new_tokens": 4, "do_sample": False}
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
    if saved_by != "tiedlm":  # a folder that transformers saved has the pipeline too
        loaded = transformers.pipeline("text-generation", model=str(folder), trust_remote_code=True)
        (loaded.model if saved_by == "model" else loaded).save_pretrained(tmp_path)
        folder = tmp_path
    write = transformers.pipeline(
        "text-generation", model=str(folder), tokenizer=tokenizer, trust_remote_code=True
    )
    ids = write("It doesn't", return_tensors=True, **options)[0]["generated_token_ids"]
    assert ids[:3] == tokenizer("It doesn't").input_ids
    new = tokenizer.decode(ids[3:])
    assert write("It doesn't", **options) == [{"generated_text": f"It doesn't {new}"}]
    assert write("It doesn't ", **options) == [{"generated_text": f"It doesn't {new}"}]
    only_new = write(["It doesn't"], return_full_text=False, **options)
    assert only_new == [[{"generated_text": f" {new}"}]]


def test_after_a_line_end_and_where_nothing_was_written_the_pipeline_adds_no_blank(
    folder_for_pipelines,
):
    write = transformers.pipeline(
        "text-generation", model=str(folder_for_pipelines), trust_remote_code=True
    )
    suppressed = [write.tokenizer.eos_token_id]
    [record] = write("It.\n", max_new_tokens=2, suppress_tokens=suppressed)
    assert re.fullmatch(r"It\.\n\S+ \S+", record["generated_text"])
    every_other = [number for number in range(14) if number not in suppressed]
    [record] = write("It.", max_new_tokens=2, suppress_tokens=every_other)
    assert record["generated_text"] == "It."


def test_labels_from_the_mask_keep_eos_where_those_from_padding_ids_lose_it(
    folder_for_pipelines,
):
    folder = folder_for_pipelines
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
    loaded = from_pretrained(folder)
    document = (Path(__file__).parents[2] / "docs" / "export.md").read_text(encoding="utf-8")
    [snippet] = [block for block in blocks(document, "python") if "def collate" in block]
    exec(snippet, names := {"tokenizer": tokenizer})
    texts = ["the cat .\n", "it does n't see the dog .\n"]
    batch = names["collate"](texts)
    assert (batch["labels"] == tokenizer.eos_token_id).sum() == 2
    assert (batch["labels"] == -100).sum() == 4
    alone = [names["collate"]([text]) for text in texts]
    counts = torch.tensor([one["labels"].shape[1] - 1.0 for one in alone])
    losses = torch.stack([loaded(**one).loss for one in alone])
    torch.testing.assert_close(
        loaded(**batch).loss, (losses * counts).sum() / counts.sum(), rtol=0, atol=1e-5
    )


@pytest.mark.parametrize("kept", [0, 2, torch.tensor([0, 3]), torch.tensor([4])], ids=str)
def test_logits_are_kept_for_a_count_or_for_positions(exported, kept):
    _, model, folder = exported
    loaded = from_pretrained(folder)
    ids_BT = random_words(model, 2, 5)
    positions = range(5)[-kept:] if isinstance(kept, int) else kept.tolist()
    logits = loaded(ids_BT, logits_to_keep=kept).logits
    torch.testing.assert_close(
        logits, expected_logits(model, ids_BT)[:, list(positions)], rtol=0, atol=1e-5
    )
    inputs = loaded.prepare_inputs_for_generation(ids_BT, logits_to_keep=kept)
    torch.testing.assert_close(loaded(**inputs).logits, logits, rtol=0, atol=0)


def test_generation_resumes_from_a_kept_state(exported):
    _, model, folder = exported
    loaded = from_pretrained(folder).double()  # no near ties
    ids_BT = random_words(model, 1, 9)
    options = {"attention_mask": torch.ones_like(ids_BT), "max_new_tokens": 6}
    name = state_name(loaded)
    state = loaded(ids_BT[:, :-1])[name]
    continued = loaded.generate(ids_BT, **{name: state}, **options)
    assert torch.equal(continued, loaded.generate(ids_BT, **options))


def test_a_trainer_leaves_the_state_out_of_its_predictions(exported):
    loaded = from_pretrained(exported[2])
    out = loaded(random_words(exported[1], 1, 3))
    assert state_name(loaded) in out
    assert state_name(loaded) in loaded.config.keys_to_ignore_at_inference


def test_labels_give_the_loss_of_tiedlm_and_a_gradient_to_every_parameter(exported):
    _, model, folder = exported
    loaded = from_pretrained(folder)
    ids_BT = random_words(model, 2, 12)
    loss = loaded(ids_BT, labels=ids_BT).loss
    with torch.no_grad():
        hidden, _ = model(ids_BT[:, :-1])
        expected = model.loss(hidden, ids_BT[:, 1:]).loss
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert all(parameter.grad is not None for parameter in loaded.parameters())


def test_hidden_states_are_word_vectors_and_every_layer(exported):
    shape, model, folder = exported
    ids_BT = random_words(model, 2, 5)
    out = from_pretrained(folder)(ids_BT, output_hidden_states=True)
    assert len(out.hidden_states) == 1 + SHAPES[shape].get("n_layers", 2)
    with torch.no_grad():
        hidden, _ = model(ids_BT)
    torch.testing.assert_close(out.hidden_states[-1], hidden, rtol=0, atol=1e-6)
    torch.testing.assert_close(out.hidden_states[0], model.embedding(ids_BT))


def test_tiedlm_loads_what_it_exported(exported):
    _, model, folder = exported
    loaded = tiedlm.load(folder)
    assert loaded.vocabulary == model.vocabulary
    ids_BT = random_words(model, 1, 20)
    assert torch.equal(expected_logits(loaded, ids_BT), expected_logits(model, ids_BT))


def test_an_exported_folder_names_no_path_of_the_machine_it_comes_from(tmp_path):
    make_run(tmp_path / "run", "tied", data=str(tmp_path / "secret"))
    tiedlm.cli.main(["export", str(tmp_path / "run"), "--to", "hf", str(tmp_path / "hf")])
    for path in (tmp_path / "hf").iterdir():
        assert str(tmp_path).encode() not in path.read_bytes()


def test_the_command_prints_what_it_checked(capsys, tmp_path):
    make_run(tmp_path / "run", "tied")
    status, out, _ = run_command(capsys, "export", tmp_path / "run", "--to", "hf", tmp_path / "hf")
    assert status == 0
    assert "largest difference of a logit in transformers" in out
    status, out, _ = run_command(
        capsys, "export", tmp_path / "run", "--to", "hf", tmp_path / "hf", "--json"
    )
    assert json.loads(out)["largest_difference"] <= 1e-5


def test_an_export_of_an_export_knows_its_perplexity(capsys, tmp_path):
    make_run(tmp_path / "run", "tied")
    (tmp_path / "run" / "result.json").write_text(
        json.dumps({"valid_ppl": 12.5, "test_ppl": 13.25, "epochs": 3, "parameters": 2_568})
    )
    for source, target in (("run", "one"), ("one", "two"), ("two", "two")):
        status, _, _ = run_command(
            capsys, "export", tmp_path / source, "--to", "hf", tmp_path / target, "--no-check"
        )
        assert status == 0
        assert "12.50 on validation, 13.25 on test" in (tmp_path / target / "README.md").read_text()


def test_a_failed_export_leaves_nothing_and_can_be_done_again(capsys, tmp_path, monkeypatch):
    make_run(tmp_path / "run", "tied")
    command = ("export", tmp_path / "run", "--to", "hf", tmp_path / "hf")
    with monkeypatch.context() as patched:
        patched.setattr("tiedlm.export.hf.largest_difference", lambda *_: 1.0)
        status, _, err = run_command(capsys, *command)
    assert status == 2
    assert "hf was not written: logits in transformers differ by 1.0e+00 from tiedlm's" in err
    assert not (tmp_path / "hf").exists()
    assert run_command(capsys, *command)[0] == 0


def test_mistakes_are_one_line(capsys, tmp_path, monkeypatch):
    make_run(tmp_path / "run", "tied")
    for arguments, expected in [
        ((tmp_path / "run", "--to", "hf", tmp_path / "run"), "holds other files"),
        ((tmp_path / "nothing", "--to", "hf", tmp_path / "hf"), "is not a run folder"),
        ((tmp_path / "run", "--to", "hf", tmp_path / "hf", "--int8"), "--int8 needs"),
    ]:
        status, _, err = run_command(capsys, "export", *arguments)
        assert status == 2
        assert expected in err
        assert err.count("\n") == 1
    monkeypatch.setitem(sys.modules, "transformers", None)
    status, _, err = run_command(capsys, "export", tmp_path / "run", "--to", "hf", tmp_path / "hf")
    assert status == 2
    assert "pip install 'tiedlm[hf]'" in err
    status, _, _ = run_command(
        capsys, "export", tmp_path / "run", "--to", "hf", tmp_path / "hf", "--no-check"
    )
    assert status == 0


def test_weights_that_training_replaces_meanwhile_are_not_mixed(capsys, tmp_path, monkeypatch):
    run = tmp_path / "run"
    other = make_run(tmp_path / "other", "tied")
    with torch.no_grad():
        other.embedding.weight.add_(1)
    make_run(run, "tied")

    def read_and_train(folder):
        found = tiedlm.load(folder)
        save_weights(other, folder / "model.safetensors", "0123456789abcdef")
        return found

    monkeypatch.setattr("tiedlm.export.hf.load", read_and_train)
    status, _, err = run_command(capsys, "export", run, "--to", "hf", tmp_path / "hf")
    assert (status, err.count("\n")) == (2, 1)
    assert "model.safetensors has changed since it was loaded; export it again" in err
    assert not (tmp_path / "hf").exists()


def test_a_text_of_ones_own_with_the_name_of_a_corpus_stays_ones_own(tmp_path, tiny_corpus):
    make_run(tmp_path / "run", "tied")
    path = tmp_path / "run" / "config.json"
    config = json.loads(path.read_text())
    for data, exported in ((str(tiny_corpus), ""), ("ptb", "ptb")):
        config["settings"]["data"], config["corpus"]["name"] = data, "ptb"
        path.write_text(json.dumps(config))
        export_hf(tmp_path / "run", tmp_path / f"hf-{exported}", check=False)
        found = json.loads((tmp_path / f"hf-{exported}" / "config.json").read_text())
        assert found["settings"]["data"] == exported
