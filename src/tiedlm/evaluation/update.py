r"""Update one parameter in dynamic evaluation, with as few passes over it as possible.

.. math::
    w \leftarrow w + \min(d \, r, 1) \odot (w_0 - w) - \frac{\eta}{r + \epsilon} \odot g

Here r is the root mean square of the gradient on the training text, and d is the decay divided by
the average of r. Without r, as for the rule "sgd", the two factors are d and eta. The gradient g is
a dense matrix, or a product of two narrow matrices that is never computed as a whole, or a few
rows.

The compiled kernel (``native/adapt.c``) passes over the parameter once. In the same pass it can
compute the gradient of the matrix that was multiplied by the parameter. Without the kernel, PyTorch
updates large parameters in blocks that stay in the processor's cache. On a GPU it updates each
parameter as a whole, because every block costs several launches.

Shape letters: T words of a segment, V rows of the parameter, H its width.
"""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from tiedlm.arithmetic import kernels_for
from tiedlm.native import declare, pointer
from tiedlm.native.memory import use_large_pages

BLOCK = 2**16  # elements of a block that PyTorch updates at a time
_ARGUMENTS = [
    *[ctypes.c_int64] * 3, ctypes.c_int, *[ctypes.c_float] * 3, *[ctypes.c_void_p] * 7,
]  # fmt: skip
_PARTS = 16  # PARTS of adapt.c


class Update:
    """The update of one parameter.

    Args:
        weight: w, which changes in place.
        trained: w_0.
        rms: r, of the parameter's shape; None for the rule "sgd".
        lr: eta.
        epsilon: epsilon; without ``rms`` it is not used.
        decay: d.
    """

    def __init__(
        self,
        weight: Tensor,
        trained: Tensor,
        rms: Tensor | None,
        lr: float,
        epsilon: float,
        decay: float,
    ) -> None:
        if weight.dim() == 0:  # a single number
            weight, trained = weight.view(1), trained.view(1)
            rms = None if rms is None else rms.view(1)
        self.weight, self.trained, self.rms = weight, trained.contiguous(), rms
        self.lr, self.epsilon, self.rate = lr, epsilon, decay
        parts = (part for part in (weight, self.trained, rms) if part is not None)
        for part in (weight, rms):  # read in every segment
            if part is not None:
                use_large_pages(part)
        self._are_contiguous = all(part.is_contiguous() for part in parts)
        on_cpu = weight.device.type == "cpu"
        self._row_block = max(1, BLOCK * len(weight) // weight.numel()) if on_cpu else len(weight)

    def dense(self, grad: Tensor) -> None:
        """Update with a gradient of the parameter's shape."""
        grad = grad.view_as(self.weight)
        if not self._compiled(None, grad.contiguous(), None):
            for rows in self._blocks():
                self._block(rows, grad[rows])

    def low_rank(self, left_TV: Tensor, right_TH: Tensor) -> None:
        """Update with the gradient ``left.T @ right``."""
        if not self._compiled(left_TV.contiguous(), right_TH.contiguous(), None):
            left_VT = left_TV.t()
            for rows in self._blocks():
                self._block(rows, left_VT[rows] @ right_TH)

    def through(self, left_TV: Tensor, right_TH: Tensor) -> Tensor:
        """Return ``left @ weight``, and then update with the gradient ``left.T @ right``."""
        back_TH = torch.empty_like(right_TH, memory_format=torch.contiguous_format)
        if not self._compiled(left_TV.contiguous(), right_TH.contiguous(), back_TH):
            torch.mm(left_TV, self.weight, out=back_TH)
            self.low_rank(left_TV, right_TH)
        return back_TH

    def decay(self) -> None:
        """Update with a gradient of zero: move towards the trained weights."""
        if self.rate:
            for rows in self._blocks():
                self._pull(rows)

    def rows(self, index_T: Tensor, grad_TH: Tensor) -> None:
        """Subtract the step of some rows' gradients; a row may come several times.

        This does not apply the decay. Another call for the same step must do that.
        """
        if self.rms is None:
            self.weight.index_add_(0, index_T, grad_TH, alpha=-self.lr)
        else:
            step_TH = grad_TH / (self.rms[index_T] + self.epsilon)
            self.weight.index_add_(0, index_T, step_TH, alpha=-self.lr)

    def _compiled(self, left_TV: Tensor | None, right: Tensor, back_TH: Tensor | None) -> bool:
        """Update with the compiled kernel; return False if it does not work here.

        Args:
            left_TV: the left factor of the gradient; None if ``right`` is the gradient itself.
            right: the right factor ``(T, H)``, or the gradient.
            back_TH: receives ``left @ weight``, of the weight before the update; or None.
        """
        if not self._are_contiguous:
            return False
        # The trained weights and the RMS have the weight's type and device. Checking them, too,
        # would cost each short segment microseconds.
        kernels = kernels_for(self.weight, right, products=right.dtype, work=self.weight.numel())
        if kernels is None:
            return False
        declare(kernels, {"adapt": _ARGUMENTS})
        height = len(self.weight) if self.weight.dim() > 1 else 1
        T = 0 if left_TV is None else len(left_TV)
        partial = None if back_TH is None else back_TH.new_empty(_PARTS * back_TH.numel())
        kernels.adapt(
            height, self.weight.numel() // height, T, torch.get_num_threads(), self.lr,
            self.epsilon, self.rate, pointer(left_TV), pointer(right), pointer(self.trained),
            pointer(self.rms), pointer(self.weight), pointer(back_TH), pointer(partial),
        )  # fmt: skip
        return True

    def _blocks(self) -> list[slice]:
        step = self._row_block
        return [slice(first, first + step) for first in range(0, len(self.weight), step)]

    def _block(self, rows: slice, grad: Tensor) -> None:
        """Update some rows with their gradient."""
        self._pull(rows)
        if self.rms is None:
            self.weight[rows].add_(grad, alpha=-self.lr)
        else:
            self.weight[rows].addcdiv_(grad, self.rms[rows] + self.epsilon, value=-self.lr)

    def _pull(self, rows: slice) -> None:
        """Move a block towards the trained weights."""
        if not self.rate:
            return
        rate: Tensor | float = self.rate
        if self.rms is not None:
            rate = (self.rms[rows] * self.rate).clamp_(max=1.0)
        self.weight[rows].lerp_(self.trained[rows], rate)
