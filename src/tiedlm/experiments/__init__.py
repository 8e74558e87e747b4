"""Experiments: the recipes, the demo with its report, and the reproduction of the paper's tables.

- ``recipes.py`` has the named settings, and ``comparison.py`` compares runs over seeds.
- ``demo.py`` is behind ``tiedlm demo``. ``report.py`` and ``findings.py`` write its page.
- ``reproduce.py`` and ``reproduce_figures.py`` are behind ``tiedlm reproduce``. ``paper.py`` has
  the paper's numbers, ``cells.py`` the runs for them, ``effects.py`` the effects of AL and RE, and
  ``prediction_study.py`` the paper's claims about predictions.
- ``theory.py`` trains one run of Figure 1, and ``figure1.py`` all of them.
- ``parallel.py`` trains several models at once, with the processes of ``supervisor.py``.
  ``results.py`` keeps finished runs, and ``tables.py`` prints tables.
"""
