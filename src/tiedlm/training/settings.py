"""Every setting of a run, in one frozen dataclass: a recipe is an instance of it.

The help text and the group of a field are those of its flag in ``tiedlm train --help``.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from tiedlm.errors import UserError, did_you_mean
from tiedlm.training.run_files import read_config

if TYPE_CHECKING:
    from tiedlm.data import Corpus

IMPORTED = "imported"  # the recipe of a run that tiedlm did not train
LARGEST = 3e38  # what a 32-bit float holds

Precision = Literal["auto", "fp32", "bf16"]
VocabFrom = Literal["part", "whole"]
SoftTarget = Literal[
    "own", "permuted", "permuted-grad", "permuted-band", "permuted-band-grad",
    "uniform", "smoothing", "unigram", "average", "frozen",
]  # fmt: skip


# Of flags, in the order of --help. "Research" is for the controls and theory checks of studies.
FlagGroup = Literal["Text", "Model", "Loss", "Schedule", "Machine", "Output", "Research"]


def _setting(default: Any, text: str, *, group: FlagGroup | None) -> Any:
    """Declare a setting; ``group`` is that of its flag, None if it has no flag."""
    return dataclasses.field(default=default, metadata={"help": text, "group": group})


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The complete, resolved settings of one run.

    Raises:
        UserError: for a value out of range, naming the setting, the value and what was expected.
    """

    recipe: str = _setting(
        "custom", "Name of the recipe that these settings started from.", group=None
    )

    data: str = _setting(
        "", "Corpus: a name from `tiedlm data list`, a folder or a text file.", group="Text"
    )
    tokenize: bool | None = _setting(
        None, "Split the text into words. Default: only if it looks raw.", group="Text"
    )
    fraction: float = _setting(1.0, "Share of the training text to use.", group="Text")
    skip: float = _setting(
        0.0, "Share of the training text to skip before --fraction begins.", group="Research"
    )
    vocab_from: VocabFrom = _setting(
        "part",
        "Take the vocabulary from the part of the text in use, or from the whole.",
        group="Research",
    )
    vocab_size: int | None = _setting(
        None, "Largest vocabulary; the rarest words become <unk>.", group="Text"
    )
    min_count: int | None = _setting(
        None,
        "Keep words seen at least this often in training; the rest become <unk>.",
        group="Text",
    )

    network: str = _setting(
        "lstm", "Network that reads the words: lstm, or one of your own.", group="Model"
    )
    d_embed: int = _setting(200, "Width of the word vectors.", group="Model")
    d_hidden: int = _setting(200, "Width of every layer of the network.", group="Model")
    n_layers: int = _setting(2, "Number of its layers.", group="Model")
    tied: bool = _setting(False, "Reuse the embedding as the classifier (RE).", group="Model")
    # None, in settings without a recipe: only an untied classifier has a bias.
    decoder_bias: bool | None = _setting(
        None,
        "Give the classifier a bias, as every recipe does.",
        group="Model",
    )
    dropout_input: float = _setting(
        0.0, "Probability of dropping a unit of a word vector.", group="Model"
    )
    dropout_hidden: float = _setting(
        0.0, "Probability of dropping a unit of a hidden state.", group="Model"
    )
    init_range: float = _setting(0.1, "Draw the initial weights from U(-x, x).", group="Model")

    alpha: float = _setting(
        0.0, "Weight of the augmented loss (AL): gamma * temperature. 0 turns it off.", group="Loss"
    )
    temperature: float = _setting(20.0, "Temperature (tau) of the augmented loss.", group="Loss")
    target_grad: bool = _setting(
        True, "Let the gradient flow through AL's soft target.", group="Loss"
    )
    soft_target: SoftTarget = _setting(
        "own",
        "Source of AL's soft target: the model's own word vectors, or a control.",
        group="Research",
    )
    soft_target_from: str | None = _setting(
        None, "Run folder with the word vectors for --soft-target frozen.", group="Research"
    )
    ce_weight: float = _setting(
        1.0, "Weight of the cross-entropy; 0 trains with AL alone.", group="Research"
    )
    unit_norm: bool = _setting(False, "Keep every word vector at norm 1.", group="Research")

    batch_size: int = _setting(20, "Number of parallel streams of text.", group="Schedule")
    bptt: int = _setting(35, "Steps of back-propagation through time.", group="Schedule")
    accumulate: int = _setting(
        1,
        "Process the streams in this many groups: the same update in less memory.",
        group="Machine",
    )
    epochs: int = _setting(45, "Passes over the training text.", group="Schedule")
    lr: float = _setting(1.0, "Learning rate of SGD.", group="Schedule")
    lr_decay: float = _setting(
        0.9, "Factor on the learning rate for each epoch after --decay-after.", group="Schedule"
    )
    decay_after: int = _setting(5, "Epochs at the full learning rate.", group="Schedule")
    clip: float = _setting(
        5.0, "Largest norm of the whole gradient; a larger one is scaled down.", group="Schedule"
    )
    patience: int | None = _setting(
        None,
        "Stop after this many epochs without a better validation perplexity.",
        group="Schedule",
    )
    init_from: str | None = _setting(
        None,
        "Run folder whose best weights to start from (the paper's second session).",
        group="Schedule",
    )

    seed: int = _setting(1, "Seed of the initial weights and the dropout masks.", group="Schedule")
    precision: Precision = _setting("auto", "Arithmetic of the matrix products.", group="Machine")
    device: str = _setting(
        "auto", "Device to train on: auto, cpu, cuda or cuda:N.", group="Machine"
    )
    threads: int | None = _setting(
        None,
        "CPU threads. Default: the usable cores, at most 8; use 1 beside other busy programs.",
        group="Machine",
    )

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            self._require_type(field.name, str(field.type))
        at_least_one = (
            "d_embed", "d_hidden", "n_layers", "batch_size", "bptt", "epochs",
            "accumulate", "vocab_size", "min_count", "patience", "threads",
        )  # fmt: skip
        for name in at_least_one:
            self._require(name, lambda x: x is None or x >= 1, "at least 1")
        for name in ("dropout_input", "dropout_hidden"):
            self._require(name, lambda x: 0 <= x < 1, "a probability of dropping, 0 <= p < 1")
        for name in ("init_range", "temperature", "lr", "clip"):
            self._require(name, lambda x: x > 0, "a positive number")
        self._require("accumulate", lambda x: self.batch_size % x == 0, "a divisor of --batch-size")
        self._require("alpha", lambda x: x >= 0, "0 or more")
        self._require("ce_weight", lambda x: x >= 0, "0 or more")
        if self.ce_weight == self.alpha == 0:
            raise UserError("--ce-weight 0 and --alpha 0: no loss is left to train with")
        self._require("decay_after", lambda x: x >= 0, "0 or more")
        self._require("lr_decay", lambda x: 0 < x <= 1, "0 < factor <= 1")
        self._require("fraction", lambda x: 0 < x <= 1, "0 < share <= 1")
        self._require("skip", lambda x: 0 <= x < 1, "0 <= share < 1")
        self._require("vocab_from", lambda x: x in ("part", "whole"), "part or whole")
        sources = get_args(SoftTarget)
        self._require("soft_target", lambda x: x in sources, f"one of {', '.join(sources)}")
        if self.soft_target == "frozen" and self.soft_target_from is None:
            raise UserError("--soft-target frozen needs --soft-target-from RUN")
        if self.soft_target != "frozen" and self.soft_target_from is not None:
            raise UserError("--soft-target-from needs --soft-target frozen")
        if self.soft_target == "smoothing" and self.temperature != 1:
            raise UserError(
                f"--soft-target smoothing needs --temperature 1, got {self.temperature:g}; label "
                "smoothing of e is --alpha e / (1 - e)"
            )
        self._require("seed", lambda x: -(2**63) <= x < 2**63, "a 64-bit integer")
        self._require("threads", lambda x: x is None or x <= 4096, "at most 4096")
        self._require("precision", lambda x: x in ("auto", "fp32", "bf16"), "auto, fp32 or bf16")

    def _require_type(self, name: str, annotation: str) -> None:
        """Refuse a value that is not what the field's annotation says, and numbers like NaN."""
        value = getattr(self, name)
        kind = annotation.removesuffix(" | None")
        if value is None and kind != annotation:
            return
        holds = {
            "int": isinstance(value, int) and not isinstance(value, bool),
            "float": isinstance(value, (int, float))
            and not isinstance(value, bool)
            and abs(value) <= LARGEST,  # also no infinity and no NaN
            "bool": isinstance(value, bool),
        }.get(kind, isinstance(value, str))
        if not holds:
            kind = {"int": "a whole number", "float": "a number", "bool": "true or false"}.get(
                kind, "a text"
            )
            raise UserError(f"{_flag(name)} (setting {name!r}): expected {kind}, got {value!r}")

    def _require(self, name: str, holds: Any, expected: str) -> None:
        value = getattr(self, name)
        if not holds(value):
            raise UserError(f"{_flag(name)} (setting {name!r}): expected {expected}, got {value}")

    def replace(self, **changes: Any) -> Settings:
        """Return a copy with some settings changed.

        Raises:
            UserError: for an unknown name, with the nearest known one.
        """
        known = [field.name for field in dataclasses.fields(self)]
        for name in changes:
            if name not in known:
                raise UserError(f"unknown setting {name!r}{did_you_mean(name, known)}")
        return dataclasses.replace(self, **changes)

    def resolved(self) -> Settings:
        """Return the settings with a ``decoder_bias`` that says whether there is a bias."""
        bias = not self.tied if self.decoder_bias is None else self.decoder_bias
        return self.replace(decoder_bias=bias)

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as JSON-able values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Settings:
        """Make settings from :meth:`to_dict`'s result."""
        return cls().replace(**values)

    @classmethod
    def of_run(cls, folder: Path) -> Settings:
        """Read the settings of a run.

        Raises:
            UserError: if its configuration cannot be read or has none.
        """
        return cls.from_dict(read_config(folder)["settings"])

    def load_corpus(self, *, progress: bool = True) -> Corpus:
        """Load the corpus that the settings name, encoded as they say."""
        if not self.data:
            raise UserError(
                "this run has no corpus of its own, as imported and exported ones have none: "
                "--data names it, and `tiedlm score` reads any text"
            )
        from tiedlm.data import load_corpus  # NumPy: not for `tiedlm train --help`

        return load_corpus(
            self.data,
            vocab_size=self.vocab_size,
            min_count=self.min_count,
            fraction=self.fraction,
            skip=self.skip,
            vocab_from=self.vocab_from,
            tokenize=self.tokenize,
            progress=progress,
        )

    def lr_at(self, epoch: int) -> float:
        """Return the rate of an epoch, counted from 1: ``lr * decay^max(0, e - after)``."""
        return float(self.lr * self.lr_decay ** max(0, epoch - self.decay_after))
