"""``tiedlm import`` turns checkpoints into working runs, and each mistake gives one line."""

import pytest
import torch
from torch import nn

from tests_support import run_command as run

WORDS = ["<unk>", "<eos>", "the", "cat", "sees", "a", "dog", "."]


@pytest.fixture(params=[True, False], ids=["tied", "untied"])
def checkpoint(request, tmp_path):
    """Return a folder with model.pt (a state dict as both programs write it) and vocab.txt."""
    torch.manual_seed(0)
    children = {
        "encoder": nn.Embedding(len(WORDS), 6),
        "rnn": nn.LSTM(6, 6, 2),
        "decoder": nn.Linear(6, len(WORDS)),
    }
    if request.param:
        children["decoder"].weight = children["encoder"].weight
    torch.save(nn.ModuleDict(children).state_dict(), tmp_path / "model.pt")
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    return tmp_path, children, request.param


def test_an_imported_run_scores_as_the_checkpoint_would(capsys, checkpoint):
    folder, net, tied = checkpoint
    out = folder / "run"
    status, said, _ = run(
        capsys, "import", folder / "model.pt", "--vocabulary", folder / "vocab.txt", "--out", out
    )
    assert status == 0
    assert ("; tied: the two matrices are equal" in said) is tied
    assert "2 layers, d_embed 6, d_hidden 6, 8 words" in said
    (folder / "text").write_text("the cat sees a zebra .\n")
    status, table, _ = run(capsys, "score", out, folder / "text", "--base", "e")
    assert status == 0
    ids = torch.tensor([1, 2, 3, 4, 5, 0, 7, 1])
    with torch.no_grad():
        hidden, _ = net["rnn"](net["encoder"](ids[:-1]))
        nll = nn.functional.cross_entropy(net["decoder"](hidden), ids[1:], reduction="none")
    rows = [line.split("\t") for line in table.splitlines()[1:]]
    assert [float(row[4]) for row in rows] == pytest.approx(nll.tolist(), abs=1e-5)
    assert [row[3] for row in rows] == ["1", "1", "1", "1", "0", "1", "1"]


def test_a_checkpoint_of_several_gpus_is_imported_and_left_out_tensors_are_named(
    capsys, checkpoint
):
    folder, net, _ = checkpoint
    torch.save(nn.DataParallel(nn.ModuleDict(net)).state_dict(), folder / "parallel.pt")
    words = ["--vocabulary", folder / "vocab.txt"]
    _, plain, _ = run(capsys, "import", folder / "model.pt", *words, "--out", folder / "one")
    status, said, _ = run(capsys, "import", folder / "parallel.pt", *words, "--out", folder / "two")
    assert status == 0
    assert "names of tensors are read without module., which" in said
    assert "module" not in plain
    weights = [(folder / name / "model.safetensors").read_bytes() for name in ("one", "two")]
    assert weights[0] == weights[1]


def test_an_imported_run_works_with_the_other_commands(capsys, checkpoint):
    folder, _, _ = checkpoint
    out = folder / "run"
    run(capsys, "import", folder / "model.pt", "--vocabulary", folder / "vocab.txt", "--out", out)
    for command in (["predict", out, "the cat"], ["generate", out], ["analyze", out]):
        status, said, err = run(capsys, *command)
        assert status == 0, err
        assert said
    status, _, err = run(capsys, "evaluate", out)
    assert (status, err.count("\n")) == (2, 1)
    assert "records no corpus" in err
    status, said, _ = run(capsys, "export", out, "--to", "hf", folder / "hf", "--no-check")
    assert (status, "not checked (--no-check)" in said) == (0, True)
    card = (folder / "hf" / "README.md").read_text()
    assert "imported into tiedlm from a checkpoint of another program" in card
    assert "trained with" not in card
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    status, _, err = run(capsys, "export", out, "--to", "onnx", folder / "onnx", "--int8")
    assert (status, err.count("\n")) == (2, 1)
    assert "leave out --int8" in err


@pytest.mark.parametrize(
    ("checkpoint_name", "vocabulary_name", "says"),
    [
        ("none.pt", "vocab.txt", "none.pt does not exist"),
        ("model.pt", "none.txt", "none.txt does not exist"),
        ("model.pt", "short.txt", "has 7 words"),
        ("model.pt", "twice.txt", "twice"),
        ("vocab.txt", "vocab.txt", "not a PyTorch checkpoint"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_no_run(
    capsys, checkpoint, checkpoint_name, vocabulary_name, says
):
    folder, _, _ = checkpoint
    (folder / "short.txt").write_text("\n".join(WORDS[:-1]) + "\n")
    (folder / "twice.txt").write_text("\n".join([*WORDS[:-1], "the"]) + "\n")
    status, out, err = run(
        capsys, "import", folder / checkpoint_name,
        "--vocabulary", folder / vocabulary_name, "--out", folder / "run",
    )  # fmt: skip
    assert (status, out) == (2, "")
    assert says in err
    assert err.count("\n") == 1
    assert not (folder / "run").exists()
