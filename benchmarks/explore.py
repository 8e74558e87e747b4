"""Measure how long each view of `tiedlm explore` takes to answer.

The command serves an untrained model, and this program sends the requests of the page: one more
word, another word, the next position of a slider. "First" is the first answer; answers such as "is
being computed" do not count. The other answers follow, with a pause before each as between
keystrokes.

    python benchmarks/explore.py                     # d = 650, V = 33,278
    python benchmarks/explore.py --json --answers 40
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch

from machine import machine
from tiedlm import LanguageModel, ModelConfig
from tiedlm.cores import available_cores
from tiedlm.data import Vocabulary
from tiedlm.experiments.reproduce import markdown_table
from tiedlm.files import write_json
from tiedlm.training.run import config_of, save_weights

LIMIT = 100  # milliseconds
LETTERS = "etaoinshrdlu"
EPOCHS = 40
PAUSE = 0.02  # seconds
COLUMNS = ("view", "first", "median", "largest")

Question = dict[str, Any]


class Row(NamedTuple):
    """The times of a view in milliseconds."""

    view: str
    first: float
    median: float
    largest: float


def names(size: int) -> list[str]:
    """Return as many different words, short ones first, after ``<eos>`` and ``<unk>``."""
    made = ["<eos>", "<unk>"]
    for number in islice(count(len(LETTERS)), size - 2):
        word = ""
        while number:
            number, digit = divmod(number, len(LETTERS))
            word += LETTERS[digit]
        made.append(word)
    return made


def make_run(folder: Path, config: ModelConfig, words: list[str]) -> None:
    """Write the folder of a finished run whose model is untrained."""
    model = LanguageModel(config)
    model.vocabulary = Vocabulary(words)
    settings = {"alpha": 13.0, "temperature": 20.0, "epochs": EPOCHS}
    write_json(folder / "config.json", config_of(model, settings, {"name": "", "tokenizer": None}))
    model.vocabulary.save(folder / "vocabulary.txt")
    save_weights(model, folder / "model.safetensors")
    write_json(folder / "result.json", {"valid_ppl": 90.0, "test_ppl": 90.0, "epochs": EPOCHS})
    lines = [
        {"epoch": n, "lr": 1.0, "train_ppl": 99.0, "valid_ppl": 90.0} for n in range(1, EPOCHS)
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "metrics.jsonl").write_text(text, encoding="ascii")


def questions(words: list[str]) -> dict[str, Iterator[tuple[str, Question]]]:
    """Return endless requests for each row, each with the name of a view and the values to send."""
    rng = random.Random(0)

    def some(number: int) -> str:
        return " ".join(rng.choices(words[2:], k=number)) + " "

    def typed(view: str, start: int, **more: Any) -> Iterator[tuple[str, Question]]:
        text = some(start)
        while True:
            yield view, {"text": text, **more}
            text += some(1)

    def asked(view: str, make: Any) -> Iterator[tuple[str, Question]]:
        return ((view, make(number)) for number in count())

    def target(number: int) -> Question:
        return {
            "word": words[len(words) // 2],
            "text": "",
            "temperature": 1 + 0.5 * number,
            "gamma": 0.65,
        }

    def pairs(number: int, others: int) -> Question:
        kept = random.Random(1)
        good, bad = ([" ".join(kept.choices(words, k=5)) for _ in range(others)] for _ in "gb")
        return {"good": [*good, some(5)], "bad": [*bad, some(5)]}

    return {
        "Next words, a word typed after 30": typed("words", 30),
        "Next words, a word typed after 180": typed("words", 180),
        "Next words, another text of 200 words": asked("words", lambda _: {"text": some(200)}),
        "Soft target, a slider moved": asked("target", target),
        "Soft target, another word": asked("target", lambda _: {"word": some(1), "text": some(3)}),
        "Neighbours, another word": asked("neighbours", lambda _: {"word": some(1)}),
        "Neighbours, an unknown word": asked("neighbours", lambda n: {"word": f"zz{n}"}),
        "Map, the whole vocabulary": asked("map", lambda _: {"count": 50_000}),
        "Map, another word": asked("map", lambda _: {"count": 0, "word": some(1)}),
        "Angles": asked("angles", lambda _: {}),
        "Training": asked("training", lambda _: {}),
        "Surprisal, 30 words in 3 lines": asked(
            "surprisal", lambda _: {"text": "\n".join(some(10) for _ in range(3))}
        ),
        "Surprisal, the first words of 100 kB": asked("surprisal", lambda _: {"text": some(16000)}),
        "Pairs, a pair of 5 words": asked("pairs", lambda n: pairs(n, 0)),
        "Pairs, the last of 20 pairs": asked("pairs", lambda n: pairs(n, 19)),
        "The list of runs": asked("runs", lambda _: {}),
    }


class Server:
    """The command, and a client that sends the requests of the page."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, "-m", "tiedlm", "explore", str(folder)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        found = re.search(r":(\d+)/\?token=(\S+)", self.process.stdout.readline())
        assert found is not None
        self.port, self.token = int(found[1]), found[2]

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait()

    def ask(self, view: str, question: Question) -> tuple[float, bytes]:
        """Return the milliseconds until the answer, or until its first line, and the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        headers = {"x-tiedlm-token": self.token, "content-type": "application/json"}
        body = json.dumps(question)
        start = time.perf_counter()
        connection.request("POST", f"/api/{view}", body, headers)
        response = connection.getresponse()
        found = response.readline()
        taken = 1e3 * (time.perf_counter() - start)
        if response.status != 200:
            raise RuntimeError(f"{view}: {found.decode()}")
        connection.close()
        return taken, found

    def ready(self, view: str, question: Question) -> float:
        """Return the milliseconds until an answer that is not "is being computed"."""
        start = time.perf_counter()
        while b'"pending":' in self.ask(view, question)[1]:
            time.sleep(0.01)
        return 1e3 * (time.perf_counter() - start)


def measure(server: Server, name: str, asked: Iterator[tuple[str, Question]], number: int) -> Row:
    """Send a number of requests to one view."""
    first = server.ready(*next(asked))
    times = []
    for view, question in islice(asked, number):
        time.sleep(PAUSE)
        times.append(server.ask(view, question)[0])
    return Row(name, first, median(times), max(times))


def rows(width: int, vocab: int, number: int, tied: bool = False, only: str = "") -> Iterator[Row]:
    """Serve a model and measure the rows whose names match ``only``."""
    torch.manual_seed(0)
    words = names(vocab)
    config = ModelConfig(vocab_size=vocab, d_embed=width, d_hidden=width, n_layers=2, tied=tied)
    with tempfile.TemporaryDirectory() as folder:
        make_run(Path(folder), config, words)
        with Server(Path(folder)) as server:
            server.ready("words", {"text": ""})
            for name, asked in questions(words).items():
                if re.search(only, name):
                    yield measure(server, name, asked, number)


def main() -> None:
    """Print a row for each view."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--width", type=int, default=650)
    parser.add_argument("--vocab", type=int, default=33_278)
    parser.add_argument("--answers", type=int, default=20, help="of each view, after the first")
    parser.add_argument("--tied", action="store_true")
    parser.add_argument(
        "--only", default="", help="the rows whose name has it; a regular expression"
    )
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(available_cores())
    found = list(rows(given.width, given.vocab, given.answers, given.tied, given.only))
    if given.json:
        print("\n".join(json.dumps(row._asdict()) for row in found))
        return
    print(f"{machine()}\nMilliseconds of {given.answers} answers, d = {given.width:,}, "
          f"V = {given.vocab:,}, {'tied' if given.tied else 'untied'}, untrained\n")  # fmt: skip
    print(markdown_table(COLUMNS, [(row[0], *(f"{ms:,.0f}" for ms in row[1:])) for row in found]))
    slow = [row.view for row in found if row.largest >= LIMIT]
    print(f"{LIMIT} ms or more: {'; '.join(slow) or 'none'}")


if __name__ == "__main__":
    main()
