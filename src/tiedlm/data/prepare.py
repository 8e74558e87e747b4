"""Write a corpus as plain tokenized text for other tools."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from tiedlm import __version__
from tiedlm.data.corpus import Corpus
from tiedlm.data.source import PARTS
from tiedlm.data.streams import release
from tiedlm.data.vocabulary import Ids, Vocabulary
from tiedlm.errors import UserError
from tiedlm.files import atomic_path, explain, write_json

_CHUNK = 1 << 16
MARKER = "prepared.json"  # identifies a folder that this module wrote
_NAMES = {part: f"{part}.txt" for part in PARTS}


def write_corpus(corpus: Corpus, folder: Path, keep: tuple[Path, ...] = ()) -> list[Path]:
    """Write a corpus as train.txt, valid.txt, test.txt, vocabulary.txt and prepared.json.

    prepared.json describes the corpus. Words outside the vocabulary are written as ``<unk>``.
    Loading the folder as tokenized text with ``min_count=1`` gives the same ids. Either all files
    appear or none.

    Args:
        corpus: the corpus to write.
        folder: the folder to write to, created if it is missing.
        keep: files that must not be overwritten, such as the text the corpus was made from.

    Returns:
        The paths of the files.

    Raises:
        UserError: if it would overwrite a file in ``keep`` or one that this function did not
            write, or if the folder cannot be written.
    """
    paths = [folder / name for name in (*_NAMES.values(), "vocabulary.txt", MARKER)]
    own = {path.resolve() for path in keep}
    for path in paths:
        if path.resolve() in own:
            raise UserError(f"{path} is part of the text itself; choose another --out folder")
    if not paths[-1].is_file():
        for path in paths:
            if path.exists():
                raise UserError(f"{path} was not written by this command; choose another --out")
    with contextlib.ExitStack() as stack:
        temporary = [stack.enter_context(atomic_path(path)) for path in paths]
        try:
            for part, path in zip(PARTS, temporary, strict=False):
                with path.open("w", encoding="utf-8", newline="\n") as file:
                    file.writelines(_lines(getattr(corpus, part), corpus.vocabulary))
        except OSError as error:
            raise explain(error, folder) from error
        corpus.vocabulary.save(temporary[-2])
        about = {"tiedlm": __version__, "corpus": corpus.name, **corpus.info}
        write_json(temporary[-1], about)
    return paths


def _lines(ids: Ids, vocabulary: Vocabulary) -> Iterator[str]:
    """Yield the text line by line; an ``<eos>`` ends a line and is left out."""
    line: list[str] = []
    for start in range(0, len(ids), _CHUNK):
        for number in ids[start : start + _CHUNK].tolist():
            if number == vocabulary.eos_id:
                yield " ".join(line) + "\n"
                line = []
            else:
                line.append(vocabulary.words[number])
        release(ids)
