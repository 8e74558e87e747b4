"""Analyse trained models: subspaces, predictions and plots."""
