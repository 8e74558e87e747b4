"""The view "Surprisal": each word of a pasted text, and the table of ``tiedlm score``."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from itertools import chain

from tiedlm.data.documents import LINE_END
from tiedlm.data.pieces import PieceVocabulary
from tiedlm.errors import UserError
from tiedlm.scoring import Scored, Sentence, score_in_order, score_sentences, sentences
from tiedlm.scoring.piece_words import joiner
from tiedlm.scoring.pieces import check_pieces, word_starts
from tiedlm.scoring.surprisal import beginning, join
from tiedlm.scoring.table import write_table
from tiedlm.web.asked import Asked
from tiedlm.web.runs import Loaded, Pending, Run
from tiedlm.web.views import Answer

WORDS = 48  # words read at a time; other requests are answered in between


def answer(runs: Sequence[Run], asked: Asked) -> Iterator[Answer]:
    """Yield the words of a text with their measures, some sentences at a time, run after run.

    The last answer about each run has the table. A run that cannot answer says why.
    """
    text = asked.text("text")
    for run in runs:
        try:
            for found in _of_run(run.loaded(), text):
                yield {"name": run.name, **found}
        except Pending as pending:
            yield {"name": run.name, "pending": str(pending)}
        except UserError as error:
            yield {"name": run.name, "error": str(error)}


def _of_run(loaded: Loaded, text: str) -> Iterator[Answer]:
    vocabulary = loaded.vocabulary
    lines = LINE_END.split(text)  # as `tiedlm score` does
    found: list[Scored] = []
    for scored in score_stepwise(loaded, lines):
        found += scored
        yield {"words": [word for one in scored for word in _words(one, vocabulary.unk_id)]}
    table = io.StringIO()
    summary = write_table(
        table, found, unk_id=vocabulary.unk_id, base="2", unit="sentence", eos_rows=True
    )
    yield {
        "table": table.getvalue(), "summary": summary.line(),
        "unknown": summary.unknown_line(), "words": [],
    }  # fmt: skip


def score_stepwise(loaded: Loaded, lines: Sequence[str]) -> Iterator[list[Scored]]:
    """Yield the scored sentences of a text, about ``WORDS`` words at a time.

    A longer sentence is read in parts that carry the state. That changes only rounding.

    Raises:
        UserError: if a sentence cannot be read; the sentences before it have been yielded.
    """
    vocabulary = loaded.vocabulary
    starts_V = None
    if loaded.has_pieces:
        starts_V = word_starts(vocabulary).to(loaded.model.embedding.weight)
    text = sentences(lines, vocabulary, tokenizer=loaded.is_raw, blank_lines=False)
    begun = loaded.once("beginning", lambda: beginning(loaded.model, vocabulary.eos_id, starts_V))
    block: list[Sentence] = []
    words = 0
    for sentence in chain(text, [None]):
        is_long = sentence is not None and len(sentence.ids) > WORDS
        if block and (sentence is None or words + len(sentence.ids) > WORDS):
            scored = score_sentences(
                loaded.model, block, start=vocabulary.eos_id, starts_V=starts_V, begun=begun
            )
            yield [_joined(loaded, one) for one in scored]
            block, words = [], 0
        if sentence is None:
            return
        if not is_long:
            block.append(sentence)
            words += len(sentence.ids)
            continue
        parts = []
        for part in score_in_order(
            loaded.model, _parts(sentence), start=vocabulary.eos_id, carry_state=True,
            starts_V=starts_V,
        ):  # fmt: skip
            parts.append(part)
            yield []
        yield [_joined(loaded, join(sentence, parts))]


def _parts(sentence: Sentence) -> list[Sentence]:
    return [
        sentence._replace(
            words=sentence.words[first : first + WORDS], ids=sentence.ids[first : first + WORDS]
        )
        for first in range(0, len(sentence.ids), WORDS)
    ]


def _joined(loaded: Loaded, scored: Scored) -> Scored:
    """Return words of pieces, if the model's vocabulary has pieces."""
    if not loaded.has_pieces:
        return scored
    if not isinstance(loaded.vocabulary, PieceVocabulary):
        check_pieces(scored, "your text")
    return joiner(loaded.vocabulary)(scored)


def _words(scored: Scored, unk_id: int | None) -> Iterator[list[object]]:
    """Yield ``[word, bits, entropy in bits, rank, whether it is known]`` for each word."""
    known = scored.sentence.ids != (-1 if unk_id is None else unk_id)
    for place, word in enumerate(scored.sentence.words):
        nats = (float(scored.surprisal[place]), float(scored.entropy[place]))
        bits = (round(n / math.log(2), 3) if math.isfinite(n) else None for n in nats)
        yield [word, *bits, int(scored.rank[place]), int(known[place])]
