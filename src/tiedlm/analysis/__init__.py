"""Analyse trained models.

``predictions.py`` and ``piece_words.py`` predict and sample words, ``projection.py`` projects word
vectors, and ``plots.py`` draws curves and bars.
"""
