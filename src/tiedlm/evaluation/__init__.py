"""Compute the perplexity of a text, alone or with methods that lower it without retraining.

- ``perplexity.py`` has the plain evaluation, and ``segments.py`` makes reading a text fast.
  ``per_word.py`` converts a perplexity per piece to one per word.
- ``methods.py`` evaluates with a temperature (``temperature.py``), a cache (``cache.py``) and
  dynamic evaluation (``dynamic.py``, ``gradients.py``, ``update.py``), which ``readers.py``
  combines. ``tuning.py`` fits the settings, and ``unfinished.py`` saves the progress.
- ``mixture.py`` mixes several models, and ``monte_carlo.py`` averages over dropout masks.
- ``subspace.py`` has the geometry of word vectors and classifier.
"""

from tiedlm.evaluation.cache import Cache
from tiedlm.evaluation.dynamic import Diverged, Dynamic
from tiedlm.evaluation.gradients import gradient_rms
from tiedlm.evaluation.methods import Methods, method_losses
from tiedlm.evaluation.mixture import fit_weights, mixture_losses
from tiedlm.evaluation.monte_carlo import monte_carlo_evaluate, monte_carlo_losses
from tiedlm.evaluation.perplexity import (
    Evaluation,
    evaluate,
    perplexity,
    summarize,
    token_losses,
)
from tiedlm.evaluation.temperature import with_temperature

__all__ = [
    "Cache",
    "Diverged",
    "Dynamic",
    "Evaluation",
    "Methods",
    "evaluate",
    "fit_weights",
    "gradient_rms",
    "method_losses",
    "mixture_losses",
    "monte_carlo_evaluate",
    "monte_carlo_losses",
    "perplexity",
    "summarize",
    "token_losses",
    "with_temperature",
]
