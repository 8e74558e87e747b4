"""The augmented loss, from the function that users call down to the kernels.

Read it in this order: ``augmented.py`` checks the arguments and makes a ``Problem``
(``problem.py``). ``dispatch.py`` chooses the implementation: the equations in plain autograd
(``reference.py``), one autograd node (``autograd.py``), or one operator for ``torch.compile``
(``operator.py``). The last two take one pass over the tokens (``stream.py``). The pass leaves the
work between its matrix products to a backend (``backends/``).
"""

from tiedlm.loss.augmented import AugmentedCrossEntropy, LossOutput, augmented_cross_entropy
from tiedlm.loss.buffers import release as release_buffers

__all__ = ["AugmentedCrossEntropy", "LossOutput", "augmented_cross_entropy", "release_buffers"]
