"""The backends: three implementations of the work between the loss's matrix products.

Each does the same three steps, which ``backend.py`` defines: ``eager.py`` in PyTorch's operations,
``compiled.py`` in C for a CPU, and ``triton.py`` for a GPU. They are tested against each other. The
compiled backend can also do the three steps at once. No backend imports another.
"""

from tiedlm.loss.backends.backend import Backend
from tiedlm.loss.backends.compiled import CompiledBackend
from tiedlm.loss.backends.eager import EagerBackend
from tiedlm.loss.backends.triton import TritonBackend
from tiedlm.loss.problem import Problem

# The first one that serves a problem is used; the last one serves every problem.
BACKENDS: tuple[type[Backend], ...] = (TritonBackend, CompiledBackend, EagerBackend)


def backend_for(problem: Problem) -> type[Backend]:
    """Return the first backend that serves a problem with the arithmetic in use."""
    return next(backend for backend in BACKENDS if backend.serves(problem))
