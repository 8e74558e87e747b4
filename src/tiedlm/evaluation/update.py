r"""Update one parameter in dynamic evaluation.

.. math:: w \leftarrow w + d \odot (w_0 - w) - s \odot g

The gradient g is dense, or a product of two narrow matrices that is never made as a whole, or a few
rows. Large parameters are updated in blocks that stay in the processor's cache.

Shape letters: T words of a segment, V rows of the parameter, H its width.
"""

from __future__ import annotations

from torch import Tensor

BLOCK = 2**16  # numbers of a block


class Update:
    """The update of one parameter.

    Args:
        weight: w, which changes in place.
        trained: w_0.
        step: s, a number or a tensor of the parameter's shape.
        decay: d, likewise.
    """

    def __init__(
        self, weight: Tensor, trained: Tensor, step: Tensor | float, decay: Tensor | float
    ) -> None:
        self.weight, self.trained, self.step, self.rate = weight, trained, step, decay
        self._row_block = max(1, BLOCK // max(1, weight[0].numel())) if weight.dim() else 1

    def dense(self, grad: Tensor) -> None:
        """Update with a gradient of the parameter's shape."""
        for rows in self._blocks():
            self._block(rows, grad[rows])

    def low_rank(self, left_TV: Tensor, right_TH: Tensor) -> None:
        """Update with the gradient ``left.T @ right``."""
        if not isinstance(self.step, Tensor) and not isinstance(self.rate, Tensor):
            # One pass: (1 - d) w - s left.T right, and the pull of w_0.
            self.weight.addmm_(left_TV.t(), right_TH, beta=1 - self.rate, alpha=-self.step)
            if self.rate:
                self.weight.add_(self.trained, alpha=self.rate)
            return
        left_VT = left_TV.t()
        for rows in self._blocks():
            self._block(rows, left_VT[rows] @ right_TH)

    def decay(self) -> None:
        """Update with the gradient zero."""
        if isinstance(self.rate, Tensor) or self.rate:
            for rows in self._blocks():
                self._pull(rows)

    def rows(self, index_T: Tensor, grad_TH: Tensor) -> None:
        """Subtract the step of some rows' gradients; a row may come several times.

        The decay is not applied: another call for the same step does that.
        """
        if isinstance(self.step, Tensor):
            grad_TH = grad_TH * self.step[index_T]
            self.weight.index_add_(0, index_T, grad_TH, alpha=-1.0)
        else:
            self.weight.index_add_(0, index_T, grad_TH, alpha=-self.step)

    def _blocks(self) -> list[slice]:
        length, step = len(self.weight), self._row_block
        return [slice(first, first + step) for first in range(0, length, step)]

    def _block(self, rows: slice, grad: Tensor) -> None:
        self._pull(rows)
        if isinstance(self.step, Tensor):
            self.weight[rows].addcmul_(grad, self.step[rows], value=-1.0)
        else:
            self.weight[rows].add_(grad, alpha=-self.step)

    def _pull(self, rows: slice) -> None:
        """Move a block towards the trained weights."""
        if isinstance(self.rate, Tensor):
            self.weight[rows].lerp_(self.trained[rows], self.rate[rows])
        elif self.rate:
            self.weight[rows].lerp_(self.trained[rows], self.rate)
