"""Compute perplexity, with or without Monte-Carlo dropout."""

from tiedlm.evaluation.monte_carlo import monte_carlo_evaluate, monte_carlo_losses
from tiedlm.evaluation.perplexity import Evaluation, evaluate, perplexity, token_losses

__all__ = [
    "Evaluation",
    "evaluate",
    "monte_carlo_evaluate",
    "monte_carlo_losses",
    "perplexity",
    "token_losses",
]
