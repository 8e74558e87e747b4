"""A next-word keyboard on onnxruntime and NumPy alone (pip install onnxruntime numpy).

    tiedlm export RUN --to onnx model --int8
    python examples/keyboard.py model --int8

Reads lines of words; shows the most probable next ones, and at the end how long a word took.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime


class Keyboard:
    """Read words one by one; the state of the network is all that is kept of them."""

    def __init__(self, folder, int8=False, top=5):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        path = folder / ("step.int8.onnx" if int8 else "step.onnx")
        self.step = onnxruntime.InferenceSession(path, options)
        self.words = (folder / "vocabulary.txt").read_text(encoding="utf-8").splitlines()
        self.ids = {word: number for number, word in enumerate(self.words)}
        self.hidden = [self.ids["<eos>"], self.ids.get("<unk>", self.ids["<eos>"])]
        self.top = top
        layers, _, width = self.step.get_inputs()[1].shape
        self.h = self.c = np.zeros((layers, 1, width), np.float32)

    def read(self, word):
        """Read a word; return the ``top`` most probable next ones."""
        tokens = np.array([[self.ids.get(word, self.hidden[1])]])
        inputs = {"tokens": tokens, "h": self.h, "c": self.c}
        log_probs, self.h, self.c = self.step.run(None, inputs)
        scores = log_probs[0, 0]
        scores[self.hidden] = -np.inf  # nobody types these
        best = np.argpartition(-scores, self.top)[: self.top]
        return [self.words[number] for number in best[np.argsort(-scores[best])]]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="what `tiedlm export --to onnx` wrote")
    parser.add_argument("--int8", action="store_true", help="use the eight-bit model")
    parser.add_argument("--top", type=int, default=5, help="how many words to show")
    arguments = parser.parse_args()
    if not (arguments.folder / "vocabulary.txt").is_file():
        parser.error(f"{arguments.folder} is not what `tiedlm export --to onnx` wrote")
    keyboard = Keyboard(**vars(arguments))
    milliseconds = []
    for line in sys.stdin:
        for word in ["<eos>", *line.split()]:
            start = time.perf_counter()
            proposals = keyboard.read(word)
            milliseconds.append(1000 * (time.perf_counter() - start))
        print(*proposals)
    print(f"{np.median(milliseconds or [0]):.3f} ms a word (median)", file=sys.stderr)
