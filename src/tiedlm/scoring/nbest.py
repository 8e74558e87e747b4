"""Read the n-best lists of recognisers: Kaldi, ESPnet and JSON lines."""

from __future__ import annotations

import math
import re
from pathlib import Path
from reprlib import repr as brief
from typing import Any, NamedTuple

from tiedlm.errors import UserError
from tiedlm.files import read_json
from tiedlm.json_text import parse_json
from tiedlm.scoring.text import read_lines

_KALDI_KEY = re.compile(r"(.+)-(\d+)")
_ESPNET_NAME = re.compile(r"(\d+)best_recog")
_ESPNET_SCORE = re.compile(r"(?:tensor\()?([^,)]+).*")  # 'tensor(-1.5)' or '-1.5'


class Hypothesis(NamedTuple):
    """One transcript that the recogniser considered, with its scores.

    Scores are natural logarithms, and higher is better; Kaldi's costs are negated. A score of minus
    infinity makes the hypothesis impossible.

    Args:
        text: the words, as the recogniser wrote them.
        score: the recogniser's score, or its acoustic part if the list separates the parts.
        graph_score: in a folder of Kaldi, the score of the graph without its language model; else
            0.
        lm_score: the score of the recogniser's language model if the list separates it, else 0.
    """

    text: str
    score: float
    graph_score: float = 0.0
    lm_score: float = 0.0


_KALDI_FILES = ("words_text", "lmwt.nolm", "lmwt.withlm", "acwt")
NBest = dict[str, list[Hypothesis]]  # utterance -> hypotheses, in the recogniser's order


def read_nbest(
    source: str, acoustic_cost: Path | None = None, lm_cost: Path | None = None
) -> NBest:
    """Read an n-best list; docs/scoring.md shows each layout.

    Args:
        source: Kaldi's text (with ``acoustic_cost``), Kaldi's folder (with ``words_text``),
            ESPnet's folder (with ``1best_recog``), ESPnet's JSON (``*.json``), or JSON lines.
            A text may be gzipped (``*.gz``), or ``-`` for standard input.
        acoustic_cost: file with Kaldi's acoustic costs.
        lm_cost: file with Kaldi's language-model costs, if they are separate.

    Raises:
        UserError: naming the file and the line or utterance that is wrong.
    """
    folder = Path(source)
    if acoustic_cost is not None:
        costs = _costs(acoustic_cost), _costs(lm_cost) if lm_cost else None
        hint = "; for an n-best list in JSON lines leave out --acoustic-cost"
        return _kaldi(source, read_table(source, hint), costs[0], None, costs[1])
    if lm_cost is not None:
        raise UserError("--lm-cost needs --acoustic-cost, and Kaldi's text as the n-best list")
    if (folder / "words_text").is_file():
        return _kaldi_folder(folder)
    if folder.is_dir():
        return _espnet_folder(folder)
    if source.lower().endswith(".json") and not _begins_with_a_list(source):
        return _espnet_json(folder)
    return _json_lines(source)


def files_of(source: str) -> list[Path]:
    """Return the files that :func:`read_nbest` may read from a source."""
    folder = Path(source)
    if not folder.is_dir():
        return [folder]
    kaldi = [folder / name for name in _KALDI_FILES]
    espnet = _espnet_lists(folder)
    return kaldi + [path / name for _, path in espnet for name in ("text", "score")]


def read_table(source: Path | str, hint: str = "") -> dict[str, str]:
    """Read lines of a key and a text, which may be empty; skip blank lines.

    Args:
        source: a file, or ``-`` for standard input.
        hint: what to do if the file has JSON lines, as the end of the message.

    Raises:
        UserError: if a key occurs twice, or there are no keys.
    """
    table: dict[str, str] = {}
    for number, line in enumerate(read_lines(source), start=1):
        if not line.strip():
            continue
        if line.startswith("{"):
            raise UserError(
                f"{source}, line {number}: these are JSON lines; expected a key and a text on each "
                f"line{hint}"
            )
        key, *text = line.split(maxsplit=1)
        if key in table:
            raise UserError(f"{source}, line {number}: {key!r} occurs twice")
        table[key] = text[0].strip() if text else ""
    if not table:
        raise UserError(f"{source} has only blank lines")
    return table


def _costs(path: Path) -> dict[str, float]:
    """Read the costs, which are negative scores, of a Kaldi table."""
    table = read_table(path)
    return {key: -_score(text, f"{path}, {key}", sign=-1) for key, text in table.items()}


def _score(value: object, where: str, sign: int = 1) -> float:
    """Return a value as a score; ``sign`` is -1 for a cost, and minus infinity means impossible."""
    try:
        score = sign * float(value)  # type: ignore[arg-type]  # anything else is refused below
    except (TypeError, ValueError):
        score = math.nan
    if not score < math.inf:  # true for NaN too
        number = "a finite number" if math.isinf(score) else "a number"
        kind = "score" if sign == 1 else "cost"
        raise UserError(f"{where}: expected {number} as the {kind}, got {brief(value)}")
    return score


def _kaldi_folder(folder: Path) -> NBest:
    """Read a folder ``archives.N`` of Kaldi's rnnlmrescore.sh."""
    words, *costs = (folder / name for name in _KALDI_FILES)
    graph, both, acoustic = map(_costs, costs)
    lm = {
        key: both[key] - graph[key] if math.isfinite(graph[key]) else both[key]
        for key in both.keys() & graph.keys()
    }
    return _kaldi(str(words), read_table(words), acoustic, graph, lm)


def _kaldi(
    source: str,
    texts: dict[str, str],
    acoustic: dict[str, float],
    graph: dict[str, float] | None,
    lm: dict[str, float] | None,
) -> NBest:
    ranked: dict[str, list[tuple[int, Hypothesis]]] = {}
    for key, text in texts.items():
        if (match := _KALDI_KEY.fullmatch(key)) is None:
            raise UserError(f"{source}: expected a key such as utterance-1, got {key!r}")
        scores = []
        for name, costs in (("acoustic", acoustic), ("graph", graph), ("language-model", lm)):
            if costs is not None and key not in costs:
                raise UserError(f"{source}: {key!r} has no {name} cost")
            scores.append(0.0 if costs is None else -costs[key])
        ranked.setdefault(match[1], []).append((int(match[2]), Hypothesis(text, *scores)))
    return {
        utterance: [hypothesis for _, hypothesis in sorted(found, key=lambda pair: pair[0])]
        for utterance, found in ranked.items()
    }


def _espnet_lists(folder: Path) -> list[tuple[int, Path]]:
    """Return ``1best_recog``, ``2best_recog``, ... of one decoding job, or of all in a folder."""
    places = [folder]
    if not (folder / "1best_recog").is_dir():
        found = [*folder.glob("output.*"), *folder.glob("logdir/output.*")]
        places = sorted(place for place in found if place.is_dir())
    return sorted(
        (int(match[1]), path)
        for place in places
        for path in place.iterdir()
        if (match := _ESPNET_NAME.fullmatch(path.name))
    )


def _espnet_folder(folder: Path) -> NBest:
    """Read the n-best list of ESPnet's decoding jobs."""
    ranked = _espnet_lists(folder)
    if not ranked:
        raise UserError(
            f"{folder} has neither words_text (Kaldi) nor 1best_recog (ESPnet); give a folder "
            "that has one of them"
        )
    nbest: NBest = {}
    job_of: dict[str, Path] = {}
    for _, path in ranked:
        scores = read_table(path / "score")
        for key, text in read_table(path / "text").items():
            if key not in scores:
                raise UserError(f"{path / 'text'}: {key!r} has no score")
            job = job_of.setdefault(key, path.parent)
            if job != path.parent:
                raise UserError(
                    f"{folder}: utterance {key!r} occurs twice, in {job.name} and "
                    f"{path.parent.name}; if one is from an older decoding, remove it"
                )
            match = _ESPNET_SCORE.fullmatch(scores[key])
            score = _score(match[1] if match else scores[key], f"{path / 'score'}, {key}")
            nbest.setdefault(key, []).append(Hypothesis(text, score))
    return nbest


def _espnet_json(path: Path) -> NBest:
    """Read ESPnet1's ``data.json``: ``utts``, each with ``output``: ``rec_text`` and ``score``."""
    try:
        nbest = {
            key: [
                Hypothesis(
                    _espnet_text(output["rec_text"]), _score(output["score"], f"{path}, {key}")
                )
                for output in utterance["output"]
            ]
            for key, utterance in read_json(path)["utts"].items()
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} is not ESPnet's JSON: expected 'utts', each with an 'output' list of "
            f"'rec_text' and 'score' ({error!r})"
        ) from error
    if not nbest:
        raise UserError(f"{path}: 'utts' is empty")
    for key, hypotheses in nbest.items():
        if not hypotheses:
            raise UserError(f"{path}: utterance {key!r} has no hypotheses")
    return nbest


def _espnet_text(text: str) -> str:
    return text.replace("<eos>", "").replace("\u2581", " ").replace("<space>", " ").strip()


def _begins_with_a_list(source: str) -> bool:
    """Return whether a file named .json holds JSON lines: its first line has ``hypotheses``."""
    try:
        return "hypotheses" in parse_json(next(read_lines(source)), source)
    except (UserError, TypeError):
        return False


def _json_lines(source: str) -> NBest:
    nbest: NBest = {}
    with_lm: set[bool] = set()
    for number, line in enumerate(read_lines(source), start=1):
        where = f"{source}, line {number}"
        if not line.strip():
            continue
        if not line.lstrip().startswith("{"):
            raise UserError(
                f"{where}: expected JSON lines; for Kaldi's text give --acoustic-cost FILE"
            )
        entry = parse_json(line, where)
        try:
            key, hypotheses = _json_id(entry["id"], where), entry["hypotheses"]
            found = [_json_hypothesis(hypothesis, where) for hypothesis in hypotheses]
            with_lm.update("lm_score" in hypothesis for hypothesis in hypotheses)
        except (KeyError, TypeError) as error:
            wrong = f"no {error}" if isinstance(error, KeyError) else str(error)
            raise UserError(
                f'{where}: expected {{"id": ..., "hypotheses": [{{"text": ..., "score": ...}}]}} '
                f"({wrong})"
            ) from error
        if key in nbest:
            raise UserError(f"{where}: utterance {key!r} occurs twice")
        if not found:
            raise UserError(f"{where}: utterance {key!r} has no hypotheses")
        if len(with_lm) > 1:
            raise UserError(
                f"{where}: some hypotheses have an 'lm_score' and some have none; give it for all "
                "or for none"
            )
        nbest[key] = found
    if not nbest:
        raise UserError(f"{source} has only blank lines")
    return nbest


def _json_id(value: object, where: str) -> str:
    if isinstance(value, (dict, list, bool)) or value is None:
        raise UserError(f"{where}: expected a text or a number as 'id', got {brief(value)}")
    return str(value)


def _json_hypothesis(value: dict[str, Any], where: str) -> Hypothesis:
    if not isinstance(value["text"], str):
        raise UserError(f"{where}: expected a string as 'text', got {brief(value['text'])}")
    scores = {"score": value["score"]}
    scores |= {name: value.get(name, 0.0) for name in ("graph_score", "lm_score")}
    for name, score in scores.items():
        if isinstance(score, (str, bool)):
            raise UserError(f"{where}: expected a number as {name!r}, got {brief(score)}")
    return Hypothesis(
        value["text"],
        **{name: _score(score, f"{where}, {name}") for name, score in scores.items()},
    )
