"""The examples of the loss outside tiedlm run, learn and stay short."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"


def run(name):
    done = subprocess.run(
        [sys.executable, EXAMPLES / name], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", ["bare_loop.py", "huggingface_trainer.py"])
def test_example_is_under_forty_lines(name):
    assert len((EXAMPLES / name).read_text().splitlines()) < 40


def test_bare_loop_learns():
    perplexities = [float(x) for x in re.findall(r"perplexity +([\d.]+)", run("bare_loop.py"))]
    assert perplexities[-1] < 0.3 * perplexities[0]


@pytest.mark.slow
@pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("transformers", "accelerate")),
    reason="transformers and accelerate are not installed",
)
def test_hugging_face_trainer_learns():
    losses = [float(x) for x in re.findall(r"'loss': '?([\d.]+)", run("huggingface_trainer.py"))]
    assert losses[-1] < 0.2 * losses[0]


@pytest.mark.slow
@pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("transformers", "accelerate")),
    reason="transformers and accelerate are not installed",
)
@pytest.mark.parametrize("architecture", ["GPT2", "GPTNeoX", "Llama", "Phi"])
def test_any_causal_model_is_tied_and_learns(tmp_path, architecture, tiny_corpus):
    import transformers
    from safetensors.torch import load_file
    from tokenizers import Tokenizer, models, pre_tokenizers

    text = (tiny_corpus / "train.txt").read_text()
    words = sorted(set(text.split()))
    backend = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token=words[0]))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    transformers.PreTrainedTokenizerFast(tokenizer_object=backend).save_pretrained(tmp_path / "in")
    sizes = {
        "vocab_size": len(words), "hidden_size": 32, "num_hidden_layers": 1,
        "num_attention_heads": 2, "intermediate_size": 64, "max_position_embeddings": 32,
        "bos_token_id": 0, "eos_token_id": 0, "tie_word_embeddings": False,
    }  # fmt: skip
    config = getattr(transformers, f"{architecture}Config")(**sizes)
    model = transformers.AutoModelForCausalLM.from_config(config)
    bias = model.get_output_embeddings().bias
    assert (bias is not None) == (architecture == "Phi")
    model.save_pretrained(tmp_path / "in")

    out = tmp_path / "out"
    done = subprocess.run(
        [sys.executable, EXAMPLES / "huggingface_tie.py", tmp_path / "in",
         tiny_corpus / "train.txt", "--block", "16", "--steps", "60", "--lr", "1e-2", "--out", out],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    losses = [float(x) for x in re.findall(r"'loss': '?([\d.]+)", done.stdout)]
    assert losses[-1] < 0.7 * losses[0]
    shape = (len(words), 32)
    stored = [t for t in load_file(out / "model.safetensors").values() if tuple(t.shape) == shape]
    assert len(stored) == 1, "a tied matrix is stored once"
    loaded = transformers.AutoModelForCausalLM.from_pretrained(out)
    assert loaded.get_output_embeddings().weight is loaded.get_input_embeddings().weight
    if bias is not None:
        assert not torch.equal(loaded.get_output_embeddings().bias, bias), "it learns too"


@pytest.mark.slow
def test_two_processes_have_the_curve_of_one():
    curves = []
    for processes in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", processes,
             EXAMPLES / "data_parallel.py"],
            capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        curves.append([float(x) for x in re.findall(r"perplexity ([\d.]+)", done.stdout)])
    assert len(curves[0]) == 6
    assert curves[0][-1] < 2 < curves[0][0]
    assert curves[1] == pytest.approx(curves[0], rel=0.05)  # of each, the first process's half
