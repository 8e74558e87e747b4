"""The views of the page, in the order of its menu.

A view is a module with ``answer(runs, asked)``, a template ``templates/NAME.html`` and a script
``static/NAME.js``. An answer is a JSON-able dict, or an iterator of them that is sent as it grows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from tiedlm.errors import UserError
from tiedlm.web.runs import Loaded, Pending, Run

Answer = dict[str, Any]


class View(NamedTuple):
    """A view.

    Args:
        name: its address and the name of its files.
        menu: its name in the menu.
        title: its heading.
        sentence: one sentence that says what the view shows.
        has_charts: whether it needs plotly.
        is_long: whether its answer is an iterator.
    """

    name: str
    menu: str
    title: str
    sentence: str
    has_charts: bool = False
    is_long: bool = False


VIEWS = (
    View(
        "words", "Next words", "What comes next?",
        "The words that each model expects after your text, and where the models disagree.",
    ),
    View(
        "target", "Soft target", "The soft target of a word",
        "What the augmented loss asks of a model when the next word is the one you name, beside "
        "what the model predicts.", has_charts=True,
    ),
    View(
        "neighbours", "Neighbours", "The nearest words",
        "The words nearest to a word, among the word vectors (L) and among the rows of the "
        "classifier (W).",
    ),
    View(
        "map", "Map", "A map of the words",
        "The words of a model in the two directions in which their vectors differ most; the colour "
        "is a word's place in the vocabulary, which begins with the most frequent.",
    ),
    View(
        "angles", "Angles", "How far L and W are apart",
        "The angles between the space of the word vectors (L) and the space of the classifier (W): "
        "0° is a shared direction, 90° one that the other space lacks.", has_charts=True,
    ),
    View(
        "training", "Training", "Training curves",
        "Perplexity after each epoch; a run that is being trained is followed live.",
        has_charts=True,
    ),
    View(
        "surprisal", "Surprisal", "How surprising is each word?",
        "Your text, each word coloured by its surprisal: how little the model expected it, in "
        "bits.", is_long=True,
    ),
    View(
        "pairs", "Pairs", "Which sentence is more probable?",
        "Minimal pairs: a model is right when it gives the good sentence the higher probability.",
    ),
)  # fmt: skip


def of_each(runs: Sequence[Run], make: Callable[[Loaded], Answer]) -> list[Answer]:
    """Return an answer for each run, or the reason why it has none."""
    return [{"name": run.name, **tried(run, make)} for run in runs]


def tried(run: Run, make: Callable[[Loaded], Answer]) -> Answer:
    """Return the result of ``make``, or the reason why there is none."""
    try:
        return make(run.loaded())
    except Pending as pending:
        return {"pending": str(pending)}
    except UserError as error:
        return {"error": str(error)}


__all__ = ["VIEWS", "Answer", "View", "of_each", "tried"]
