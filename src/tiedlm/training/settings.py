"""Define every setting of a run in one frozen dataclass; a recipe is an instance of it.

The help text of a field is what ``tiedlm train --help`` shows for its flag.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

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


class Identity(NamedTuple):
    """How a setting counts in deciding whether two runs are the same; see ``same_run.py``.

    Args:
        decides: "value": its value decides the result. "content": it names a text or a run, and
            what is there decides. "nothing": it says how or where the same result is computed.
        may_change: a run that goes on may be given another value.
        of_cell: all runs of a cell of the paper's tables have the same value.
    """

    decides: Literal["value", "content", "nothing"] = "value"
    may_change: bool = False
    of_cell: bool = True


def _setting(default: Any, text: str, **identity: Any) -> Any:
    """Declare a setting: its default, its help and the fields of its :class:`Identity`."""
    metadata = {"help": text, "identity": Identity(**identity)}
    return dataclasses.field(default=default, metadata=metadata)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The complete, resolved settings of one run.

    Raises:
        UserError: for a value out of range, naming the setting, the value and what was expected.
    """

    recipe: str = _setting(
        "custom", "Name of the recipe that these settings started from.", of_cell=False
    )

    data: str = _setting(
        "", "Corpus: a name from `tiedlm data list`, a folder or a text file.",
        decides="content", may_change=True,
    )  # fmt: skip
    tokenize: bool | None = _setting(
        None, "Split the text into words; by default only if it looks raw."
    )
    fraction: float = _setting(1.0, "Share of the training text to use.")
    skip: float = _setting(0.0, "Share of the training text to leave out before it.")
    vocab_from: VocabFrom = _setting(
        "part", "Words of the used part of the training text, or of the whole."
    )
    vocab_size: int | None = _setting(None, "Keep at most this many words; the rest is <unk>.")
    min_count: int | None = _setting(None, "Keep words seen at least this often in training.")

    d_embed: int = _setting(200, "Width of the word vectors.")
    d_hidden: int = _setting(200, "Width of every recurrent layer.")
    n_layers: int = _setting(2, "Number of recurrent layers.")
    tied: bool = _setting(False, "Reuse the embedding as the classifier (RE).")
    decoder_bias: bool | None = _setting(
        None, "Give the classifier a bias; every recipe does. Unset, only an untied one has it."
    )
    dropout_input: float = _setting(0.0, "Probability of dropping a unit of a word vector.")
    dropout_hidden: float = _setting(0.0, "Probability of dropping a unit of a hidden state.")
    init_range: float = _setting(0.1, "Weights start from U(-x, x).")

    alpha: float = _setting(
        0.0, "Weight of the augmented loss (AL), gamma * temperature; 0 is off."
    )
    temperature: float = _setting(20.0, "Temperature tau of the augmented loss.")
    target_grad: bool = _setting(True, "Let the gradient flow through the soft target of AL.")
    soft_target: SoftTarget = _setting(
        "own", "What the soft target of AL is made of: the model's own word vectors, or a control."
    )
    soft_target_from: str | None = _setting(
        None, "Run folder whose word vectors --soft-target frozen takes.", decides="content"
    )
    ce_weight: float = _setting(1.0, "Weight of the cross-entropy; 0 trains with AL alone.")
    unit_norm: bool = _setting(False, "Hold every word vector at norm 1.")

    batch_size: int = _setting(20, "Number of parallel streams of text.")
    bptt: int = _setting(35, "Steps of back-propagation through time.")
    accumulate: int = _setting(
        1, "Read the streams in so many groups: less memory, same step.",
        decides="nothing", of_cell=False,
    )  # fmt: skip
    epochs: int = _setting(45, "Passes over the training text.", may_change=True)
    lr: float = _setting(1.0, "Learning rate of SGD.")
    lr_decay: float = _setting(0.9, "Factor of the learning rate each epoch after --decay-after.")
    decay_after: int = _setting(5, "Epochs at the full learning rate.")
    clip: float = _setting(5.0, "Largest global norm of the gradient.")
    patience: int | None = _setting(
        None, "Stop after this many epochs without a better validation.", may_change=True
    )
    init_from: str | None = _setting(
        None, "Run folder whose best weights this run starts from (a second session).",
        decides="content", may_change=True, of_cell=False,
    )  # fmt: skip

    seed: int = _setting(1, "Seed of the initial weights and of the dropout masks.", of_cell=False)
    precision: Precision = _setting("auto", "Arithmetic of the matrix products.", of_cell=False)
    device: str = _setting(
        "auto", "auto, cpu, cuda or cuda:N.", decides="nothing", may_change=True, of_cell=False
    )
    threads: int | None = _setting(
        None, "CPU threads; by default the cores, 8 at most; 1 beside other busy programs.",
        decides="nothing", may_change=True, of_cell=False,
    )  # fmt: skip

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
        self._require("soft_target", lambda x: x in get_args(SoftTarget), "a source of AL's target")
        if (self.soft_target == "frozen") != (self.soft_target_from is not None):
            raise UserError("--soft-target frozen and --soft-target-from RUN go together")
        if self.soft_target == "smoothing" and self.temperature != 1:
            raise UserError(
                f"--soft-target smoothing, at --temperature {self.temperature:g}: label smoothing "
                "of e is --temperature 1 --alpha e / (1 - e)"
            )
        self._require("seed", lambda x: -(2**63) <= x < 2**63, "a 64-bit integer")
        self._require("threads", lambda x: x is None or x <= 4096, "at most 4096")
        self._require("precision", lambda x: x in ("auto", "fp32", "bf16"), "auto, fp32 or bf16")

    def _require_type(self, name: str, annotation: str) -> None:
        """Refuse a value of another type than the annotation's, and numbers like NaN."""
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
        """Return the settings with ``decoder_bias`` resolved to true or false."""
        bias = not self.tied if self.decoder_bias is None else self.decoder_bias
        return self.replace(decoder_bias=bias)

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as JSON-able values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Settings:
        """Return the settings that :meth:`to_dict` turned into JSON-able values."""
        return cls().replace(**values)

    @classmethod
    def of_run(cls, folder: Path) -> Settings:
        """Return the settings of a run.

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
