"""The backends: who does the work between the matrix products of a pass over the tokens.

They stand beside each other. Each does the same three steps (``backend.py``), and they are tested
against each other. One of them can also do the three at once. Only this file knows all of them.
"""

from tiedlm.loss.backends.backend import Backend
from tiedlm.loss.backends.compiled import CompiledBackend
from tiedlm.loss.backends.eager import EagerBackend
from tiedlm.loss.backends.triton import TritonBackend
from tiedlm.loss.problem import Problem

# The first one that serves a problem does its work; the last one serves every problem.
BACKENDS: tuple[type[Backend], ...] = (TritonBackend, CompiledBackend, EagerBackend)


def backend_for(problem: Problem) -> type[Backend]:
    """Return the backend that serves a problem, with the switches as they are."""
    return next(backend for backend in BACKENDS if backend.serves(problem))
