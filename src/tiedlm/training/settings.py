"""Define every setting of a run in one frozen dataclass; a recipe is an instance of it.

``tiedlm train --help`` shows the help text of each field as the help of its flag.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from tiedlm.errors import UserError, did_you_mean
from tiedlm.training.ranges import (
    Optimizer,
    Precision,
    Schedule,
    Shuffle,
    SoftTarget,
    VocabFrom,
    check_ranges,
)
from tiedlm.training.run_files import read_config, saved_pieces

if TYPE_CHECKING:
    from collections.abc import Callable

    from tiedlm.data import Corpus

IMPORTED = "imported"  # the recipe of a run that tiedlm did not train

# Groups of flags, in the order of --help. "Research" is for controls and theory checks of studies.
FlagGroup = Literal["Text", "Model", "Loss", "Schedule", "Machine", "Output", "Research"]


class Identity(NamedTuple):
    """What a setting counts for when two runs are compared; ``same_run.py`` compares them.

    Args:
        decides: "value": its value changes the result. "content": it names a text or a run, whose
            content changes the result. "nothing": it changes only how or where the result is
            computed.
        may_change: a run may be resumed with another value.
        of_cell: all runs of a cell of the paper's tables have the same value.
        later: it was added after runs had been made. So its default is left out when a run is
            named.
    """

    decides: Literal["value", "content", "nothing"] = "value"
    may_change: bool = False
    of_cell: bool = True
    later: bool = False


def _setting(default: Any, text: str, *, group: FlagGroup | None, **identity: Any) -> Any:
    """Declare a setting.

    Args:
        default: its value if it is not given.
        text: its help.
        group: the group of its flag in ``--help``; None if it has no flag.
        identity: the fields of its :class:`Identity`.
    """
    metadata = {"help": text, "group": group, "identity": Identity(**identity)}
    if isinstance(default, dict):
        return dataclasses.field(default_factory=dict, metadata=metadata, hash=False)
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The complete, resolved settings of one run.

    Raises:
        UserError: for a value out of range, naming the setting, the value and what was expected.
    """

    recipe: str = _setting(
        "custom",
        "Name of the recipe that these settings started from.",
        group=None,
        of_cell=False,
    )

    data: str = _setting(
        "",
        "Corpus: a name from `tiedlm data list`, a folder, a text file, a pattern such as "
        "'texts/*.jsonl', or several of these with commas between.",
        group="Text",
        decides="content",
        may_change=True,
    )
    tokenize: bool | None = _setting(
        None, "Split the text into words. Default: only if it looks raw.", group="Text"
    )
    field: str = _setting(
        "text",
        "Field of JSON lines, or column of Parquet, that holds the text.",
        group="Text",
        later=True,
    )
    shuffle: Shuffle = _setting(
        "none",
        "none, or documents: read the documents in a new order in each epoch, by the seed.",
        group="Text",
        later=True,
    )
    fraction: float = _setting(1.0, "Share of the training text to use, up to 1.", group="Text")
    skip: float = _setting(
        0.0, "Share of the training text to skip before --fraction begins.", group="Research"
    )
    vocab_from: VocabFrom = _setting(
        "part",
        "Take the vocabulary from the part of the text in use, or from the whole.",
        group="Research",
    )
    vocab_size: int | None = _setting(
        None,
        "Largest vocabulary, <eos> and <unk> included; the rarest words become <unk>.",
        group="Text",
    )
    min_count: int | None = _setting(
        None,
        "Keep words seen at least this often in training; the rest become <unk>. Default: 1 if the "
        "training text has <unk>, else 2.",
        group="Text",
    )

    pieces: str | None = _setting(
        None,
        "Split the text into sub-word pieces. bpe or unigram trains --vocab-size pieces on the "
        "training text. A tokenizer.json or sentencepiece .model has trained ones.",
        group="Text",
        later=True,
    )

    network: str = _setting(
        "lstm",
        "Network that reads the words: one of `tiedlm info --networks`, or one of your own.",
        group="Model",
    )
    options: dict[str, Any] = _setting(
        {},
        "An option of the network as name=value, such as depth=5. Give the flag once for each.",
        group="Model",
        later=True,
    )
    d_embed: int = _setting(200, "Width of the word vectors.", group="Model")
    d_hidden: int = _setting(200, "Width of every layer of the network.", group="Model")
    n_layers: int = _setting(2, "Number of layers of the network.", group="Model")
    tied: bool = _setting(False, "Reuse the embedding as the classifier (RE).", group="Model")
    # None occurs only without a recipe, and means that only an untied classifier has a bias.
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
    dropout_words: float = _setting(
        0.0,
        "Probability of dropping a word type: all its occurrences in a window.",
        group="Model",
        later=True,
    )
    init_range: float = _setting(0.1, "Draw the initial weights from U(-x, x).", group="Model")

    alpha: float = _setting(
        0.0, "Weight of the augmented loss (AL): gamma * temperature. 0 turns it off.", group="Loss"
    )
    temperature: float = _setting(
        20.0,
        "Temperature (tau) of the augmented loss. If you change it, set --alpha to gamma times "
        "the temperature to keep the strength. Gamma is 0.65 in most recipes.",
        group="Loss",
    )
    target_grad: bool = _setting(
        True, "Let the gradient flow through AL's soft target.", group="Loss"
    )
    soft_target: SoftTarget = _setting(
        "own",
        "Source of AL's soft target: the model's own word vectors, or a control.",
        group="Research",
    )
    soft_target_from: str | None = _setting(
        None,
        "Run folder with the word vectors for --soft-target frozen.",
        group="Research",
        decides="content",
    )
    ce_weight: float = _setting(
        1.0, "Weight of the cross-entropy; 0 trains with AL alone.", group="Research"
    )
    ar: float = _setting(
        0.0,
        "Weight of activation regularisation: the mean square of the output after dropout.",
        group="Loss",
        later=True,
    )
    tar: float = _setting(
        0.0,
        "Weight of temporal regularisation: the mean square of the output's change in each step.",
        group="Loss",
        later=True,
    )
    unit_norm: bool = _setting(False, "Keep every word vector at norm 1.", group="Research")

    batch_size: int = _setting(20, "Number of parallel streams of text.", group="Schedule")
    bptt: int = _setting(35, "Steps of back-propagation through time.", group="Schedule")
    bptt_jitter: bool = _setting(
        False,
        "Vary the length of the windows around --bptt, as AWD-LSTM does.",
        group="Schedule",
        later=True,
    )
    accumulate: int = _setting(
        1,
        "Process the streams in this many groups: the same update in less memory.",
        group="Machine",
        decides="nothing",
        of_cell=False,
    )
    epochs: int = _setting(45, "Passes over the training text.", group="Schedule", may_change=True)
    optimizer: Optimizer = _setting(
        "sgd",
        "sgd, adam, adamw, or nt-asgd: SGD with averaged weights once validation stalls.",
        group="Schedule",
        later=True,
    )
    lr: float = _setting(1.0, "Learning rate.", group="Schedule")
    beta1: float = _setting(0.9, "Decay of Adam's mean of gradients.", group="Schedule", later=True)
    beta2: float = _setting(
        0.999, "Decay of Adam's mean of squared gradients.", group="Schedule", later=True
    )
    weight_decay: float = _setting(
        0.0, "Weight decay x: x times a parameter is added to its gradient.",
        group="Schedule", later=True,
    )  # fmt: skip
    weight_decay_inside: bool = _setting(
        False,
        "Add the weight decay before the gradient is clipped, as for RHN, instead of after.",
        group="Schedule",
        later=True,
    )
    clip: float = _setting(
        5.0, "Largest norm of the gradient; a larger gradient is scaled down.", group="Schedule"
    )
    schedule: Schedule = _setting(
        "exponential",
        "Course of the learning rate: exponential, cosine or plateau.",
        group="Schedule",
        later=True,
    )
    lr_decay: float = _setting(
        0.9,
        "Factor on the learning rate for each epoch after --decay-after, or at each plateau.",
        group="Schedule",
    )
    decay_after: int = _setting(
        5, "Epochs at the full learning rate (exponential).", group="Schedule"
    )
    plateau_patience: int = _setting(
        1,
        "A plateau is this many epochs without a better validation perplexity.",
        group="Schedule",
        later=True,
    )
    lr_min: float = _setting(
        0.0, "Learning rate at the end (cosine).", group="Schedule", later=True
    )
    warmup: int = _setting(
        0, "Updates over which the learning rate grows from 0.", group="Schedule", later=True
    )
    average_from: int | None = _setting(
        None, "Evaluate averaged weights: the mean over all updates from this epoch on.",
        group="Schedule", later=True,
    )  # fmt: skip
    average_trigger: int = _setting(
        5,
        "nt-asgd averages once validation is worse than its best, not counting this many last "
        "epochs.",
        group="Schedule",
        later=True,
    )
    patience: int | None = _setting(
        None,
        "Stop after this many epochs without a better validation perplexity.",
        group="Schedule",
        may_change=True,
    )
    init_from: str | None = _setting(
        None,
        "Run folder whose best weights to start from (the paper's second session).",
        group="Schedule",
        decides="content",
        may_change=True,
        of_cell=False,
    )

    seed: int = _setting(
        1,
        "Seed of the initial weights and the dropout masks.",
        group="Schedule",
        of_cell=False,
    )
    precision: Precision = _setting(
        "auto", "Arithmetic of the matrix products.", group="Machine", of_cell=False
    )
    device: str = _setting(
        "auto",
        "Device to train on: auto, cpu, cuda or cuda:N.",
        group="Machine",
        decides="nothing",
        may_change=True,
        of_cell=False,
    )
    threads: int | None = _setting(
        None,
        "CPU threads. Default: the usable cores, at most 8; use 1 beside other busy programs.",
        group="Machine",
        decides="nothing",
        may_change=True,
        of_cell=False,
    )

    keep_at: str | None = _setting(
        None,
        "Keep the weights after these numbers of words, such as 1M,2M,500k, as run folders in "
        "OUT/checkpoints.",
        group="Output",
        decides="nothing",
        may_change=True,
        of_cell=False,
    )
    evaluate_every: int | None = _setting(
        None,
        "Evaluate on validation each time this number of words has been read, such as 500k.",
        group="Output",
        decides="nothing",
        may_change=True,
        of_cell=False,
    )

    def __post_init__(self) -> None:
        check_ranges(self)

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
        """Return the settings with the values that the model's defaults stand for.

        ``decoder_bias`` is true or false, and ``options`` has all options of the network. Those of
        a network that is not registered here stay as they are.
        """
        from tiedlm.networks import network_options  # PyTorch: not for `tiedlm train --help`

        bias = not self.tied if self.decoder_bias is None else self.decoder_bias
        try:
            options = dataclasses.asdict(network_options(self.network, self.options))
        except UserError:
            options = self.options
        return self.replace(decoder_bias=bias, options=options)

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as JSON-able values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Settings:
        """Return the settings that :meth:`to_dict` turned into JSON-able values."""
        return cls().replace(**values)

    @classmethod
    def of_run(cls, folder: Path) -> Settings:
        """Read the settings of a run.

        Raises:
            UserError: if its configuration cannot be read or has none.
        """
        return cls.from_dict(read_config(folder)["settings"])

    def load_corpus(
        self,
        *,
        progress: bool = True,
        without_cache: Callable[[UserError], Path] | None = None,
        run: Path | None = None,
    ) -> Corpus:
        """Load the corpus that the settings name, encoded as they say.

        Args:
            run: the run folder; the pieces that it holds are taken again.
            progress: whether to show progress on a terminal.
            without_cache: as in :func:`tiedlm.data.load_corpus`.
        """
        if not self.data:
            raise UserError(
                "this run records no corpus, because it was imported or exported: name a corpus "
                "with --data, or read any text with `tiedlm score`"
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
            field=self.field,
            pieces=self.pieces,
            saved=None if run is None or not self.pieces else saved_pieces(run),
            progress=progress,
            without_cache=without_cache,
        )

    def lr_at(self, epoch: int) -> float:
        """Return the exponential schedule's learning rate: ``lr * decay^max(0, epoch - after)``.

        Args:
            epoch: counted from 1.
        """
        return float(self.lr * self.lr_decay ** max(0, epoch - self.decay_after))
