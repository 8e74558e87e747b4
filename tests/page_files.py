"""Write the files that the documentation's pages read: small texts, lists and run folders."""

from __future__ import annotations

import gzip
import json
import re
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from conftest import write_corpus

Run = Callable[..., tuple[int, str, str]]

# What both programs of docs/importing.md have in their own folder.
MODEL_PY = """import torch
from torch import nn

class RNNModel(nn.Module):
    def __init__(self, words):
        super().__init__()
        self.encoder = nn.Embedding(words, 7)
        self.rnn = nn.LSTM(7, 5, 2)
        self.decoder = nn.Linear(5, words)

class TransformerModel(nn.Module):
    def __init__(self, words):
        super().__init__()
        self.pos_encoder = nn.Module()
        place = torch.arange(5000.0)[:, None]
        rate = 10_000 ** (-torch.arange(0, 8, 2.0) / 8)
        pairs = torch.stack((torch.sin(place * rate), torch.cos(place * rate)), 2)
        self.pos_encoder.register_buffer("pe", pairs.flatten(1)[:, None])
        layer = nn.TransformerEncoderLayer(8, 4, 9)
        self.encoder = nn.TransformerEncoder(layer, 2, nn.LayerNorm(8), enable_nested_tensor=False)
        self.input_emb = nn.Embedding(words, 8)
        self.decoder = nn.Linear(8, words)
"""
DATA_PY = """from pathlib import Path

class Dictionary:
    idx2word = ["<eos>", "<unk>", "the", "a", "cat", "dog", "sees", "today", "."]

class Corpus:
    def __init__(self, path):
        self.dictionary = Dictionary()
"""
LATER = r"(?:>|--out|--unk-list)\s*"  # before the name of a file that a command writes


def write_files(folder: Path) -> None:
    """Write the files whose names or contents a page's text decides."""
    text = write_corpus(folder / "corpus", lines=(700, 40, 40))
    for name in ("train_10M.txt", "my-book.txt", "text.txt", "stimuli.txt", "my.txt"):
        shutil.copy(text / "train.txt", folder / name)
    lines = (text / "test.txt").read_text().splitlines()[:6]
    (folder / "stimuli.txt").write_text("\n".join(lines) + "\n")
    (folder / "book.txt.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    (folder / "stimuli.csv").write_text("item,sentence\n1,the cat sees a dog today .\n")
    (folder / "agreement.csv").write_text(
        "item_type,grammatical,ungrammatical\nnoun,the cat sees,cat the sees\n"
    )
    pairs = json.dumps({
        "sentence_good": "the cat sees", "sentence_bad": "cat the sees", "UID": "order",
        "linguistics_term": "order",
    })  # fmt: skip
    for name in ("blimp/data", "evaluation_data/full_eval/blimp_filtered"):
        (folder / name).mkdir(parents=True)
        (folder / name / "order.jsonl").write_text(pairs + "\n")
    (folder / "pairs.jsonl").write_text(pairs + "\n")
    write_lists(folder)
    (folder / "model.py").write_text(MODEL_PY)
    (folder / "data.py").write_text(DATA_PY)


def write_lists(folder: Path) -> None:
    """Write the n-best lists."""
    texts = ("the cat sees the man", "the cat hears a man", "a cat sees man")
    hypotheses = [
        {"text": text, "score": -1.0 - place, "lm_score": -2.0} for place, text in enumerate(texts)
    ]
    line = json.dumps({"id": "utt", "hypotheses": hypotheses}) + "\n"
    for name in ("dev.jsonl", "test.jsonl", "nbest.jsonl"):
        (folder / name).write_text(line)
    (folder / "dev.refs").write_text(f"utt {texts[0]}\n")
    kaldi = folder / "archives.1"
    kaldi.mkdir()
    rows = {"words_text": texts, "acwt": (1, 2, 3), "lmwt.lmonly": (2, 2, 2)}
    for name, values in rows.items():
        (kaldi / name).write_text(
            "".join(f"utt-{number} {value}\n" for number, value in enumerate(values, start=1))
        )


def write_checkpoint(folder: Path) -> None:
    """Write pickled modules and their state dicts, as pytorch/examples does."""
    import model  # the folder's
    import torch

    module = model.RNNModel(9)
    torch.save(module, folder / "model.pt")
    torch.save(module.state_dict(), folder / "model.state.pt")
    torch.save(model.TransformerModel(9).state_dict(), folder / "transformer.state.pt")
    names = DATA_PY[DATA_PY.index("[") : DATA_PY.index("]")]
    (folder / "vocab.txt").write_text("\n".join(re.findall(r'"(\S+)"', names)) + "\n")


def write_texts(folder: Path, commands: Iterable[str]) -> None:
    """Write a text for each other .txt that the commands read."""
    for command in commands:
        for name in re.findall(r"(?<!\S)(?<!> )([\w./-]+\.txt)(?!\S)", command):
            path = folder / name
            if not re.search(rf"{LATER}{re.escape(name)}", command) and not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(folder / "stimuli.txt", path)


def write_runs(folder: Path, text: str, run: Run, kept: Path) -> None:
    """Put a trained run where a page has one that it does not train itself.

    Args:
        folder: the page's folder.
        text: the page's code that is run.
        run: runs a script.
        kept: folder with the runs that earlier pages had.
    """
    models = {"vd-lstm": "", "vd-lstm-al": "-al", "vd-lstm-re": "-re", "vd-lstm-real": "-real"}
    name = r"runs/[\w-]+(?:/[\w*-]+)?"
    wanted = set(re.findall(rf"\b{name}", text))
    first = {}  # what stands before a run where it is first named
    for before, run_name in re.findall(rf"(\S*\s*)({name})", text):
        first.setdefault(run_name, before)
    made = {one for one, before in first.items() if before.strip() == "--out"}
    for name in sorted(wanted):
        top = "/".join(name.split("/")[:2])
        names = {"runs/demo": [f"runs/demo/{model}" for model in models]}.get(top, [top])
        for one in names if top not in made else []:
            recipe = "small" + models.get(Path(one).name, "-real")
            if not (kept / one).is_dir():
                seed = 1 + len(list(kept.glob("runs/*")))
                status, _, err = run(
                    f"tiedlm train {recipe} --data my.txt --out {kept / one} --seed {seed} "
                    "--keep-at 1M,2M,5M,10M",
                    kept,
                )
                assert not status, err
            if not (folder / one).is_dir():
                shutil.copytree(kept / one, folder / one)
