"""Existing programs read an exported folder offline and agree with tiedlm."""

import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest

import tiedlm
import tiedlm.cli
from export_support import make_run
from tiedlm.evaluation.perplexity import token_losses

pytest.importorskip("transformers", reason="transformers (tiedlm[hf]) is not installed")
pytestmark = pytest.mark.slow

DOCUMENTS = ["the cat does n't see the dog .\nit does .\n", "a dog does see , the cat does n't ."]
SENTENCES = ["the cat does n't see the dog .", "it does .", "a zebra does see it ."]


@pytest.fixture(scope="module", params=["tied", "untied"])
def exported(request, tmp_path_factory):
    """Return (tiedlm's model, the exported folder)."""
    folder = tmp_path_factory.mktemp(request.param)
    model = make_run(folder / "run", request.param)
    tiedlm.cli.main(["export", str(folder / "run"), "--to", "hf", str(folder / "hf"), "--no-check"])
    return model, folder / "hf"


def run_offline(program, *arguments, cache):
    """Run a program without tiedlm and without network, and return its JSON output."""
    environment = os.environ | {
        "HF_DATASETS_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "HF_HOME": str(cache),
    }
    program = f"import sys\nsys.modules['tiedlm'] = None\n{program}"
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        capture_output=True, text=True, env=environment, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def losses(model, text):
    """Return the surprisal of every word in nats, with the text read after <eos>."""
    words = ["<eos>", *text.replace("\n", " <eos> ").split()]
    return token_losses(model, model.vocabulary.encode(words))


LM_EVAL = """
import json
from lm_eval import simple_evaluate
from lm_eval.tasks import TaskManager
out = simple_evaluate(
    model="hf",
    model_args=f"pretrained={sys.argv[1]},trust_remote_code=True,device=cpu,dtype=float32",
    tasks=["tiny_text", "tiny_choice"],
    task_manager=TaskManager(include_path=sys.argv[2], include_defaults=False),
    batch_size=2,
    log_samples=True,
)
print(json.dumps({
    "word_perplexity": out["results"]["tiny_text"]["word_perplexity,none"],
    "choices": [
        [float(reply[0][0]) for reply in sample["resps"]]
        for sample in sorted(out["samples"]["tiny_choice"], key=lambda sample: sample["doc_id"])
    ],
}))
"""


def write_tasks(folder):
    """Write two lm-eval tasks with their data: the perplexity of texts, and a choice of two."""

    def task(name, rows, body):
        data = folder / f"{name}.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in rows))
        (folder / f"{name}.yaml").write_text(
            f"task: {name}\ndataset_path: json\ntest_split: test\n"
            f"dataset_kwargs:\n  data_files:\n    test: {data}\n{body}"
        )

    task(
        "tiny_text",
        [{"text": text} for text in DOCUMENTS],
        "output_type: loglikelihood_rolling\ndoc_to_text: ''\ndoc_to_target: '{{text}}'\n"
        "metric_list:\n  - metric: word_perplexity\n",
    )
    task(
        "tiny_choice",
        [{"start": "<eos> the cat", "ends": ["does see .", "n't a , dog"]}],
        "output_type: multiple_choice\ndoc_to_text: '{{start}}'\ndoc_to_target: 0\n"
        "doc_to_choice: '{{ends}}'\nmetric_list:\n  - metric: acc\n",
    )


def test_lm_eval_gives_the_numbers_of_tiedlm(exported, tmp_path):
    pytest.importorskip("lm_eval", reason="lm-eval is not installed")
    model, folder = exported
    write_tasks(tmp_path)
    found = run_offline(LM_EVAL, folder, tmp_path, cache=tmp_path / "cache")

    nll = sum(float(losses(model, text).sum()) for text in DOCUMENTS)
    words = sum(len(text.split()) + text.endswith("\n") for text in DOCUMENTS)  # as lm-eval counts
    assert found["word_perplexity"] == pytest.approx(math.exp(nll / words), rel=1e-5)
    start, ends = "the cat", ["does see .", "n't a , dog"]
    expected = [-float(losses(model, f"{start} {end}")[2:].sum()) for end in ends]
    assert found["choices"] == [pytest.approx(expected, abs=1e-4)]


MINICONS = """
import json
from minicons import scorer
lm = scorer.IncrementalLMScorer(sys.argv[1], "cpu", tokenizer=sys.argv[1], trust_remote_code=True)
sentences = sys.argv[2:]
print(json.dumps({
    "bits": [
        [score for _, score in scores[1:]]
        for scores in lm.token_score(sentences, bos_token=True, surprisal=True, base_two=True)
    ],
    "sums": lm.sequence_score(sentences, bos_token=True, reduction=lambda x: x.sum(0).item()),
    "after": lm.conditional_score(
        ["the cat"], ["does n't"], bos_token=True, reduction=lambda x: x.sum(0).item()
    ),
}))
"""


def test_minicons_gives_the_numbers_of_tiedlm(exported, tmp_path):
    pytest.importorskip("minicons", reason="minicons is not installed")
    model, folder = exported
    found = run_offline(MINICONS, folder, *SENTENCES, cache=tmp_path)
    for bits, total, sentence in zip(found["bits"], found["sums"], SENTENCES, strict=True):
        expected = losses(model, sentence)
        np.testing.assert_allclose(bits, expected / math.log(2), rtol=0, atol=1e-4)
        assert total == pytest.approx(-float(expected.sum()), abs=1e-4)
    continued = -float(losses(model, "the cat does n't")[2:].sum())
    assert found["after"] == [pytest.approx(continued, abs=1e-4)]
