"""The smallest Triton kernel. Import this only where Triton is installed."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def probe(x):
    """Store one number. If this fails, every kernel would fail."""
    tl.store(x, 1.0)
