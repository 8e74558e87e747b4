"""Training: settings, the loop, checkpoints and run folders.

Begin with ``settings.py``, which has every setting of a run, and ``loop.py``, which trains.
``step.py`` makes one update, ``checkpoint.py`` and ``resume.py`` continue a stopped run, and
``run.py`` loads a finished one.
"""
