"""Compute the perplexity of a text, alone or with methods that lower it without retraining.

Begin with ``perplexity.py``, the plain evaluation. ``methods.py`` adds a temperature, a cache and
dynamic evaluation, and ``tuning.py`` fits their settings. ``mixture.py`` mixes several models, and
``monte_carlo.py`` averages over dropout masks. ``segments.py`` makes reading a text fast.
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
