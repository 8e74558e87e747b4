"""Full disks, untrusted files and senseless settings give one line and lose nothing."""

import json
import pickle
import resource
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests_support import run_command
from tiedlm import load
from tiedlm.errors import UserError
from tiedlm.experiments.recipes import RECIPES
from tiedlm.training.settings import Settings

TINY = ["--d-embed=12", "--d-hidden=12", "--batch-size=4", "--bptt=5", "--threads=1"]


def command(corpus, out, epochs):
    return [
        sys.executable, "-m", "tiedlm", "train", "small-re", "--data", str(corpus),
        "--out", str(out), f"--epochs={epochs}", *TINY,
    ]  # fmt: skip


def limited(size):
    """Return a function that limits a child's file size, as a full disk would."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def outcome(out):
    metrics = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    for line in metrics:
        del line["seconds"], line["tokens_per_second"]
    return metrics, (out / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def whole(tiny_corpus, tmp_path_factory):
    """Return the outcome of three undisturbed epochs."""
    out = tmp_path_factory.mktemp("whole")
    subprocess.run(command(tiny_corpus, out, 3), check=True, capture_output=True)
    return outcome(out)


# 100 stops config.json; 4,000 the weights, which have 10,300 bytes; 12,000 only a checkpoint.
@pytest.mark.parametrize(
    "size",
    [pytest.param(100, marks=pytest.mark.slow), 4000, pytest.param(12_000, marks=pytest.mark.slow)],
)
def test_a_full_disk_is_one_line_and_loses_nothing(tiny_corpus, tmp_path, whole, size):
    out = tmp_path / "run"
    subprocess.run(command(tiny_corpus, out, 1), check=True, capture_output=True)
    before = (out / "model.safetensors").read_bytes()
    full = subprocess.run(
        command(tiny_corpus, out, 3), capture_output=True, text=True, preexec_fn=limited(size)
    )
    if "torch/distributed/nn/jit/instantiator.py" in full.stderr:
        pytest.skip("this PyTorch writes a file of its own when it is imported")
    assert full.returncode == 2
    (line,) = [line for line in full.stderr.splitlines() if "error" in line]
    assert line.startswith("tiedlm: error: cannot write")
    assert str(out) in line
    assert "Traceback" not in full.stderr
    load(out)  # the old file or the new one, whole
    if size < 12_000:
        assert (out / "model.safetensors").read_bytes() == before
    assert not list(out.rglob("*.tmp"))
    subprocess.run(command(tiny_corpus, out, 3), check=True, capture_output=True)
    assert outcome(out) == whole


def test_a_full_disk_at_the_very_start_does_not_block_the_folder(tiny_corpus, tmp_path, whole):
    """The limit of a kilobyte lies between the first two files, env.json and config.json."""
    out = tmp_path / "run"
    full = subprocess.run(
        command(tiny_corpus, out, 3), capture_output=True, text=True, preexec_fn=limited(1024)
    )
    if "torch/distributed/nn/jit/instantiator.py" in full.stderr:
        pytest.skip("this PyTorch writes a file of its own when it is imported")
    assert full.returncode == 2
    assert "config.json: File too large" in full.stderr
    subprocess.run(command(tiny_corpus, out, 3), check=True, capture_output=True)
    assert outcome(out) == whole


class Exploit:
    def __reduce__(self):
        return (exec, ("raise SystemExit('code from the file was run')",))


@pytest.mark.parametrize(
    "name", ["model.safetensors", "config.json", "vocabulary.txt", "last/000000042.safetensors"]
)
def test_a_strangers_pickle_is_never_run(tiny_corpus, tmp_path, capsys, name):
    out = tmp_path / "run"
    arguments = ["train", "small-re", "--data", tiny_corpus, "--out", out, "--quiet", *TINY]
    assert run_command(capsys, *arguments, "--epochs=1")[0] == 0
    if name.startswith("last"):
        (path,) = (out / "last").glob("*.safetensors")
        path.write_bytes(pickle.dumps(Exploit()))
        status, _, err = run_command(capsys, *arguments, "--epochs=2")
    else:
        (out / name).write_bytes(pickle.dumps(Exploit()))
        status, _, err = run_command(capsys, "predict", out, "the")
    assert status == 2
    assert "code from the file was run" not in err
    assert err.count("\n") == 1


@given(text=st.text(max_size=200))
@hypothesis_settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_configuration_file_is_read_or_refused_in_one_line(tmp_path, text):
    (tmp_path / "config.json").write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as caught:
        load(tmp_path)
    assert "\n" not in str(caught.value).strip() or "config.json" in str(caught.value)


VALUES = st.one_of(st.integers(-3, 3), st.floats(), st.text(max_size=3), st.booleans(), st.none())


@given(
    changes=st.dictionaries(
        st.sampled_from(sorted(Settings().to_dict())) | st.text(max_size=8), VALUES, max_size=3
    )
)
@hypothesis_settings(max_examples=300, deadline=None)
def test_any_settings_are_accepted_or_refused_with_their_name(changes):
    try:
        made = RECIPES["ptb-small-real"].replace(**changes)
    except UserError as error:
        refusal = str(error)
    else:
        refusal = ""
        assert Settings.from_dict(json.loads(json.dumps(made.to_dict()))) == made
    named = [repr(name) in refusal or f"--{name.replace('_', '-')}" in refusal for name in changes]
    assert not refusal or any(named)
