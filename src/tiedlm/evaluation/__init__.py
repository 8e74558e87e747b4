"""Evaluation: perplexity with a stated denominator."""

from tiedlm.evaluation.perplexity import Evaluation, evaluate, perplexity, token_losses

__all__ = ["Evaluation", "evaluate", "perplexity", "token_losses"]
