"""``tiedlm export``: write a trained model for other programs."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from tiedlm.cli import help_groups, until_the_end
from tiedlm.errors import UserError
from tiedlm.json_text import to_json

if TYPE_CHECKING:
    from tiedlm.data import Corpus

_OUTPUT, _HF, _ONNX = help_groups("Output", "Hugging Face", "ONNX")


def export(
    run: Path,
    /,
    *,
    to: Annotated[tuple[Literal["hf", "onnx"], Path], Parameter(group=_OUTPUT, negative="")],
    int8: Annotated[bool, Parameter(group=_ONNX)] = False,
    check: Annotated[bool, Parameter(group=_HF)] = True,
    license_: Annotated[str | None, Parameter(name="--license", group=_HF)] = None,
    language: Annotated[str | None, Parameter(group=_HF)] = None,
    revisions: Annotated[bool, Parameter(group=_HF, negative="")] = False,
    start: Annotated[Literal["eos", "none"] | None, Parameter(group=_HF)] = None,
    json_: Annotated[bool, Parameter(name="--json", group=_OUTPUT, negative="")] = False,
) -> None:
    """Write a run's best model for other programs, and check that they get the same numbers.

    Parameters
    ----------
    run
        Run folder.
    to
        hf or onnx, then the folder to write: `--to onnx model-onnx`.
    int8
        Write eight-bit versions of the ONNX files too, and measure their perplexity on the
        validation text.
    check
        Load the hf folder with transformers and compare its logits. ONNX files are always
        checked.
    license_
        Licence of the weights, for the model card of an hf folder, such as apache-2.0.
    language
        Language of the text, for the model card of an hf folder, such as en.
    revisions
        Write an hf folder for each revision of a repository: the best model to PATH/main, and the
        weights that `train --keep-at` kept to PATH/chck_1M, PATH/chck_2M and so on.
    start
        What the tokenizer of an hf folder puts before a text: none (default), or eos, which
        BabyLM's evaluation pipeline needs to count the first word.
    json_
        Print JSON instead of text.
    """
    from tiedlm.training.hardware import default_arithmetic

    until_the_end(default_arithmetic())
    kind, folder = to
    if kind == "hf":
        if int8:
            raise UserError("--int8 needs `--to onnx`; leave it out, or export to ONNX")
        options = {"check": check, "licence": license_, "language": language}
        options["start"] = start or "none"
        _export_hf(run, folder, options, revisions, json_)
        return

    if revisions:
        raise UserError("--revisions needs `--to hf`; leave it out, or export to Hugging Face")
    if start is not None:
        raise UserError("--start needs `--to hf`; it is for the tokenizer of transformers")
    if not check:
        raise UserError("--no-check needs `--to hf`; ONNX files are always checked")
    if license_ is not None or language is not None:
        raise UserError("--license and --language need `--to hf`; only its folder has a model card")
    from tiedlm.data.pieces import PIECES
    from tiedlm.export.onnx_files import export_onnx
    from tiedlm.training.run_files import ONNX

    corpus = _corpus(run) if int8 else None
    replaced = " (replaced an earlier export)" if (folder / ONNX).is_file() else ""
    report = export_onnx(run, folder, int8_text=None if corpus is None else corpus.valid)
    unit, ours, theirs = "", report.perplexity, report.perplexity_int8
    if corpus is not None and PIECES in corpus.info:
        unit, ours, theirs = " per word", *(per_word(corpus, one) for one in (ours, theirs))
    if json_:
        found = report._asdict() | {"folder": str(report.folder)}
        if corpus is not None:
            found |= {"word_perplexity": ours, "word_perplexity_int8": theirs}
        print(to_json(found))
        return
    print(f"{report.folder}{replaced}")
    for name, size in report.sizes.items():
        print(f"  {name:<20} {size / 1e6:8.2f} MB")
    print(f"  largest difference of a log-probability: {report.largest_difference:.1e}")
    if corpus is not None:
        assert ours is not None
        assert theirs is not None
        print(f"  validation perplexity{unit} {ours:.3f}, int8 {theirs:.3f} ({theirs - ours:+.3f})")


def _export_hf(
    run: Path, folder: Path, options: dict[str, Any], revisions: bool, as_json: bool
) -> None:
    """Export to Hugging Face, and print a report for each folder written."""
    if revisions:
        from tiedlm.export.revisions import export_revisions

        reports = export_revisions(run, folder, **options)
    else:
        from tiedlm.export.hf import export_hf

        reports = [export_hf(run, folder, **options)]
    if as_json:
        found = [report._asdict() | {"folder": str(report.folder)} for report in reports]
        print(to_json(found if revisions else found[0]))
        return
    unchecked = "" if options["check"] else ", not checked (--no-check)"
    for report in reports:
        print(f"{report.folder}  {report.parameters:,} parameters{unchecked}")
        if report.largest_difference is not None:
            print(
                f"  largest difference of a logit in transformers: {report.largest_difference:.1e}"
            )


def per_word(corpus: Corpus, perplexity: float | None) -> float:
    """Return the perplexity per word of a validation text with this perplexity per piece."""
    from tiedlm.evaluation.per_word import of_part

    assert perplexity is not None
    found = of_part(corpus.info, "valid", math.log(perplexity) * (len(corpus.valid) - 1))
    assert found is not None
    return found.word_perplexity


def _corpus(run: Path) -> Corpus:
    """Return the corpus of a run, encoded with the run's vocabulary."""
    from tiedlm.cli.models import load_run_corpus
    from tiedlm.data.pieces import load_vocabulary
    from tiedlm.training.run_files import VOCABULARY, check_is_run, corpus_info
    from tiedlm.training.settings import Settings

    check_is_run(run)
    settings = Settings.of_run(run)
    if not settings.data:
        raise UserError(
            f"--int8 needs the run's validation text to measure perplexity, and {run} was imported "
            "or exported and has none; leave out --int8"
        )
    vocabulary = load_vocabulary(run / VOCABULARY, corpus_info(run)["tokenizer"])
    return load_run_corpus(
        run, settings, None, vocabulary, advice="put it back, or leave out --int8"
    )
