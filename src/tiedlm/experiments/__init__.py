"""Experiments: the recipes, the demo with its report, and the reproduction of the paper's tables.

``recipes.py`` has the named settings. ``demo.py`` is behind ``tiedlm demo``. ``cells.py``,
``reproduce.py`` and ``theory.py`` are behind ``tiedlm reproduce``. ``comparison.py`` compares runs.
"""
