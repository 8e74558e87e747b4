"""``tiedlm data``: list, prepare and check corpora."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from tiedlm.cli import temporary_cache
from tiedlm.cli.numbers import MaybeWhole
from tiedlm.errors import UserError
from tiedlm.json_text import to_json

app = App(name="data", help="List, prepare and check corpora.", help_format="plaintext")

OWN_TEXT = "give a folder with train.txt, valid.txt and test.txt, or one file to be split"


@app.command(name="list")
def list_(*, json_: Annotated[bool, Parameter(name="--json", negative="")] = False) -> None:
    """List the corpora that have a name.

    Args:
        json_: Print JSON instead of a table.
    """
    from dataclasses import asdict

    from tiedlm.data.catalog import list_sources

    sources = list_sources()
    if json_:
        print(to_json([asdict(source) for source in sources], indent=2))
        return
    table = _table("corpus", "train", "valid", "test", "vocabulary", "here")
    for source in sources:
        numbers = [f"{number:,}" for number in (*source.tokens, source.types)]
        table.add_row(source.name, *numbers, "yes" if source.present else "no")
    _print(
        table,
        *[
            f"{source.name}: {source.description}; {source.place or source.advice}"
            for source in sources
        ],
        f"your own text: {OWN_TEXT}",
    )


@app.command
def prepare(
    corpus: str,
    /,
    *,
    out: Path | None = None,
    vocab_size: MaybeWhole = None,
    min_count: MaybeWhole = None,
    tokenize: bool | None = None,
    field: str = "text",
) -> None:
    """Encode a corpus into the cache, or write it as tokenized text.

    Args:
        corpus: A name that `tiedlm data list` shows, a folder, a text file, a pattern such as
            'texts/*.jsonl', or several of these with commas between.
        out: Folder for train.txt, valid.txt, test.txt and vocabulary.txt.
        vocab_size: Largest vocabulary, <eos> and <unk> included; the rarest words become <unk>.
        min_count: Keep words seen at least this often in training; the rest become <unk>. By
            default 1 if the training text has <unk>, else 2.
        tokenize: Split the text into words; by default only if it looks raw.
        field: Field of JSON lines, or column of Parquet, that holds the text.
    """
    from tiedlm import files
    from tiedlm.data.corpus import load_corpus
    from tiedlm.data.find import has_name
    from tiedlm.data.prepare import write_corpus

    is_place = not has_name(corpus)
    if is_place and out is not None and files.expand(corpus).resolve() == out.resolve():
        raise UserError(f"--out {out} is the folder of the text itself; choose another folder")
    loaded = load_corpus(
        corpus,
        vocab_size=vocab_size,
        min_count=min_count,
        tokenize=tokenize,
        field=field,
        without_cache=None if out is None else temporary_cache,
    )
    if out is not None:
        write_corpus(loaded, out, keep=loaded.files)
    tokens = ", ".join(f"{part} {n['tokens']:,}" for part, n in loaded.info["parts"].items())
    place = f"written to {out}" if out else f"in the cache: {_place(loaded.train)}"
    print(f"{loaded.name}: tokens: {tokens}; {len(loaded.vocabulary):,} words; {place}")


def _place(ids: Any) -> Path:
    """Return the folder of the cache with a corpus's memory-mapped ids."""
    return Path(ids.filename).parent


@app.command
def check(
    corpus: str,
    /,
    *,
    vocab_size: MaybeWhole = None,
    min_count: MaybeWhole = None,
    tokenize: bool | None = None,
    field: str = "text",
    json_: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Count a corpus, verify its files, and warn about what makes its perplexity misleading.

    Args:
        corpus: A name that `tiedlm data list` shows, a folder, a text file, a pattern such as
            'texts/*.jsonl', or several of these with commas between.
        vocab_size: Largest vocabulary, <eos> and <unk> included; the rarest words become <unk>.
        min_count: Keep words seen at least this often in training; the rest become <unk>. By
            default 1 if the training text has <unk>, else 2.
        tokenize: Split the text into words; by default only if it looks raw.
        field: Field of JSON lines, or column of Parquet, that holds the text.
        json_: Print JSON instead of a table.
    """
    from tiedlm.data.check import check_corpus
    from tiedlm.data.corpus import load_corpus

    found = check_corpus(
        load_corpus(
            corpus,
            vocab_size=vocab_size,
            min_count=min_count,
            tokenize=tokenize,
            field=field,
            without_cache=temporary_cache,
        )
    )
    if json_:
        print(to_json(found, indent=2))
        return
    table = _table("part", "lines", "tokens", "types", "<unk>", "share", "long lines seen in train")
    for part, counted in found["parts"].items():
        numbers = [f"{counted[key]:,}" for key in ("lines", "tokens", "types", "unk")]
        share = counted.get("seen_lines_share")
        seen = "" if part == "train" else "-" if share is None else f"{share:.1%}"
        table.add_row(part, *numbers, f"{counted['unk_share']:.2%}", seen)
    rule = found["vocabulary"]
    hashes = {True: "verified", False: "NOT equal to the published ones", None: "none published"}
    _print(
        f"{found['corpus']}: {found['origin']}",
        f"split: {found['split']}",
        table,
        f"vocabulary: {rule['types']:,} words: {_vocabulary_rule(rule)}",
        f"tokenized: {'by tiedlm' if found['tokenizer'] else 'already in the text'}",
        f"SHA-256 of the files: {hashes[found['verified']]}",
        *[f"warning: {warning}" for warning in found["warnings"]],
    )


def _vocabulary_rule(rule: dict[str, Any]) -> str:
    most = f", at most {rule['max_size']:,}" if rule["max_size"] is not None else ""
    if rule["min_count"] == 1:
        return f"all words of train{most}"
    return f"words seen {rule['min_count']} times or more in train{most}"


def _table(*headings: str) -> Any:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD)
    words = {"corpus", "here", "part"}
    for heading in headings:
        table.add_column(heading, justify="left" if heading in words else "right", overflow="fold")
    return table


def _print(*items: Any) -> None:
    """Print tables and plain text, without markup or colour."""
    from tiedlm.progress import table_console

    console = table_console()
    for item in items:
        console.print(item, highlight=False, soft_wrap=isinstance(item, str))
