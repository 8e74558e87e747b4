"""Training: settings, the loop, checkpoints and run folders.

Begin with ``settings.py`` and ``loop.py``.

- ``settings.py`` declares every setting of a run. ``ranges.py`` checks the values, ``effects.py``
  finds settings without effect, and ``word_counts.py`` reads numbers such as 500k. ``same_run.py``
  decides whether two runs are the same.
- ``build.py`` builds the model, ``windows.py`` cuts the text, and ``hardware.py`` chooses the
  device, the threads and the arithmetic.
- ``loop.py`` has the epochs. ``step.py`` makes one update with the optimizer of ``updater.py``, and
  ``captured.py`` records it on a GPU. ``schedules.py`` computes learning rates, and
  ``soft_targets.py`` chooses the soft target. ``held_out.py`` measures the model after each epoch.
  ``distributed.py`` joins several processes.
- ``checkpoint.py`` and ``resume.py`` continue a stopped run. ``outcomes.py`` and ``signals.py``
  have the ways in which a run ends.
- ``run_files.py`` reads a run folder without PyTorch, and ``run.py`` loads its model.
  ``kept_weights.py`` keeps weights by words seen. ``tensorboard.py`` and ``text_units.py`` help to
  show results.
- ``evaluated.py`` and ``run_mixture.py`` evaluate runs with the methods of ``tiedlm.evaluation``.
  ``method_request.py`` has the user's request. ``method_settings.py`` finds or fits the settings,
  and ``tuned.py`` keeps them.
"""
