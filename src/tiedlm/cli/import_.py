"""``tiedlm import``: convert a checkpoint of another program to a run folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def import_(
    checkpoint: Path,
    /,
    *,
    vocabulary: Path,
    out: Path,
    option: Annotated[list[str] | None, Parameter(negative="")] = None,
) -> None:
    """Convert a checkpoint of pytorch/examples or neural-complexity to a run folder.

    Parameters
    ----------
    checkpoint
        State dict (.pt).
    vocabulary
        File with the model's words, one per line, ordered by id; must contain `<eos>`.
    out
        Run folder to write.
    option
        A setting that the checkpoint does not record, as name=value. For a Transformer: n_heads
        (default 2) and context, the words of a window in training (default 35). For an RNN:
        activation, which is tanh (default) or relu. Give the flag once for each setting.
    """
    from tiedlm.importers.pytorch_examples import import_checkpoint, write_run
    from tiedlm.networks import options_class, parse_options

    is_of_rnn = any(text.startswith("activation") for text in option or [])
    network = "elman" if is_of_rnn else "encoder"
    options = parse_options(network, options_class(network), option or [])
    imported = import_checkpoint(checkpoint, vocabulary, options)
    write_run(imported, out)
    config = imported.model.config
    tie = "tied: the two matrices are equal" if config.tied else "not tied: the matrices differ"
    kinds = {"lstm": "LSTM", "gru": "GRU", "elman": "RNN", "encoder": "Transformer"}
    kind = kinds[config.network]
    print(
        f"{kind}, {config.n_layers} layers, d_embed {config.d_embed}, d_hidden {config.d_hidden}, "
        f"{config.vocab_size:,} words; {tie}"
    )
    if config.network == "encoder":
        chosen = " and ".join(f"{name}={config.options[name]}" for name in ("n_heads", "context"))
        print(f"the checkpoint does not record {chosen}; if they were others, pass --option")
    if config.network == "elman":
        taken = config.options["activation"]
        other = "relu" if taken == "tanh" else "tanh"
        print(
            f"the checkpoint does not record activation={taken}; if it was the other, pass "
            f"--option activation={other}"
        )
    if imported.wrappers:
        names = " and ".join(f"{wrapper}." for wrapper in imported.wrappers)
        print(f"names of tensors are read without {names}, which PyTorch's wrappers add")
    print(f"written to {out}; next: tiedlm score {out} FILE")
