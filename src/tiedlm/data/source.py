"""Texts in three parts, ready to be encoded: from a folder, from one file or from several."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tiedlm.data.compressed import plain_name
from tiedlm.data.deal import Batch, how_to_deal
from tiedlm.data.documents import (
    FIELD,
    examine_documents,
    has_text_name,
    kind_of,
    read_documents,
)
from tiedlm.data.facts import known_facts, when_written
from tiedlm.data.text import TextFacts, lacks_blanks, looks_tokenized
from tiedlm.errors import UserError

PARTS = ("train", "valid", "test")
_HELD_OUT = {"valid", "validation", "val", "dev", "test", "eval", "evaluation", "heldout"}
_MANY = 20  # files; of more files, a single hash of all hashes is recorded


_OF_A_RUN = ("config.json", "vocabulary.txt")


@dataclass(frozen=True)
class Source:
    """A text in three parts, before it is encoded.

    Attributes:
        name: the name of the corpus.
        origin: where the text comes from, in one line.
        split: how the parts were made, in one line.
        sha256: file name -> SHA-256, for every file the text comes from.
        size: bytes to read, for the progress bar.
        batches: yields the lines, many of one part at a time; the lines of a part are in order.
        tokenized: whether the text is already split into words.
        lacks_blanks: whether the text has no spaces between words.
        verified: whether the hashes are the published ones; None if none are published.
        files: files that must not be overwritten.
        written: the size and the time of the last change of each file, before it was read.
    """

    name: str
    origin: str
    split: str
    sha256: dict[str, str]
    size: int
    batches: Callable[[], Iterator[Batch]]
    tokenized: bool
    lacks_blanks: bool = False
    verified: bool | None = None
    files: tuple[Path, ...] = ()
    written: tuple[list[int], ...] = ()


def from_files(
    name: str,
    origin: str,
    split: str,
    paths: dict[str, Path],
    field: str = FIELD,
    cache: Path | None = None,
) -> Source:
    """Return the source made of one file for each part.

    Args:
        name: as in :class:`Source`.
        origin: as in :class:`Source`.
        split: as in :class:`Source`.
        paths: part -> file.
        field: the field of a record that holds its text.
        cache: the cache folder, which remembers the hashes of long files.
    """
    files = tuple(paths.values())
    written = when_written(files)
    found = known_facts(files, examine_documents, cache)
    for part, facts in zip(paths, found, strict=True):
        if facts.size == 0:
            raise UserError(f"{paths[part]} is empty; expected the {part} text")

    def batches() -> Iterator[Batch]:
        for part, path in paths.items():
            for lines, begins in read_documents(path, field):
                yield Batch(part, lines, begins)

    return Source(
        name=name,
        origin=origin,
        split=split + _field_note(paths.values(), field),
        sha256={path.name: facts.sha256 for path, facts in zip(paths.values(), found, strict=True)},
        size=sum(facts.size for facts in found),
        batches=batches,
        tokenized=looks_tokenized(_lines([paths["train"]], field)),
        lacks_blanks=lacks_blanks(_lines([paths["train"]], field)),
        files=files,
        written=written,
    )


def from_folder(folder: Path, field: str = FIELD, cache: Path | None = None) -> Source:
    """Return the source made of a folder's files.

    These are ``train.txt``, ``valid.txt`` and ``test.txt``, or the same names with another suffix
    of a text, or with a name in front, such as ``ptb.train.txt``. A folder without any of them is
    split, as :func:`from_many` does.

    Raises:
        UserError: if only some of the parts are there, a part is in several files, a file is
            empty, or there is no text.
    """
    paths = {part: found for part in PARTS if (found := _part_file(folder, part)) is not None}
    paths = paths or _files_with_a_name_in_front(folder)
    if len(paths) == len(PARTS):
        split = "as given: one file a part"
        return from_files(folder.resolve().name, str(folder), split, paths, field, cache)
    if not paths and _is_run(folder):
        raise UserError(f"{folder} is a run folder, not a text; give the text itself")
    texts = [] if paths else text_files(folder)
    if not texts:
        missing = [f"{part}.txt" for part in PARTS if part not in paths]
        raise UserError(
            f"{folder} has no {' and no '.join(missing)}; a corpus folder holds train.txt, "
            "valid.txt and test.txt (or give one file, which is split)"
        )
    names = [path.relative_to(folder).as_posix() for path in texts]
    _refuse_parts(folder, names)
    named = dict(zip(names, texts, strict=True))
    return from_many(folder.resolve().name, str(folder), named, field, cache)


def _is_run(folder: Path) -> bool:
    return all((folder / name).is_file() for name in _OF_A_RUN)


def _refuse_parts(folder: Path, names: Iterable[str]) -> None:
    """Refuse files that are named after parts, because a new split would train on a test text.

    For example, they are ``train-00000-of-00002.parquet`` and ``test/0.txt``.
    """
    training: list[str] = []
    held_out: list[str] = []
    for name in names:
        words = {word.rstrip("0123456789") for word in re.split(r"[-_./]", name.lower())}
        is_training, is_held_out = "train" in words, not words.isdisjoint(_HELD_OUT)
        if is_training != is_held_out:
            (training if is_training else held_out).append(name)
    if training and held_out:
        raise UserError(
            f"{folder} has files of several parts, such as {training[0]} and {held_out[0]}, which "
            "a new split would mix; join the files of each part in train.txt, valid.txt and "
            "test.txt, or name all files in a pattern to mix them"
        )


def text_files(folder: Path) -> list[Path]:
    """Return the texts in a folder and the folders in it, in the order of their names.

    Run folders are left out, because their vocabularies are no text. The order is the same on every
    system: upper case comes before lower case.
    """
    inside = list(folder.rglob("*"))
    runs = {path.parent for path in inside if path.name in _OF_A_RUN and _is_run(path.parent)}
    found = (
        path
        for path in inside
        if has_text_name(path)
        and path.is_file()
        and not any(name.startswith(".") for name in path.relative_to(folder).parts)
        and runs.isdisjoint(path.parents)
    )
    return sorted(found, key=lambda path: path.parts)  # Windows compares paths without case


def _part_file(folder: Path, part: str) -> Path | None:
    """Return the file of a part: the ``.txt``, else the first by name with a text's suffix."""
    plain = folder / f"{part}.txt"
    if plain.is_file():
        return plain
    names = sorted(path for path in folder.glob(f"{part}.*") if path.is_file())
    fit = [path for path in names if has_text_name(path)]
    return next((path for path in fit if Path(plain_name(path.name)).stem == part), None)


def _files_with_a_name_in_front(folder: Path) -> dict[str, Path]:
    """Return the files of the parts as Penn Treebank and WikiText name them, if there is one set.

    For example, they are ``ptb.train.txt``, ``ptb.valid.txt`` and ``ptb.test.txt``.
    """
    found = []
    for train in filter(has_text_name, folder.glob("[!.]*.train.*")):
        front, _, suffix = train.name.rpartition(".train.")
        paths = {part: folder / f"{front}.{part}.{suffix}" for part in PARTS}
        if all(path.is_file() for path in paths.values()):
            found.append(paths)
    return found[0] if len(found) == 1 else {}


def from_one_file(path: Path, field: str = FIELD, cache: Path | None = None) -> Source:
    """Return the source that splits one file into the three parts.

    The file is cut into blocks of consecutive lines. A block has a hundredth of the lines, at least
    1 and at most 1,000. Of every ten blocks the ninth is valid, the tenth is test and the others
    are train. Blank lines are not counted; each stays with the line before it. Nothing is random:
    the same file gives the same split. Records of JSON lines or of Parquet are dealt like lines,
    each whole.

    Raises:
        UserError: if the file is empty or has fewer than ten lines that are not blank, or fewer
            than ten records.
    """
    name = Path(plain_name(path.name)).stem
    return from_many(name, str(path), {path.name: path}, field, cache)


def from_many(
    name: str, origin: str, paths: dict[str, Path], field: str = FIELD, cache: Path | None = None
) -> Source:
    """Return the source that splits some files into the three parts.

    Ten documents or more are dealt in blocks, as :func:`from_one_file` deals lines. A document is a
    record, or a whole text file. Fewer text files are treated as one text, whose lines are dealt.

    Args:
        name: as in :class:`Source`.
        origin: as in :class:`Source`.
        paths: the name of each file -> the file.
        field: the field of a record that holds its text.
        cache: the cache folder, which remembers the hashes of long files.

    Raises:
        UserError: if a file is empty or is there twice, plain and compressed, or there are too few
            lines or records.
    """
    files = tuple(paths.values())
    written = when_written(files)
    found = known_facts(files, examine_documents, cache)
    for path, facts in zip(files, found, strict=True):
        if facts.size == 0:
            raise UserError(f"{path} is empty; expected a text")
    _refuse_copies(origin, paths, found)
    # This comes first, so that a binary file is reported as binary and not as having too few lines.
    tokenized = looks_tokenized(_lines(files, field))
    deal = how_to_deal(origin, files, found)
    return Source(
        name=name,
        origin=origin,
        split=deal.rule + _field_note(files, field),
        sha256=_hashes(list(paths), found),
        size=sum(facts.size for facts in found),
        batches=lambda: deal.batches(files, field),
        tokenized=tokenized,
        lacks_blanks=lacks_blanks(_lines(files, field)),
        files=files,
        written=written,
    )


def _refuse_copies(origin: str, names: Iterable[str], found: list[TextFacts]) -> None:
    """Refuse a text beside its compressed copy: a split could train on a part and test on it."""
    seen: dict[tuple[str, str], str] = {}
    for name, facts in zip(names, found, strict=True):
        other = seen.setdefault((plain_name(name), facts.sha256), name)
        if other != name:
            raise UserError(f"{origin} has {other} and {name}, which are the same text; remove one")


def _lines(paths: Iterable[Path], field: str) -> Iterator[str]:
    """Yield the lines of some files, one after another."""
    for path in paths:
        for lines, _ in read_documents(path, field):
            yield from lines


def _field_note(paths: Iterable[Path], field: str) -> str:
    """Return an addition to the description of a split, if the text is in a field of records."""
    return "" if all(kind_of(path) == "text" for path in paths) else f"; field {field!r}"


def _hashes(names: list[str], found: list[TextFacts]) -> dict[str, str]:
    """Return the hash of each file, or a single hash of all if there are many files."""
    hashes = [facts.sha256 for facts in found]
    if len(names) <= _MANY:
        return dict(zip(names, hashes, strict=True))
    together = hashlib.sha256("\n".join(hashes).encode()).hexdigest()
    return {f"{len(names):,} files": together}
