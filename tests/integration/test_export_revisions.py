"""``tiedlm export --revisions`` writes a run and its checkpoints as folders for revisions."""

import json
import shutil
from pathlib import Path
from unittest import mock

import pytest
import torch

from tests_support import blocks, run_command
from tiedlm import files, load
from tiedlm.data import load_corpus
from tiedlm.errors import UserError
from tiedlm.export import revisions
from tiedlm.training.loop import train
from tiedlm.training.settings import Settings

transformers = pytest.importorskip(
    "transformers", reason="transformers (tiedlm[hf]) is not installed"
)
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
    pytest.mark.usefixtures("quiet_transformers"),
]


@pytest.fixture(scope="module")
def run(tiny_corpus, tmp_path_factory):
    """Return a run folder with weights kept after 100 and after 500 words."""
    out = tmp_path_factory.mktemp("kept") / "mine"
    settings = Settings(
        data=str(tiny_corpus), d_embed=8, d_hidden=8, n_layers=1, tied=True, batch_size=4, bptt=5,
        epochs=1, threads=1, keep_at="500,101",
    )  # fmt: skip
    train(settings, load_corpus(str(tiny_corpus), progress=False), out)
    return out


def test_each_revision_loads_where_it_lies_with_the_weights_of_its_checkpoint(
    run, tmp_path, capsys
):
    status, out, err = run_command(
        capsys, "export", run, "--to", "hf", tmp_path / "hf", "--revisions", "--json"
    )
    assert status == 0, err
    reports = json.loads(out)
    names = ["main", "chck_101", "chck_500"]
    assert [report["folder"] for report in reports] == [str(tmp_path / "hf" / n) for n in names]
    assert all(report["largest_difference"] <= 1e-5 for report in reports)
    assert sorted(path.name for path in (tmp_path / "hf").iterdir()) == sorted(names)
    ids_BT = torch.arange(10)[None]
    found = []
    for name, source in zip(names, (".", "checkpoints/101", "checkpoints/500"), strict=True):
        folder = tmp_path / "hf" / name
        exported = transformers.AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
        assert (
            tokenizer("the cat").input_ids == load(run).vocabulary.encode(["the", "cat"]).tolist()
        )
        model = load(run / source)
        with torch.no_grad():
            expected = model.decode(model(ids_BT)[0])
            torch.testing.assert_close(exported.eval()(ids_BT).logits, expected, rtol=0, atol=1e-5)
        found.append(expected)
    assert not torch.equal(found[0], found[1])
    assert not torch.equal(found[1], found[2])
    config = json.loads((tmp_path / "hf/chck_101/config.json").read_text())
    assert config["checkpoint"] == {"keep_at": 101, "tokens": 120, "epoch": 1, "step": 6}
    assert "# mine after 101 words" in (tmp_path / "hf/chck_101/README.md").read_text()
    assert "checkpoint" not in json.loads((tmp_path / "hf/main/config.json").read_text())


def test_marks_of_millions_have_the_names_that_babylm_asks_for(run, tmp_path):
    for mark in (1_000_000, 10_000_000, 1_000_000_000, 1_500_000):
        folder = tmp_path / "run/checkpoints" / str(mark)
        shutil.copytree(run / "checkpoints/101", folder)
        config = files.read_json(folder / "config.json")
        config["checkpoint"]["keep_at"] = mark
        files.write_json(folder / "config.json", config)
    shutil.copy(run / "config.json", tmp_path / "run")
    names = ["main", "chck_1M", "chck_1500k", "chck_10M", "chck_1000M"]
    assert list(revisions.revisions_of(tmp_path / "run")) == names


def test_an_export_that_fails_at_the_last_revision_leaves_nothing(run, tmp_path, monkeypatch):
    own, calls = revisions.write, []

    def full(*arguments, **options):
        calls.append(own(*arguments, **options))
        if len(calls) == 3:
            raise UserError("cannot write: No space left on device")
        return calls[-1]

    out = tmp_path / "hf"
    with monkeypatch.context() as patched:
        patched.setattr(revisions, "write", full)
        with pytest.raises(UserError, match="No space left"):
            revisions.export_revisions(run, out, check=False)
    assert len(calls) == 3
    assert not out.exists()
    for _ in range(2):  # and an earlier export is written over
        revisions.export_revisions(run, out, check=False)
    assert sorted(path.name for path in out.iterdir()) == ["chck_101", "chck_500", "main"]
    assert not list(out.rglob(".*"))


def test_checkpoints_of_another_run_are_not_mixed_with_these(run, tmp_path):
    out = tmp_path / "hf"
    revisions.export_revisions(run, out, check=False)
    fewer = shutil.copytree(run, tmp_path / "fewer")
    shutil.rmtree(fewer / "checkpoints/500")
    before = (out / "main/README.md").read_text()
    with pytest.raises(UserError, match=r"has checkpoints of another run \(chck_500\); remove"):
        revisions.export_revisions(fewer, out, check=False)
    assert (out / "main/README.md").read_text() == before
    shutil.rmtree(out / "chck_500")
    (out / "chck_notes").mkdir()  # no export
    revisions.export_revisions(fewer, out, check=False)
    assert "# fewer" in (out / "main/README.md").read_text()


def test_the_upload_of_the_documentation_sends_each_folder_to_its_branch_main_first(
    run, tmp_path, monkeypatch
):
    import huggingface_hub

    revisions.export_revisions(run, tmp_path / "revisions", check=False)
    api = mock.create_autospec(huggingface_hub.HfApi, instance=True)  # refuses wrong arguments
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: api)
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parents[2] / "docs" / "export.md").read_text(encoding="utf-8")
    (snippet,) = [block for block in blocks(page, "python") if "upload_folder" in block]
    exec(snippet, {})
    sent = [(one.kwargs["revision"], one.kwargs["folder_path"].name)
            for one in api.upload_folder.call_args_list]  # fmt: skip
    assert sent[0] == ("main", "main")
    assert sorted(sent[1:]) == [("chck_101", "chck_101"), ("chck_500", "chck_500")]


def test_the_command_for_babylm_writes_revisions_that_put_eos_in_front(
    run, tmp_path, capsys, monkeypatch
):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "mine").symlink_to(run)
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parents[2] / "docs" / "babylm.md").read_text(encoding="utf-8")
    (line,) = [line for line in page.splitlines() if line.startswith("tiedlm export")]
    status, _, err = run_command(capsys, *line.split()[1:], "--no-check")
    assert status == 0, err
    for name in ("main", "chck_101", "chck_500"):
        tokenizer = transformers.AutoProcessor.from_pretrained(
            tmp_path / "mine-hf" / name, trust_remote_code=True, padding_side="right"
        )
        assert tokenizer("the").input_ids[0] == tokenizer.bos_token_id
        assert len(tokenizer("the").input_ids) == 2


def test_mistakes_are_one_line_and_write_nothing(run, tmp_path, capsys):
    shutil.copytree(run, tmp_path / "plain", ignore=shutil.ignore_patterns("checkpoints"))
    (tmp_path / "full").mkdir()
    (tmp_path / "full/letter.txt").write_text("")
    status, _, err = run_command(
        capsys, "export", run, "--to", "onnx", tmp_path / "new", "--start", "eos"
    )
    assert (status, err.count("\n")) == (2, 1)
    assert "--start needs `--to hf`" in err
    for source, kind, target, expected in [
        (tmp_path / "plain", "hf", "new", "has no checkpoints by words seen; train with --keep-at"),
        (tmp_path / "nothing", "hf", "new", "is not a run folder"),
        (run, "onnx", "new", "--revisions needs `--to hf`"),
        (run, "hf", "full", "holds other files (letter.txt)"),
    ]:
        status, _, err = run_command(
            capsys, "export", source, "--to", kind, tmp_path / target, "--revisions"
        )
        assert status == 2
        assert expected in err
        assert err.count("\n") == 1
    assert not (tmp_path / "new").exists()
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["letter.txt"]
