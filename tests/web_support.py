"""Make run folders without training, and a client of the page about them."""

import json
import time

import pytest
import torch

pytest.importorskip("httpx2")  # by way of which a test asks

from starlette.testclient import TestClient

from tiedlm.data import Vocabulary
from tiedlm.data.pieces import PieceVocabulary
from tiedlm.files import write_json
from tiedlm.model import LanguageModel, ModelConfig
from tiedlm.training.run import config_of, save_weights
from tiedlm.web.server import make_app

PORT = 8765
TOKEN = "the-token"
WORDS = ("<eos>", "<unk>", "the", "cat", "dog", "sees", "hears", "fish", "today", "now")
HOSTILE = (
    "<eos>", "<unk>", "<script>alert(1)</script>", '"><img/src=x/onerror=alert(2)>',
    "javascript:alert(3)", "%{x}", "$a$", "\u202eevil", "&lt;b&gt;", "<b>bold</b>",
    "<a/href='http://example.com/'>link</a>", "{{7*7}}", "it", "was", "plainword",
    "constructor", "__proto__", "toString",  # what every object of JavaScript has
)  # fmt: skip


def make_run(
    folder, words=WORDS, *, tied=False, seed=0, raw=False, epochs=3, finished=True, **shape
):
    """Write a run folder of an untrained model, with a curve; return the model.

    ``words`` may be a vocabulary of pieces.
    """
    torch.manual_seed(seed)
    shape = {"d_embed": 6, "d_hidden": 6, "n_layers": 1, "init_range": 1.0} | shape
    model = LanguageModel(ModelConfig(vocab_size=len(words), tied=tied, **shape)).eval()
    has_pieces = isinstance(words, PieceVocabulary)
    model.vocabulary = words if has_pieces else Vocabulary(words)
    settings = {"alpha": 13.0, "temperature": 20.0, "epochs": epochs}
    corpus = {"name": "a text", "tokenizer": "tiedlm" if raw else None}
    if has_pieces:
        corpus |= {"tokenizer": "pieces", "pieces": {"words": None}}
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", config_of(model, settings, corpus))
    model.vocabulary.save(folder / "vocabulary.txt")
    save_weights(model, folder / "model.safetensors")
    write_curve(folder, epochs)
    if finished:
        result = {"valid_ppl": 60.0, "test_ppl": 61.5, "parameters": 1, "epochs": epochs}
        write_json(folder / "result.json", result)
    return model


def write_curve(folder, epochs):
    lines = [
        {"epoch": n, "lr": 1.0, "train_ppl": 200.0 / n, "valid_ppl": 180.0 / n,
         "tokens_per_second": 5000.0}
        for n in range(1, epochs + 1)
    ]  # fmt: skip
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "metrics.jsonl").write_text(text)


class Page:
    """A client that has opened the page, and asks as its scripts do."""

    def __init__(self, *folders, wait=True):
        self.app = make_app(folders, TOKEN, PORT)
        self.client = TestClient(self.app, base_url=f"http://127.0.0.1:{PORT}")
        assert self.client.get(f"/?token={TOKEN}").status_code == 200
        if wait:
            self.wait(lambda: not any("pending" in run for run in self.ask("runs")))

    def post(self, name, **question):
        headers = {"x-tiedlm-page": "one page"}
        return self.client.post(f"/api/{name}", json=question, headers=headers)

    def ask(self, name, **question):
        response = self.post(name, **question)
        assert response.status_code == 200, response.text
        if name == "surprisal":
            return [json.loads(line) for line in response.text.splitlines()]
        return response.json()

    def one(self, name, **question):
        """Return the answer about the only run, when it is there."""
        found = []

        def is_there():
            found[:] = self.ask(name, **question)["runs"]
            return "pending" not in found[0]

        self.wait(is_there)
        (run,) = found
        return run

    @staticmethod
    def wait(condition):
        deadline = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.01)
