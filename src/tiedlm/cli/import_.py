"""``tiedlm import``: convert a checkpoint of another program to a run folder."""

from __future__ import annotations

from pathlib import Path


def import_(checkpoint: Path, /, *, vocabulary: Path, out: Path) -> None:
    """Convert an LSTM checkpoint of pytorch/examples or neural-complexity to a run folder.

    The checkpoint must be a state dict. For a pickled module the error shows the lines that convert
    it. The run is ready for `tiedlm score`, `predict` and `rescore`.

    Parameters
    ----------
    checkpoint
        State dict (.pt).
    vocabulary
        File with the model's words, one per line, ordered by id; must contain `<eos>`.
    out
        Run folder to write.
    """
    from tiedlm.importers.pytorch_examples import import_checkpoint, write_run

    imported = import_checkpoint(checkpoint, vocabulary)
    write_run(imported, out)
    config = imported.model.config
    tie = "tied: the two matrices are equal" if config.tied else "not tied: the matrices differ"
    print(
        f"LSTM, {config.n_layers} layers, d_embed {config.d_embed}, d_hidden {config.d_hidden}, "
        f"{config.vocab_size:,} words; {tie}"
    )
    if imported.wrappers:
        names = " and ".join(f"{wrapper}." for wrapper in imported.wrappers)
        print(f"names of tensors are read without {names}, which PyTorch's wrappers add")
    print(f"written to {out}; next: tiedlm score {out} FILE")
