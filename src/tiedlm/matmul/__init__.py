"""Compute matrix products in the way that is fastest on this machine.

- ``products.py``: :func:`matmul` writes a product into a matrix, or adds it there. The matrix may
  be of a wider type than the operands. :func:`linear` computes a layer with a bias.
- ``weights.py``: :func:`multiplier` and :func:`adder` lay a weight out in memory once, for many
  products.
- ``kinds.py``: which products are of one kind, and how the fastest way of a kind is found.
- ``report.py``: the ways of a training step on this machine.

There are several ways to compute a product, such as MKL, oneDNN or blocks of rows
(``native/ways.py``, ``native/layouts.py``). Their results are equal up to rounding. Which one is
fastest depends on the type, the shape and the strides of the matrices. Products that agree in these
are of one *kind*, and each kind is measured once (:mod:`tiedlm.native.routes`). Small products
take PyTorch's usual way. :func:`tiedlm.arithmetic.gemm_dtype` chooses the type of the operands.
"""

from tiedlm.matmul.products import linear, matmul, operand
from tiedlm.matmul.report import measured_products
from tiedlm.matmul.weights import adder, multiplier

__all__ = ["adder", "linear", "matmul", "measured_products", "multiplier", "operand"]
