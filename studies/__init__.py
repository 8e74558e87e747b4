"""Experiments that train or analyse models; ``python -m studies.semantic --help`` explains one."""
