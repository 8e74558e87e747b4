"""Read the plain files of a run folder without PyTorch.

``config.json`` (complete, resolved), ``vocabulary.txt``, ``tokenizer.json`` if the vocabulary is of
pieces, ``model.safetensors`` (the best weights on validation; a tied tensor is stored once),
``metrics.jsonl``, ``env.json`` and, at the end, ``result.json``. ``last/`` has the checkpoints for
an exact resume. ``checkpoints/`` holds a run folder for each number of words in ``--keep-at``.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from tiedlm import files
from tiedlm.errors import UserError
from tiedlm.files import read_json
from tiedlm.json_text import parse_json

CONFIG = "config.json"
VOCABULARY = "vocabulary.txt"
TOKENIZER = "tokenizer.json"  # of a run of pieces, and of an exported folder
WEIGHTS = "model.safetensors"
METRICS = "metrics.jsonl"
ENVIRONMENT = "env.json"
RESULT = "result.json"
WRITTEN = (CONFIG, VOCABULARY, TOKENIZER, WEIGHTS, METRICS, ENVIRONMENT, RESULT)  # in training
LAST = "last"
BESIDE_WEIGHTS = (VOCABULARY, TOKENIZER, ENVIRONMENT)  # what weights kept by --keep-at need, too
ONNX = "step.onnx"  # in the folder of `export --to onnx`
KEPT = "checkpoints"  # by words seen
CHECKPOINT = "checkpoint"  # in config.json of a folder there: its place in training
BEGAN_FROM = "began_from"  # in config.json of a run with --init-from: the id of that run

INSIDE = "inside_epoch"  # the key that only a line about an evaluation inside an epoch has

LOCK_PATIENCE = 3.0  # seconds: a run that was just killed may still be saving


def changed_names(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Return the names of the settings in which two configurations differ."""
    return [name for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name)]


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Describe each difference between two configurations, with both values."""
    return [f"{name}: {old.get(name)!r} -> {new.get(name)!r}" for name in changed_names(old, new)]


def lock(folder: Path) -> AbstractContextManager[None]:
    """Hold a run folder, so that two processes never write to it at once.

    Raises:
        UserError: if another process holds it, or the folder cannot be written.
    """
    return files.lock(folder, LOCK_PATIENCE, advice="choose another --out")


def model_files(folder: Path) -> list[Path]:
    """Return the files from which a model is loaded."""
    return [folder / name for name in (CONFIG, VOCABULARY, TOKENIZER, WEIGHTS)]


def runs_inside(folder: Path) -> list[Path]:
    """Return the run folders in a folder, by name, without hidden ones, which are half-written."""
    return sorted(path.parent for path in folder.glob(f"[!.]*/{CONFIG}"))


def check_is_run(folder: Path) -> None:
    """Refuse a folder without a ``config.json``.

    Raises:
        UserError: the message says what the folder is instead, if that can be seen.
    """
    if (folder / CONFIG).is_file():
        return
    if (folder / ONNX).is_file():
        raise UserError(
            f"{folder} is an ONNX export, not a run folder; give the run that it was made from"
        )
    inside = [run.name for run in runs_inside(folder)]
    if not inside:
        raise UserError(f"{folder} is not a run folder: it has no {CONFIG}")
    names = ", ".join(inside[:8]) + ", ..." * (len(inside) > 8)
    raise UserError(f"{folder} is not a run folder, but it has some: {names}; give one of them")


def saved_pieces(folder: Path) -> Path | None:
    """Return the vocabulary of a run of pieces that has them already, else None."""
    path = folder / VOCABULARY
    return path if path.is_file() and (folder / TOKENIZER).is_file() else None


def has_checkpoint(folder: Path) -> bool:
    """Tell whether a run folder has a checkpoint, sound or not."""
    return any((folder / LAST).glob("*.json"))


def read_config(folder: Path, *more: str) -> dict[str, Any]:
    """Read a run's ``config.json``.

    Args:
        folder: the run.
        more: further parts that are needed, besides ``settings``.

    Raises:
        UserError: if it is missing, is not JSON or lacks what every run's has.
    """
    return _read(folder / CONFIG, dict.fromkeys(("settings", *more), dict))


def read_environment(folder: Path) -> dict[str, Any] | None:
    """Read a run's ``env.json``; return None if there is none.

    Raises:
        UserError: if it is not a JSON object.
    """
    path = folder / ENVIRONMENT
    return _read(path, {}) if path.is_file() else None


def read_result(folder: Path) -> dict[str, Any]:
    """Read a finished run's ``result.json``.

    Raises:
        UserError: if it is missing, is not JSON or lacks what every run's has.
    """
    numbers = dict.fromkeys(("valid_ppl", "test_ppl", "parameters", "epochs"), (int, float))
    return _read(folder / RESULT, numbers)


def perplexity_of_result(result: Mapping[str, Any], part: str) -> float:
    """Return the perplexity of ``valid`` or ``test`` per word, also of a model of pieces."""
    return float(result.get(f"{part}_word_perplexity", result[f"{part}_ppl"]))


def predicted_text(config: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return what identifies the text that a run predicts.

    It has the hashes of the corpus files, the vocabulary size, and the tokens and ``<unk>`` of the
    held-out texts, which tell apart files that are split into words in other ways. A run of pieces
    has the number of words of the held-out texts instead, because its perplexities are per word.
    If two runs have the same, their perplexities can be compared.

    Args:
        config: the run's ``config.json``.
        folder: the run, for messages.

    Raises:
        UserError: if the counts of the corpus are damaged.
    """
    corpus, held_out = config.get("corpus", {}), ("valid", "test")
    try:
        words: Any = config.get("model", {}).get("vocab_size")
        tokens, parts = None, corpus.get("parts")
        if parts and "pieces" in corpus:
            words = {part: parts[part]["words"] for part in held_out}
        elif parts:
            tokens = {part: (parts[part]["tokens"], parts[part]["unk"]) for part in held_out}
        return {"sha256": text_hashes(corpus), "words": words, "tokens": tokens}
    except (AttributeError, KeyError, TypeError) as error:
        raise UserError(
            f"{folder / CONFIG} is not a run's, or is damaged: it has no valid 'corpus'"
        ) from error


def corpus_info(folder: Path) -> dict[str, Any]:
    """Return the facts about the corpus in a run's configuration.

    Raises:
        UserError: if it says nothing, or not how it was split into words.
    """
    config = _read(folder / CONFIG, {"corpus": dict})
    if "tokenizer" not in config["corpus"]:
        raise UserError(f"{folder / CONFIG} has no 'tokenizer' of its corpus; is it from a run?")
    return dict(config["corpus"])


def _read(path: Path, keys: Mapping[str, Any]) -> dict[str, Any]:
    """Read a JSON object and check that it has keys with values of the given types."""
    found = read_json(path)
    if not isinstance(found, dict):
        raise UserError(f"{path} is not a run's: expected an object, found {type(found).__name__}")
    for key, kind in keys.items():
        if not isinstance(found.get(key), kind):
            raise UserError(f"{path} is not a run's, or is damaged: it has no valid {key!r}")
    return found


def id_of(folder: Path) -> str | None:
    """Return the id of the run in a folder; None if there is none."""
    try:
        found = read_json(folder / CONFIG).get("id")
    except (UserError, AttributeError):
        return None
    return found if isinstance(found, str) else None


def text_hashes(corpus: Mapping[str, Any]) -> list[str]:
    """Return the hashes of a corpus's files, in order: its identity wherever it lies.

    An exported model's configuration has none, and the list is empty.
    """
    return list((corpus.get("sha256") or {}).values())


def has_changed(folder: Path, corpus: Mapping[str, Any]) -> bool:
    """Tell whether a corpus is another than the run in a folder was trained on.

    Args:
        folder: the run folder.
        corpus: the facts about the corpus.
    """
    trained_on = text_hashes(corpus_info(folder))
    return bool(trained_on) and trained_on != text_hashes(corpus)


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """Read ``metrics.jsonl``: a dictionary for each finished epoch.

    Lines about evaluations inside an epoch (``--evaluate-every``) are left out.

    Raises:
        UserError: if it is damaged.
    """
    path = folder / METRICS
    try:
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        metrics = [dict(parse_json(line, str(path))) for line in lines]
        metrics = [line for line in metrics if INSIDE not in line]
        for line in metrics:
            float(line["valid_ppl"])
    except FileNotFoundError:
        return []
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"{path} is damaged; the run's own command, given again, writes it anew"
        ) from error
    return metrics
