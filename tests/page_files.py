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
MODEL_PY = """from torch import nn

class RNNModel(nn.Module):
    def __init__(self, words):
        super().__init__()
        self.encoder = nn.Embedding(words, 7)
        self.rnn = nn.LSTM(7, 5, 2)
        self.decoder = nn.Linear(5, words)
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
    text = write_corpus(folder / "corpus", lines=(300, 40, 40))
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
    """Write a pickled module and its state dict, as pytorch/examples does."""
    import model  # the folder's
    import torch

    module = model.RNNModel(9)
    torch.save(module, folder / "model.pt")
    torch.save(module.state_dict(), folder / "model.state.pt")
    names = DATA_PY[DATA_PY.index("[") : DATA_PY.index("]")]
    (folder / "vocab.txt").write_text("\n".join(re.findall(r'"(\S+)"', names)) + "\n")


def write_texts(folder: Path, commands: Iterable[str]) -> None:
    """Write a text for each other .txt that the commands read."""
    for command in commands:
        for name in re.findall(rf"(?<!\S)(?<!> )([\w./-]+\.txt)(?!\S)", command):
            path = folder / name
            if not re.search(rf"{LATER}{re.escape(name)}", command) and not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(folder / "stimuli.txt", path)


def write_runs(folder: Path, text: str, run: Run, kept: Path) -> None:
    """Put a trained run where a page has one that it does not train itself.

    Args:
        folder: the page's folder.
        text: the page's code.
        run: runs a script.
        kept: folder with the runs that earlier pages had.
    """
    models = {"vd-lstm": "", "vd-lstm-al": "-al", "vd-lstm-re": "-re", "vd-lstm-real": "-real"}
    wanted = set(re.findall(r"\bruns/[\w-]+(?:/[\w*-]+)?", text))
    made = set(re.findall(r"--out (runs/[\w-]+)", text))
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
