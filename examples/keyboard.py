"""A next-word keyboard on onnxruntime and NumPy (pip install onnxruntime numpy tokenizers).

    tiedlm export RUN --to onnx model --int8
    python examples/keyboard.py model --int8

Reads lines of text; shows the most probable next words, and at the end how long a word took.
"""

import argparse
import sys
import time
import unicodedata
from pathlib import Path

import numpy as np
import onnxruntime

HIDDEN = {"<eos>", "<unk>", "N"}  # nobody types these; N stands for every number
SHOWN = {"``": "“", "''": "”", "--": "—"}
BLANK = ("▁", "<0x20>")  # how a piece begins that begins a word
LONGEST = 12  # pieces of a word
ENDS = {".", "!", "?"}  # raw text was read with <eos> after each


class Keyboard:
    """Read text; the state of the network is all that is kept of it."""

    def __init__(self, folder, int8=False, top=5):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        path = folder / ("step.int8.onnx" if int8 else "step.onnx")
        self.step = onnxruntime.InferenceSession(path, options)
        about = self.step.get_modelmeta().custom_metadata_map
        self.eos, self.kind = int(about["eos_id"]), about["tokenizer"]
        self.unknown = int(about.get("unk_id", self.eos))
        self.words = (folder / "vocabulary.txt").read_text(encoding="utf-8").splitlines()
        self.ids = {word: number for number, word in enumerate(self.words)}
        if self.kind == "pieces":
            self.proposed = np.array([word.startswith(BLANK) for word in self.words])
            self.ends = self.proposed | ~np.array([goes_on(word) for word in self.words])
            self.ends[self.eos] = True
        else:
            self.proposed = np.array([word not in HIDDEN for word in self.words])
        self.top = min(top, self.proposed.sum())
        if self.kind != "blanks":  # else the text was split into words before training
            from tokenizers import Tokenizer

            if not (folder / "tokenizer.json").is_file():  # an earlier version wrote the folder
                raise FileNotFoundError(f"{folder} has no tokenizer.json; export the run again")
            self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
            self.tokenizer.encode_special_tokens = True
        parts = {part.name: part.shape for part in self.step.get_inputs()[1:]}  # h, of an LSTM c
        self.state = {name: np.zeros((n, 1, h), np.float32) for name, (n, _, h) in parts.items()}
        self.last = None

    def encode(self, line):
        """Return the ids of a line, as the text of the training was read."""
        if self.kind == "pieces":
            return self.tokenizer.encode(line, add_special_tokens=False).ids
        words = line.split()
        if self.kind == "tiedlm":
            plain = self.tokenizer.normalizer.normalize_str(line)
            words = [word for word, _ in self.tokenizer.pre_tokenizer.pre_tokenize_str(plain)]
            words += ["<eos>"] * bool(ENDS & set(words[-1:]))
        return [self.ids.get(word, self.unknown) for word in words]

    def run(self, ids, state):
        """Read the next id of each text; return (log-probabilities after it, state)."""
        log_probs, *parts = self.step.run(None, {"tokens": np.array(ids)[:, None], **state})
        return log_probs[:, -1], dict(zip(state, parts, strict=True))

    def read(self, number):
        """Read an id; two sentences have one <eos> between them."""
        if number != self.eos or self.last != self.eos:
            self.log_probs, self.state = self.run([number], self.state)
        self.last = number

    def propose(self):
        """Return the most probable next words, the best first."""
        scores = np.where(self.proposed, self.log_probs[0], -np.inf)
        best = np.argsort(-scores)[: self.top]
        if self.kind != "pieces":
            return [SHOWN.get(word, word) for word in (self.words[number] for number in best)]
        return self.complete(best, scores[best])

    def complete(self, ids, scores):
        """Complete pieces that begin words: add the most probable piece until the word ends."""
        found, going = [[number] for number in ids], np.full(len(ids), True)
        state = {name: np.repeat(part, len(ids), axis=1) for name, part in self.state.items()}
        for _ in range(LONGEST):
            log_probs, state = self.run(ids, state)
            ids = log_probs.argmax(axis=1)
            going &= ~self.ends[ids]
            for n in np.flatnonzero(going):
                found[n].append(ids[n])
                scores[n] += log_probs[n, ids[n]]
        words = [self.tokenizer.decode(found[n]).strip() for n in np.argsort(-scores)]
        return list(dict.fromkeys(word for word in words if word and "\ufffd" not in word))


def goes_on(piece):
    """Return whether a piece can stand inside a word: it has a letter, a mark or a digit."""
    return piece in "'’-" or any(unicodedata.category(one)[0] in "LMN" for one in piece)


def check(parser, folder, int8, top):
    """End with one line if there is nothing to run."""
    name, flag = ("step.int8.onnx", " --int8") if int8 else ("step.onnx", "")
    if top < 1:
        parser.error(f"--top: expected at least 1, got {top}")
    if (folder / "config.json").is_file():
        parser.error(f"{folder} is a run; first `tiedlm export {folder} --to onnx model{flag}`")
    if not (folder / name).is_file():
        parser.error(f"{folder} has no {name}; `tiedlm export RUN --to onnx {folder}{flag}`")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="what `tiedlm export --to onnx` wrote")
    parser.add_argument("--int8", action="store_true", help="use the eight-bit model")
    parser.add_argument("--top", type=int, default=5, help="how many words to show")
    arguments = vars(parser.parse_args())
    check(parser, **arguments)
    try:
        keyboard = Keyboard(**arguments)
    except (ImportError, FileNotFoundError) as error:
        parser.error(str(error))
    milliseconds = []
    for line in sys.stdin:
        for number in [keyboard.eos, *keyboard.encode(line.strip())]:
            start = time.perf_counter()
            keyboard.read(number)
            milliseconds.append(1000 * (time.perf_counter() - start))
        print(*keyboard.propose())
    print(f"{np.median(milliseconds or [0]):.3f} ms a word (median)", file=sys.stderr)
