"""The view "Angles": how far the spaces of L and W are apart."""

from __future__ import annotations

from collections.abc import Sequence

from tiedlm.evaluation.subspace import describe_geometry
from tiedlm.web.asked import Asked
from tiedlm.web.runs import Loaded, Run
from tiedlm.web.views import Answer, of_each


def answer(runs: Sequence[Run], asked: Asked) -> Answer:
    """Return the subspace distance, the principal angles and the mean norms of each run."""

    def one(loaded: Loaded) -> Answer:
        first = loaded.vocabulary.words[:1]
        found = loaded.later("geometry", lambda: describe_geometry(loaded.model, first))
        return {name: value for name, value in found.items() if name != "neighbours"}

    return {"runs": of_each(runs, one)}
