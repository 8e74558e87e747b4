"""The augmented loss, from the function that users call down to the kernels.

Read the files in this order:

1. ``augmented.py`` has the function. It checks the arguments and makes a ``Problem``
   (``problem.py``).
2. ``dispatch.py`` chooses the implementation: the equations in plain autograd (``reference.py``),
   one autograd node (``autograd.py``), or one operator for ``torch.compile`` (``operator.py``).
3. ``stream.py`` computes losses and gradients in one pass over the tokens, for the node and for the
   operator.
4. ``backends/`` has the work between the matrix products of this pass, such as the softmax.
"""

from tiedlm.loss.augmented import AugmentedCrossEntropy, LossOutput, augmented_cross_entropy
from tiedlm.loss.buffers import release as release_buffers

__all__ = ["AugmentedCrossEntropy", "LossOutput", "augmented_cross_entropy", "release_buffers"]
